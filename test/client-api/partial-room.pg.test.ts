/** What users do in a partial room, none of which waits for its state, and what of it outlives a restart. */
import { expect, onTestFinished, test, vi } from 'vitest';
import { errorOfAnswer } from '../../src/federation/error.ts';
import { type UserId } from '../../src/matrix/identifiers.ts';
import { type RoomsContext } from '../../src/rooms/context.ts';
import { outsideActs } from '../../src/rooms/invites/outside-acts.ts';
import { joinRoom } from '../../src/rooms/join/join.ts';
import { clientActs } from '../../src/rooms/send/client-acts.ts';
import { startTellingProfiles } from '../../src/rooms/send/tell-profile.ts';
import { readLocalMembers, readRoom } from '../../src/store/journal/rooms.ts';
import { keyOf } from '../matrix/sample-event.ts';
import { R1, US, startStage } from '../rooms/join/scripted-residents.ts';
import { ADMIN, ME, PartialRoom, member, message } from '../rooms/resync/partial-room.ts';
import { type Store } from '../../src/store/open-store.ts';
import { openTestStore } from '../support/postgres.ts';
import { type Answer, SERVER_NAME, type TestClient, startClientApi } from './client.ts';

const V3 = '/_matrix/client/v3';
const BOB = '@bob:there.test';
const SECOND = '@second:here.test';
const JOIN = ['create', 'power', 'rules'];
const FULL = ['create', 'admin', 'power', 'rules'];

const { database, store } = await openTestStore();

async function partialRoom(): Promise<PartialRoom> {
  const room = new PartialRoom(store);
  await room.join();
  return room;
}

const pathOf = (room: { readonly roomId: string }, rest: string): string =>
  `${V3}/rooms/${encodeURIComponent(room.roomId)}${rest}`;

/** A listener, and what it asks the only resident of the room, who says that the user is banned. */
async function whereResidentsRefuse(room: PartialRoom): Promise<{
  readonly client: TestClient;
  readonly asked: string[];
  readonly join: (token: string) => Promise<Answer>;
}> {
  const asked: string[] = [];
  const makeJoin: RoomsContext['federation']['makeJoin'] = (server, _roomId, userId) => {
    asked.push(`${server} make_join ${userId}`);
    const body = { errcode: 'M_FORBIDDEN', error: `${userId} is banned` };
    return Promise.reject(errorOfAnswer(server, 'make_join', 403, body, undefined, 0));
  };
  const federation = { makeJoin } as Partial<RoomsContext['federation']> as RoomsContext['federation'];
  const context = { ...room.context, federation, signingKey: keyOf(SERVER_NAME) };
  const client = await startClientApi(store, {
    acts: clientActs(context, {
      join: (request) => joinRoom(context, request),
      outside: outsideActs(context),
      profileChanged: () => undefined,
    }),
    stateWaitMaxMs: 0,
  });
  const path = `${V3}/join/${encodeURIComponent(room.roomId)}?server_name=there.test`;
  return { client, asked, join: (token) => client.ask('POST', path, {}, token) };
}

const FORBIDDEN = { status: 403, body: { errcode: 'M_FORBIDDEN' } };

test('who was banned while the room is partial is refused at once, and nobody is asked', async () => {
  const room = await partialRoom();
  const { client, asked, join } = await whereResidentsRefuse(room);
  const me = await client.login('me');
  await room.push(
    member('second', SECOND, 'join', { prev: ['join'], auth: JOIN }),
    member('ban', ME, 'ban', { sender: ADMIN, prev: ['second'], auth: ['create', 'power', 'admin', 'join'] }),
  );
  expect(await join(me)).toMatchObject(FORBIDDEN);
  expect(await readRoom(store, room.roomId)).toMatchObject({ partial: true });
  await room.fetch(...FULL);
  expect(await room.walk()).toMatchObject({ partial: false, resync: { phase: 'complete' } });
  expect(await join(me)).toMatchObject(FORBIDDEN);
  expect(asked).toEqual([]);
});

test('the last of us who was banned is refused by a resident: what was pardoned since is told to nobody here', async () => {
  const room = await partialRoom();
  const { client, asked, join } = await whereResidentsRefuse(room);
  const me = await client.login('me');
  await room.push(
    member('ban', ME, 'ban', { sender: ADMIN, prev: ['join'], auth: ['create', 'power', 'admin', 'join'] }),
  );
  expect(await join(me)).toMatchObject(FORBIDDEN);
  expect(asked).toEqual([`there.test make_join ${ME}`]);
});

test('a ban of an earlier stay is not known to stand, and a resident is asked', async () => {
  const room = await partialRoom();
  await room.push(
    member('second', SECOND, 'join', { prev: ['join'], auth: JOIN }),
    member('ban', SECOND, 'ban', { sender: ADMIN, prev: ['second'], auth: ['create', 'power', 'admin', 'second'] }),
    member('leave', ME, 'leave', { prev: ['ban'], auth: ['create', 'power', 'join'] }),
  );
  // We come back above what we left, whose state we hold.
  await room.joinAgain('ban');
  const { client, asked, join } = await whereResidentsRefuse(room);
  const second = await client.login('second');
  expect(await readLocalMembers(store, room.roomId)).toContainEqual({
    ...{ userId: SECOND, membership: 'ban', eventId: room.id('ban'), isSilent: false },
  });
  expect(await join(second)).toMatchObject(FORBIDDEN);
  expect(asked).toEqual([`there.test make_join ${SECOND}`]);
});

