/**
 * A small homeserver of one room, spoken to over real federation: it hands out its keys, lets us join, and answers for its
 * state when it is told to. For tests of workflows, whose subject is what happens between the answers.
 */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import { type AddressInfo } from 'node:net';
import { type CertificateFiles } from '../../src/launch/certificates.ts';
import { type EventId, type RoomId, type ServerName } from '../../src/matrix/identifiers.ts';
import { eventIdOf } from '../../src/matrix/signing/hashes.ts';
import { type Json, type JsonObject } from '../../src/matrix/pdu.ts';
import { signEvent, signJson } from '../../src/matrix/signing/signatures.ts';
import { keyOf, rulesOf } from '../matrix/sample-event.ts';

const VERSION = '11';
const CREATED_AT = 1_700_000_000_000;
const KEYS_VALID_MS = 86_400_000;

export interface Resident {
  readonly serverName: ServerName;
  /** A room with this many members of its own; and all that it has, that one first. */
  readonly roomId: RoomId;
  readonly roomIds: readonly RoomId[];
  /** While false, everything about state is answered with 503. */
  isWilling: boolean;
  /** It answers everything about the state with 403. */
  forbids: boolean;
  /** While false, a join is answered with the whole state, whatever was asked. */
  omitsMembers: boolean;
  /** While false, it knows none of its own events but the joins that it let in: no state before what these cite. */
  knowsParents: boolean;
  /** While true, the last membership of the state is named, and given to nobody. */
  withholds: boolean;
  /** While true, nothing about state is answered. */
  isSilent: boolean;
  /** Requests that were not answered so far. */
  readonly unanswered: number;
  /** A message after all of the state of a room, which a join does not cite. */
  readonly missed: EventId;
  readonly missedOf: (roomId: RoomId) => EventId;
  stop(): Promise<void>;
}

interface Room {
  readonly roomId: RoomId;
  /** Every event by id; each changes the state, and none replaces another. */
  readonly events: ReadonlyMap<string, JsonObject>;
  /** Cited by whoever joins. */
  readonly authEvents: readonly string[];
  readonly head: string;
  readonly missed: { readonly eventId: EventId; readonly event: JsonObject };
}

/** A public room: create, its creator's join, power levels, join rules, and further members. */
function createRoom(serverName: ServerName, members: number, name: string): Room {
  const rules = rulesOf(VERSION);
  const roomId = `!${name}:${serverName}` as RoomId;
  const owner = `@owner:${serverName}`;
  const events = new Map<string, JsonObject>();
  let head: string | undefined;
  const add = (
    sender: string,
    type: string,
    stateKey: string | undefined,
    content: JsonObject,
    auth: readonly string[],
  ): EventId => {
    const unsigned: JsonObject = {
      type,
      room_id: roomId,
      sender,
      ...(stateKey === undefined ? {} : { state_key: stateKey }),
      content,
      depth: events.size + 1,
      prev_events: head === undefined ? [] : [head],
      auth_events: [...auth],
      origin_server_ts: CREATED_AT + events.size,
    };
    const event = signEvent(unsigned, rules, serverName, keyOf(serverName));
    const eventId = eventIdOf(event, rules);
    head = eventId;
    events.set(eventId, event);
    return eventId;
  };
  const create = add(owner, 'm.room.create', '', { room_version: VERSION }, []);
  const joined = add(owner, 'm.room.member', owner, { membership: 'join' }, [create]);
  const levels = add(owner, 'm.room.power_levels', '', { users: { [owner]: 100 } }, [create, joined]);
  const joinRules = add(owner, 'm.room.join_rules', '', { join_rule: 'public' }, [create, joined, levels]);
  const authEvents = [create, levels, joinRules];
  for (let i = 1; i < members; i += 1) {
    const user = `@member${i}:${serverName}`;
    head = add(user, 'm.room.member', user, { membership: 'join' }, authEvents);
  }
  const ids = [...events.keys()];
  const eventId = add(owner, 'm.room.message', undefined, { body: 'missed' }, [create, joined, levels]);
  const event = events.get(eventId) as JsonObject;
  events.delete(eventId);
  return { roomId, events, authEvents, head: ids.at(-1) ?? joinRules, missed: { eventId, event } };
}

