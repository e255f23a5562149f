import { once } from 'node:events';
import { type IncomingMessage, request as httpRequest } from 'node:http';
import { afterEach, describe, expect, test } from 'vitest';
import { type EventId, type UserId } from '../../src/matrix/identifiers.ts';
import { ROOM_ERROR_ANSWERS } from '../../src/operator/errors.ts';
import { type JoinRequest, type Member, type WaitOptions } from '../../src/rooms/contract.ts';
import { RoomError, type RoomErrorKind } from '../../src/rooms/error.ts';
import {
  ALIAS,
  DEGRADED,
  EVIL_NAME,
  PARKED,
  PARTIAL,
  type RunningServer,
  TOKEN,
  WHOLE,
  ask,
  portsOfTest,
  post,
  startServer,
} from './rooms-of-test.ts';

let server: RunningServer;
afterEach(() => server.close());

const path = (room: string, rest = ''): string => `/rooms/${encodeURIComponent(room)}${rest}`;

describe('joining', () => {
  test('answers with the room, the join event and who let us in', async () => {
    const requests: JoinRequest[] = [];
    const ports = portsOfTest();
    server = await startServer({
      ...ports,
      joinRoom: (request) => {
        requests.push(request);
        return ports.joinRoom(request);
      },
    });
    const { status, body } = await post(server, '/rooms/join', { room: ALIAS, user_id: 'alice', via: ['hs2'] });
    expect(status).toBe(200);
    expect(body).toEqual({
      room_id: WHOLE,
      event_id: '$join',
      joined_via: 'hs2',
      partial: true,
      members_omitted: true,
      timings_ms: { make_join: 12 },
    });
    expect(requests[0]).toMatchObject({ room: ALIAS, userId: '@alice:ours', via: ['hs2'], omitMembers: true });
    await post(server, '/rooms/join', { room: ALIAS, user_id: 'alice', partial: false });
    expect(requests[1]).toMatchObject({ omitMembers: false });
    const refused = await post(server, '/rooms/join', { room: ALIAS, user_id: 'alice', partial: 'no' });
    expect(refused).toMatchObject({ status: 400, body: { error: 'partial: expected true or false' } });
    expect(requests).toHaveLength(2);
  });

  test.each(Object.keys(ROOM_ERROR_ANSWERS) as RoomErrorKind[])('a join refused as %s says so', async (kind) => {
    const joinRoom = (): Promise<never> => Promise.reject(new RoomError(kind, 'because', { retryAfterMs: 1500 }));
    server = await startServer(portsOfTest({ joinRoom }));
    const { status, body, headers } = await post(server, '/rooms/join', { room: ALIAS, user_id: 'alice' });
    const expected = ROOM_ERROR_ANSWERS[kind];
    expect(status).toBe(expected.status);
    expect(body).toEqual({ errcode: expected.errcode, error: 'because', retry_after_ms: 1500 });
    expect(headers.get('retry-after')).toBe('2');
  });

  test('a failure nobody expected is logged and not shown', async () => {
    const joinRoom = (): Promise<never> => Promise.reject(new Error('secret detail'));
    server = await startServer(portsOfTest({ joinRoom }));
    const { status, text } = await post(server, '/rooms/join', { room: ALIAS, user_id: 'alice' });
    expect(status).toBe(500);
    expect(text).not.toContain('secret detail');
    expect(server.log.join('')).toContain('secret detail');
  });

  test('a caller who goes away aborts what he asked for', async () => {
    let heard: (reason: unknown) => void = () => undefined;
    const aborted = new Promise((resolve) => (heard = resolve));
    let asked: () => void = () => undefined;
    const asking = new Promise<void>((resolve) => (asked = resolve));
    const joinRoom = ({ signal }: JoinRequest): Promise<never> =>
      new Promise((_resolve, reject) => {
        signal.addEventListener('abort', () => {
          heard(signal.reason);
          reject(new Error('aborted'));
        });
        asked();
      });
    server = await startServer(portsOfTest({ joinRoom }));
    const caller = new AbortController();
    const answer = fetch(`${server.url}/_rejoinder/v1/rooms/join`, {
      method: 'POST',
      signal: caller.signal,
      headers: { authorization: `Bearer ${TOKEN}`, 'content-type': 'application/json' },
      body: JSON.stringify({ room: ALIAS, user_id: 'alice' }),
    });
    await asking;
    caller.abort();
    await expect(answer).rejects.toThrow();
    expect(String(await aborted)).toContain('went away');
  });
});

