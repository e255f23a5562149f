/**
 * Judges a batch of events in memory, as if they came one after the other: each by the states after its parents, those of
 * the batch among them, and check 6 by the current state as it is when its turn comes. What is read of the database is
 * read for the whole batch; nothing is written that is not content-addressed or would follow from the events anyway.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { type EventId } from '../../matrix/identifiers.ts';
import { authEventIdsOf, authEventsAmong } from '../../matrix/auth/auth-events.ts';
import { type AuthState } from '../../matrix/auth/auth-rules.ts';
import {
  type CitedAuthEvents,
  type PduVerdict,
  checkOutlier,
  checkReceived,
  checkReplayed,
} from '../../matrix/pdu-checks.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { invariant } from '../../invariant.ts';
import { type SnapshotId, type TimelineEvent } from '../../resync/events.ts';
import { type Parent, readStatesBeforeStays } from '../../store/events/anchors.ts';
import { CYCLE } from '../../store/events/event-states.ts';
import { type RoomStanding } from '../../store/journal/rooms.ts';
import { type Sql } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { type Admission } from './admission.ts';
import { BatchEnds, type Judged } from './batch-ends.ts';
import { type BatchState, BatchStates, type PartiallyJudged } from './batch-states.ts';
import { circleOf, parentsOf } from './circle.ts';
import { GuessedStates } from './guessed-states.ts';
import { rulesOfJoined } from './load-pdus.ts';
import { type Given, readGiven } from './read-given.ts';
import { ResolutionTakesLong } from './resolve-in-time.ts';
import { type resolveInSteps } from './resolve-in-steps.ts';
import { ResolutionTooLarge, resolveSnapshots } from './resolve.ts';

/** Events that a verdict names as what it was made by: an event may cite ten, and in version 12 the create event comes on top. */
const AUTH_STATE_MAX = 12;

export interface FilledGap {
  readonly eventId: EventId;
  /** Nobody was asked about it any more. */
  readonly wasGivenUp: boolean;
}

/** Events judged before other work of the process has its turn. */
const JUDGED_A_TURN = 25;

interface AboutAdmission {
  readonly join?: { readonly anchors: readonly Parent[] };
  readonly isOver?: () => boolean;
  readonly resolve?: typeof resolveInSteps;
}

export interface PreparedAdmission {
  readonly admissions: ReadonlyMap<EventId, Admission>;
  /** Of the admitted events, parents before children; to be appended in one go. */
  readonly entries: readonly TimelineEvent[];
  /** Admitted events that were missed until now: their gaps are filled with it. */
  readonly filled: readonly FilledGap[];
}

/**
 * Judges the stored events `eventIds` by where the room stands, and gives what is to be journalled of them.
 *
 * @param about.join of a join of ours: parents that become anchors with it, in the place of what is known of them. Check 6, for
 *   which the sender's server answers, is not made then.
 * @param about.isOver whether the time for it is over: all but the first one may be left then, undecided
 * @param about.resolve how states are resolved; absent: `resolveSnapshots`
 */
export async function prepareAdmission(
  sql: Sql,
  room: RoomStanding,
  eventIds: readonly EventId[],
  { join, isOver = () => false, resolve = resolveSnapshots }: AboutAdmission = {},
): Promise<PreparedAdmission> {
  const rules = rulesOfJoined(room.roomVersion);
  const given = await readGiven(sql, room, rules, eventIds);
  if (join === undefined) return new Batch(sql, room, rules, given, resolve).prepare(isOver);
  const parents = new Map(given.parents);
  eventIds.forEach((eventId) => parents.delete(eventId));
  join.anchors.forEach((anchor) => parents.set(anchor.eventId, anchor));
  return new Batch(sql, { ...room, partial: true }, rules, { ...given, parents, isJoin: true }, resolve).prepare(
    isOver,
  );
}

