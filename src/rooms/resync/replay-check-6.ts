/**
 * Check 6 for what was taken in while a room was partial. On receipt it is not made there: the current state was not known.
 * Once all events have their verdict by full state, the timeline of the stay is gone through in the order of the journal: each
 * event is judged by the current state at its place, the resolution of the states after all extremities among the events
 * before it. Who says something after a ban is soft-failed then, as at every server that knew of the ban.
 *
 * Nothing is written here. The replay goes on where it stopped, in another process, too, and holds while no verdict or state of
 * those that it has passed changes. Begun again it finds what is to be soft-failed now, and what no longer. Costs little where an event
 * stands on the current state, as most do, and of those that were passed before only their place in the graph is read.
 */
import { type EventId, type RoomId, domainOf } from '../../matrix/identifiers.ts';
import { type AuthState } from '../../matrix/auth/auth-rules.ts';
import { authEventsAmong } from '../../matrix/auth/auth-events.ts';
import { checkReplayed } from '../../matrix/pdu-checks.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type SnapshotId, type TimelineEvent } from '../../resync/events.ts';
import { invariant } from '../../invariant.ts';
import { type Sql } from '../../store/open-store.ts';
import {
  type OrderedEvent,
  type StayStart,
  readGraphAhead,
  readTimelineSince,
} from '../../store/events/timeline-order.ts';
import { readStandingOnGuesses } from '../../store/events/guessed-states.ts';
import { authStatesOf } from '../judge/auth-state.ts';
import { loadPdus } from '../judge/load-pdus.ts';
import { resolveInSteps } from '../judge/resolve-in-steps.ts';
import { type Resolve, resolveSnapshots } from '../judge/resolve.ts';
import { OrderedExtremities } from './ordered-extremities.ts';

/** Events read at a time. */
const PAGE_EVENTS = 200;
/** Events for which the current state is looked at together, while it stays the same. */
const LOOKED_AT_MAX = 64;

type SoftFailed = Extract<TimelineEvent, { type: 'EventSoftFailed' }>;
/** What the journal does not say yet. */
export type Check6Finding = SoftFailed | Extract<TimelineEvent, { type: 'SoftFailureLifted' }>;

/** Some events of the timeline, in order. */
interface Page {
  readonly events: readonly OrderedEvent[];
  /** Those that may have been spared by check 5, since the state before them is guessed (guessed-states.ts). */
  readonly guessed: ReadonlySet<EventId>;
  /** Their bodies, once one is needed. */
  pdus?: ReadonlyMap<EventId, Pdu>;
}

/** What the rules read of one state for events of a page. */
interface Looked {
  readonly state: SnapshotId;
  readonly authStates: Map<EventId, AuthState>;
  /** For so many events it is looked at next: for more and more while the state stays the same. */
  next: number;
}

export interface ReplayProgress {
  /** Called before each event that is judged. */
  readonly onEvent: () => void;
  readonly isTimeUp: () => boolean;
  /** Events judged at most. */
  readonly eventsMax: number;
  /** How states are resolved; absent: `resolveSnapshots`. */
  readonly resolve?: Resolve | undefined;
}

export class Check6Replay {
  readonly #roomId: RoomId;
  readonly #rules: RoomVersionRules;
  readonly #start: StayStart;
  readonly #extremities = new OrderedExtremities();
  #findings: Check6Finding[] = [];
  /** Of the last event that was gone through. */
  #position: number;
  /** Of the last event on which the journal says what is to be said. */
  readonly #passedUpTo: number;
  /** The last resolution, which most events share with the one before. */
  #resolved: { readonly states: string; readonly state: SnapshotId } | undefined;
  #looked: Looked | undefined;

  /** `passedUpTo`: where an earlier one stopped, whose findings are journalled; absent: there was none. */
  constructor(roomId: RoomId, rules: RoomVersionRules, start: StayStart, passedUpTo = 0) {
    this.#roomId = roomId;
    this.#rules = rules;
    this.#start = start;
    this.#position = start.position - 1;
    this.#passedUpTo = passedUpTo;
  }

  /** In the order of the journal; they are to be appended. */
  get findings(): readonly Check6Finding[] {
    return this.#findings;
  }

  /** They are. */
  forgetFindings(): void {
    this.#findings = [];
  }

  /** Of the last event that was gone through. */
  get position(): number {
    return this.#position;
  }

  /** The extremities after all events that were gone through. */
  get extremities(): EventId[] {
    return this.#extremities.eventIds;
  }

  /** The current state after all events that were gone through. @throws what `resolve` does */
  async currentState(sql: Sql, resolve?: Resolve): Promise<SnapshotId> {
    const states = this.#ends();
    const key = states.join();
    if (this.#resolved?.states !== key) {
      this.#resolved = { states: key, state: await this.#resolve(sql, states, resolve) };
    }
    return this.#resolved.state;
  }

  #resolve(sql: Sql, states: readonly SnapshotId[], resolve: Resolve = resolveSnapshots): Promise<SnapshotId> {
    return resolveInSteps(sql, this.#roomId, this.#rules, states, new Map(), resolve);
  }

