/** Rooms for the tests of the generator, and a reading of all their events in an order in which they can be judged. */
import { parsePdu } from '../../src/matrix/event-format.ts';
import { compareDepths } from '../../src/matrix/depth.ts';
import { type EventId, type ServerName } from '../../src/matrix/identifiers.ts';
import { type Pdu } from '../../src/matrix/pdu.ts';
import { parseJsonObject } from '../../src/matrix/json/strict-json.ts';
import { type RoomServers, generateRoom } from '../../src/simulator/generate-room.ts';
import { type RoomShape } from '../../src/simulator/room-shape.ts';
import { type SimulatedEvent, type SimulatedRoom } from '../../src/simulator/room.ts';
import { type ServerKeys, serverKeysFromSeed } from '../../src/simulator/server-keys.ts';

/** A small room in which everything happens that can happen, forks more often than elsewhere. */
export const SMALL_SHAPE: RoomShape = {
  seed: 4,
  roomVersion: '11',
  members: 120,
  servers: 25,
  messages: 60,
  leftShare: 0.2,
  bannedShare: 0.1,
  invitedShare: 0.05,
  profileChangeShare: 0.2,
  rejoinedShare: 0.2,
  powerLevelChanges: 20,
  forkShare: 0.3,
};

export function names(servers: number): RoomServers {
  return {
    residents: ['resident1.test', 'resident2.test'] as ServerName[],
    memberServers: Array.from({ length: servers }, (_, index) => `hs${String(index + 1)}.test` as ServerName),
  };
}

export function makeRoom(shape: Partial<RoomShape> = {}, roomNo = 0): { room: SimulatedRoom; keys: ServerKeys } {
  const whole = { ...SMALL_SHAPE, ...shape };
  const keys = serverKeysFromSeed(whole.seed);
  return { room: generateRoom(whole, names(whole.servers), keys, roomNo), keys };
}

/** Every event of the room, found from its extremities; parents first. */
export function allEvents(room: SimulatedRoom): SimulatedEvent[] {
  const found = new Map<EventId, SimulatedEvent>();
  const open = [...room.extremities];
  for (let id = open.pop(); id !== undefined; id = open.pop()) {
    if (found.has(id)) continue;
    const event = room.event(id);
    if (event === undefined) throw new Error(`${id} is a parent, and unknown`);
    found.set(id, event);
    open.push(...event.prevEvents);
  }
  return [...found.values()].sort(compareDepths);
}

/** An event as a joining server would read it off the wire. */
export function readPdu({ json }: SimulatedEvent, room: SimulatedRoom): Pdu {
  const parsed = parseJsonObject(json);
  if (!parsed.ok) throw new Error(parsed.reason);
  const read = parsePdu(parsed.value, room.rules);
  if (!read.ok) throw new Error(`${read.rule}: ${read.reason}`);
  return read.pdu;
}
