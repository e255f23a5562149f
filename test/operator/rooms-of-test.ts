/** A handful of rooms behind the operator's ports, and a server over them on a free port. */
import { type DestinationStream } from 'pino';
import { expect } from 'vitest';
import { type z } from 'zod';
import { createLogger } from '../../src/logging.ts';
import {
  type EventId,
  type RoomAlias,
  type RoomId,
  type ServerName,
  type UserId,
} from '../../src/matrix/identifiers.ts';
import { type OperatorPorts } from '../../src/operator/ports.ts';
import { type Member, type RoomDescription, type StateEvent } from '../../src/rooms/contract.ts';
import { OPERATOR_ENDPOINTS, createOperatorServer } from '../../src/operator/server.ts';
import { type ResyncEvent } from '../../src/resync/events.ts';
import { evolve } from '../../src/resync/evolve.ts';
import { initialResyncState } from '../../src/resync/state.ts';
import { RoomError } from '../../src/rooms/error.ts';

export const TOKEN = 'a-token-of-the-tests-0123456789';
export const WHOLE = '!whole:hs1' as RoomId;
export const DEGRADED = '!degraded:hs1' as RoomId;
export const PARTIAL = '!partial:hs1' as RoomId;
/** Not in the list. */
export const PARKED = '!parked:hs1' as RoomId;
export const ALIAS = '#whole:hs1' as RoomAlias;
export const EVIL_NAME = '<script>alert(1)</script>\u2028\n\u001b[31m';

const joined: ResyncEvent = {
  type: 'PartialStateJoined',
  joinEventId: '$join' as EventId,
  userId: '@alice:ours' as UserId,
  roomVersion: '11',
  joinedVia: 'hs1' as ServerName,
  serversInRoom: ['hs1', 'hs2'] as ServerName[],
  fetchAt: ['$prev' as EventId],
  stateBefore: '0'.repeat(32) as never,
  at: Date.UTC(2026, 0, 1),
};
const failed: ResyncEvent = {
  type: 'StateFetchFailed',
  attemptNo: 1,
  resident: 'hs1' as ServerName,
  atEventId: '$prev' as EventId,
  failure: 'timeout',
  reason: 'no answer within 60 s',
  at: Date.UTC(2026, 0, 1, 0, 1),
};
const parked: ResyncEvent = {
  type: 'ResyncParked',
  because: 'refused',
  reason: 'every server that answered refused',
  at: Date.UTC(2026, 0, 4),
};
const degradedFetch: ResyncEvent = {
  type: 'StateFetched',
  attemptNo: 1,
  resident: 'hs1' as ServerName,
  atEventId: '$prev' as EventId,
  snapshotId: '0'.repeat(32) as never,
  counts: { state: 9, authChain: 0, members: 2, fetched: 9, alreadyHeld: 0, dropped: 0 },
  digest: 'd'.repeat(64),
  missing: { listed: [{ eventId: '$lost' as EventId, why: 'key-missing' }], count: 1, fell: 2 },
  at: Date.UTC(2026, 0, 1, 0, 1),
};
const completed: Extract<ResyncEvent, { type: 'ResyncCompleted' }> = {
  type: 'ResyncCompleted',
  members: 2,
  at: Date.UTC(2026, 0, 1, 0, 2),
};

const at = Date.UTC(2026, 0, 1, 0, 3);
const GAPS: RoomDescription['gaps'] = [
  {
    ...{ eventId: '$gap' as EventId, epoch: 1, origin: 'hs2' as ServerName, openedAt: at },
    ...{ attempts: 2, begins: 0, wakeAt: null, isBegun: false },
    ...{ lastResident: 'hs1' as ServerName, lastFailure: 'not-found', lastReason: 'nobody has it' },
  },
];
const BACKLOG: RoomDescription['backlog'] = { staged: 3, oldestStagedAt: at, gaps: 0, oldestGapAt: null };
const WAITING = [
  {
    ...{ eventId: '$wide' as EventId, origin: 'hs2' as ServerName, attempts: 0 },
    receivedAt: Date.UTC(2026, 0, 1, 0, 3),
    reason: 'too large for this version',
  },
];
const DROPPED: RoomDescription['dropped'] = [
  { eventId: '$late' as EventId, origin: 'hs2' as ServerName, receivedAt: at, reason: EVIL_NAME, droppedAt: at },
];

