/** The events of one room that one judgement looks at, loaded as they are asked for, with the verdicts of the moment. */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type ResolutionEvents } from '../../matrix/state-resolution/state-resolution.ts';
import { type AuthEvent } from '../../store/events/auth-event-cache.ts';
import { type Judgement, readAuthChainIds, readJudgements } from '../../store/events/auth-events.ts';
import { type Sql } from '../../store/open-store.ts';
import { loadAuthEvents } from './auth-events.ts';

/** After so many loads of what is named, whole auth chains of it are loaded: long chains are rare, and cost one query then. */
const LOADS_BEFORE_CHAINS = 3;

/** More events were asked for than may be held at once. */
export class TooManyEvents extends Error {
  override readonly name = 'TooManyEvents';
}

/** Loaded events. An event that is not held in this room, or not judged, counts as missing: nothing follows from it. */
export class JudgedEvents {
  readonly sql: Sql;
  readonly roomId: RoomId;
  readonly rules: RoomVersionRules;
  readonly #events = new Map<EventId, AuthEvent>();
  readonly #byNid = new Map<number, AuthEvent>();
  readonly #judgements = new Map<EventId, Judgement | undefined>();
  readonly #eventsMax: number;
  /** Asked for, and not looked for yet. */
  readonly #wanted = new Set<EventId>();
  readonly #wantedNids = new Set<number>();
  #loads = 0;
  #depthsKnown = true;

  constructor(sql: Sql, roomId: RoomId, rules: RoomVersionRules, eventsMax = Number.POSITIVE_INFINITY) {
    this.sql = sql;
    this.roomId = roomId;
    this.rules = rules;
    this.#eventsMax = eventsMax;
  }

  /** An event that is judged; `undefined`: it is missing, or will be loaded by `load`. */
  get(eventId: EventId): AuthEvent | undefined {
    if (!this.#judgements.has(eventId)) this.#wanted.add(eventId);
    return this.#events.get(eventId);
  }

  /** As `get`. What stands in a state is held and judged. */
  byNid(nid: number): AuthEvent | undefined {
    const event = this.#byNid.get(nid);
    if (event === undefined) this.#wantedNids.add(nid);
    return event;
  }

  /** Whether something was asked for that `load` would look for. */
  get isWanting(): boolean {
    return this.#wanted.size + this.#wantedNids.size > 0;
  }

  /**
   * Loads what was asked for, in few statements.
   *
   * @throws TooManyEvents
   */
  async load(): Promise<void> {
    const { sql, roomId, rules } = this;
    this.#loads += 1;
    const eventIds = new Set(this.#wanted);
    if (this.#loads > LOADS_BEFORE_CHAINS && eventIds.size > 0) {
      const chain = await readAuthChainIds(sql, roomId, [...eventIds], [...this.#judgements.keys()]);
      for (const eventId of chain) eventIds.add(eventId);
    }
    const nids = new Set(this.#wantedNids);
    if (this.#judgements.size + eventIds.size + nids.size > this.#eventsMax) {
      throw new TooManyEvents(`more than ${String(this.#eventsMax)} events of ${roomId} are wanted at once`);
    }
    let loaded = await loadAuthEvents(sql, roomId, rules, { nids, eventIds });
    for (const { pdu } of loaded) eventIds.add(pdu.eventId);
    const judgements = await readJudgements(sql, roomId, [...eventIds]);
    // Kept in memory from before it was deleted as an outlier that nobody needs, and stored again since.
    const stale = loaded.filter(({ nid, pdu }) => (judgements.get(pdu.eventId)?.nid ?? nid) !== nid);
    if (stale.length > 0) {
      for (const { nid } of stale) sql.caches.authEvents.forget(nid);
      const again = await loadAuthEvents(sql, roomId, rules, { eventIds: stale.map(({ pdu }) => pdu.eventId) });
      loaded = [...loaded.filter((event) => !stale.includes(event)), ...again];
    }
    for (const eventId of eventIds) this.#judgements.set(eventId, judgements.get(eventId));
    for (const event of loaded) {
      const judgement = judgements.get(event.pdu.eventId);
      if (judgement === undefined || (judgement.verdict === 'unjudged' && !nids.has(event.nid))) continue;
      this.#events.set(event.pdu.eventId, event);
      this.#byNid.set(event.nid, event);
      if (judgement.authDepth === null) this.#depthsKnown = false;
    }
    this.#wanted.clear();
    this.#wantedNids.clear();
  }

  isRejected(eventId: EventId): boolean {
    return this.#judgements.get(eventId)?.verdict === 'rejected';
  }

  authDepthOf(eventId: EventId): number | undefined {
    return this.#judgements.get(eventId)?.authDepth ?? undefined;
  }

  /** What was asked for, with all that an outcome rests on of it. */
  heldToBe(): Map<EventId, string | undefined> {
    return new Map(Array.from(this.#judgements, ([eventId, judgement]) => [eventId, heldToBe(judgement)]));
  }

  /** For the pure algorithm, which asks by `get`. */
  forResolution(): ResolutionEvents {
    return {
      rules: this.rules,
      roomId: this.roomId,
      fetchEvent: (eventId) => this.get(eventId)?.pdu,
      isRejected: (eventId) => this.isRejected(eventId),
      // One row from before depths were stored, and chains have to be visited.
      ...(this.#depthsKnown && {
        authDepthOf: (eventId: EventId) => {
          this.get(eventId);
          return this.authDepthOf(eventId);
        },
      }),
    };
  }
}

/** The verdict, and by what content; `undefined`: it was missing. */
export function heldToBe(judgement: Judgement | undefined): string | undefined {
  return judgement?.hollow === true ? `${judgement.verdict} redacted` : judgement?.verdict;
}
