import { expect, test, vi } from 'vitest';
import { FederationError } from '../../src/federation/error.ts';
import { type FederationClient } from '../../src/federation/client.ts';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { createDirectory } from '../../src/rooms/directory/directory.ts';
import { upsertOutside } from '../../src/store/tables/outside-memberships.ts';
import { openTestStore } from '../support/postgres.ts';
import { type TestClient, startClientApi } from './client.ts';

const V3 = '/_matrix/client/v3';
const V1 = '/_matrix/client/v1';
const OURS = 'here.test' as ServerName;
const { store } = await openTestStore();
const encoded = encodeURIComponent;

type Hierarchy = FederationClient['hierarchy'];
interface Stage {
  readonly client: TestClient;
  readonly token: string;
  room(body?: object, as?: string): Promise<string>;
  /** Names a room in a space. */
  put(space: string, child: string, content?: object): Promise<void>;
  walk(
    space: string,
    query?: string,
    as?: string,
  ): Promise<{ ids: string[]; rooms: JsonObject[]; next: string | undefined }>;
}

let made = 0;

async function stage(hierarchy?: Hierarchy): Promise<Stage> {
  const clock = { now: () => 1_700_000_000_000 };
  const federation = hierarchy === undefined ? {} : { federation: { hierarchy } as FederationClient };
  const directory = createDirectory({ serverName: OURS, store, clock, ...federation });
  const client = await startClientApi(store, { directory });
  const token = await client.login(`spacer${(made += 1)}`);
  return {
    ...{ client, token },
    room: async (body = {}, as = token) => {
      const answer = await client.ask('POST', `${V3}/createRoom`, { preset: 'public_chat', ...body }, as);
      expect([answer.status, answer.body]).toEqual([200, answer.body]);
      return answer.body['room_id'] as string;
    },
    put: async (space, child, content = { via: ['here.test'] }) => {
      client.clock.at += 1_000;
      const url = `${V3}/rooms/${encoded(space)}/state/m.space.child/${encoded(child)}`;
      expect((await client.ask('PUT', url, content, token)).status).toBe(200);
    },
    walk: async (space, query = '', as = token) => {
      const { status, body } = await client.ask(
        'GET',
        `${V1}/rooms/${encoded(space)}/hierarchy${query}`,
        undefined,
        as,
      );
      expect([status, body]).toEqual([200, body]);
      const rooms = body['rooms'] as JsonObject[];
      return {
        ids: rooms.map((room) => room['room_id'] as string),
        rooms,
        next: body['next_batch'] as string | undefined,
      };
    },
  };
}

const SPACE = { creation_content: { type: 'm.space' } };

test('a space is walked depth first, each room once, in the order that it says', async () => {
  const here = await stage();
  const [top, inner] = [await here.room({ ...SPACE, name: 'Top' }), await here.room(SPACE)];
  const [a, b, c] = [await here.room({ name: 'A' }), await here.room(), await here.room()];
  await here.put(top, a);
  await here.put(top, inner, { via: ['here.test'], order: 'b', suggested: true });
  await here.put(top, b, { via: ['here.test'], order: 'a' });
  await here.put(inner, c);
  await here.put(inner, top);
  const all = [top, b, inner, c, a];
  const whole = await here.walk(top);
  expect(whole.ids).toEqual(all);
  expect(whole.next).toBeUndefined();
  expect(whole.rooms[0]).toMatchObject({
    ...{ name: 'Top', room_type: 'm.space', num_joined_members: 1, join_rule: 'public', room_version: '11' },
    children_state: [b, inner, a].map((id) => ({ type: 'm.space.child', state_key: id })),
  });
  expect((await here.walk(top, '?max_depth=1')).ids).toEqual([top, b, inner, a]);
  expect((await here.walk(top, '?max_depth=0')).ids).toEqual([top]);
  expect((await here.walk(top, '?suggested_only=true')).ids).toEqual([top, inner]);

  const pages: string[] = [];
  let query = '?limit=2';
  for (;;) {
    const { ids, next } = await here.walk(top, query);
    pages.push(...ids);
    if (next === undefined) break;
    query = `?limit=2&from=${next}`;
  }
  expect(pages).toEqual(all);
  const { next } = await here.walk(top, '?limit=2');
  const other = await here.client.ask(
    'GET',
    `${V1}/rooms/${encoded(top)}/hierarchy?max_depth=1&from=${next!}`,
    undefined,
    here.token,
  );
  expect(other).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } });
  // Taken out of the space again.
  await here.put(top, a, {});
  expect((await here.walk(top)).ids).toEqual([top, b, inner, c]);
});