describe('rooms', () => {
  test('are listed with phase, progress and the last failure', async () => {
    server = await startServer();
    const { body } = await ask(server, '/rooms');
    expect(body['rooms']).toMatchObject([
      {
        room_id: WHOLE,
        phase: 'complete',
        members: 2,
        completed_at: '2026-01-01T00:02:00.000Z',
        degraded: null,
        last_failure: { resident: 'hs1', failure: 'timeout', reason: 'no answer within 60 s' },
      },
      { room_id: PARTIAL, phase: 'fetching', members: null, servers: 2, joined_via: 'hs1', epoch: 1 },
      { room_id: DEGRADED, phase: 'degraded', members: 2, degraded: { missing_events: 1, fell_with_them: 2 } },
    ]);
  });

  test('explain themselves by their journal, under id or alias', async () => {
    server = await startServer();
    for (const room of [WHOLE, ALIAS]) {
      const { body } = await ask(server, path(room));
      expect(body['journal']).toMatchObject([
        { seq: 1, position: 10, type: 'PartialStateJoined', at: '2026-01-01T00:00:00.000Z' },
        { seq: 2, explanation: 'Attempt 1 at hs1 failed (transient: timeout): no answer within 60 s' },
        { seq: 3, explanation: 'The room is whole: 2 members' },
      ]);
    }
  });

  test('tell why they are parked, and since when', async () => {
    server = await startServer();
    const { body } = await ask(server, path(PARKED));
    const reason = 'every server that answered refused';
    expect(body).toMatchObject({
      phase: 'parked',
      next_wake_at: null,
      parked: { because: 'refused', reason, leaving: false, since: '2026-01-04T00:00:00.000Z' },
      last_failure: { outcome: 'transient', failure: 'timeout' },
    });
  });

  test('tell how far the step is that is under way', async () => {
    server = await startServer();
    const { body } = await ask(server, path(PARTIAL));
    expect(body['progress']).toEqual({ step: 'fetch', wanted: 13_412, held: 5_120, bytes: 4_194_304 });
    expect((await ask(server, path(WHOLE))).body['progress']).toBeNull();
  });

  test('tell what was sent and is not judged, where the state is looked for, and what was given up, with reasons', async () => {
    server = await startServer();
    const { body } = await ask(server, path(WHOLE));
    expect(body).toMatchObject({
      staged_events: 3,
      oldest_staged_at: '2026-01-01T00:03:00.000Z',
      waiting_events: [
        {
          event_id: '$wide',
          origin: 'hs2',
          received_at: '2026-01-01T00:03:00.000Z',
          reason: 'too large for this version',
        },
      ],
      gaps: [{ event_id: '$gap', cited_by_event_of: 'hs2', next_try_at: null, last_reason: 'nobody has it' }],
      dropped_events: [{ event_id: '$late', origin: 'hs2', reason: EVIL_NAME }],
    });
  });

  test('tell what is to be corrected yet, since when, and how far that is', async () => {
    server = await startServer();
    const due = { changes: 1, events: 2, oldest_since: '2026-01-01T00:03:00.000Z', judged: 7, changed: 3 };
    expect((await ask(server, path(WHOLE))).body['corrections_due']).toEqual(due);
  });

  test('tell what their state lacks, and which joins are open', async () => {
    server = await startServer();
    const { body } = await ask(server, path(DEGRADED));
    expect(body).toMatchObject({
      phase: 'degraded',
      missing_events: [
        {
          event_id: '$lost',
          why: 'key-missing',
          type: 'm.room.member',
          asked_of: ['hs1', 'hs2'],
          gap: '$gap',
          named_by: ['hs1'],
        },
      ],
      open_joins: [
        { what: 'join', user_id: '@b:here.test', resident: 'hs2', attempts: 1, last_reason: 'no answer within 60 s' },
      ],
    });
  });

  test('that nobody knows are not found, by id and by alias', async () => {
    server = await startServer();
    expect(await ask(server, path('!none:hs1'))).toMatchObject({ status: 404, body: { errcode: 'M_NOT_FOUND' } });
    const { body } = await ask(server, path('#none:hs1'));
    expect(body['error']).toBe('hs1 knows no alias #none:hs1');
  });

  test('whose name is an attack stay data in the answer and one line in the log', async () => {
    server = await startServer();
    const { body, headers } = await ask(server, path(WHOLE));
    expect(body['name']).toBe(EVIL_NAME);
    expect(headers.get('content-type')).toMatch(/^application\/json/);
    await ask(server, path('#evil\u2028room:hs1'));
    for (const line of server.log) expect(() => JSON.parse(line) as unknown).not.toThrow();
  });

  test('have ids of any length the specification allows', async () => {
    server = await startServer();
    const { status } = await ask(server, path(`!${'é'.repeat(100)}:hs1`));
    expect(status).toBe(404);
  });
});