test.each(['stayed outside', 'was let in by a resident who did not know of it'])(
  'a ban that the full state alone tells of is told by a resident before, and by nobody but us after: he %s',
  async (how) => {
    const room = await partialRoom();
    const { client, asked, join } = await whereResidentsRefuse(room);
    const second = await client.login('second');
    await room.hold(member('banned', SECOND, 'ban', { sender: ADMIN, auth: ['create', 'power', 'admin'] }));
    if (how === 'stayed outside') {
      expect(await join(second)).toMatchObject(FORBIDDEN);
      expect(asked.splice(0)).toEqual([`there.test make_join ${SECOND}`]);
    } else {
      await room.push(member('second', SECOND, 'join', { prev: ['join'], auth: JOIN }));
      expect(await room.event('second')).toMatchObject({ verdict: 'accepted' });
    }
    await room.fetch(...FULL, 'banned');
    expect(await room.walk()).toMatchObject({ partial: false });
    expect(await join(second)).toMatchObject(FORBIDDEN);
    expect(asked).toEqual([]);
  },
);

test('joins, kicks, bans, pardons and new names are done at once, and make nobody wait', async () => {
  const stage = await startStage();
  const { context, room } = stage;
  const owner = '@owner:r1.test';
  const [me, second] = [`@me:${US}`, `@second:${US}`] as UserId[] as [UserId, UserId];
  const [bob, carl] = ['@bob:r1.test', '@carl:r1.test'];
  room.add(owner, 'm.room.power_levels', '', { users: { [owner]: 100, [me]: 90 } });
  for (const user of [bob, carl]) room.add(user, 'm.room.member', user, { membership: 'join' });
  const profiles = startTellingProfiles(context);
  onTestFinished(() => profiles.close());
  const client = await startClientApi(context.store, {
    ...{ serverName: US, stateWaitMaxMs: 0 },
    acts: clientActs(context, {
      join: (request) => joinRoom(context, request),
      outside: outsideActs(context),
      profileChanged: () => profiles.poke(),
    }),
  });
  const [mine, his] = [await client.login('me'), await client.login('second')];
  const post = async (path: string, body: object, token = mine): Promise<unknown> => {
    const { status, body: answer } = await client.ask('POST', path, body, token);
    return [status, answer];
  };
  const done = [200, {}];
  const joinPath = `${V3}/join/${encodeURIComponent(room.roomId)}?server_name=${R1}`;
  expect(await post(joinPath, {})).toEqual([200, { room_id: room.roomId }]);
  expect(await post(joinPath, {}, his)).toEqual([200, { room_id: room.roomId }]);
  expect(await post(pathOf(room, '/kick'), { user_id: bob })).toEqual(done);
  expect(await post(pathOf(room, '/ban'), { user_id: carl })).toEqual(done);
  expect(await post(pathOf(room, '/unban'), { user_id: carl })).toEqual(done);
  expect(await post(pathOf(room, '/ban'), { user_id: second })).toEqual(done);
  expect(await post(joinPath, {}, his)).toMatchObject([403, { errcode: 'M_FORBIDDEN' }]);
  const name = { displayname: 'A new name' };
  expect((await client.ask('PUT', `${V3}/profile/${me}/displayname`, name, mine)).status).toBe(200);
  const state = pathOf(room, `/state/m.room.member/${me}`);
  await expect
    .poll(async () => (await client.ask('GET', state, undefined, mine)).body)
    .toEqual({ membership: 'join', ...name });
  expect((await readLocalMembers(context.store, room.roomId)).map(({ membership }) => membership)).toEqual([
    'join',
    'ban',
  ]);
  expect(await readRoom(context.store, room.roomId)).toMatchObject({ partial: true, resync: { phase: 'fetching' } });
  expect(client.notifier.waiting).toBe(0);
  expect(stage.asked.map((line) => line.replace(/ \$.*/, ''))).toEqual(
    [1, 2].flatMap(() => [`${R1} make_join`, `${R1} send_join`]),
  );
});

test('what completes the room after a look and before its answer is not lost to who asks for a membership by its name', async () => {
  const room = await partialRoom();
  await room.hold(member('bob', BOB, 'join', { auth: JOIN }));
  const its = database.openStore();
  // Lost it would be found by the wait's last look.
  const client = await startClientApi(its, { stateWaitMaxMs: 600_000 }, 1);
  const token = await client.login('me');
  const held = holdAnswer(its, 'LEFT JOIN resyncs');
  const answer = client.ask('GET', pathOf(room, `/state/m.room.member/${BOB}`), undefined, token);
  await held.asked;
  const heard = new Promise<void>((resolve) => {
    const end = client.notifier.subscribe((told) => {
      if (told?.topic !== room.roomId) return;
      end();
      resolve();
    });
  });
  await room.fetch(...FULL, 'bob');
  expect(await room.walk()).toMatchObject({ partial: false });
  await heard;
  held.release();
  expect(await answer).toMatchObject({ status: 200, body: { membership: 'join' } });
  expect(client.notifier.waiting).toBe(0);
}, 10_000);

