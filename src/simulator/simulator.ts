/** A federation in this process: residents and member servers over real TLS, with rooms made from a seed. */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { systemClock } from '../clock.ts';
import { createCertificateAuthority } from '../launch/certificates.ts';
import { type Progress } from '../launch/progress.ts';
import {
  type EventId,
  type RoomAlias,
  type RoomId,
  type ServerName,
  type UserId,
  domainOf,
} from '../matrix/identifiers.ts';
import { stateDigest } from '../matrix/state-digest.ts';
import { invariant } from '../invariant.ts';
import {
  type InjectedFault,
  type SimulatedRoomSummary,
  type Simulator,
  type SimulatorOptions,
  type StandingEvent,
  type StateDigest,
} from './contract.ts';
import { type Federation, eventsOf, joinedFromOutside } from './federation.ts';
import { type ActiveFault } from './fault-rules.ts';
import { generateRoom } from './generate-room.ts';
import { createJoiningServers } from './joining-servers.ts';
import { createKeyAnswers } from './key-answers.ts';
import { Listener } from './listener.ts';
import { createPushes } from './pushes.ts';
import { RequestCounts } from './request-counts.ts';
import { type PlacedDraft, type SimulatedRoom } from './room.ts';
import { pduOf } from './room-verdicts.ts';
import { type ServerKeys, serverKeysFromSeed } from './server-keys.ts';

const DEFAULT_DOMAIN = 'federation.test';

/** Generates the rooms and starts listening. Blocks this process while it generates; `progress` tells of each room. */
export async function startSimulator(
  options: SimulatorOptions,
  progress: Progress = () => undefined,
): Promise<Simulator> {
  const { domain = DEFAULT_DOMAIN } = options;
  const clock = systemClock;
  const keys = serverKeysFromSeed(options.seed);
  const names = nameServers(options, domain);
  const rooms = await generateRooms(options, names, keys, progress);

  const counts = new RequestCounts();
  const joiningServers = createJoiningServers(options.joinersAuthorityPem, clock);
  const pushes = createPushes({ keys, joiningServers, counts, clock });
  const federation: Federation = {
    residents: names.residents,
    servers: new Set([...names.residents, ...names.memberServers]),
    rooms: new Map(rooms.map((room) => [room.roomId, room])),
    aliases: new Map<RoomAlias, SimulatedRoom>(rooms.map((room) => [room.alias, room])),
    keys,
    keyAnswers: createKeyAnswers(keys, clock),
    joiningServers,
    pushes,
    clock,
  };
  const authority = await createCertificateAuthority(clock);
  const certificate = await authority.issue([`*.${domain}`]);
  const listener = new Listener({ ...options, federation, counts, certificate });
  const port = await listener.listen();

  return {
    port,
    domain,
    authorityPem: authority.certificatePem,
    staticAddresses: { [`*.${domain}`]: `127.0.0.1:${port}` },
    residents: names.residents,
    rooms: rooms.map(summarise),
    inject: (rule) => promised(() => injected(listener.inject(rule))),
    clear: () => promised(() => listener.clear()),
    counts: () => promised(() => counts.rows()),
    resetCounts: () => promised(() => counts.reset()),
    emit: (roomId, drafts) => promised(() => emit(federation, roomNamed(federation, roomId), drafts)),
    stateEvent: (roomId, type, key) => promised(() => standing(roomNamed(federation, roomId), type, key)),
    holds: (roomId, eventId) => promised(() => roomNamed(federation, roomId).event(eventId) !== undefined),
    summary: (roomId) => promised(() => summarise(roomNamed(federation, roomId))),
    speakers: (roomId, limit) => promised(() => speakers(federation, roomNamed(federation, roomId), limit)),
    pushesSettled: () => pushes.settled(),
    digest: (roomId) => promised(() => digestOf(roomNamed(federation, roomId))),
    stop: async () => {
      await pushes.close();
      await listener.stop();
      await joiningServers.close();
    },
  };
}

interface ServerNames {
  readonly residents: readonly ServerName[];
  readonly memberServers: readonly ServerName[];
}

/** As many servers as the room that has most of them. */
function nameServers({ residents, rooms }: SimulatorOptions, domain: string): ServerNames {
  const servers = Math.max(residents, ...rooms.map((room) => room.servers));
  const named = (prefix: string, count: number): ServerName[] =>
    Array.from({ length: count }, (_, i) => `${prefix}${i + 1}.${domain}` as ServerName);
  return { residents: named('resident', residents), memberServers: named('hs', servers - residents) };
}

