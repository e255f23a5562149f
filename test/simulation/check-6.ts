/**
 * Which events are soft-failed, worked out the naive way. The journal is asked for two things alone: in which order events were
 * taken in, and when the room became whole. What was taken in before is judged then, in that order; what comes later is judged as it
 * comes. Either is judged by the current state at its place: what the states after all extremities resolve to. What is judged
 * otherwise later is not judged by check 6 again, so it is replayed by the verdicts of then wherever corrections came after it.
 */
import { type EventId } from '../../src/matrix/identifiers.ts';
import { type StateMap } from '../../src/matrix/state-map.ts';
import { type Journalled, type SnapshotId } from '../../src/resync/events.ts';
import { type Oracle } from './oracle.ts';

/** Entries by which what was judged before is judged by something else. */
const CORRECTIONS: ReadonlySet<string> = new Set(['VerdictChanged', 'StatesChanged', 'AnchorCorrected']);

/** Verdicts and states of a time. */
interface View {
  isRejected(eventId: EventId): boolean;
  resolve(states: readonly StateMap[]): StateMap;
  stateBefore(eventId: EventId): Promise<StateMap>;
  stateAfter(eventId: EventId): Promise<StateMap>;
}

export interface Check6Input {
  readonly oracle: Oracle;
  /** Of the room, all of it. */
  readonly journal: readonly Journalled[];
  readonly isOurs: (eventId: EventId) => boolean;
  /** Whether it is refused as its own ancestor: then its edges lead nowhere. */
  readonly isCut: (eventId: EventId) => boolean;
  /** Whether what was taken in while the room was partial is judged at all. */
  readonly isReplayed: boolean;
  readonly readState: (id: SnapshotId) => Promise<StateMap>;
}

export interface Check6Outcome {
  readonly softFailed: ReadonlySet<EventId>;
  /** Taken in since the join that opened the last stay, in order. */
  readonly ofLastStay: ReadonlySet<EventId>;
  /** Taken in before that. */
  readonly ofEarlierStays: ReadonlySet<EventId>;
  /** Those that were judged by the verdicts of then. */
  readonly judgedByThen: number;
}

export async function check6(input: Check6Input): Promise<Check6Outcome> {
  const replay = new Check6(input);
  for (const entry of input.journal) await replay.take(entry);
  const { softFailed, ofStay, ofEarlierStays, judgedByThen } = replay;
  return { softFailed, ofLastStay: ofStay, ofEarlierStays, judgedByThen };
}

/**
 * What no event of `among` or `earlier` that is accepted and not soft-failed reaches, over edges of these and of `further`, of those of `among`
 * that are so. What lies before an event of an earlier stay is none of the newest, whenever it came.
 */
export function extremitiesOf(
  among: Iterable<EventId>,
  { further, earlier }: { readonly further: ReadonlySet<EventId>; readonly earlier: Iterable<EventId> },
  prevEventsOf: (eventId: EventId) => readonly EventId[],
  isSolid: (eventId: EventId) => boolean,
): Set<EventId> {
  const all = new Set(among);
  const solid = [...all].filter(isSolid);
  const reached = new Set<EventId>();
  const toLook = [...solid, ...[...earlier].filter(isSolid)].flatMap(prevEventsOf);
  for (let id = toLook.pop(); id !== undefined; id = toLook.pop()) {
    if (reached.has(id)) continue;
    reached.add(id);
    // An edge out of what was delivered ends where it leads: at an anchor, or at a gap.
    if (all.has(id) || further.has(id)) toLook.push(...prevEventsOf(id));
  }
  return new Set(solid.filter((id) => !reached.has(id)));
}

class Check6 {
  readonly softFailed = new Set<EventId>();
  judgedByThen = 0;
  /** Taken in since the join that opened this stay, in order. */
  ofStay = new Set<EventId>();
  /** Taken in before that join. */
  ofEarlierStays: ReadonlySet<EventId> = new Set<EventId>();
  /** Joins that we took in ourselves. One that failed here, and that others have, comes from them as any event. */
  readonly #joins: ReadonlySet<EventId>;
  readonly #input: Check6Input;
  readonly #then: Then;
  readonly #takenIn = new Set<EventId>();
  readonly #correctedAt: number;
  #epoch = 0;
  #isPartial = false;

  constructor(input: Check6Input) {
    this.#input = input;
    this.#then = new Then(input);
    this.#joins = new Set(input.journal.flatMap(({ event }) => ('joinEventId' in event ? [event.joinEventId] : [])));
    const corrections = input.journal.filter(({ event }) => CORRECTIONS.has(event.type));
    this.#correctedAt = corrections.at(-1)?.position ?? 0;
  }

