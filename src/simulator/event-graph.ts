/**
 * The events of a simulated room as a graph. Every event has a number, its place in the order of acceptance, and cites
 * others by number: chains of a hundred thousand events are walked without hashing an id.
 */
import { invariant } from '../invariant.ts';
import { type EventId } from '../matrix/identifiers.ts';
import { type SimulatedEvent } from './room.ts';

/** A graph that grows; nothing is ever taken out. */
export interface EventGraph {
  readonly length: number;
  event(eventId: EventId | undefined): SimulatedEvent | undefined;
  /**
   * Adds an event; its parents and those it rests on must be here.
   *
   * @param authEvents all that it rests on, the create event of version 12 too.
   */
  add(event: SimulatedEvent, authEvents: readonly EventId[]): void;
  /** Everything that the given events rest on, directly or not; they themselves only where others of them do. */
  authChain(eventIds: Iterable<EventId>): Set<EventId>;
  /**
   * The ancestors of an event by prev_events that have a number above `floor`, in the order of acceptance. `undefined` for
   * an unknown event, one that is not above it itself, and one with a path back that passes by the event at `floor`.
   */
  ancestorsAfter(eventId: EventId, floor: number): readonly SimulatedEvent[] | undefined;
  /**
   * Ancestors of `latest`, nearest first, without `earliest` and what is reached only through these; at most `limit`.
   * What is unknown is passed over.
   */
  ancestorsBetween(latest: readonly EventId[], earliest: readonly EventId[], limit: number): SimulatedEvent[];
}

/** A graph to which the create event is added first. */
export function emptyEventGraph(): EventGraph {
  const events: SimulatedEvent[] = [];
  const parents: (readonly number[])[] = [];
  const authEventsOf: (readonly number[])[] = [];
  const numbers = new Map<EventId, number>();

  const at = (number: number): SimulatedEvent => events[number] as SimulatedEvent;
  const numberOf = (eventId: EventId): number => {
    const number = numbers.get(eventId);
    invariant(number !== undefined, `event ${eventId} is not of the simulated room`);
    return number;
  };
  const knownOf = (eventIds: readonly EventId[]): number[] =>
    eventIds.map((eventId) => numbers.get(eventId)).filter((number) => number !== undefined);

  return {
    get length() {
      return events.length;
    },
    event(eventId) {
      const number = eventId === undefined ? undefined : numbers.get(eventId);
      return number === undefined ? undefined : at(number);
    },
    add(event, authEvents) {
      // Looked up before anything changes: one that is unknown leaves the graph as it was.
      const parentNumbers = event.prevEvents.map(numberOf);
      const authNumbers = authEvents.map(numberOf);
      parents.push(parentNumbers);
      authEventsOf.push(authNumbers);
      numbers.set(event.eventId, events.push(event) - 1);
    },
    authChain(eventIds) {
      const isReached = new Uint8Array(events.length);
      const chain = new Set<EventId>();
      const open: number[] = [];
      for (const eventId of eventIds) {
        const number = numbers.get(eventId);
        if (number !== undefined) open.push(number);
      }
      for (let number = open.pop(); number !== undefined; number = open.pop()) {
        for (const cited of authEventsOf[number] as readonly number[]) {
          if (isReached[cited] === 1) continue;
          isReached[cited] = 1;
          chain.add(at(cited).eventId);
          open.push(cited);
        }
      }
      return chain;
    },
    ancestorsAfter(eventId, floor) {
      const number = numbers.get(eventId);
      if (number === undefined || number <= floor) return undefined;
      const reached = new Set<number>();
      const open = [number];
      for (let next = open.pop(); next !== undefined; next = open.pop()) {
        for (const parent of parents[next] as readonly number[]) {
          if (parent < floor) return undefined;
          if (parent === floor || reached.has(parent)) continue;
          reached.add(parent);
          open.push(parent);
        }
      }
      return [...reached].sort((a, b) => a - b).map(at);
    },
    ancestorsBetween(latest, earliest, limit) {
      const seen = new Set([...knownOf(latest), ...knownOf(earliest)]);
      const found: SimulatedEvent[] = [];
      const open = knownOf(latest.filter((eventId) => !earliest.includes(eventId)));
      // The list grows while it is walked: breadth first.
      for (const number of open) {
        for (const parent of parents[number] as readonly number[]) {
          if (seen.has(parent)) continue;
          if (found.length >= limit) return found;
          seen.add(parent);
          found.push(at(parent));
          open.push(parent);
        }
      }
      return found;
    },
  };
}
