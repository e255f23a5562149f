/**
 * What check 5 reads for an event whose state is partial: what we know of the state before it, resolved with what its own
 * auth events claim (MSC3902, https://github.com/matrix-org/matrix-spec-proposals/pull/3902).
 *
 * Only the places that the auth rules read of the event are resolved, with the places that they read of the candidates for
 * these, and so on until nothing new comes. Resolution judges a candidate by the places that the rules read of it and by its
 * own auth events, so what stands elsewhere does not reach the outcome by way of the rules. It may reach it by way of the
 * auth difference: an event that only the chain of some other known state event names takes part in the resolution of both
 * states whole, and not in this one. That decides nothing for long: the verdict is provisional, and the event is judged
 * again by full state. The whole known state costs 20 to 50 ms an event, for a few hundred known places; this, less than one.
 */
import { stateNeededToAuthorise } from '../../matrix/auth/auth-events.ts';
import { type AuthState } from '../../matrix/auth/auth-rules.ts';
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { stateSetsForPartialCheck } from '../../matrix/pdu-checks.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type StateMap, parseStateMapKey, stateMapKey } from '../../matrix/state-map.ts';
import { resolveState } from '../../matrix/state-resolution/state-resolution.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../../store/open-store.ts';
import { lookUpPlaces } from '../../store/snapshots/snapshots-in-numbers.ts';
import { readStateKeys } from '../../store/snapshots/state-keys.ts';
import { type AgainstSnapshot } from './auth-state.ts';
import { JudgedEvents } from './judged-events.ts';

/** How often places are added. Candidates, their senders and who let these in come to three; strangers may make it any number. */
const EXTENSIONS_MAX = 6;

/** An event, what is known of the state before it, and its auth events, which passed check 4. */
export interface AgainstPartialSnapshot extends AgainstSnapshot {
  readonly authEvents: readonly Pdu[];
}

/** What check 5 reads for partial events, in their order; all of them advance together. */
export async function partialAuthStatesOf(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  wanted: readonly AgainstPartialSnapshot[],
): Promise<AuthState[]> {
  const events = new JudgedEvents(sql, roomId, rules);
  const checks = wanted.map((each) => new PartialCheck(each, events));
  for (let extensions = 0; extensions < EXTENSIONS_MAX; extensions++) {
    if (!(await lookUp(events, checks))) break;
    for (const check of checks) check.extend();
  }
  for (;;) {
    const resolved = checks.map((check) => check.resolve());
    if (!events.isWanting) return resolved;
    await events.load();
  }
}

/** Looks up the places that checks have come to want, and loads the candidates for them; `false`: none wants any. */
async function lookUp(events: JudgedEvents, checks: readonly PartialCheck[]): Promise<boolean> {
  const { sql, roomId } = events;
  const looking = checks.filter((check) => check.wanted.size > 0);
  if (looking.length === 0) return false;
  const names = new Set(looking.flatMap(({ wanted }) => [...wanted]));
  const keys = await readStateKeys(sql, [...names].map(parseStateMapKey));
  const places = looking.map(({ snapshot, wanted }) => ({
    snapshot,
    keys: new Set([...wanted].flatMap((place) => keys.get(place) ?? [])),
  }));
  const found = await lookUpPlaces(sql, roomId, places);
  looking.forEach((check, i) => {
    check.take(new Map([...check.wanted].map((place) => [place, found[i]?.get(keys.get(place) ?? -1)])));
  });
  // Asked for, to be loaded all at once.
  for (const check of looking) check.candidates();
  if (events.isWanting) await events.load();
  return true;
}

/** One event's check: the places of the known state that it has looked at. */
class PartialCheck {
  readonly snapshot: SnapshotId;
  /** Places to look up. */
  wanted: ReadonlySet<string>;
  readonly #events: JudgedEvents;
  /** Given, and not loaded: some may be judged in the batch that is under way, and have no verdict stored yet. */
  readonly #authEvents: ReadonlyMap<EventId, Pdu>;
  readonly #claimed: StateMap;
  /** By place, of the known state; `undefined`: it is empty there. */
  readonly #known = new Map<string, number | undefined>();

  constructor({ snapshot, event, authEvents }: AgainstPartialSnapshot, events: JudgedEvents) {
    this.snapshot = snapshot;
    this.#events = events;
    this.#authEvents = new Map(authEvents.map((authEvent) => [authEvent.eventId, authEvent]));
    [, this.#claimed] = stateSetsForPartialCheck(new Map(), authEvents);
    this.wanted = new Set([...placesNeeded(event, events.rules), ...this.#claimed.keys()]);
  }

  take(nids: ReadonlyMap<string, number | undefined>): void {
    for (const [place, nid] of nids) this.#known.set(place, nid);
    this.wanted = new Set();
  }

  /** The events that contradict each other, as far as they are loaded. */
  candidates(): Pdu[] {
    const candidates: Pdu[] = [];
    for (const [place, nid] of this.#known) {
      const known = nid === undefined ? undefined : this.#events.byNid(nid)?.pdu;
      const claimedId = this.#claimed.get(place);
      const claimed = claimedId === undefined ? undefined : this.#authEvents.get(claimedId);
      if (known?.eventId === claimed?.eventId) continue;
      for (const event of [known, claimed]) if (event !== undefined) candidates.push(event);
    }
    return candidates;
  }

  /** Wants what the rules read of the candidates. */
  extend(): void {
    const places = this.candidates().flatMap((event) => placesNeeded(event, this.#events.rules));
    this.wanted = new Set(places.filter((place) => !this.#known.has(place)));
  }

  resolve(): AuthState {
    const known = new Map<string, EventId>();
    for (const [place, nid] of this.#known) {
      const event = nid === undefined ? undefined : this.#events.byNid(nid);
      if (event !== undefined) known.set(place, event.pdu.eventId);
    }
    const stateSets = stateSetsForPartialCheck(known, [...this.#authEvents.values()]);
    const { rules, roomId } = this.#events;
    const fetchEvent = (eventId: EventId): Pdu | undefined =>
      this.#authEvents.get(eventId) ?? this.#events.get(eventId)?.pdu;
    const isRejected = (eventId: EventId): boolean => this.#events.isRejected(eventId);
    const resolved = resolveState({ rules, roomId, stateSets, fetchEvent, isRejected });
    return (type, stateKey) => {
      const eventId = resolved.get(stateMapKey(type, stateKey));
      return eventId === undefined ? undefined : fetchEvent(eventId);
    };
  }
}

function placesNeeded(event: Pdu, rules: RoomVersionRules): string[] {
  return stateNeededToAuthorise(event, rules).map(({ type, stateKey }) => stateMapKey(type, stateKey));
}