const MISSING: RoomDescription['missing'] = [
  {
    ...{ eventId: '$lost' as EventId, why: 'key-missing', type: 'm.room.member', since: at },
    ...{
      askedOf: ['hs1', 'hs2'] as ServerName[],
      namedBy: ['hs1' as ServerName],
      gapId: '$gap' as EventId,
      foundAt: null,
    },
  },
];
const INTENTS: RoomDescription['openIntents'] = [
  {
    ...{ what: 'join', userId: '@b:here.test' as UserId, eventId: '$open' as EventId, resident: 'hs2' as ServerName },
    ...{ createdAt: at, attempts: 1, notBefore: at, lastReason: 'no answer within 60 s' },
  },
];

export const JOURNALS: Record<string, ResyncEvent[]> = {
  [WHOLE]: [joined, failed, completed],
  [PARTIAL]: [joined],
  [PARKED]: [joined, failed, parked],
  [DEGRADED]: [joined, degradedFetch, { ...completed, lacking: 1 }],
};

const fold = (roomId: RoomId) => (JOURNALS[roomId] ?? []).reduce(evolve, initialResyncState);

function overview(roomId: RoomId) {
  return { roomId, epoch: 1, name: EVIL_NAME, canonicalAlias: ALIAS, membersKnown: 2, resync: fold(roomId) };
}

async function* paged<Row>(rows: readonly Row[], size: number): AsyncGenerator<readonly Row[]> {
  for (let at = 0; at < rows.length; at += size) yield await Promise.resolve(rows.slice(at, at + size));
}

/** Ports over the two rooms; each test replaces what it is about. */
export function portsOfTest(over: Partial<OperatorPorts> = {}): OperatorPorts {
  const members: Member[] = ['@a:hs1', '@b:hs1', '@c:hs1'].map((userId, at) => ({
    userId: userId as UserId,
    eventId: `$member${at}` as EventId,
    membership: at === 2 ? 'leave' : 'join',
    displayName: at === 0 ? EVIL_NAME : null,
  }));
  const state: StateEvent[] = [
    { eventId: '$create' as EventId, json: '{"type":"m.room.create","content":{"x":1e3,"nul":"\\u0000"}}' },
  ];
  return {
    joinRoom: ({ room, via }) =>
      Promise.resolve({
        roomId: room.startsWith('!') ? (room as RoomId) : WHOLE,
        eventId: '$join' as EventId,
        joinedVia: via[0] ?? ('hs1' as ServerName),
        partial: true,
        membersOmitted: true,
        timingsMs: { make_join: 12 },
      }),
    commandRoom: (_roomId, command, { by }) =>
      Promise.resolve(
        command.type === 'unpin-resident'
          ? { isChanged: false, because: `${command.resident} is not pinned` }
          : {
              isChanged: true,
              event: { type: 'ResidentPinned', resident: 'hs1' as ServerName, by, reason: EVIL_NAME, at },
            },
      ),
    retryRooms: (_resident, from) =>
      Promise.resolve(from === '' ? { retried: [PARKED], next: PARKED } : { retried: [PARTIAL], next: null }),
    purges: {
      plan: (roomId) => Promise.reject(new RoomError('unknown-room', `nothing is held of ${roomId}`)),
      request: ({ roomId }) => Promise.reject(new RoomError('unknown-room', `nothing is held of ${roomId}`)),
      status: () => Promise.reject(new RoomError('unknown-room', 'no purge has that name')),
    },
    listRooms: () => Promise.resolve([overview(WHOLE), overview(PARTIAL), overview(DEGRADED)]),
    resolveRoom: (room) => {
      if (room === ALIAS) return Promise.resolve(WHOLE);
      if (room.startsWith('#')) return Promise.reject(new RoomError('unknown-alias', `hs1 knows no alias ${room}`));
      return Promise.resolve(room as RoomId);
    },
    describeRoom: (roomId) => {
      const events = JOURNALS[roomId];
      if (events === undefined) return Promise.reject(new RoomError('unknown-room', `${roomId} is not held here`));
      const journal = events.map((event, i) => ({
        position: i + 10,
        roomId,
        epoch: 1,
        stream: 'resync' as const,
        seq: i + 1,
        event,
      }));
      const progress =
        roomId === PARTIAL ? { step: 'fetch' as const, wanted: 13_412, held: 5_120, bytes: 4_194_304 } : null;
      return Promise.resolve({
        ...overview(roomId),
        operatorSaid: [],
        progress,
        gaps: GAPS,
        corrections: { changes: 1, events: 2, oldestSince: at, judged: 7, changed: 3 },
        backlog: BACKLOG,
        waiting: WAITING,
        dropped: DROPPED,
        missing: MISSING,
        openIntents: INTENTS,
        journal,
      });
    },
    members: (roomId, { membership }) => {
      if (roomId === PARTIAL) {
        return Promise.resolve({
          ready: false as const,
          reason: 'fetching the state from hs1',
          retryAfterMs: 1500,
          resync: fold(roomId),
        });
      }
      const rows = members.filter((member) => membership === null || member.membership === membership);
      const degraded = roomId === DEGRADED;
      return Promise.resolve({ ready: true as const, degraded, pages: paged(rows, 2) });
    },
    state: () => Promise.resolve({ ready: true as const, pages: paged(state, 10) }),
    corrections: () => Promise.resolve({ corrections: [], next: 0, head: 0 }),
    explainEvent: (eventId) => Promise.reject(new RoomError('unknown-event', `${eventId} is not known here`)),
    journal: {
      page: () => Promise.resolve({ entries: [], next: 0, head: 0 }),
      follow: () => Promise.reject(new RoomError('too-many', 'nobody is let in')),
    },
    users: {
      list: () => Promise.resolve([]),
      createUser: ({ name }) => Promise.resolve(`@${name ?? 'made'}:ours` as UserId),
      setPassword: () => Promise.resolve(),
      deactivate: () => Promise.resolve(),
    },
    services: {
      list: () => Promise.resolve([]),
      retry: () => Promise.resolve(false),
      skip: () => Promise.resolve({ outcome: 'unknown' }),
      skipAll: () => Promise.resolve(undefined),
    },
    ...over,
  };
}

