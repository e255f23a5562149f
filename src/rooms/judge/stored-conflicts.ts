/**
 * Resolves the conflicts of stored states: runs the pure algorithm on what is loaded, loads what it asked for in vain, and
 * runs it again until it asked for nothing.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { type EventId } from '../../matrix/identifiers.ts';
import { type StateMap, parseStateMapKey, stateMapKey } from '../../matrix/state-map.ts';
import { type Conflicts, type InParts, resolveConflicts } from '../../matrix/state-resolution/state-resolution.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { invariant } from '../../invariant.ts';
import { type AuthEvent } from '../../store/events/auth-event-cache.ts';
import { impliedAuthEvents } from '../../matrix/auth/auth-events.ts';
import { readReachedBy } from '../../store/events/auth-events.ts';
import { type TrieConflict } from '../../store/snapshots/compare-tries.ts';
import { type TrieKey } from '../../store/snapshots/snapshot-trie.ts';
import { lookUpPlaces, readEntries } from '../../store/snapshots/snapshots-in-numbers.ts';
import { readStateKeys } from '../../store/snapshots/state-keys.ts';
import { type JudgedEvents } from './judged-events.ts';

/** It was told to stop between its parts. */
export class Stopped extends Error {
  override readonly name = 'Stopped';
}

/**
 * What comes to stand at the places of `conflicts`, in which `snapshots` differ, and at places that no state has.
 *
 * @throws Stopped when `isStopped` says so
 */
export async function resolveStored(
  events: JudgedEvents,
  snapshots: readonly SnapshotId[],
  conflicts: readonly TrieConflict[],
  isStopped: () => boolean,
): Promise<StateMap> {
  const [base] = snapshots;
  invariant(base !== undefined, 'there are states to resolve');
  const nids = new Set(conflicts.flatMap(({ values }) => values.filter((nid) => nid !== null)));
  for (const nid of nids) events.byNid(nid);
  await events.load();
  // The algorithm asks for them first.
  for (const nid of nids) events.byNid(nid)?.pdu.authEvents.forEach((eventId) => events.get(eventId));
  if (events.isWanting) await events.load();

  const conflicted = snapshots.map(() => new Map<string, EventId>());
  for (const { values } of conflicts) {
    let place: string | undefined;
    values.forEach((nid, i) => {
      const event = nid === null ? undefined : events.byNid(nid);
      if (event?.pdu.stateKey === undefined) return;
      place ??= stateMapKey(event.pdu.type, event.pdu.stateKey);
      conflicted[i]?.set(place, event.pdu.eventId);
    });
  }
  const rest = new Rest(events, base, new Set(conflicts.map(({ key }) => key)));
  for (;;) {
    const parts = resolveConflicts({ conflicted, ...rest.forResolution() }, events.forResolution());
    const resolved = await byTurns(parts, isStopped);
    if (!(await rest.load())) return resolved;
    await turn();
  }
}

/** Runs a computation, and whatever else waits for this thread between its parts. */
async function byTurns<T>(parts: InParts<T>, isStopped: () => boolean): Promise<T> {
  for (;;) {
    if (isStopped()) throw new Stopped('nobody waits for this resolution');
    const { done, value } = parts.next();
    if (done === true) return value;
    await turn();
  }
}

/** The places at which all states agree, of which a few are looked at. They are the same in all, so one state tells them. */
class Rest {
  readonly #events: JudgedEvents;
  readonly #base: SnapshotId;
  readonly #conflicted: ReadonlySet<TrieKey>;
  /** By `stateMapKey`; `null`: no event ever had the place. */
  readonly #keys = new Map<string, TrieKey | null>();
  readonly #nids = new Map<TrieKey, number | null>();
  readonly #reached = new Map<EventId, boolean>();
  readonly #wantedPlaces = new Set<string>();
  readonly #wantedKeys = new Set<TrieKey>();
  readonly #wantedReach = new Set<EventId>();

  constructor(events: JudgedEvents, base: SnapshotId, conflicted: ReadonlySet<TrieKey>) {
    this.#events = events;
    this.#base = base;
    this.#conflicted = conflicted;
  }