class Batch {
  readonly #sql: Sql;
  readonly #room: RoomStanding;
  readonly #rules: RoomVersionRules;
  readonly #given: Given;
  readonly #states: BatchStates;
  readonly #judged = new Map<EventId, Judged>();
  readonly #ends: BatchEnds;
  /** Of the events of the batch, and of those that wait. */
  readonly #prevEventsToCome: ReadonlyMap<EventId, readonly EventId[]>;
  #guessed: GuessedStates | undefined;
  /** Read for the first event that was held before it came. */
  #statesBeforeStays: Promise<readonly SnapshotId[]> | undefined;
  /** Events that have not had their turn. */
  #remaining: readonly Pdu[];

  constructor(sql: Sql, room: RoomStanding, rules: RoomVersionRules, given: Given, resolve: typeof resolveInSteps) {
    this.#sql = sql;
    this.#room = room;
    this.#rules = rules;
    this.#given = given;
    this.#states = new BatchStates(sql, room.roomId, rules, resolve);
    this.#ends = new BatchEnds(sql, room, given, { states: this.#states, judged: this.#judged });
    this.#remaining = given.events;
    const ofBatch = given.events.map(({ eventId, prevEvents }) => [eventId, prevEvents] as const);
    this.#prevEventsToCome = new Map([...given.waiting, ...ofBatch]);
  }

