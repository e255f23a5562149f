/**
 * Judges partial events again once the full state before them is known: checks 4 and 5, parents first. Whatever a stranger
 * made of the graph ends in a verdict: an event whose parents cannot be had, or that is its own ancestor, is rejected with a
 * reason. Only what builds on a gap that is still open is left for later.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { authEventIdsOf, authEventsAmong, impliedAuthEvents } from '../../matrix/auth/auth-events.ts';
import { FOR_WANT } from '../../matrix/auth/auth-verdict.ts';
import { type PduVerdict, checkUnPartialStated } from '../../matrix/pdu-checks.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { type Refusal, refuse } from '../../matrix/refusal.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type TimelineEvent } from '../../resync/events.ts';
import { type Parent, readFullAnchorState, readParents } from '../../store/events/anchors.ts';
import { CYCLE, type StoredEventState } from '../../store/events/event-states.ts';
import { readKnownOtherwise, readStandingOnGuesses } from '../../store/events/guessed-states.ts';
import { invariant } from '../../invariant.ts';
import { type Sql } from '../../store/open-store.ts';
import { type BatchState, BatchStates } from '../judge/batch-states.ts';
import { type LoadedPdus, loadPdus } from '../judge/load-pdus.ts';
import { circleOf, parentsOf } from '../judge/circle.ts';
import { resolveInSteps } from '../judge/resolve-in-steps.ts';
import { ResolutionTakesLong } from '../judge/resolve-in-time.ts';
import { type Resolve, resolveSnapshots } from '../judge/resolve.ts';

type UnPartialStated = Extract<TimelineEvent, { type: 'EventUnPartialStated' }>;

export interface JudgedBatch {
  readonly timeline: readonly UnPartialStated[];
  /** It ends before an event whose states take longer to resolve than `Judging.resolve` waits for. */
  readonly isCutShort: boolean;
}

export interface Judging {
  /** Nothing else can be judged: what cites a partial event that is not among these is on a cycle with it. */
  readonly refusesUnlisted: boolean;
  /** Called before each event. */
  readonly onEvent: () => void;
  /** Ends the batch after the event that is being judged. */
  readonly isTimeUp: () => boolean;
  /** How states are resolved; absent: `resolveSnapshots`. */
  readonly resolve?: Resolve | undefined;
}

interface Decided {
  readonly event: StoredEventState;
  readonly before: BatchState;
  readonly after: BatchState;
  /** Absent: it is accepted. */
  readonly refusal?: Refusal;
  /** The events that decided it. */
  readonly authState: readonly EventId[];
}

/** What events are judged by, read before the first verdict. */
interface Given {
  readonly loaded: LoadedPdus;
  /** Of the events and of what they cite, those that others may build on. */
  readonly parents: ReadonlyMap<EventId, Parent>;
  /** Those of the events that check 5 may not refuse, for it would by a guess; read for the first that it refuses. */
  readonly readSpared: () => Promise<ReadonlySet<EventId>>;
}

/**
 * Judges what can be judged of these events, in their order; what builds on an open gap is left out. A batch costs a few
 * statements, however long it is, and what its forks cost to resolve.
 *
 * @param partial as `readPartialEvents` gives them: an event stands after all partial ones that it cites, but for those with
 * which it is on a cycle.
 */
export async function judgeAgain(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  partial: readonly StoredEventState[],
  judging: Judging,
): Promise<JudgedBatch> {
  const cited = new Set(partial.flatMap(({ eventId, authEvents }) => [eventId, ...authEvents]));
  const loaded = await loadPdus(sql, roomId, rules, [...cited, ...impliedAuthEvents(roomId, rules)]);
  for (const { prevEvents } of partial) prevEvents.forEach((eventId) => cited.add(eventId));
  const parents = await readParents(sql, roomId, [...cited]);
  const readSpared = async (): Promise<ReadonlySet<EventId>> => {
    const ids = partial.map(({ eventId }) => eventId);
    // Of these there are few, most often none: what stands on a guess may be all that came since.
    return readStandingOnGuesses(sql, roomId, [...(await readKnownOtherwise(sql, roomId, ids))]);
  };
  return new Batch(sql, roomId, rules, { loaded, parents, readSpared }, judging.resolve).judge(partial, judging);
}

