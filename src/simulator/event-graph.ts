/**
 * The events of a simulated room as a graph. Every event has a number, its place in the order of acceptance, and cites
 * others by number: chains of a hundred thousand events are walked without hashing an id.
 */
import { type EventId } from '../matrix/identifiers.ts';
import { type SimulatedEvent } from './room.ts';

/** A graph that grows; nothing is ever taken out. */
export interface EventGraph {
  readonly length: number;
  numberOf(eventId: EventId): number | undefined;
  at(number: number): SimulatedEvent;
  /** Adds an event after those it cites. `authEvents`: all that it rests on, the create event of version 12 too. */
  add(event: SimulatedEvent, authEvents: readonly EventId[]): number;
  /** Everything that the given events cite, directly or not; they themselves only where others cite them. */
  authChain(eventIds: Iterable<EventId>): Set<EventId>;
  /** The numbers of an event's ancestors by prev_events that are `from` or above, in the order of acceptance. */
  ancestors(number: number, from: number): number[];
  /** Ancestors of `latest`, nearest first by breadth, without `earliest` and what lies only behind them; at most `limit`. */
  between(latest: readonly EventId[], earliest: readonly EventId[], limit: number): SimulatedEvent[];
}

export function emptyEventGraph(): EventGraph {
  const events: SimulatedEvent[] = [];
  const authNumbers: (readonly number[])[] = [];
  const numbers = new Map<EventId, number>();

  const known = (eventIds: readonly EventId[]): number[] =>
    eventIds.map((eventId) => numbers.get(eventId)).filter((number) => number !== undefined);
  const at = (number: number): SimulatedEvent => events[number] as SimulatedEvent;

  return {
    get length() {
      return events.length;
    },
    numberOf: (eventId) => numbers.get(eventId),
    at,
    add(event, authEvents) {
      const number = events.push(event) - 1;
      authNumbers.push(known(authEvents));
      numbers.set(event.eventId, number);
      return number;
    },
    authChain(eventIds) {
      const isReached = new Uint8Array(events.length);
      const chain = new Set<EventId>();
      const open: number[] = [];
      const reach = (number: number): void => {
        for (const cited of authNumbers[number] as readonly number[]) {
          if (isReached[cited] === 1) continue;
          isReached[cited] = 1;
          chain.add(at(cited).eventId);
          open.push(cited);
        }
      };
      for (const eventId of eventIds) {
        const number = numbers.get(eventId);
        if (number === undefined) continue;
        reach(number);
        for (let next = open.pop(); next !== undefined; next = open.pop()) reach(next);
      }
      return chain;
    },
    ancestors(number, from) {
      const reached = new Set<number>();
      const open = [number];
      for (let next = open.pop(); next !== undefined; next = open.pop())
        for (const parent of known(at(next).prevEvents))
          if (parent >= from && !reached.has(parent)) {
            reached.add(parent);
            open.push(parent);
          }
      return [...reached].sort((a, b) => a - b);
    },
    between(latest, earliest, limit) {
      const seen = new Set<number>(known([...latest, ...earliest]));
      const excluded = new Set<number>(known(earliest));
      const found: SimulatedEvent[] = [];
      let front = known(latest).filter((number) => !excluded.has(number));
      while (front.length > 0) {
        const next: number[] = [];
        for (const number of front)
          for (const parent of known(at(number).prevEvents)) {
            if (seen.has(parent)) continue;
            if (found.length === limit) return found;
            seen.add(parent);
            found.push(at(parent));
            next.push(parent);
          }
        front = next;
      }
      return found;
    },
  };
}
