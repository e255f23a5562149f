/**
 * Forward extremities at every place of a timeline, in one pass over it: accepted events that are not soft-failed, called
 * _solid_, and that no other solid event taken in so far reaches over prev edges, through others or not. Costs each edge once.
 */
import { type EventId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';

interface TakenInEvent {
  readonly eventId: EventId;
  readonly prevEvents: readonly EventId[];
  readonly stateAfter: SnapshotId;
  readonly isSolid: boolean;
  /** An accepted event of an earlier stay reaches it. */
  readonly isBeforeStay?: boolean;
}

export class OrderedExtremities {
  /** Each with the state after it. */
  readonly #tips = new Map<EventId, SnapshotId>();
  /** Prev_events of what edges lead through: refused events, and events that come later than what cites them. */
  readonly #through = new Map<EventId, readonly EventId[]>();
  /** What a solid event reaches, as far as it is no solid event that has had its place already. */
  readonly #reached = new Set<EventId>();

  /** What is known of events that have not had their place: edges lead through them all the same. */
  learn(ahead: ReadonlyMap<EventId, readonly EventId[]>): void {
    for (const [eventId, prevEvents] of ahead) {
      this.#through.set(eventId, prevEvents);
      if (this.#reached.has(eventId)) this.#reach(prevEvents);
    }
  }

  take({ eventId, prevEvents, stateAfter, isSolid, isBeforeStay = false }: TakenInEvent): void {
    const isReached = isBeforeStay || this.#reached.has(eventId);
    if (isSolid) this.#through.delete(eventId);
    else this.#through.set(eventId, prevEvents);
    if (isSolid && !isReached) this.#tips.set(eventId, stateAfter);
    if (isSolid || isReached) this.#reach(prevEvents);
  }

  #reach(eventIds: readonly EventId[]): void {
    const open = [...eventIds];
    for (let eventId = open.pop(); eventId !== undefined; eventId = open.pop()) {
      // What a tip cites was reached when it had its place.
      if (this.#tips.delete(eventId) || this.#reached.has(eventId)) continue;
      this.#reached.add(eventId);
      open.push(...(this.#through.get(eventId) ?? []));
    }
  }

  /** In no particular order. */
  get eventIds(): EventId[] {
    return [...this.#tips.keys()];
  }

  /** Those after the extremities, each once, in the order of their names. */
  get states(): SnapshotId[] {
    return [...new Set(this.#tips.values())].sort();
  }
}