class Batch {
  readonly #sql: Sql;
  readonly #roomId: RoomId;
  readonly #rules: RoomVersionRules;
  readonly #given: Given;
  readonly #states: BatchStates;
  readonly #decided = new Map<EventId, Decided>();
  /** Events that cannot be judged yet. */
  readonly #left = new Set<EventId>();
  #spared: Promise<ReadonlySet<EventId>> | undefined;
  #hasFlipped = false;

  constructor(sql: Sql, roomId: RoomId, rules: RoomVersionRules, given: Given, resolve: Resolve = resolveSnapshots) {
    this.#sql = sql;
    this.#roomId = roomId;
    this.#rules = rules;
    this.#given = given;
    const inSteps: typeof resolveInSteps = (...[tx, room, by, snapshots, known]) =>
      resolveInSteps(tx, room, by, snapshots, known, resolve);
    this.#states = new BatchStates(sql, roomId, rules, inSteps);
  }

  async judge(
    partial: readonly StoredEventState[],
    { refusesUnlisted, onEvent, isTimeUp }: Judging,
  ): Promise<JudgedBatch> {
    let isCutShort = false;
    const listed = new Map(partial.map(({ eventId, prevEvents }) => [eventId, prevEvents]));
    const prevEventsOf = (id: EventId): readonly EventId[] | undefined => listed.get(id);
    for (const [i, event] of partial.entries()) {
      if (this.#decided.size > 0 && isTimeUp()) break;
      onEvent();
      const ahead = this.#ahead(event);
      // A partial event that is not listed has come since: it is judged with the next batch, and this one after it.
      if (this.#isOverGap(event) || (!refusesUnlisted && ahead.some((id) => !listed.has(id)))) {
        this.#left.add(event.eventId);
        continue;
      }
      const refusal = refusalByPlace(event, this.#given.parents, ahead[0]);
      const parents =
        refusal === undefined ? event.prevEvents : parentsOf(circleOf(event.eventId, prevEventsOf), prevEventsOf);
      const states = new Set(parents.flatMap((prev) => this.#stateAfter(prev) ?? []));
      // Resolution reads verdicts from the database, and one of those that were reversed here is not there yet.
      if (states.size > 1 && this.#hasFlipped) break;
      try {
        if (refusal !== undefined) await this.#refuseAt(event, refusal, states);
        else await this.#judgeBy(await this.#states.resolve(states), event, partial.slice(i + 1));
      } catch (error) {
        if (!(error instanceof ResolutionTakesLong)) throw error;
        isCutShort = true;
        break;
      }
    }
    return { timeline: await this.#entries(), isCutShort };
  }

  /** Events of the timeline that this one cites and stands before, or that are not listed. */
  #ahead({ prevEvents, authEvents }: StoredEventState): EventId[] {
    return [...prevEvents, ...authEvents].filter((id) => {
      const parent = this.#given.parents.get(id);
      return parent?.partial === true && !parent.isAnchor && !this.#decided.has(id);
    });
  }

  /** Of an auth event the verdict counts, and not the state at it: it may be an anchor whose state nobody has told. */
  #isOverGap({ prevEvents, authEvents }: StoredEventState): boolean {
    const isOpen = (id: EventId): boolean => {
      const parent = this.#given.parents.get(id);
      return parent?.isAnchor === true && parent.partial;
    };
    return prevEvents.some(isOpen) || [...prevEvents, ...authEvents].some((id) => this.#left.has(id));
  }

  /** The full state after an event, as far as it is known. */
  #stateAfter(id: EventId): BatchState | undefined {
    const decided = this.#decided.get(id);
    if (decided !== undefined) return decided.after;
    const parent = this.#given.parents.get(id);
    return parent?.partial === false ? this.#states.stored(parent.stateAfter) : undefined;
  }

  /** Others may build on a refused event: the state there is what its parents lead to, those of its circle, or the one where we joined. */
  async #refuseAt(event: StoredEventState, refusal: Refusal, states: ReadonlySet<BatchState>): Promise<void> {
    const before =
      states.size > 0
        ? await this.#states.resolve(states)
        : this.#states.stored((await readFullAnchorState(this.#sql, this.#roomId)) ?? event.stateBefore);
    this.#decide({ event, before, after: before, refusal, authState: [] });
  }

  async #judgeBy(before: BatchState, event: StoredEventState, following: readonly StoredEventState[]): Promise<void> {
    const pdu = this.#pduOf(event);
    const authState = await this.#states.authState(before, pdu, this.#standingOn(before, following));
    const authEvents = authEventIdsOf(pdu, this.#rules).flatMap((id) => this.#given.loaded.pdus.get(id) ?? []);
    const verdict = checkUnPartialStated({
      ...{ event: pdu, rules: this.#rules, authEvents },
      isRejected: (id) => this.#isRejected(id),
      stateBefore: authState,
    });
    const isSpared = verdict.outcome === 'reject' && verdict.check === 5 && (await this.#isSpared(event));
    const judgedBy = isSpared
      ? authEvents.map((authEvent) => authEvent.eventId)
      : authEventsAmong(authState, pdu, this.#rules);
    const decided = { event, before, authState: judgedBy };
    if (verdict.outcome === 'accept' || isSpared) {
      this.#decide({ ...decided, after: this.#states.after(before, pdu) });
    } else {
      const refusal = forWant(event, verdict) ?? refuse(verdict.rule, verdict.reason);
      this.#decide({ ...decided, after: before, refusal });
    }
  }

  async #isSpared({ eventId }: StoredEventState): Promise<boolean> {
    this.#spared ??= this.#given.readSpared();
    return (await this.#spared).has(eventId);
  }

  #decide(decided: Decided): void {
    const { event, refusal } = decided;
    this.#decided.set(event.eventId, decided);
    const isFlipped = (event.verdict === 'rejected') !== (refusal !== undefined);
    // No state holds a message, and no auth chain: what is resolved is the same whatever is thought of it.
    if (isFlipped && this.#pduOf(event).stateKey !== undefined) this.#hasFlipped = true;
  }

  #isRejected(id: EventId): boolean {
    const decided = this.#decided.get(id);
    return decided === undefined ? this.#given.loaded.rejected.has(id) : decided.refusal !== undefined;
  }

  #pduOf({ eventId }: StoredEventState): Pdu {
    const pdu = this.#given.loaded.pdus.get(eventId);
    invariant(pdu !== undefined, `partial event ${eventId} has a body`);
    return pdu;
  }

  /** Events to come that stand on the same stored state, as far as it can be told: what is read for one is read for all. */
  #standingOn({ snapshot }: BatchState, following: readonly StoredEventState[]): Pdu[] {
    const standing = new Map<EventId, Pdu>();
    for (const event of following) {
      const leads = event.prevEvents.every(
        (prev) => standing.has(prev) || (this.#stateAfter(prev)?.snapshot ?? snapshot) === snapshot,
      );
      if (leads) standing.set(event.eventId, this.#pduOf(event));
    }
    return [...standing.values()];
  }

  /** What is to be journalled, once the states are stored. */
  async #entries(): Promise<UnPartialStated[]> {
    const decided = [...this.#decided.values()];
    const written = await this.#states.write(decided.flatMap(({ before, after }) => [before, after]));
    return decided.map(({ event: { eventId, verdict: was }, refusal, authState }, i): UnPartialStated => {
      const [stateBefore, stateAfter] = written.slice(2 * i);
      invariant(stateBefore !== undefined && stateAfter !== undefined, 'every state of a verdict is written');
      const is = refusal === undefined ? 'accepted' : 'rejected';
      const why = refusal === undefined ? {} : { rule: refusal.rule, reason: refusal.reason };
      return { type: 'EventUnPartialStated', eventId, stateBefore, stateAfter, was, is, ...why, authState };
    });
  }
}

/** What an event lacks still was looked for before: it is told as it was then. */
function forWant({ rule, reason }: StoredEventState, { outcome }: PduVerdict): Refusal | undefined {
  return outcome === 'drop' && rule !== null && FOR_WANT.has(rule) ? refuse(rule, reason ?? rule) : undefined;
}

/**
 * Why an event has no state before it that anybody could work out. `ahead`: what it cites and stands before. What was refused as its own
 * ancestor when it came is so still.
 */
function refusalByPlace(
  { prevEvents, rule, reason }: StoredEventState,
  parents: ReadonlyMap<EventId, Parent>,
  ahead: EventId | undefined,
): Refusal | undefined {
  const missing = prevEvents.find((id) => !parents.has(id));
  if (missing !== undefined) {
    return refuse('prev-event-missing', `its prev_event ${missing} is no event of this room that can be had`);
  }
  if (rule === CYCLE) return refuse(CYCLE, reason ?? 'it is its own ancestor');
  return ahead === undefined ? undefined : refuse(CYCLE, `it is its own ancestor, through ${ahead}`);
}