function answerTo(
  room: Room,
  { serverName, omitsMembers, knowsParents, withholds }: Resident,
  method: string,
  url: URL,
  now: number,
): JsonObject | undefined {
  const { events, authEvents, head, roomId, missed } = room;
  const [, , , , endpoint = '', subjectOfEvent = '', subject = ''] = url.pathname.split('/').map(decodeURIComponent);
  const isGiven = (eventId: string): boolean => !withholds || eventId !== head;
  const isKnown = knowsParents || url.searchParams.get('event_id') !== head;
  const bodies = (ids: Iterable<string>): Json[] => [...ids].map((id) => events.get(id) ?? {});
  const key = keyOf(serverName);
  if (url.pathname === '/_matrix/key/v2/server') {
    const verifyKeys = { [key.keyId]: { key: key.publicKey } };
    const keys = { server_name: serverName, valid_until_ts: now + KEYS_VALID_MS, verify_keys: verifyKeys };
    return signJson({ ...keys, old_verify_keys: {} }, serverName, key);
  }
  switch (`${method} ${endpoint}`) {
    case 'GET make_join':
      return {
        room_version: VERSION,
        event: {
          type: 'm.room.member',
          room_id: roomId,
          sender: subject,
          state_key: subject,
          content: { membership: 'join' },
          depth: events.size + 1,
          prev_events: [head],
          auth_events: [...authEvents],
        },
      };
    case 'PUT send_join': {
      const authChain = bodies([...events.keys()].slice(0, authEvents.length + 1));
      const state = bodies(events.keys());
      if (!omitsMembers || url.searchParams.get('omit_members') !== 'true') return { state, auth_chain: authChain };
      const withoutMembers = state.filter((event) => (event as JsonObject)['type'] !== 'm.room.member');
      return { state: withoutMembers, auth_chain: authChain, members_omitted: true, servers_in_room: [serverName] };
    }
    case 'GET event': {
      const given = isGiven(subjectOfEvent) ? events.get(subjectOfEvent) : undefined;
      const event = subjectOfEvent === missed.eventId ? missed.event : given;
      return event && { origin: serverName, origin_server_ts: now, pdus: [event] };
    }
    case 'GET state_ids':
      if (!isKnown) return undefined;
      return { pdu_ids: [...events.keys()], auth_chain_ids: [...authEvents] };
    case 'GET state':
      return { pdus: bodies([...events.keys()].filter(isGiven)), auth_chain: bodies(authEvents) };
    default:
      return undefined;
  }
}

/** Listens on 127.0.0.1 under the name `localhost:PORT`. */
export async function startResident(
  certificates: CertificateFiles,
  members: number,
  { rooms: count = 1 } = {},
): Promise<Resident> {
  const [cert, key] = await Promise.all([readFile(certificates.certificateFile), readFile(certificates.keyFile)]);
  const server = createServer({ cert, key }, (request, response) => {
    const url = new URL(request.url ?? '', `https://${resident.serverName}`);
    const room = roomOf(url);
    const isAboutState = /\/v1\/(state|state_ids|event)\//.test(url.pathname);
    if (isAboutState && resident.isSilent) {
      unanswered += 1;
      return;
    }
    const refusal = resident.forbids
      ? { status: 403, body: { errcode: 'M_FORBIDDEN', error: 'you are not in the room' } }
      : { status: 503, body: { errcode: 'M_UNKNOWN', error: 'not now' } };
    const answer =
      isAboutState && (resident.forbids || !resident.isWilling)
        ? refusal
        : { status: 200, body: answerTo(room, resident, request.method ?? '', url, Date.now()) };
    request.resume();
    const { status, body } = answer.body === undefined ? { status: 404, body: { errcode: 'M_NOT_FOUND' } } : answer;
    response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const serverName = `localhost:${(server.address() as AddressInfo).port}` as ServerName;
  const rooms = Array.from({ length: count }, (_, i) =>
    createRoom(serverName, members, i === 0 ? 'small' : `small-${i}`),
  );
  const [first] = rooms as [Room, ...Room[]];
  /** By the room or the event that a request names. */
  const roomOf = (url: URL): Room => {
    const named = decodeURIComponent(url.pathname.split('/')[5] ?? '');
    return (
      rooms.find(({ roomId, events, missed }) => named === roomId || events.has(named) || named === missed.eventId) ??
      first
    );
  };
  let unanswered = 0;
  const resident: Resident = {
    serverName,
    roomId: first.roomId,
    roomIds: rooms.map(({ roomId }) => roomId),
    isSilent: false,
    get unanswered() {
      return unanswered;
    },
    missedOf: (roomId) => (rooms.find((room) => room.roomId === roomId) ?? first).missed.eventId,
    isWilling: true,
    forbids: false,
    omitsMembers: true,
    knowsParents: true,
    withholds: false,
    missed: first.missed.eventId,
    stop: async () => {
      const closed = new Promise((resolve) => server.close(resolve));
      server.closeAllConnections();
      await closed;
    },
  };
  return resident;
}
