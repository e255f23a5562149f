/**
 * The ends of a room while a batch is judged: its forward extremities and the state that they resolve to, moved on by each event as if it
 * had come alone.
 */
import { type EventId } from '../../matrix/identifiers.ts';
import { type PduVerdict } from '../../matrix/pdu-checks.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { CYCLE, readUncovered } from '../../store/events/event-states.ts';
import { type RoomStanding } from '../../store/journal/rooms.ts';
import { type Sql } from '../../store/open-store.ts';
import { type BatchState, type BatchStates } from './batch-states.ts';
import { type Given } from './read-given.ts';

/** An event of the batch that has its verdict. */
export interface Judged {
  readonly event: Pdu;
  readonly verdict:
    | Exclude<PduVerdict, { outcome: 'drop' }>
    | { readonly outcome: 'reject'; readonly rule: typeof CYCLE; readonly reason: string };
  readonly partial: boolean;
  readonly authDepth: number | null;
  readonly before: BatchState;
  readonly after: BatchState;
  /** After it; `null`: it is rejected, and changes nothing. */
  readonly current: BatchState | null;
  readonly authState: readonly EventId[];
}

export class BatchEnds {
  /** The state of the room; `null`: it has none yet. */
  current: BatchState | null;
  readonly #sql: Sql;
  readonly #roomId: RoomStanding['roomId'];
  readonly #given: Given;
  readonly #states: BatchStates;
  readonly #judged: ReadonlyMap<EventId, Judged>;
  /** Forward extremities and the states after them. */
  #extremities: Map<EventId, BatchState>;
  /** What accepted events of the batch stand for: no extremities. */
  readonly #replaced = new Set<EventId>();
  /** Prev_events of what leads on from the stored parents of the batch; read for the first event that follows it. */
  #leadingOn: Promise<ReadonlyMap<EventId, readonly EventId[]>> | undefined;

  /** @param judged of the batch, filled while it is judged */
  constructor(
    sql: Sql,
    { roomId, extremities, currentState }: RoomStanding,
    given: Given,
    { states, judged }: { readonly states: BatchStates; readonly judged: ReadonlyMap<EventId, Judged> },
  ) {
    this.#sql = sql;
    this.#roomId = roomId;
    this.#given = given;
    this.#states = states;
    this.#judged = judged;
    this.#extremities = new Map();
    for (const eventId of extremities) {
      const parent = given.parents.get(eventId);
      if (parent !== undefined) this.#extremities.set(eventId, states.stored(parent.stateAfter));
    }
    this.current = currentState === null ? null : states.stored(currentState);
  }

  /** What the room would be with one more end: all of them at once, since what they resolve to may resolve with it to something else. */
  with(state: BatchState): Promise<BatchState> {
    const ends = this.#extremities.size > 0 || this.current === null ? this.#extremities.values() : [this.current];
    return this.#states.resolveAll([...ends, state]);
  }

  /**
   * The forward extremities and the current state after a verdict. What is accepted and not soft-failed takes the place of
   * what it replaces; so does what accepted events reach through it, but for itself. Whoever may speak may leave as many
   * extremities as he likes: they refuse no event that only comes after.
   *
   * @throws what resolving throws; then all is as it was
   */
  async advance(event: Pdu, { outcome }: Judged['verdict'], after: BatchState): Promise<BatchState | null> {
    const isReached = this.#given.reached.has(event.eventId) || this.#replaced.has(event.eventId);
    const replaced = outcome === 'accept' || isReached ? await this.#replacedBy(event) : new Set<EventId>();
    const isReplaced = (id: EventId): boolean => this.#replaced.has(id) || replaced.has(id);
    const extremities = new Map([...this.#extremities].filter(([id]) => !isReplaced(id)));
    if (outcome === 'accept' && !isReached) extremities.set(event.eventId, after);
    let current = this.current;
    // One that is not accepted may connect others: what is reached through it is no extremity any more.
    const isConnecting = extremities.size !== this.#extremities.size;
    if (outcome === 'accept' || isConnecting || (outcome === 'softFail' && current === null)) {
      current = await this.#states.resolveAll(extremities.size === 0 ? [after] : extremities.values());
    }
    replaced.forEach((id) => this.#replaced.add(id));
    this.#extremities = extremities;
    this.current = current;
    return outcome === 'reject' && !isConnecting ? null : current;
  }

  /** What an accepted event stands for from now on: its parents, and those of its parents that were refused. */
  async #replacedBy({ prevEvents }: Pdu): Promise<Set<EventId>> {
    const replaced = new Set<EventId>();
    const open = [...prevEvents];
    for (let id = open.pop(); id !== undefined; id = open.pop()) {
      if (this.#replaced.has(id) || replaced.has(id)) continue;
      replaced.add(id);
      const judged = this.#judged.get(id);
      const parent = this.#given.parents.get(id);
      if (judged !== undefined) {
        open.push(...(leadsOn(judged.verdict) ? judged.event.prevEvents : []));
      } else if (parent === undefined || parent.isRefused) {
        open.push(...((await this.#readLeadingOn()).get(id) ?? []));
      }
    }
    return replaced;
  }

  /**
   * Of all stored parents at once, and for no event that is refused: what a chain of refused events leads to is read when an accepted
   * one follows it, and that once.
   */
  #readLeadingOn(): Promise<ReadonlyMap<EventId, readonly EventId[]>> {
    const refused = [...this.#given.parents.values()].filter(({ isRefused }) => isRefused);
    this.#leadingOn ??= readUncovered(
      this.#sql,
      this.#roomId,
      refused.map(({ eventId }) => eventId),
    );
    return this.#leadingOn;
  }
}

/** Whether what cites an event reaches through it: what is refused as its own ancestor leads nowhere (src/store/journal/fold-extremities.ts). */
function leadsOn(verdict: Judged['verdict']): boolean {
  return verdict.outcome !== 'accept' && verdict.rule !== CYCLE;
}