test('rooms that a user may neither join nor read are left out, and let in whom they let in', async () => {
  const here = await stage();
  const other = await here.client.login(`outsider${made}`);
  const top = await here.room(SPACE);
  const [hidden, open] = [await here.room({ preset: 'private_chat' }), await here.room()];
  const allow = [{ type: 'm.room_membership', room_id: top }];
  const restricted = await here.room({
    preset: 'private_chat',
    initial_state: [{ type: 'm.room.join_rules', content: { join_rule: 'restricted', allow } }],
  });
  for (const child of [hidden, open, restricted]) await here.put(top, child);
  expect((await here.walk(top)).ids).toEqual([top, hidden, open, restricted]);
  expect((await here.walk(top, '', other)).ids).toEqual([top, open]);
  await here.client.ask('POST', `${V3}/join/${encoded(top)}`, {}, other);
  const walked = await here.walk(top, '', other);
  expect(walked.ids).toEqual([top, open, restricted]);
  expect(walked.rooms[2]).toMatchObject({ allowed_room_ids: [top], join_rule: 'restricted' });
  const url = `${V1}/rooms/${encoded(hidden)}/hierarchy`;
  expect((await here.client.ask('GET', url, undefined, other)).status).toBe(403);
});

test('what is on other servers is asked of them, and a server that says nothing keeps nobody waiting', async () => {
  const asked: string[] = [];
  const remote = '!remote:far.test' as RoomId;
  const hierarchy: Hierarchy = (server, roomId) => {
    asked.push(`${server} ${roomId}`);
    if (server === 'down.test') return Promise.reject(new FederationError(server, 'timeout', 'it is down'));
    const child = {
      type: 'm.space.child',
      state_key: '!inner:far.test',
      content: { via: ['far.test'] },
      sender: '@x:far.test',
    };
    return Promise.resolve({
      room: {
        room_id: remote,
        room_type: 'm.space',
        name: 'Far',
        num_joined_members: -3,
        topic: 7,
        children_state: [child, 5],
      },
      children: [
        { room_id: '!inner:far.test', name: 'Inner', num_joined_members: 2 },
        { room_id: '!smuggled:far.test', name: 'Smuggled' },
      ],
    });
  };
  const here = await stage(hierarchy);
  const top = await here.room(SPACE);
  await here.put(top, '!lost:down.test', { via: ['down.test'] });
  await here.put(top, remote, { via: ['down.test', 'far.test'] });
  const walked = await here.walk(top);
  expect(walked.ids).toEqual([top, remote, '!inner:far.test']);
  expect(walked.rooms[1]).toEqual({
    ...{
      room_id: remote,
      name: 'Far',
      room_type: 'm.space',
      num_joined_members: 0,
      world_readable: false,
      guest_can_join: false,
    },
    children_state: [
      {
        type: 'm.space.child',
        state_key: '!inner:far.test',
        content: { via: ['far.test'] },
        sender: '@x:far.test',
        origin_server_ts: 0,
      },
    ],
  });
  expect(asked).toEqual(['down.test !lost:down.test', `down.test ${remote}`, `far.test ${remote}`]);
  // What was said is believed for a while.
  await here.walk(top);
  expect(asked.filter((one) => one.startsWith('far.test'))).toHaveLength(1);
});

