import { expect, test } from 'vitest';
import { USER_ENDPOINTS } from '../../src/client-api/server.ts';
import { ME, PartialRoom } from '../rooms/resync/partial-room.ts';
import { openTestStore } from '../support/postgres.ts';
import { startClientApi } from './client.ts';

const { store } = await openTestStore();

const ROOM = '/_matrix/client/v3/rooms/:roomId';
const V1_ROOM = '/_matrix/client/v1/rooms/:roomId';

/** Of every endpoint about a room what somebody outside is answered, an administrator of the server as well, and what a member is. */
const TABLE: readonly (readonly [method: string, path: string, outside: number, member: number])[] = [
  ['GET', `${ROOM}/state`, 403, 200],
  ['GET', `${ROOM}/state/:eventType`, 403, 200],
  ['GET', `${ROOM}/state/:eventType/:stateKey`, 403, 200],
  ['GET', `${ROOM}/members`, 403, 200],
  ['GET', `${ROOM}/joined_members`, 403, 200],
  ['GET', `${ROOM}/event/:eventId`, 404, 200],
  ['GET', `${ROOM}/context/:eventId`, 403, 200],
  ['GET', `${ROOM}/messages`, 403, 200],
  ['GET', `${V1_ROOM}/timestamp_to_event`, 403, 200],
  ['GET', `${V1_ROOM}/relations/:eventId`, 403, 200],
  ['GET', `${V1_ROOM}/relations/:eventId/:relType`, 403, 200],
  ['GET', `${V1_ROOM}/relations/:eventId/:relType/:eventType`, 403, 200],
  ['GET', `${V1_ROOM}/threads`, 403, 200],
  ['GET', `${ROOM}/aliases`, 403, 200],
  ['GET', `${ROOM}/initialSync`, 403, 200],
  // He is in, and has to leave first.
  ['POST', `${ROOM}/forget`, 403, 400],
  ['PUT', `${ROOM}/send/:eventType/:txnId`, 403, 200],
  ['POST', `${ROOM}/receipt/:receiptType/:eventId`, 403, 200],
  ['POST', `${ROOM}/read_markers`, 403, 200],
  ['PUT', `${ROOM}/typing/:userId`, 403, 200],
  // A member without power.
  ['PUT', `${ROOM}/state/:eventType`, 403, 403],
  ['PUT', `${ROOM}/state/:eventType/:stateKey`, 403, 403],
  ['POST', `${ROOM}/kick`, 403, 403],
  ['POST', `${ROOM}/upgrade`, 403, 403],
  ['POST', `${ROOM}/ban`, 403, 403],
  ['POST', `${ROOM}/unban`, 403, 403],
  // Whoever is in may take back what he said, invite where the room says nothing else, and leave.
  ['PUT', `${ROOM}/redact/:eventId/:txnId`, 403, 200],
  ['POST', `${ROOM}/invite`, 403, 200],
  ['POST', `${ROOM}/leave`, 403, 200],
];
/** Told in tests of its own: it lets in who is outside, if the room does. */
const ELSEWHERE = /\/(join|hierarchy)$/;

test('every endpoint about a room is in the table, or is told elsewhere', () => {
  const served = USER_ENDPOINTS.filter(
    ({ path }) => (path.startsWith(ROOM) || path.startsWith(V1_ROOM)) && !ELSEWHERE.test(path),
  );
  const known = new Set(TABLE.map(([method, path]) => `${method} ${path}`));
  expect(served.map(({ method, path }) => `${method} ${path}`).filter((name) => !known.has(name))).toEqual([]);
});

test('who is outside of a room, an administrator too, gets nothing of it, and a member what is his', async () => {
  const room = new PartialRoom(store);
  await room.join();
  await room.fetch('create', 'admin', 'power', 'rules');
  await room.walk();
  const client = await startClientApi(store);
  const [member, outside, admin] = [
    await client.user('me'),
    await client.user('outside'),
    await client.user('root', { isAdmin: true }),
  ];
  const places: Readonly<Record<string, string>> = {
    roomId: room.roomId,
    eventId: room.id('join'),
    stateKey: ME,
    userId: ME,
    txnId: 'txn',
    receiptType: 'm.read',
    relType: 'm.annotation',
  };
  const state = (): Promise<unknown> => store.query(`SELECT * FROM rooms WHERE room_id = $1`, [room.roomId]);
  for (const [method, path, outsideStatus, memberStatus] of TABLE) {
    const eventType = path.includes('/send/')
      ? 'm.room.message'
      : path.endsWith(':stateKey')
        ? method === 'GET'
          ? 'm.room.member'
          : 'org.example.state'
        : 'm.room.power_levels';
    const asked = path.endsWith('/messages') ? '?dir=b' : path.endsWith('/timestamp_to_event') ? '?dir=f&ts=0' : '';
    const url =
      path.replace(/:(\w+)/g, (_, name: string) => encodeURIComponent({ ...places, eventType }[name] ?? '')) + asked;
    const whom = path.endsWith('/invite') ? '@guest:here.test' : '@admin:there.test';
    const body =
      method === 'GET' ? undefined : { user_id: whom, msgtype: 'm.text', body: 'x', new_version: '11', typing: true };
    const before = await state();
    const statusOf = async (token?: string) => (await client.ask(method, url, body, token)).status;
    const told = [await statusOf(), await statusOf(outside), await statusOf(admin)];
    expect([method, path, ...told]).toEqual([method, path, 401, outsideStatus, outsideStatus]);
    expect(await state()).toEqual(before);
    expect([method, path, await statusOf(member)]).toEqual([method, path, memberStatus]);
  }
});

test.each([
  ['a room id that holds NUL', '/rooms/!a%00b:there.test/members', 400],
  ['what is no room id', '/rooms/rubbish/state', 400],
  ['a room id that is too long', `/rooms/!${'a'.repeat(300)}:there.test/state`, 400],
  ['half a percent sign', '/rooms/%ZZ/state', 400],
  ['a type that holds NUL', '/rooms/!a:there.test/state/a%00b', 403],
  ['a lone surrogate', '/rooms/%ED%A0%80/state', 400],
  ['a form that there is not', '/rooms/!a:there.test/state/a?format=both', 400],
])('%s is refused, and nobody is left waiting', async (_what, path, status) => {
  const client = await startClientApi(store);
  const token = await client.user(`u${path.length}.${status}`).catch(() => client.user(`v${path.length}`));
  const answer = await client.ask('GET', `/_matrix/client/v3${path}`, undefined, token);
  expect([path, answer.status]).toEqual([path, status]);
  expect(answer.body['errcode']).toMatch(/^M_/);
  expect(client.notifier.waiting).toBe(0);
});
