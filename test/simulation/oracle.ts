/**
 * What is right, worked out the naive way: a pure function of a graph of events, whole state maps in memory, one event after
 * the other. It shares the rules and the resolution with the product, and nothing of how that takes events in, keeps states,
 * or judges again. Given every event of a room it is a server that has been in the room all along; given those that were
 * delivered to us it is what a classic join would have come to.
 */
import { authEventIdsOf, authEventKeys } from '../../src/matrix/auth/auth-events.ts';
import { type AuthState } from '../../src/matrix/auth/auth-rules.ts';
import { authoriseAgainstState } from '../../src/matrix/auth/auth-rules.ts';
import { type EventId, type RoomId } from '../../src/matrix/identifiers.ts';
import { checkOutlier, checkUnPartialStated } from '../../src/matrix/pdu-checks.ts';
import { type Pdu } from '../../src/matrix/pdu.ts';
import { type RoomVersionRules } from '../../src/matrix/room-versions.ts';
import { type StateMap, stateMapKey } from '../../src/matrix/state-map.ts';
import { resolveState } from '../../src/matrix/state-resolution/state-resolution.ts';

/** A verdict and the rule that made it. */
export interface Judgement {
  readonly verdict: 'accepted' | 'rejected';
  readonly rule?: string;
  readonly check?: number;
}

export interface OracleInput {
  readonly rules: RoomVersionRules;
  readonly roomId: RoomId;
  /** Every event that there is, of any room. */
  readonly events: ReadonlyMap<EventId, Pdu>;
  /** Whether an event has a place in the timeline; all others are known as state and auth events only. */
  readonly isInTimeline: (eventId: EventId) => boolean;
  /** The state before an event outside the timeline on which one of the timeline builds, as a resident gives it. */
  readonly stateBeforeOutside: (eventId: EventId) => StateMap;
  /**
   * Whether an event of the timeline that is its own ancestor by prev edges is refused for that. Nothing says which one of a circle is, only
   * that following its edges has to come to an end; all else is worked out here.
   */
  readonly isCut: (eventId: EventId) => boolean;
}

/** Two states that were resolved, for another implementation to resolve too. */
export interface ResolvedStates {
  readonly stateSets: readonly StateMap[];
  readonly resolved: StateMap;
  readonly rejected: ReadonlySet<EventId>;
}

const ACCEPTED: Judgement = { verdict: 'accepted' };
const CUT: Judgement = { verdict: 'rejected', rule: 'graph-cycle' };

/** Verdicts and states, each worked out once, when it is asked for. */
export class Oracle {
  readonly #input: OracleInput;
  readonly #judgements = new Map<EventId, Judgement>();
  readonly #before = new Map<EventId, StateMap>();
  readonly #after = new Map<EventId, StateMap>();
  readonly #resolved = new Map<string, StateMap>();
  /** Resolutions of states that differ. */
  readonly resolutions: ResolvedStates[] = [];

  constructor(input: OracleInput) {
    this.#input = input;
  }

  judgementOf(eventId: EventId): Judgement {
    const known = this.#judgements.get(eventId);
    if (known !== undefined) return known;
    // What cites itself proves nothing, whoever asks.
    this.#judgements.set(eventId, CUT);
    const judgement = this.#input.isCut(eventId) ? CUT : this.#judge(this.event(eventId));
    this.#judgements.set(eventId, judgement);
    return judgement;
  }

  isRejected(eventId: EventId): boolean {
    return this.judgementOf(eventId).verdict === 'rejected';
  }

  /** Of an event of the timeline. */
  stateBefore(eventId: EventId): StateMap {
    const known = this.#before.get(eventId);
    if (known !== undefined) return known;
    const circle = this.#input.isCut(eventId) ? this.circleOf(eventId) : [];
    const parents =
      circle.length === 0
        ? this.event(eventId).prevEvents
        : circle.flatMap((id) => this.event(id).prevEvents).filter((id) => !circle.includes(id));
    const state = this.resolve(parents.map((prev) => this.stateAfter(prev)));
    this.#before.set(eventId, state);
    return state;
  }

  /** All that an event of the timeline reaches there by prev edges and that reaches it, with itself; empty: it is not its own ancestor. */
  circleOf(eventId: EventId): EventId[] {
    const reached = this.#reach(eventId);
    if (!reached.has(eventId)) return [];
    return [...reached].filter((id) => this.#reach(id).has(eventId));
  }

  #reach(from: EventId): ReadonlySet<EventId> {
    const { isInTimeline } = this.#input;
    const reached = new Set<EventId>();
    const toLook = [...this.event(from).prevEvents];
    for (let id = toLook.pop(); id !== undefined; id = toLook.pop()) {
      if (reached.has(id) || !isInTimeline(id)) continue;
      reached.add(id);
      toLook.push(...this.event(id).prevEvents);
    }
    return reached;
  }

