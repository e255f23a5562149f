/**
 * State resolution over stored snapshots. Costs what the states differ in: they are compared as tries, only the events at
 * places that differ are loaded, with those that the algorithm asks for, and the outcome is a change of one of the states.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type StateMap } from '../../matrix/state-map.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { invariant } from '../../invariant.ts';
import { readJudgements } from '../../store/events/auth-events.ts';
import { type Sql } from '../../store/open-store.ts';
import { isStored } from '../../store/snapshots/chunks.ts';
import { type ComparisonLimits, type TrieConflict } from '../../store/snapshots/compare-tries.ts';
import { type ResolutionOutcome, resolutionName } from '../../store/snapshots/resolution-cache.ts';
import { type TrieChange, type TrieKey } from '../../store/snapshots/snapshot-trie.ts';
import { createSnapshot } from '../../store/snapshots/snapshots.ts';
import { changePlaces, compareSnapshots } from '../../store/snapshots/snapshots-in-numbers.ts';
import { JudgedEvents, TooManyEvents, heldToBe } from './judged-events.ts';
import { Stopped, resolveStored } from './stored-conflicts.ts';

/** Far above any real room: the event that needs it waits. Our own limit, so no verdict on anything follows from it. */
export class ResolutionTooLarge extends Error {
  override readonly name = 'ResolutionTooLarge';
  /** Distinct states that were to be resolved. */
  readonly states: number;
  /** Places in which they differ, as far as counted. */
  readonly places: number;

  constructor(states: number, places: number) {
    super(`${String(states)} states that differ in ${String(places)} places or more are too much to resolve`);
    this.states = states;
    this.places = places;
  }
}

/** What states come to, by a way to resolve them. @throws ResolutionTooLarge; what the way adds to that */
export type Resolve = (
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  snapshots: readonly SnapshotId[],
) => Promise<SnapshotId>;

/** Distinct states resolved at once; a room has as many as forward extremities that differ. */
const STATES_MAX = 500;
/** Some 200 MB. Two states of 100,000 members that have nothing in common come to a tenth of it. */
const LIMITS: ComparisonLimits = { valuesMax: 2_000_000, chunksMax: 100_000 };
/** Some tenths of a second. Nothing stops a comparison, nor what is read for it, before it is over. */
export const BRIEF_LIMITS: ComparisonLimits = { valuesMax: 20_000, chunksMax: 2_000 };
/** Some 300 MB: two states of 100,000 members that have nothing in common, and a half. */
const EVENTS_MAX = 300_000;

/**
 * The state that follows from several: `snapshots` themselves when they are equal, their resolution otherwise.
 * Rejected events take no part, as the algorithm demands.
 *
 * @throws ResolutionTooLarge
 */
export async function resolveSnapshots(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  snapshots: readonly SnapshotId[],
): Promise<SnapshotId> {
  const distinct = distinctOf(snapshots);
  return (await knownOutcome(sql, roomId, distinct)) ?? resolveDistinct(sql, roomId, rules, distinct, () => false);
}

/**
 * As `resolveSnapshots`, where many may want the same: one of them resolves it, and the others wait. Not for a transaction, which holds what
 * others wait for.
 *
 * @throws ResolutionTooLarge
 */
export async function resolveTogether(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  snapshots: readonly SnapshotId[],
): Promise<SnapshotId> {
  const distinct = distinctOf(snapshots);
  const name = resolutionName(roomId, distinct);
  const { resolving } = sql.caches;
  for (;;) {
    // Verdicts may have changed since somebody else began.
    const known = await knownOutcome(sql, roomId, distinct);
    if (known !== undefined) return known;
    const byAnother = resolving.get(name);
    if (byAnother === undefined) break;
    await byAnother;
  }
  const resolved = resolveDistinct(sql, roomId, rules, distinct, () => false);
  const over = resolved.then(
    () => undefined,
    () => undefined,
  );
  resolving.set(name, over);
  void over.then(() => resolving.delete(name));
  return resolved;
}

/** As resolutions are named by them. */
export function distinctOf(snapshots: readonly SnapshotId[]): SnapshotId[] {
  return [...new Set(snapshots)].sort();
}

/**
 * What is known without resolving anything; `undefined`: nothing.
 *
 * @throws ResolutionTooLarge
 */