  forResolution(): Omit<Conflicts, 'conflicted'> {
    return {
      unconflictedAt: (place) => {
        const key = this.#keys.get(place);
        if (key === undefined) this.#wantedPlaces.add(place);
        const nid = key === undefined || key === null ? null : this.#nidAt(key);
        return nid === null ? undefined : this.#events.byNid(nid)?.pdu.eventId;
      },
      isUnconflicted: (eventId) => {
        const event = this.#events.get(eventId);
        return event !== undefined && event.key !== null && this.#nidAt(event.key) === event.nid;
      },
      reachedByUnconflicted: (eventIds) => {
        for (const eventId of eventIds) if (!this.#reached.has(eventId)) this.#wantedReach.add(eventId);
        return new Set([...eventIds].filter((eventId) => this.#reached.get(eventId)));
      },
    };
  }

  #nidAt(key: TrieKey): number | null {
    if (this.#conflicted.has(key)) return null;
    const nid = this.#nids.get(key);
    if (nid === undefined) this.#wantedKeys.add(key);
    return nid ?? null;
  }

  /** Loads what was asked for in vain; `false`: nothing was. */
  async load(): Promise<boolean> {
    const wantsPlaces = this.#wantedPlaces.size + this.#wantedKeys.size > 0;
    if (wantsPlaces) await this.#loadPlaces();
    if (this.#events.isWanting) await this.#events.load();
    else if (!wantsPlaces && this.#wantedReach.size > 0) await this.#loadReached();
    else if (!wantsPlaces) return false;
    this.#wantedReach.clear();
    return true;
  }

  async #loadPlaces(): Promise<void> {
    const { sql, roomId } = this.#events;
    const found = await readStateKeys(sql, [...this.#wantedPlaces].map(parseStateMapKey));
    for (const place of this.#wantedPlaces) {
      const key = found.get(place) ?? null;
      this.#keys.set(place, key);
      if (key !== null && !this.#conflicted.has(key)) this.#wantedKeys.add(key);
    }
    const places = [{ snapshot: this.#base, keys: this.#wantedKeys }];
    const [nids] = await lookUpPlaces(sql, roomId, places);
    for (const key of this.#wantedKeys) this.#nids.set(key, nids?.get(key) ?? null);
    // Whoever asks for a place by name wants the event.
    for (const place of this.#wantedPlaces) {
      const nid = this.#nids.get(this.#keys.get(place) ?? -1) ?? null;
      if (nid !== null) this.#events.byNid(nid);
    }
    this.#wantedPlaces.clear();
    this.#wantedKeys.clear();
  }

  /** Asks first those that succeed a wanted event at its place, since they likely cite it, then all. */
  async #loadReached(): Promise<void> {
    const { sql, roomId, rules } = this.#events;
    const unconflicted = (await readEntries(sql, roomId, this.#base)).filter(({ key }) => !this.#conflicted.has(key));
    const wanted = [...this.#wantedReach].flatMap((eventId) => this.#events.get(eventId) ?? []);
    const places = new Set(wanted.map(({ key }) => key));
    const successors = unconflicted.filter(({ key }) => places.has(key));
    let open = wanted;
    for (const roots of [successors, unconflicted]) {
      // In version 12 every event cites the create event, and says so by its room id only.
      const reached = new Set<EventId>(roots.length > 0 ? impliedAuthEvents(roomId, rules) : []);
      const nids = roots.map(({ value }) => value);
      for (const eventId of await readReachedBy(sql, roomId, nids, open.map(idOf), this.#depthBelow(open))) {
        reached.add(eventId);
      }
      open = open.filter((event) => !reached.has(idOf(event)));
      if (open.length === 0) break;
    }
    const unreached = new Set(open.map(idOf));
    for (const eventId of this.#wantedReach) this.#reached.set(eventId, !unreached.has(eventId));
  }

  /** Nothing that stands no deeper than the shallowest of `wanted` reaches any of them. */
  #depthBelow(wanted: readonly AuthEvent[]): number | null {
    let shallowest = Number.POSITIVE_INFINITY;
    for (const event of wanted) {
      const depth = this.#events.authDepthOf(idOf(event));
      if (depth === undefined) return null;
      shallowest = Math.min(shallowest, depth);
    }
    return shallowest;
  }
}

function idOf({ pdu }: AuthEvent): EventId {
  return pdu.eventId;
}