  stateAfter(eventId: EventId): StateMap {
    const known = this.#after.get(eventId);
    if (known !== undefined) return known;
    const state = this.#workOutAfter(eventId);
    this.#after.set(eventId, state);
    return state;
  }

  resolve(states: readonly StateMap[]): StateMap {
    const distinct = [...new Set(states)];
    const [first] = distinct;
    if (first === undefined) return new Map();
    if (distinct.length === 1) return first;
    const name = distinct.map(nameOf).sort().join('\n');
    const known = this.#resolved.get(name);
    if (known !== undefined) return known;
    const rejected = new Set<EventId>();
    const resolved = this.resolveBy(distinct, (eventId) => {
      const isRejected = this.isRejected(eventId);
      if (isRejected) rejected.add(eventId);
      return isRejected;
    });
    this.#resolved.set(name, resolved);
    this.resolutions.push({ stateSets: distinct, resolved, rejected });
    return resolved;
  }

  /** By verdicts that may not be the last ones. */
  resolveBy(stateSets: readonly StateMap[], isRejected: (eventId: EventId) => boolean): StateMap {
    const { rules, roomId, events } = this.#input;
    return resolveState({ rules, roomId, stateSets, fetchEvent: (eventId) => events.get(eventId), isRejected });
  }

  /** Check 6: whether a state lets an event be. */
  isAllowedBy(eventId: EventId, state: StateMap): boolean {
    return authoriseAgainstState(this.event(eventId), this.lookUp(state), this.#input.rules).ok;
  }

  lookUp(state: StateMap): AuthState {
    return (type, stateKey) => {
      const eventId = state.get(stateMapKey(type, stateKey));
      return eventId === undefined ? undefined : this.event(eventId);
    };
  }

  event(eventId: EventId): Pdu {
    const event = this.#input.events.get(eventId);
    if (event === undefined) throw new Error(`the simulation knows no event ${eventId}`);
    return event;
  }

  /** What somebody who speaks in `state` has to cite. */
  authEventsFor(draft: Parameters<typeof authEventKeys>[0], state: StateMap): EventId[] {
    return authEventKeys(draft, this.#input.rules).flatMap(
      ({ type, stateKey }) => state.get(stateMapKey(type, stateKey)) ?? [],
    );
  }

  /** Check 4 alone, by verdicts that may not be the last ones. */
  isRejectedByAuthEvents(eventId: EventId, isRejected: (eventId: EventId) => boolean): boolean {
    return checkOutlier(this.#cited(this.event(eventId), isRejected)).outcome !== 'accept';
  }

  #judge(event: Pdu): Judgement {
    const cited = this.#cited(event, (eventId) => this.isRejected(eventId));
    const verdict = this.#input.isInTimeline(event.eventId)
      ? checkUnPartialStated({ ...cited, stateBefore: this.lookUp(this.stateBefore(event.eventId)) })
      : checkOutlier(cited);
    if (verdict.outcome === 'accept') return ACCEPTED;
    return { verdict: 'rejected', rule: verdict.rule, check: verdict.check };
  }

  #cited(event: Pdu, isRejected: (eventId: EventId) => boolean) {
    const { rules, events } = this.#input;
    const authEvents = authEventIdsOf(event, rules).flatMap((eventId) => events.get(eventId) ?? []);
    return { event, rules, authEvents, isRejected };
  }

  #stateBeforeOutside(eventId: EventId): StateMap {
    return new Map([...this.#input.stateBeforeOutside(eventId)].filter(([, id]) => !this.isRejected(id)));
  }

  /** What an event outside the timeline did is by the state before it, as of one inside. */
  #workOutAfter(eventId: EventId): StateMap {
    const isInside = this.#input.isInTimeline(eventId);
    const before = isInside ? this.stateBefore(eventId) : this.#stateBeforeOutside(eventId);
    const { stateKey, type } = this.event(eventId);
    if (stateKey === undefined || this.isRejected(eventId)) return before;
    if (!isInside && !this.isAllowedBy(eventId, before)) return before;
    return new Map(before).set(stateMapKey(type, stateKey), eventId);
  }
}

function nameOf(state: StateMap): string {
  return [...state.values()].sort().join(' ');
}