test('a page goes on where the one before ended, whatever other servers say by then', async () => {
  let isUp = false;
  const hierarchy: Hierarchy = (server, roomId) =>
    server === 'far.test' || isUp
      ? Promise.resolve({ room: { room_id: roomId, name: roomId }, children: [] })
      : Promise.reject(new FederationError(server, 'timeout', 'it is down'));
  const here = await stage(hierarchy);
  const top = await here.room(SPACE);
  const far = (local: string): string => `!${local}${made}:far.test`;
  await here.put(top, `!late${made}:down.test`, { via: ['down.test'] });
  for (const local of ['one', 'two', 'three']) await here.put(top, far(local), { via: ['far.test'] });
  const first = await here.walk(top, '?limit=2');
  expect(first.ids).toEqual([top, far('one')]);
  isUp = true;
  const second = await here.walk(top, `?limit=1&from=${first.next}`);
  expect(second.ids).toEqual([far('two')]);
  // Asked once more it is the same page, and the walk goes on behind it.
  expect(await here.walk(top, `?limit=1&from=${first.next}`)).toEqual(second);
  expect((await here.walk(top, `?from=${second.next}`)).ids).toEqual([far('three')]);
});

test('who looks at many spaces at a time is told to wait, and nobody else is', async () => {
  let answer = (): void => undefined;
  const silence = new Promise<void>((resolve) => (answer = resolve));
  let asked = 0;
  const hierarchy: Hierarchy = async (_server, roomId) => {
    asked += 1;
    await silence;
    return { room: { room_id: roomId }, children: [] };
  };
  const here = await stage(hierarchy);
  const other = await here.client.login(`patient${made}`);
  const look = (nth: number, as: string) =>
    here.client.ask('GET', `${V1}/room_summary/${encoded(`!r${nth}:far.test`)}?via=far.test`, undefined, as);
  const waiting = [1, 2, 3].map((nth) => look(nth, here.token));
  await vi.waitFor(() => expect(asked).toBe(3));
  expect(await look(4, here.token)).toMatchObject({ status: 429, body: { errcode: 'M_LIMIT_EXCEEDED' } });
  const others = look(5, other);
  await vi.waitFor(() => expect(asked).toBe(4));
  answer();
  for (const one of [...waiting, others]) expect((await one).status).toBe(200);
});

test('what another server tells ours is for those users whom the room lets in, or who are invited', async () => {
  const name = `${made}`;
  const club = { id: '' };
  const far = (local: string) => `!${local}${name}:far.test` as RoomId;
  const [restricted, closed, asked] = [far('restricted'), far('closed'), far('asked')];
  const summaryOf = (roomId: RoomId): JsonObject =>
    roomId === restricted
      ? { room_id: roomId, join_rule: 'restricted', allowed_room_ids: [club.id, '!nul\0:far.test'] }
      : { room_id: roomId, join_rule: roomId === asked ? 'knock' : 'invite' };
  const hierarchy: Hierarchy = (_server, roomId) => Promise.resolve({ room: summaryOf(roomId), children: [] });
  const here = await stage(hierarchy);
  const guest = `guest${made}`;
  const other = await here.client.login(guest);
  club.id = await here.room({ preset: 'private_chat' });
  const top = await here.room(SPACE);
  for (const child of [restricted, closed, asked]) await here.put(top, child, { via: ['far.test'] });
  const look = async (roomId: string, as: string): Promise<number> => {
    const url = `${V1}/room_summary/${encoded(roomId)}?via=far.test`;
    return (await here.client.ask('GET', url, undefined, as)).status;
  };
  expect((await here.walk(top)).ids).toEqual([top, restricted, asked]);
  // The same answers, kept by now, for who is in no such room.
  expect((await here.walk(top, '', other)).ids).toEqual([top, asked]);
  expect([await look(restricted, here.token), await look(restricted, other)]).toEqual([200, 404]);
  expect([await look(closed, here.token), await look(closed, other), await look(asked, other)]).toEqual([
    404, 404, 200,
  ]);
  const invite = { roomId: closed, userId: `@${guest}:here.test` as UserId, membership: 'invite' as const };
  const by = { roomVersion: '11', sender: '@x:far.test' as UserId, server: 'far.test' as ServerName };
  await upsertOutside(store, { ...invite, ...by, eventId: `$${name}` as EventId }, '{}', '[]');
  expect((await here.walk(top, '', other)).ids).toEqual([top, closed, asked]);
  expect(await look(closed, other)).toBe(200);
});