export async function knownOutcome(
  sql: Sql,
  roomId: RoomId,
  distinct: readonly SnapshotId[],
): Promise<SnapshotId | undefined> {
  const [only, ...others] = distinct;
  if (only === undefined) return createSnapshot(sql, roomId, []);
  if (others.length === 0) return only;
  if (distinct.length > STATES_MAX) throw new ResolutionTooLarge(distinct.length, 0);
  const places = sql.caches.tooLarge.get(resolutionName(roomId, distinct));
  if (places !== undefined) throw new ResolutionTooLarge(distinct.length, places);
  const known = sql.caches.resolutions.get(roomId, distinct);
  return known !== undefined && (await stillHolds(sql, roomId, known)) ? known.snapshot : undefined;
}

/**
 * Resolves, whatever is known already.
 *
 * @param isStopped asked between its parts: whether nobody wants it any more
 * @param limits of what the states may differ in; beyond other ones than our own it is stopped, and nothing is said of the states
 * @throws ResolutionTooLarge; Stopped
 */
export async function resolveDistinct(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  distinct: readonly SnapshotId[],
  isStopped: () => boolean,
  limits = LIMITS,
): Promise<SnapshotId> {
  const name = resolutionName(roomId, distinct);
  const compared = await compareSnapshots(sql, roomId, distinct, limits);
  if (compared.tooDifferent && limits !== LIMITS) throw new Stopped('the states differ in too much');
  if (compared.tooDifferent) throw tooLarge(sql, name, distinct.length, compared.conflicts.length);
  const { conflicts } = compared;

  const events = new JudgedEvents(sql, roomId, rules, EVENTS_MAX);
  const resolved = await resolveStored(events, distinct, conflicts, isStopped).catch((error: unknown) => {
    throw error instanceof TooManyEvents ? tooLarge(sql, name, distinct.length, conflicts.length) : error;
  });
  const { base, changes } = asChange(distinct, conflicts, resolved, events);
  const snapshot = await changePlaces(sql, roomId, base, changes);
  sql.caches.resolutions.set(roomId, distinct, { snapshot, heldToBe: events.heldToBe() });
  return snapshot;
}

/** To find it out costs seconds: what waits for these states is tried again and again, and they are resolved when they are others. */
function tooLarge(sql: Sql, name: string, states: number, places: number): ResolutionTooLarge {
  sql.caches.tooLarge.set(name, places);
  return new ResolutionTooLarge(states, places);
}

/** Whether all is as it was: verdicts and content are, and what was missing still is. */
async function stillHolds(sql: Sql, roomId: RoomId, { snapshot, heldToBe: was }: ResolutionOutcome): Promise<boolean> {
  if (!(await isStored(sql, roomId, snapshot))) return false;
  const now = await readJudgements(sql, roomId, [...was.keys()]);
  for (const [eventId, held] of was) if (heldToBe(now.get(eventId)) !== held) return false;
  return true;
}

/** The outcome as a change of that one of the states which is closest to it. */
function asChange(
  snapshots: readonly SnapshotId[],
  conflicts: readonly TrieConflict[],
  resolved: StateMap,
  events: JudgedEvents,
): { readonly base: SnapshotId; readonly changes: readonly TrieChange[] } {
  const outcome = new Map<TrieKey, number>();
  for (const eventId of resolved.values()) {
    const event = events.get(eventId);
    invariant(event !== undefined && event.key !== null, `${eventId} was loaded to be resolved, and is a state event`);
    outcome.set(event.key, event.nid);
  }
  const differing = snapshots.map(
    (_, i) => conflicts.filter(({ key, values }) => values[i] !== (outcome.get(key) ?? null)).length,
  );
  const closest = differing.indexOf(Math.min(...differing));
  const base = snapshots[closest];
  invariant(base !== undefined, 'one of several states is the closest');
  const changes: TrieChange[] = [];
  for (const { key, values } of conflicts) {
    const value = outcome.get(key) ?? null;
    if (values[closest] !== value) changes.push({ key, value });
    outcome.delete(key);
  }
  // What is left stands at places that no state has: of the auth difference.
  for (const [key, value] of outcome) changes.push({ key, value });
  return { base, changes };
}