/** Holds the answer of the next statement with this text, which the database has given, until it is released. */
function holdAnswer(of: Store, text: string): { readonly asked: Promise<void>; readonly release: () => void } {
  let isAsked = (): void => undefined;
  let release = (): void => undefined;
  const asked = new Promise<void>((resolve) => (isAsked = resolve));
  const released = new Promise<void>((resolve) => (release = resolve));
  const query = of.query.bind(of);
  const held = vi.spyOn(of, 'query').mockImplementation(async (statement, values) => {
    const rows = await query(statement, values);
    if (!statement.includes(text)) return rows;
    held.mockRestore();
    isAsked();
    await released;
    return rows;
  });
  return { asked, release };
}

test('an access token and a sync token are good at another process over the same database', async () => {
  const room = await partialRoom();
  const before = await startClientApi(store);
  const token = await before.login('me');
  const filter = { room: { rooms: [room.roomId], state: { lazy_load_members: true } } };
  const sync = async (client: TestClient, since?: string): Promise<Record<string, unknown>> => {
    const query = new URLSearchParams({ filter: JSON.stringify(filter), ...(since === undefined ? {} : { since }) });
    const { status, body } = await client.ask('GET', `${V3}/sync?${query.toString()}`, undefined, token);
    expect([status, body]).toMatchObject([200, { next_batch: expect.any(String) as string }]);
    return body;
  };
  const since = (await sync(before))['next_batch'] as string;
  const { device_id: deviceId } = (await before.ask('GET', `${V3}/account/whoami`, undefined, token)).body;
  await room.push(message('said', ADMIN, { prev: ['join'], auth: ['create', 'power', 'admin'] }));

  const after = await startClientApi(database.openStore());
  expect(await after.ask('GET', `${V3}/account/whoami`, undefined, token)).toMatchObject({
    ...{ status: 200, body: { user_id: ME, device_id: deviceId } },
  });
  const missed = await sync(after, since);
  expect(missed['rooms']).toMatchObject({
    join: { [room.roomId]: { timeline: { events: [{ event_id: room.id('said') }], limited: false } } },
  });
  expect((await sync(after, missed['next_batch'] as string))['rooms']).toEqual(
    (await sync(before, missed['next_batch'] as string))['rooms'],
  );
  // What the old one gave since is good at the new one, and the other way round.
  expect((await sync(before, since))['rooms']).toEqual(missed['rooms']);
});

test.each(['partial', 'whole'])(
  'a timeline of one event has the membership of its sender in the state beside it, in a %s room',
  async (what) => {
    const room = await partialRoom();
    await room.hold(member('bob', BOB, 'join', { auth: JOIN }));
    const client = await startClientApi(store);
    const token = await client.login('me');
    const said = (id: string, prev: string): Promise<unknown> =>
      room.push(message(id, BOB, { prev: [prev], auth: ['create', 'power', 'bob'] }));
    await room.push({
      ...{ id: 'name', type: 'm.room.name', stateKey: '', sender: ADMIN, content: { name: 'Room' } },
      ...{ prev: ['join'], auth: ['create', 'power', 'admin'] },
    });
    if (what === 'whole') {
      await room.fetch(...FULL, 'bob');
      expect(await room.walk()).toMatchObject({ partial: false });
    }
    const filter = {
      room: { rooms: [room.roomId], timeline: { limit: 1 }, state: { lazy_load_members: true } },
    };
    const sync = async (since?: string): Promise<{ since: string; timeline: object; members: unknown[] }> => {
      const query = new URLSearchParams({ filter: JSON.stringify(filter), ...(since === undefined ? {} : { since }) });
      const { body } = await client.ask('GET', `${V3}/sync?${query.toString()}`, undefined, token);
      const { join } = body['rooms'] as { join: Record<string, { timeline: object; state: { events: never[] } }> };
      const part = join[room.roomId]!;
      const members = part.state.events.filter(({ type }) => type === 'm.room.member');
      return { since: body['next_batch'] as string, timeline: part.timeline, members };
    };
    const first = await sync();
    expect(first.members).not.toContainEqual(expect.objectContaining({ state_key: BOB }));
    await said('one', 'name');
    await said('two', 'one');
    const of = (id: string): object => ({
      limited: true,
      events: [expect.objectContaining({ event_id: room.id(id) })],
    });
    const bob = expect.objectContaining({ event_id: room.id('bob'), state_key: BOB }) as object;
    const second = await sync(first.since);
    expect(second.timeline).toMatchObject(of('two'));
    expect(second.members).toEqual([bob]);
    const anew = await sync();
    expect(anew.timeline).toMatchObject(of('two'));
    expect(anew.members).toContainEqual(bob);
  },
);