test('a space without end is walked for a bounded number of requests', async () => {
  let asked = 0;
  const hierarchy: Hierarchy = (_server, roomId) => {
    asked += 1;
    const child = { type: 'm.space.child', state_key: `!n${asked}:far.test`, content: { via: ['far.test'] } };
    return Promise.resolve({ room: { room_id: roomId, room_type: 'm.space', children_state: [child] }, children: [] });
  };
  const here = await stage(hierarchy);
  const top = await here.room(SPACE);
  await here.put(top, '!n0:far.test', { via: ['far.test'] });
  const { ids } = await here.walk(top, '?limit=100');
  expect(ids).toHaveLength(21);
  expect(asked).toBe(20);
});

test('a room is told of by its id or its alias, with what the user is in it', async () => {
  const here = await stage();
  const other = await here.client.login(`looker${made}`);
  const roomId = await here.room({ name: 'Seen', room_alias_name: `seen${made}` });
  const look = (room: string, as: string) =>
    here.client.ask('GET', `${V1}/room_summary/${encoded(room)}`, undefined, as);
  const told = { room_id: roomId, name: 'Seen', num_joined_members: 1, room_version: '11', join_rule: 'public' };
  expect((await look(roomId, here.token)).body).toMatchObject({ ...told, membership: 'join' });
  expect((await look(roomId, other)).body).toMatchObject({ ...told, membership: 'leave' });
  expect((await look(`#seen${made}:here.test`, other)).body).toMatchObject(told);
  const hidden = await here.room({ preset: 'private_chat' });
  expect((await look(hidden, other)).status).toBe(404);
  expect((await look('!nowhere:far.test', other)).status).toBe(404);
});

test('what other servers said is kept up to a size, and no answer that is too big for itself', async () => {
  let asked = 0;
  const big = new Set<RoomId>();
  const hierarchy: Hierarchy = (_server, roomId) => {
    asked += 1;
    const stuffed = { room_id: '!unnamed:far.test', topic: 'x'.repeat((big.has(roomId) ? 260 : 250) * 1024) };
    return Promise.resolve({ room: { room_id: roomId }, children: [stuffed] });
  };
  const here = await stage(hierarchy);
  const look = async (roomId: RoomId): Promise<number> => {
    const url = `${V1}/room_summary/${encoded(roomId)}?via=far.test`;
    expect((await here.client.ask('GET', url, undefined, here.token)).status).toBe(200);
    return asked;
  };
  const [small, tooBig] = ['!small:far.test' as RoomId, '!big:far.test' as RoomId];
  big.add(tooBig);
  expect([await look(small), await look(small)]).toEqual([1, 1]);
  expect([await look(tooBig), await look(tooBig)]).toEqual([2, 3]);
  // 16 MiB are 65 of them.
  for (let i = 0; i < 64; i += 1) await look(`!n${i}:far.test` as RoomId);
  expect([asked, await look(small)]).toEqual([67, 67]);
  for (let i = 64; i < 129; i += 1) await look(`!n${i}:far.test` as RoomId);
  expect([asked, await look(small)]).toEqual([132, 133]);
});

test('another server is told of a space and of the rooms in it that it may see', async () => {
  const here = await stage();
  const top = await here.room(SPACE);
  const [open, hidden] = [await here.room({ name: 'Open' }), await here.room({ preset: 'private_chat' })];
  for (const child of [open, hidden, '!else:where.test']) await here.put(top, child);
  const directory = createDirectory({ serverName: OURS, store, clock: here.client.clock });
  const far = 'far.test' as ServerName;
  expect(await directory.hierarchyFor(far, top as RoomId, false)).toMatchObject({
    room: {
      room_id: top,
      children_state: [{ state_key: open }, { state_key: hidden }, { state_key: '!else:where.test' }],
    },
    children: [{ room_id: open, name: 'Open' }],
    inaccessible_children: [hidden],
  });
  expect(await directory.hierarchyFor(far, top as RoomId, true)).toMatchObject({
    room: { children_state: [] },
    children: [],
  });
  expect(await directory.hierarchyFor(far, hidden as RoomId, false)).toBeUndefined();
  expect(await directory.hierarchyFor(far, '!else:where.test' as RoomId, false)).toBeUndefined();
});