async function generateRooms(
  { seed, rooms }: SimulatorOptions,
  { residents, memberServers }: ServerNames,
  keys: ServerKeys,
  progress: Progress,
): Promise<SimulatedRoom[]> {
  const made: SimulatedRoom[] = [];
  for (const [roomNo, shape] of rooms.entries()) {
    progress(`generating a room of ${shape.members} members on ${shape.servers} servers`);
    // So that the line is out before the process is busy.
    await nextTurn();
    const startedAt = performance.now();
    const { residents: numbers, ...plan } = shape;
    const inIt = numbers === undefined ? residents : residents.filter((_, i) => numbers.includes(i + 1));
    const names = { residents: inIt, memberServers: memberServers.slice(0, Math.max(0, shape.servers - inIt.length)) };
    const room = generateRoom({ ...plan, seed }, names, keys, roomNo);
    progress(`generated ${room.alias} in ${((performance.now() - startedAt) / 1_000).toFixed(1)} s`);
    made.push(room);
  }
  return made;
}

function summarise(room: SimulatedRoom): SimulatedRoomSummary {
  const state = eventsOf(room, room.currentState().values());
  const create = room.currentEvent('m.room.create', '');
  invariant(create !== undefined, 'a room was created');
  return {
    roomId: room.roomId,
    alias: room.alias,
    roomVersion: room.roomVersion,
    creator: create.sender,
    members: room.joinedCount() + room.crowd.length,
    servers: room.serversInRoom().length,
    stateEvents: state.length + room.crowd.length,
    stateBytes: state.reduce((sum, { json }) => sum + json.length, room.crowd.bytes),
  };
}

function roomNamed({ rooms }: Federation, roomId: RoomId): SimulatedRoom {
  const room = rooms.get(roomId);
  invariant(room !== undefined, `the simulator has no room ${roomId}`);
  return room;
}

function standing(room: SimulatedRoom, type: string, stateKey: string): StandingEvent | undefined {
  const event = room.currentEvent(type, stateKey);
  return event && { eventId: event.eventId, content: pduOf(event, room.rules).content };
}

function digestOf(room: SimulatedRoom): StateDigest {
  const { crowd } = room;
  const state = room.currentState();
  return {
    digest: crowd.length === 0 ? room.digest() : stateDigest([...state.values(), ...crowd.ids()]),
    events: state.size + crowd.length,
    joined: room.joinedCount() + crowd.length,
  };
}

function emit(federation: Federation, room: SimulatedRoom, drafts: readonly PlacedDraft[]): EventId[] {
  return drafts.map((draft) => {
    const before = joinedFromOutside(federation, room);
    const event = room.append(draft);
    // Whoever is put out of the room by the event is told of it, and so is whoever comes in by it.
    const destinations = new Set([...before, ...joinedFromOutside(federation, room)]);
    federation.pushes.push(event, domainOf(draft.sender), destinations);
    return event.eventId;
  });
}

/** A user of each server, then a second one of each, and so on. */
function speakers({ servers }: Federation, room: SimulatedRoom, limit: number): UserId[] {
  const byServer = new Map<ServerName, UserId[]>();
  for (const { membership, stateKey } of eventsOf(room, room.currentState().values())) {
    if (membership !== 'join') continue;
    const userId = stateKey as UserId;
    const server = domainOf(userId);
    if (servers.has(server)) byServer.set(server, [...(byServer.get(server) ?? []), userId]);
  }
  const found: UserId[] = [];
  for (let turn = 0; found.length < limit; turn += 1) {
    const ofTurn = [...byServer.values()].map((users) => users[turn]).filter((userId) => userId !== undefined);
    if (ofTurn.length === 0) break;
    found.push(...ofTurn.slice(0, limit - found.length));
  }
  return found;
}

function injected(active: ActiveFault): InjectedFault {
  return {
    hits: () => promised(() => active.hits()),
    held: () => active.held,
    release: () => promised(() => active.release()),
    remove: () => promised(() => active.remove()),
  };
}

/** The same as in another process: what is thrown rejects. */
function promised<T>(work: () => T): Promise<T> {
  return Promise.resolve().then(work);
}
