/**
 * What becomes of the events that a resident's answer lacks, whether it was asked for the state of a join or for that at a gap:
 * one rule, by what is known of them from all answers (src/resync/policy.ts).
 */
import { AUTH_EVENT_TYPES } from '../../matrix/auth/auth-events.ts';
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { mayBeAsked } from '../../resync/choice.ts';
import { MISSING_LISTED_MAX, type MissingEvents } from '../../resync/degraded.ts';
import { defaultDegradePolicy, settleLacking, settleLackingAtGap } from '../../resync/policy.ts';
import { addChangedSince } from '../../store/events/changed-since.ts';
import { recordOmissions } from '../../store/events/left-out.ts';
import {
  type LackedEvent,
  citedAsAuthEvents,
  giveUpMissing,
  namedBySeveral,
  recordMissing,
} from '../../store/events/missing-events.ts';
import { readLocalMembers, readResync } from '../../store/journal/rooms.ts';
import { type Sql } from '../../store/open-store.ts';
import { type RoomsContext } from '../context.ts';
import { type FetchedState, type Settlement } from './state-at.ts';

const NOTHING_SETTLED: Settlement = { dropped: [], goneWithout: [] };

export interface LackingAnswer {
  readonly roomId: RoomId;
  readonly epoch: number;
  /** Who gave it. */
  readonly resident: ServerName;
  /** Of the state at a gap: the attempt, this one included, and how many servers are known to ask; absent: a join's state. */
  readonly gap?: { readonly attempts: number; readonly known: number };
}

/** Notes what an answer lacks, and whether everything has been done to have it. */
export async function settleAnswer(
  { store, clock, policy }: Pick<RoomsContext, 'store' | 'clock' | 'policy'>,
  { roomId, epoch, resident, gap }: LackingAnswer,
  lacked: readonly LackedEvent[],
  wanted: Iterable<EventId>,
): Promise<Settlement> {
  const at = clock.now();
  const rows = await recordMissing(store, { roomId, epoch, resident, at }, lacked);
  const resync = await readResync(store, roomId);
  if (resync?.epoch !== epoch) return NOTHING_SETTLED;
  const rounds = { known: mayBeAsked(resync.state).length, failedRounds: resync.state.failedRounds };
  const ours = (await readLocalMembers(store, roomId)).map(({ eventId }) => eventId);
  const ids = rows.map(({ eventId }) => eventId);
  const cited = await citedAsAuthEvents(store, roomId, ids, concat(wanted, ours));
  const outcomes = rows.map(({ eventId, askedOf, since, why, type }) => {
    const isNeeded = cited.has(eventId) || isAuthEvent(type);
    const isUnusable = why === 'badly-signed' || why === 'malformed';
    const lacking = { answers: askedOf.length, since, isNeeded, isUnusable };
    const outcome =
      gap === undefined
        ? settleLacking(rounds, lacking, at, policy.degrade)
        : settleLackingAtGap(gap, lacking, at, policy.degrade);
    return { eventId, why, askedOf, outcome };
  });
  const those = (wish: string) => outcomes.filter(({ outcome }) => outcome === wish);
  const dropped = those('dropped').map(({ eventId, why, askedOf }) => ({ eventId, why, from: askedOf }));
  return { dropped, goneWithout: those('gone-without').map(({ eventId }) => eventId) };
}

function* concat<Item>(first: Iterable<Item>, second: Iterable<Item>): Generator<Item, void, undefined> {
  yield* first;
  yield* second;
}

/** Of a type by which others are judged. Most of a state are memberships, and of a lone one nothing hangs. */
function isAuthEvent(type: string | null): boolean {
  return type !== null && type !== 'm.room.member' && AUTH_EVENT_TYPES.has(type);
}

/** What a state that was taken without some of its events lacks, as the journal has it. */
export function lackingOf({ missing, fell }: Pick<FetchedState, 'missing' | 'fell'>): {
  readonly missing?: MissingEvents;
} {
  return missing.size === 0 ? {} : { missing: told(missing, fell) };
}

function told(missing: FetchedState['missing'], fell: number): MissingEvents {
  const listed = [...missing].slice(0, MISSING_LISTED_MAX).map(([eventId, why]) => ({ eventId, why }));
  return { listed, count: missing.size, fell };
}

/** What a state at a gap lacks, by whose lack it is. */
export interface LackingAtGap {
  readonly ofRoom: FetchedState['missing'];
  readonly ofGap: FetchedState['missing'];
}

/**
 * Sorts what the state at a gap was taken without. A join's state is the word of whoever let us in, and what it lacks the room does.
 * At a gap the word may be that of whoever made the gap up: there the room lacks what several servers have named in their states,
 * or all of `known` where there are fewer.
 */
export async function sortLacking(
  { store, policy }: Pick<RoomsContext, 'store' | 'policy'>,
  roomId: RoomId,
  { missing }: Pick<FetchedState, 'missing'>,
  known: number,
): Promise<LackingAtGap> {
  if (missing.size === 0) return { ofRoom: missing, ofGap: missing };
  const { answers } = policy.degrade ?? defaultDegradePolicy;
  const several = Math.max(1, Math.min(answers, known));
  const named = await namedBySeveral(store, roomId, [...missing.keys()], several);
  const those = (isOfRoom: boolean): FetchedState['missing'] =>
    new Map([...missing].filter(([eventId]) => named.has(eventId) === isOfRoom));
  return { ofRoom: those(true), ofGap: those(false) };
}

/** As the journal has it. What fell for want of both is told with what the room lacks. */
export function lackingAtGap(
  { ofRoom, ofGap }: LackingAtGap,
  fell: number,
): { readonly missing?: MissingEvents; readonly lackedHere?: MissingEvents } {
  return {
    ...(ofRoom.size === 0 ? {} : { missing: told(ofRoom, fell) }),
    ...(ofGap.size === 0 ? {} : { lackedHere: told(ofGap, ofRoom.size === 0 ? fell : 0) }),
  };
}

/** The anchor that a fetched state is of, in a stay. */
export interface FetchedAnchor {
  readonly roomId: RoomId;
  readonly epoch: number;
  readonly anchorId: EventId;
  readonly at: number;
}

/** Notes beside the journal what the state at an anchor lacks, and what has turned since; in the transaction that makes it so. */
export async function recordFetched(
  tx: Sql,
  { roomId, epoch, anchorId, at }: FetchedAnchor,
  { missing, omissions, since, judgedByOthers }: FetchedState,
  lacking: LackingAtGap = { ofRoom: missing, ofGap: new Map() },
): Promise<void> {
  await giveUpMissing(tx, { roomId, epoch, missing: lacking.ofRoom, at });
  await giveUpMissing(tx, { roomId, epoch, missing: lacking.ofGap, gapId: anchorId, at });
  await recordOmissions(tx, roomId, anchorId, omissions);
  const { leftOut, awaited } = omissions;
  await addChangedSince(tx, roomId, since, { leftOut, awaited: [...awaited, ...judgedByOthers] });
}
