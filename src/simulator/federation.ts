/** The simulated servers together: who they are, their keys, the rooms they share, and who has joined from outside. */
import { type Clock } from '../clock.ts';
import { MatrixError } from '../http/matrix-error.ts';
import {
  type EventId,
  type RoomAlias,
  type RoomId,
  type ServerName,
  parseEventId,
  parseRoomId,
} from '../matrix/identifiers.ts';
import { type JoiningServers } from './joining-servers.ts';
import { type KeyAnswers } from './key-answers.ts';
import { type Pushes } from './pushes.ts';
import { type SimulatedEvent, type SimulatedRoom } from './room.ts';
import { type ServerKeys } from './server-keys.ts';

export interface Federation {
  readonly residents: readonly ServerName[];
  /** Residents and member servers. */
  readonly servers: ReadonlySet<ServerName>;
  readonly rooms: ReadonlyMap<RoomId, SimulatedRoom>;
  readonly aliases: ReadonlyMap<RoomAlias, SimulatedRoom>;
  readonly keys: ServerKeys;
  readonly keyAnswers: KeyAnswers;
  readonly joiningServers: JoiningServers;
  readonly pushes: Pushes;
  readonly clock: Clock;
}

/** The room that a server is asked about. Throws a `MatrixError` when it knows none by that id. */
export function roomOf({ rooms }: Federation, roomId: string | undefined): SimulatedRoom {
  const id = parseRoomId(roomId);
  if (id === undefined) throw new MatrixError(400, 'M_INVALID_PARAM', 'that is not a room id');
  const room = rooms.get(id);
  if (room === undefined) throw new MatrixError(404, 'M_NOT_FOUND', 'this server knows nothing of that room');
  return room;
}

/** The room, for a server that is in it. Throws a `MatrixError` for one that is not. */
export function roomFor(federation: Federation, roomId: string | undefined, origin: ServerName): SimulatedRoom {
  const room = roomOf(federation, roomId);
  requireInRoom(room, origin);
  return room;
}

/** Throws a `MatrixError` for a server that has no joined member in the room. */
export function requireInRoom(room: SimulatedRoom, origin: ServerName): void {
  if (!room.serversInRoom().includes(origin)) {
    throw new MatrixError(403, 'M_FORBIDDEN', 'the server is not in the room');
  }
}

/** An event of a room. Throws a `MatrixError` when there is none. */
export function eventOf(room: SimulatedRoom, eventId: string | null | undefined): SimulatedEvent {
  const id = parseEventId(eventId);
  if (id === undefined) throw new MatrixError(400, 'M_INVALID_PARAM', 'that is not an event id');
  const event = room.event(id);
  if (event === undefined) throw new MatrixError(404, 'M_NOT_FOUND', 'this server knows nothing of that event');
  return event;
}

/** The events behind ids that the room itself gave. */
export function eventsOf(room: SimulatedRoom, eventIds: Iterable<EventId>): SimulatedEvent[] {
  const events: SimulatedEvent[] = [];
  for (const id of eventIds) {
    const event = room.event(id);
    if (event !== undefined) events.push(event);
  }
  return events;
}

/** The joining servers that are in a room. */
export function joinedFromOutside({ servers }: Federation, room: SimulatedRoom): ServerName[] {
  return room.serversInRoom().filter((server) => !servers.has(server));
}