describe('members', () => {
  test('come in pages that make one list', async () => {
    server = await startServer();
    const { body } = await ask(server, path(ALIAS, '/members'));
    expect(body).toEqual({
      room_id: WHOLE,
      members: [
        { user_id: '@a:hs1', event_id: '$member0', membership: 'join', display_name: EVIL_NAME },
        { user_id: '@b:hs1', event_id: '$member1', membership: 'join', display_name: null },
        { user_id: '@c:hs1', event_id: '$member2', membership: 'leave', display_name: null },
      ],
      total: 3,
    });
  });

  test('can be asked for by membership', async () => {
    server = await startServer();
    const { body } = await ask(server, path(WHOLE, '/members?membership=leave'));
    expect(body['total']).toBe(1);
  });

  test('of a room that is partial still: come back, and this is how far it is', async () => {
    server = await startServer();
    const { status, body, headers } = await ask(server, path(PARTIAL, '/members?wait_ms=0'));
    expect(status).toBe(503);
    expect(headers.get('retry-after')).toBe('2');
    expect(body).toMatchObject({
      errcode: 'M_UNABLE_DUE_TO_PARTIAL_STATE',
      error: 'fetching the state from hs1',
      retry_after_ms: 1500,
      progress: { phase: 'fetching', states_to_fetch: 1 },
    });
  });

  test('are waited for as long as the caller says, at most as long as the configuration allows', async () => {
    const waits: number[] = [];
    const ports = portsOfTest();
    const members = (roomId: typeof WHOLE, options: WaitOptions & { membership: string | null }) => {
      waits.push(options.waitMs);
      return ports.members(roomId, options);
    };
    server = await startServer({ ...ports, members }, 1000);
    for (const query of ['', '?wait_ms=10', '?wait_ms=999999']) await ask(server, path(WHOLE, `/members${query}`));
    expect(waits).toEqual([1000, 10, 1000]);
  });

  test('100,000 of them are sent while they are read, and no faster than the caller takes them', async () => {
    const member = (at: number): Member => ({
      userId: `@user${at}:hs1` as UserId,
      eventId: `$event${at}` as EventId,
      membership: 'join',
      displayName: null,
    });
    let pagesRead = 0;
    async function* pages(): AsyncGenerator<Member[]> {
      for (let page = 0; page < 100; page += 1) {
        pagesRead += 1;
        yield await Promise.resolve(Array.from({ length: 1000 }, (_, at) => member(page * 1000 + at)));
      }
    }
    server = await startServer(portsOfTest({ members: () => Promise.resolve({ ready: true, pages: pages() }) }));
    const request = httpRequest(`${server.url}/_rejoinder/v1${path(WHOLE, '/members')}`, {
      headers: { authorization: `Bearer ${TOKEN}` },
    }).end();
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    await once(response, 'readable');
    expect(pagesRead).toBeLessThan(100);
    let text = '';
    for await (const chunk of response) text += String(chunk);
    const { members, total } = JSON.parse(text) as { members: unknown[]; total: number };
    expect([members.length, total]).toEqual([100_000, 100_000]);
  });

  test('a failure in the middle cuts the answer, so that nobody takes half a list for whole', async () => {
    async function* pages(): AsyncGenerator<Member[]> {
      yield await Promise.resolve([
        { userId: '@a:hs1', eventId: '$a', membership: 'join', displayName: null } as Member,
      ]);
      throw new Error('the database went away');
    }
    server = await startServer(portsOfTest({ members: () => Promise.resolve({ ready: true, pages: pages() }) }));
    await expect(ask(server, path(WHOLE, '/members'))).rejects.toThrow();
  });

  test('a failure before the first row is an answer', async () => {
    async function* pages(): AsyncGenerator<Member[]> {
      await Promise.reject(new Error('the database went away'));
    }
    server = await startServer(portsOfTest({ members: () => Promise.resolve({ ready: true, pages: pages() }) }));
    expect((await ask(server, path(WHOLE, '/members'))).status).toBe(500);
  });
});

describe('state', () => {
  test('comes at once without memberships, each event as it is stored', async () => {
    server = await startServer();
    const { text } = await ask(server, path(WHOLE, '/state'));
    expect(text).toBe(
      '{"room_id":"!whole:hs1","members_included":false,"state":[{"event_id":"$create","event":{"type":"m.room.create","content":{"x":1e3,"nul":"\\u0000"}}}],"total":1}',
    );
  });

  test('with memberships is asked for by name', async () => {
    const asked: boolean[] = [];
    const ports = portsOfTest();
    const state: typeof ports.state = (roomId, options) => {
      asked.push(options.members);
      return ports.state(roomId, options);
    };
    server = await startServer({ ...ports, state });
    await ask(server, path(WHOLE, '/state?members=true'));
    await ask(server, path(WHOLE, '/state?members=false'));
    expect(asked).toEqual([true, false]);
  });
});