  /** The states that lead to the current one. */
  #ends(): readonly SnapshotId[] {
    const { states } = this.#extremities;
    return states.length === 0 ? [this.#start.stateAfter] : states;
  }

  /**
   * Goes through what has come since; `false` when the time was up, or events enough were judged, before its end.
   *
   * @throws what `resolve` does; it goes on with the same event then
   */
  async catchUp(sql: Sql, { onEvent, isTimeUp, eventsMax, resolve }: ReplayProgress): Promise<boolean> {
    for (let judged = 0; ;) {
      const read = await readTimelineSince(sql, this.#roomId, this.#position, PAGE_EVENTS);
      const partial = read.findIndex((event) => event.partial);
      const events = partial < 0 ? read : read.slice(0, partial);
      const last = events.at(-1);
      if (last === undefined) return true;
      if (last.position > this.#passedUpTo && isTimeUp()) return false;
      await this.#learnAhead(sql, events);
      this.#looked = undefined;
      const page: Page = { events, guessed: await readStandingOnGuesses(sql, this.#roomId, idsOf(events)) };
      for (const [i, event] of events.entries()) {
        const { isAccepted, isSoftFailed, position } = event;
        if (position <= this.#passedUpTo) {
          this.#extremities.take({ ...event, isSolid: isAccepted && !isSoftFailed });
        } else {
          if (judged >= eventsMax || isTimeUp()) return false;
          judged += 1;
          onEvent();
          const refused = isAccepted ? await this.#refusal(sql, event, page, i, resolve) : undefined;
          this.#note(event, refused);
          this.#extremities.take({ ...event, isSolid: isAccepted && refused === undefined });
        }
        this.#position = position;
      }
      if (partial >= 0) return true;
    }
  }

  #note({ eventId, isSoftFailed }: OrderedEvent, refused: SoftFailed | undefined): void {
    if (refused !== undefined && !isSoftFailed) this.#findings.push(refused);
    if (refused === undefined && isSoftFailed) this.#findings.push({ type: 'SoftFailureLifted', eventId });
  }

  async #learnAhead(sql: Sql, events: readonly OrderedEvent[]): Promise<void> {
    const cited = new Set(events.flatMap(({ prevEvents }) => prevEvents));
    this.#extremities.learn(await readGraphAhead(sql, this.#roomId, [...cited], this.#position));
  }

  /** The `i`th event of a page, where check 6 refuses it. Whatever we sent stays as it is: others have it from us. */
  async #refusal(
    sql: Sql,
    event: OrderedEvent,
    page: Page,
    i: number,
    resolve: Resolve | undefined,
  ): Promise<SoftFailed | undefined> {
    if (domainOf(event.sender) === sql.serverName) return undefined;
    const current = await this.currentState(sql, resolve);
    const { stateBefore, isBeyondGap, eventId } = event;
    // Check 5 was passed by the very same state.
    const isPassed = (state: SnapshotId): boolean => stateBefore === state && !page.guessed.has(eventId);
    if (isPassed(current)) return undefined;
    // The state before it is one more end of the room, beside the others: what these resolve to may resolve with it to something else.
    const state = isBeyondGap ? await this.#resolve(sql, [...this.#ends(), stateBefore], resolve) : current;
    if (isPassed(state)) return undefined;
    page.pdus ??= (await loadPdus(sql, this.#roomId, this.#rules, idsOf(page.events.slice(i)))).pdus;
    const pdu = page.pdus.get(eventId);
    invariant(pdu !== undefined, `${eventId} of the timeline has a body`);
    const authState = await this.#look(sql, state, page, i);
    const verdict = checkReplayed(pdu, this.#rules, authState);
    if (verdict.outcome === 'accept') return undefined;
    const { rule, reason } = verdict;
    return { type: 'EventSoftFailed', eventId, rule, reason, authState: authEventsAmong(authState, pdu, this.#rules) };
  }

  /** What the rules read of `state` for the `i`th event of a page; it is likely looked at for those after it, too. */
  async #look(sql: Sql, state: SnapshotId, { events, guessed, pdus }: Page, i: number): Promise<AuthState> {
    if (this.#looked?.state !== state) this.#looked = { state, authStates: new Map(), next: 1 };
    const { authStates, next } = this.#looked;
    const wanted = events[i]?.eventId;
    invariant(wanted !== undefined, 'the event is of the page');
    if (!authStates.has(wanted)) {
      const pending = events
        .slice(i)
        .filter((event) => event.isAccepted && (event.stateBefore !== state || guessed.has(event.eventId)));
      const together = idsOf(pending.slice(0, next)).flatMap((eventId) => pdus?.get(eventId) ?? []);
      const against = together.map((event) => ({ snapshot: state, event }));
      const read = await authStatesOf(sql, this.#roomId, this.#rules, against);
      read.forEach((authState, k) => authStates.set(together[k]?.eventId ?? wanted, authState));
      this.#looked.next = Math.min(next * 2, LOOKED_AT_MAX);
    }
    const authState = authStates.get(wanted);
    invariant(authState !== undefined, 'a state was read for each event');
    return authState;
  }
}

function idsOf(events: readonly OrderedEvent[]): EventId[] {
  return events.map(({ eventId }) => eventId);
}