export interface RunningServer {
  readonly url: string;
  readonly log: readonly string[];
  close(): Promise<void>;
}

export async function startServer(
  ports: OperatorPorts = portsOfTest(),
  membersWaitMaxMs = 1000,
): Promise<RunningServer> {
  const log: string[] = [];
  const destination: DestinationStream = { write: (line) => void log.push(line) };
  let now = 0;
  const app = createOperatorServer({
    serverName: 'ours' as ServerName,
    version: '1.2.3',
    token: TOKEN,
    membersWaitMaxMs,
    ports,
    logger: createLogger({ level: 'info', destination }),
    clock: { now: () => (now += 5) },
  });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  return { url, log, close: () => app.close() };
}

/** Asks the API with the right token. */
export async function ask(
  server: RunningServer,
  path: string,
  init: Omit<RequestInit, 'headers'> & { headers?: Record<string, string> } = {},
): Promise<{ status: number; body: Record<string, unknown>; headers: Headers; text: string }> {
  const headers = { authorization: `Bearer ${TOKEN}`, ...init.headers };
  const response = await fetch(`${server.url}/_rejoinder/v1${path}`, { ...init, headers });
  const text = await response.text();
  const body = JSON.parse(text) as Record<string, unknown>;
  if (response.status === 200) expect(body).toEqual(formOf(init.method ?? 'GET', path).parse(body));
  return {
    status: response.status,
    body,
    headers: response.headers,
    text,
  };
}

/** Of what the endpoint answers, as the API's description has it. */
function formOf(method: string, path: string): z.ZodType {
  const segments = `/_rejoinder/v1${path.split('?')[0] ?? ''}`.split('/');
  const named = OPERATOR_ENDPOINTS.filter((endpoint) => {
    const wanted = endpoint.path.split('/');
    const isAlike = wanted.every((segment, i) => segment.startsWith(':') || segment === segments[i]);
    return endpoint.method === method && wanted.length === segments.length && isAlike;
  });
  // A path without a variable goes before one with.
  const [found] = named.toSorted((a, b) => a.path.split(':').length - b.path.split(':').length);
  if (found === undefined) throw new Error(`no endpoint answers ${method} ${path}`);
  return found.answers;
}

export function post(server: RunningServer, path: string, body: unknown): ReturnType<typeof ask> {
  const text = typeof body === 'string' ? body : JSON.stringify(body);
  return ask(server, path, { method: 'POST', body: text, headers: { 'content-type': 'application/json' } });
}
