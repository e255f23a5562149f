/**
 * The state of a simulated room: what stands now, kept up with every event, and what stood before each recent event,
 * worked out from one base and the events since.
 */
import { invariant } from '../invariant.ts';
import { type EventId, type ServerName } from '../matrix/identifiers.ts';
import { stateDigest } from '../matrix/state-digest.ts';
import { stateMapKey } from '../matrix/state-map.ts';
import { type EventGraph } from './event-graph.ts';
import { memberCounts } from './member-counts.ts';
import { type SimulatedEvent } from './room.ts';

/** The state of a room whose events are in a graph; each is put in there before it is applied or rejected here. */
export interface RoomState {
  /** Lets an event stand at its place; a message changes nothing. */
  apply(event: SimulatedEvent): void;
  /** Holds an event as rejected: it never stands anywhere. */
  reject(eventId: EventId): void;
  isRejected(eventId: EventId): boolean;
  /** What stands at a place now. */
  get(type: string, stateKey: string): EventId | undefined;
  current(): ReadonlyMap<string, EventId>;
  /** Keeps the states of all events from now on. Everything to come must build on the newest event. */
  keepFromHere(): void;
  before(eventId: EventId): ReadonlyMap<string, EventId> | undefined;
  servers(): ServerName[];
  joined(): number;
  digest(): string;
}

/** The state of a room without events yet. */
export function roomState(graph: EventGraph): RoomState {
  const members = memberCounts();
  const current = new Map<string, EventId>();
  const rejected = new Set<EventId>();
  let digest: string | undefined;
  /** The state after the event with this number. */
  let base: { readonly state: ReadonlyMap<string, EventId>; readonly after: number } | undefined;

  return {
    apply(event) {
      if (event.stateKey === undefined) return;
      const key = stateMapKey(event.type, event.stateKey);
      if (event.type === 'm.room.member') {
        const before = graph.event(current.get(key));
        members.change(event.stateKey, before?.membership, event.membership);
      }
      current.set(key, event.eventId);
      digest = undefined;
    },
    reject: (eventId) => void rejected.add(eventId),
    isRejected: (eventId) => rejected.has(eventId),
    get: (type, stateKey) => current.get(stateMapKey(type, stateKey)),
    current: () => new Map(current),
    keepFromHere() {
      invariant(graph.length > 0, 'states are kept from an event');
      base = { state: new Map(current), after: graph.length - 1 };
    },
    before(eventId) {
      const ancestors = base && graph.ancestorsAfter(eventId, base.after);
      if (base === undefined || ancestors === undefined) return undefined;
      const state = new Map(base.state);
      for (const { type, stateKey, eventId: standing } of ancestors) {
        if (stateKey !== undefined && !rejected.has(standing)) state.set(stateMapKey(type, stateKey), standing);
      }
      return state;
    },
    servers: () => members.servers(),
    joined: () => members.joined(),
    digest() {
      digest ??= stateDigest(current.values());
      return digest;
    },
  };
}