  async take(entry: Journalled): Promise<void> {
    const { epoch, position, event } = entry;
    if (epoch !== this.#epoch) {
      this.#epoch = epoch;
      this.ofStay = new Set();
      this.ofEarlierStays = new Set(this.#takenIn);
      this.#isPartial = event.type === 'PartialStateJoined';
    }
    this.#then.take(entry);
    if (event.type === 'PduAccepted' || event.type === 'PduRejected') {
      // What came first may cite it: by then nobody knew what else it reaches through it.
      const isOwnAct = this.#joins.has(event.eventId);
      if (!this.#isPartial && !isOwnAct) await this.#judge(event.eventId, this.ofStay, this.#viewAt(position));
      this.#takenIn.add(event.eventId);
      this.ofStay.add(event.eventId);
    }
    // A stay ends in the place of the completion where the full state lets none of our joins stand.
    if (event.type !== 'ResyncCompleted' && event.type !== 'StayEnded') return;
    if (!this.#isPartial) return;
    this.#isPartial = false;
    const judged = new Set<EventId>();
    for (const eventId of this.#input.isReplayed ? this.ofStay : []) {
      // Whatever we sent stays as it is.
      if (!this.#input.isOurs(eventId)) await this.#judge(eventId, judged, this.#viewAt(position));
      judged.add(eventId);
    }
  }

  /** What was not corrected since is as it is now, which the oracle knows by itself. */
  #viewAt(position: number): View {
    if (position < this.#correctedAt) return this.#then;
    const { oracle } = this.#input;
    return {
      isRejected: (id) => oracle.isRejected(id),
      resolve: (states) => oracle.resolve(states),
      stateBefore: (id) => Promise.resolve(oracle.stateBefore(id)),
      stateAfter: (id) => Promise.resolve(oracle.stateAfter(id)),
    };
  }

  /** `before`: taken in before it, in this stay. The first is the join that opened it. */
  async #judge(eventId: EventId, before: ReadonlySet<EventId>, view: View): Promise<void> {
    const { oracle, isCut } = this.#input;
    const [opening] = before;
    if (opening === undefined || view.isRejected(eventId)) return;
    const prevEventsOf = (id: EventId): readonly EventId[] => (isCut(id) ? [] : oracle.event(id).prevEvents);
    const isSolid = (id: EventId): boolean => !this.softFailed.has(id) && !view.isRejected(id);
    const tips = [
      ...extremitiesOf(before, { further: this.#takenIn, earlier: this.ofEarlierStays }, prevEventsOf, isSolid),
    ];
    const standing = tips.length > 0 ? tips : [opening];
    const states = await Promise.all(standing.map((id) => view.stateAfter(id)));
    const isBeyondGap = oracle.event(eventId).prevEvents.some((id) => !this.#takenIn.has(id));
    if (isBeyondGap) states.push(await view.stateBefore(eventId));
    if (view === this.#then) this.judgedByThen += 1;
    if (!oracle.isAllowedBy(eventId, view.resolve(states))) this.softFailed.add(eventId);
  }
}

/** Verdicts and states as the journal says them, up to where it was read. */
class Then implements View {
  readonly #oracle: Oracle;
  readonly #readState: (id: SnapshotId) => Promise<StateMap>;
  readonly #verdicts = new Map<EventId, 'accepted' | 'rejected'>();
  /** As long as nothing else is journalled. */
  readonly #outliers = new Map<EventId, 'accepted' | 'rejected'>();
  readonly #states = new Map<EventId, { readonly before: SnapshotId; readonly after: SnapshotId }>();

  constructor({ oracle, journal, readState }: Pick<Check6Input, 'oracle' | 'journal' | 'readState'>) {
    this.#oracle = oracle;
    this.#readState = readState;
    // The first verdict of what is outside the timeline is journalled nowhere, but what it was when it was changed.
    for (const { event } of journal.toReversed()) {
      if (event.type === 'VerdictChanged') this.#verdicts.set(event.eventId, event.was);
    }
  }

  take({ event }: Journalled): void {
    if (event.type === 'PduAccepted') {
      this.#set(event.eventId, 'accepted', event.stateBefore, event.stateAfter);
    } else if (event.type === 'PduRejected') {
      this.#set(event.eventId, 'rejected', event.stateBefore, event.stateBefore);
    } else if (event.type === 'EventUnPartialStated' || event.type === 'VerdictChanged') {
      this.#set(event.eventId, event.is, event.stateBefore, event.stateAfter);
    } else if (event.type === 'StatesChanged') {
      for (const eventId of event.eventIds) this.#set(eventId, undefined, event.stateBefore, event.stateAfter);
    }
  }

  /** Of what has no place in the timeline yet: by its auth events alone, as they are judged then. */
  isRejected(eventId: EventId): boolean {
    const verdict = this.#verdicts.get(eventId) ?? this.#outliers.get(eventId);
    if (verdict !== undefined) return verdict === 'rejected';
    // What cites itself proves nothing.
    this.#outliers.set(eventId, 'rejected');
    const isRejected = this.#oracle.isRejectedByAuthEvents(eventId, (id) => this.isRejected(id));
    this.#outliers.set(eventId, isRejected ? 'rejected' : 'accepted');
    return isRejected;
  }

  resolve(states: readonly StateMap[]): StateMap {
    return this.#oracle.resolveBy(states, (eventId) => this.isRejected(eventId));
  }

  stateBefore(eventId: EventId): Promise<StateMap> {
    return this.#state(eventId, 'before');
  }

  stateAfter(eventId: EventId): Promise<StateMap> {
    return this.#state(eventId, 'after');
  }

  #state(eventId: EventId, which: 'before' | 'after'): Promise<StateMap> {
    const states = this.#states.get(eventId);
    if (states === undefined) throw new Error(`the journal has no state of ${eventId}`);
    return this.#readState(states[which]);
  }

  #set(eventId: EventId, is: 'accepted' | 'rejected' | undefined, before?: SnapshotId, after?: SnapshotId): void {
    if (is !== undefined) {
      this.#verdicts.set(eventId, is);
      this.#outliers.clear();
    }
    if (before !== undefined && after !== undefined) this.#states.set(eventId, { before, after });
  }
}