  /** Other work of this process has its turn now and then: what events cost is for whoever made them to say. */
  async prepare(isOver: () => boolean): Promise<PreparedAdmission> {
    const admissions = new Map<EventId, Admission>();
    for (const [i, event] of this.#given.events.entries()) {
      this.#remaining = this.#given.events.slice(i + 1);
      if (i % JUDGED_A_TURN === JUDGED_A_TURN - 1) await turn();
      const isLeft = i > 0 && isOver();
      admissions.set(event.eventId, isLeft ? { outcome: 'left' } : await this.#admit(event));
    }
    const filled = [...this.#given.gaps].flatMap(([eventId, gap]) =>
      this.#judged.has(eventId) ? [{ eventId, wasGivenUp: gap === 'given-up' }] : [],
    );
    return { admissions, entries: await this.#entries(), filled };
  }

  async #admit(event: Pdu): Promise<Admission> {
    if (this.#isKnown(event) || (await this.#isHistory(event))) return { outcome: 'known' };
    // In the timeline it would stand for the state before the room began, beside that of now.
    if (event.prevEvents.length === 0 && this.#ends.current !== null) {
      return { outcome: 'placeless', reason: 'it has no prev_events, and the room has begun' };
    }
    const isOnCycle = this.#isOnCycle(event);
    const missingParents = isOnCycle ? [] : event.prevEvents.filter((id) => this.#stateAfter(id) === undefined);
    if (missingParents.length > 0) {
      return { outcome: 'waits', missingParents, missingAuthEvents: this.#missingAuthEvents(event) };
    }
    try {
      return isOnCycle ? await this.#refuseOnCycle(event) : await this.#judge(event);
    } catch (error) {
      if (error instanceof ResolutionTakesLong) return { outcome: 'unresolved', reason: error.message };
      if (!(error instanceof ResolutionTooLarge)) throw error;
      return { outcome: 'too-large', reason: error.message };
    }
  }

  /**
   * What our stay begins with stands for all that lies before it. Any other anchor, a gap's or one that a further join cites,
   * takes its own place once its event has come and its parents have theirs.
   */
  #isKnown({ eventId, prevEvents }: Pdu): boolean {
    const itself = this.#given.parents.get(eventId);
    return itself !== undefined && (!itself.isAnchor || itself.isHistory || prevEvents.includes(eventId));
  }

  /**
   * An event of the state that a stay of ours began with lies before that, whatever is missing here of what it builds on. In the
   * timeline it would be judged by a state that is guessed, and stand beside what comes after it.
   */
  async #isHistory({ eventId, type, stateKey }: Pdu): Promise<boolean> {
    const isHeldBefore = this.#given.authEvents.has(eventId) && !this.#given.parents.has(eventId);
    if (stateKey === undefined || !isHeldBefore) return false;
    const { roomId } = this.#room;
    for (const state of await (this.#statesBeforeStays ??= readStatesBeforeStays(this.#sql, roomId))) {
      if (await this.#isInState({ eventId, type, stateKey }, state)) return true;
    }
    return false;
  }

  async #isInState(
    { eventId, type, stateKey }: Pick<Pdu, 'eventId' | 'type' | 'stateKey'>,
    state: SnapshotId,
  ): Promise<boolean> {
    if (stateKey === undefined) return false;
    const [entry] = await readSnapshot(this.#sql, this.#room.roomId, state, { keys: [{ type, stateKey }] });
    return entry?.eventId === eventId;
  }

  /**
   * Whether it is its own ancestor, as it may be where senders choose ids: by what builds on it and came before it, or by events of the
   * batch, and others that wait already, all of which are at hand and would wait for each other, and whatever is built on them for them.
   */
  #isOnCycle({ eventId, prevEvents }: Pdu): boolean {
    if (this.#rules.eventIdFormat !== 'given') return false;
    const below = this.#given.below.get(eventId);
    const seen = new Set<EventId>();
    const toLook = [...prevEvents];
    let isAtHand = true;
    for (let id = toLook.pop(); id !== undefined; id = toLook.pop()) {
      if (below?.has(id) === true) return true;
      if (seen.has(id)) continue;
      seen.add(id);
      const parents = this.#prevEventsToCome.get(id);
      if (parents !== undefined) toLook.push(...parents);
      else isAtHand &&= this.#stateAfter(id) !== undefined;
    }
    return seen.has(eventId) && isAtHand;
  }

  /**
   * The cycle is cut there, as the walk cuts it (src/rooms/resync/judge-again.ts): others on it build on a refused event. Where the state
   * at it was asked for, or assumed, that stands, unless it has the event, which is refused; else what the cycle builds on leads to it, and
   * is waited for alone.
   */
  async #refuseOnCycle(event: Pdu): Promise<Admission> {
    const { eventId } = event;
    const anchor = this.#given.parents.get(eventId);
    const itself = anchor !== undefined && (await this.#isInState(event, anchor.stateAfter)) ? undefined : anchor;
    const prevEventsOf = (id: EventId): readonly EventId[] | undefined => this.#prevEventsToCome.get(id);
    const circle = circleOf(eventId, prevEventsOf);
    const all = parentsOf(circle, prevEventsOf);
    // What builds on the event is on the circle, too; it was refused, and stands for what the circle builds on where nothing else does.
    const beside = all.filter((id) => this.#given.below.get(eventId)?.has(id) !== true);
    const outside = beside.length > 0 ? beside : all;
    const parents =
      itself === undefined
        ? outside.flatMap((id) => this.#stateAfter(id) ?? [])
        : [this.#states.stored(itself.stateAfter)];
    const missingParents = itself === undefined ? outside.filter((id) => this.#stateAfter(id) === undefined) : [];
    if (missingParents.length > 0) {
      return { outcome: 'waits', missingParents, missingAuthEvents: this.#missingAuthEvents(event) };
    }
    const isPartial =
      outside.some((id) => this.#isPartialParent(id)) ||
      this.#given.events.some((one) => circle.has(one.eventId) && this.#isPartial(one));
    const known = parents.length > 0 || this.#ends.current === null ? parents : [this.#ends.current];
    const before = await this.#states.resolve(known);
    const reason = 'it is its own ancestor by prev_events';
    this.#judged.set(eventId, {
      ...{ event, verdict: { outcome: 'reject', rule: CYCLE, reason }, before, after: before, current: null },
      ...{ partial: isPartial, authDepth: this.#authDepth(event), authState: [] },
    });
    return { outcome: 'admitted', verdict: 'rejected' };
  }

  async #judge(event: Pdu): Promise<Admission> {
    const { eventId } = event;
    const cited = this.#cited(event);
    const alone = this.#checkAlone(cited);
    if (alone.outcome === 'drop') {
      const missingAuthEvents = authEventIdsOf(event, this.#rules).filter((id) => this.#authEvent(id) === undefined);
      return { outcome: 'unjudged', missingAuthEvents, reason: alone.reason };
    }
    const before = await this.#states.resolve(this.#statesAfterParents(event));
    const partial = this.#isPartial(event);
    let verdict: PduVerdict = alone;
    let authState = cited.authEvents.map((authEvent) => authEvent.eventId).slice(0, AUTH_STATE_MAX);
    if (alone.outcome === 'accept') {
      const stateBefore = partial ? await this.#partialAuthState(before, cited) : await this.#authState(before, event);
      const currentState = await this.#currentAuthState(before, event);
      verdict = checkReceived({ ...cited, stateBefore, currentState });
      const isSpared = verdict.outcome === 'reject' && verdict.check === 5 && (await this.#isSpared(event));
      if (isSpared) verdict = currentState === undefined ? alone : checkReplayed(event, this.#rules, currentState);
      const decisive = verdict.outcome === 'softFail' ? currentState : isSpared ? undefined : stateBefore;
      if (decisive !== undefined) authState = authEventsAmong(decisive, event, this.#rules);
    }
    invariant(verdict.outcome !== 'drop', 'check 4 alone was passed');
    const authDepth = this.#authDepth(event);
    const after = verdict.outcome === 'reject' ? before : this.#states.after(before, event, authDepth);
    const judged = { event, verdict, partial, authDepth, before, after, authState };
    this.#judged.set(eventId, { ...judged, current: await this.#ends.advance(event, verdict, after) });
    const outcomes = { accept: 'accepted', softFail: 'softFailed', reject: 'rejected' } as const;
    return { outcome: 'admitted', verdict: outcomes[verdict.outcome] };
  }

  /** Check 4. Where an auth event cannot be had, that is no reason to wait for ever. */
  #checkAlone(cited: CitedAuthEvents): PduVerdict {
    const alone = checkOutlier(cited);
    const refusal = alone.outcome === 'drop' ? this.#given.unproven.get(cited.event.eventId) : undefined;
    return refusal === undefined ? alone : { outcome: 'reject', check: 4, rule: refusal.rule, reason: refusal.reason };
  }

  #stateAfter(id: EventId): BatchState | undefined {
    const judged = this.#judged.get(id);
    if (judged !== undefined) return judged.after;
    const parent = this.#given.parents.get(id);
    return parent && this.#states.stored(parent.stateAfter);
  }

  #statesAfterParents({ prevEvents }: Pdu): BatchState[] {
    return prevEvents.flatMap((id) => this.#stateAfter(id) ?? []);
  }

  /** An event of which a parent or an auth event is judged by partial state is judged so itself. */
  #isPartial(event: Pdu): boolean {
    return [...event.prevEvents, ...event.authEvents].some((id) => this.#isPartialParent(id));
  }

  #isPartialParent(id: EventId): boolean {
    return (this.#judged.get(id) ?? this.#given.parents.get(id))?.partial === true;
  }

  #isSpared(event: Pdu): Promise<boolean> {
    const ids = this.#given.events.map(({ eventId }) => eventId);
    this.#guessed ??= new GuessedStates(this.#sql, this.#room.roomId, ids, [...this.#given.parents.keys()]);
    const prevEventsOf = (id: EventId): readonly EventId[] | undefined => this.#judged.get(id)?.event.prevEvents;
    return this.#guessed.spare(event, prevEventsOf, this.#given.isJoin === true);
  }

  #authEvent(id: EventId): Pdu | undefined {
    return this.#judged.get(id)?.event ?? this.#given.authEvents.get(id);
  }

  /** Auth events that are not judged, and will not be with this batch either. */
  #missingAuthEvents(event: Pdu): EventId[] {
    const ofBatch = new Set(this.#given.events.map(({ eventId }) => eventId));
    return authEventIdsOf(event, this.#rules).filter((id) => this.#authEvent(id) === undefined && !ofBatch.has(id));
  }

  #cited(event: Pdu): CitedAuthEvents {
    return {
      event,
      rules: this.#rules,
      authEvents: authEventIdsOf(event, this.#rules).flatMap((id) => this.#authEvent(id) ?? []),
      isRejected: (id) => {
        const judged = this.#judged.get(id);
        return judged === undefined ? this.#given.rejected.has(id) : judged.verdict.outcome === 'reject';
      },
    };
  }

  /** Greater than those of its auth events; `null` where one of them is not known. */
  #authDepth(event: Pdu): number | null {
    let depth = event.type === 'm.room.create' ? 0 : 1;
    for (const id of event.authEvents) {
      const cited = this.#judged.get(id)?.authDepth ?? this.#given.authDepths.get(id) ?? null;
      if (cited === null) return null;
      depth = Math.max(depth, cited + 1);
    }
    return depth;
  }

  #authState(state: BatchState, event: Pdu): Promise<AuthState> {
    return this.#states.authState(state, event, this.#standingOn(state.snapshot, event, true));
  }

  #partialAuthState(state: BatchState, { event, authEvents }: CitedAuthEvents): Promise<AuthState> {
    const alike: PartiallyJudged[] = [];
    for (const next of state.changes.size === 0 ? this.#standingOn(state.snapshot, event, false) : []) {
      const cited = this.#cited(next);
      if (checkOutlier(cited).outcome === 'accept') alike.push({ event: next, authEvents: cited.authEvents });
    }
    return this.#states.partialAuthState(state, { event, authEvents }, alike);
  }

  /** What check 6 is made against; not at all while the room is partial. */
  async #currentAuthState(before: BatchState, event: Pdu): Promise<AuthState | undefined> {
    if (this.#room.partial || this.#ends.current === null) return undefined;
    // A missed event that came with the batch has its place by now.
    const isGap = (id: EventId): boolean => !this.#judged.has(id) && this.#given.parents.get(id)?.isAnchor === true;
    const state = event.prevEvents.some(isGap) ? await this.#ends.with(before) : this.#ends.current;
    return this.#states.authState(state, event, this.#remaining);
  }

  /**
   * Events to come that will be judged against the stored state `snapshot`, as `event` is now, as far as it can be told: all
   * of their parents lead to it, in the batch by events that change nothing, or by any where changes on top do not matter.
   */
  #standingOn(snapshot: BatchState['snapshot'], event: Pdu, changesToo: boolean): Pdu[] {
    const standing = new Map([[event.eventId, event]]);
    const leads = (id: EventId): boolean => {
      const state = this.#stateAfter(id);
      if (state !== undefined) return state.snapshot === snapshot && (changesToo || state.changes.size === 0);
      const parent = standing.get(id);
      return parent !== undefined && (changesToo || parent.stateKey === undefined);
    };
    for (const next of this.#remaining) if (next.prevEvents.every(leads)) standing.set(next.eventId, next);
    return [...standing.values()].slice(1);
  }

  async #entries(): Promise<TimelineEvent[]> {
    const judged = [...this.#judged.values()];
    const states = new Set(judged.flatMap(({ before, after, current }) => [before, after, current ?? after]));
    const written = await this.#states.write([...states]);
    const ids = new Map([...states].map((state, i) => [state, written[i]]));
    const idOf = (state: BatchState) => {
      const id = ids.get(state);
      invariant(id, 'every state of a verdict is written');
      return id;
    };
    return judged.flatMap(
      ({ event: { eventId }, verdict, partial, before, after, current, authState }): TimelineEvent[] => {
        if (verdict.outcome === 'reject') {
          const { rule, reason } = verdict;
          const stateBefore = idOf(before);
          const rejected = { type: 'PduRejected', eventId, partial, stateBefore, rule, reason, authState } as const;
          return current === null
            ? [rejected]
            : [rejected, { type: 'CurrentStateResolved', currentState: idOf(current) }];
        }
        invariant(current !== null, 'what is not rejected has a current state');
        const softFailed = verdict.outcome === 'softFail';
        const states = { stateBefore: idOf(before), stateAfter: idOf(after), currentState: idOf(current) };
        return [{ type: 'PduAccepted', eventId, partial, softFailed, ...states, authState }];
      },
    );
  }
}
