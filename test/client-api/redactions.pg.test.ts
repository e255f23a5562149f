/** What is taken back is given redacted, wherever a client reads it. */
import { expect, test } from 'vitest';
import { type StateEvent } from '../../src/rooms/contract.ts';
import { operatorReads } from '../../src/rooms/read/for-operators.ts';
import { ADMIN, ME, PartialRoom, member, message } from '../rooms/resync/partial-room.ts';
import { openTestStore } from '../support/postgres.ts';
import { startClientApi } from './client.ts';

const { store } = await openTestStore();

const BOB = '@bob:there.test';
const EVE = '@eve:elsewhere.test';
const BY_ADMIN = ['create', 'power', 'admin'];

interface Reader {
  readonly room: PartialRoom;
  readonly event: (name: string) => Promise<Record<string, unknown>>;
  readonly get: (path: string) => Promise<unknown>;
  readonly redact: (id: string, sender: string, target: string, prev: string) => Promise<void>;
}

let users = 0;

/** A whole room with Bob and Eve in it, read by ME. */
async function reader(version: string): Promise<Reader> {
  const room = new PartialRoom(store, version);
  await room.join();
  await room.hold(
    member('bob', BOB, 'join', { auth: ['create', 'power', 'rules'] }),
    member('eve', EVE, 'join', { auth: ['create', 'power', 'rules'] }),
  );
  await room.fetch('create', 'admin', 'power', 'rules', 'bob', 'eve');
  await room.walk();
  const client = await startClientApi(store);
  users += 1;
  const token = users === 1 ? await client.user('me') : await again(client);
  const get = async (path: string): Promise<unknown> => {
    const { status, body } = await client.ask('GET', `/_matrix/client/v3${path}`, undefined, token);
    expect([path, status]).toEqual([path, 200]);
    return body;
  };
  const inContent = version === '11';
  const auth: Readonly<Record<string, string>> = { [ADMIN]: 'admin', [BOB]: 'bob', [EVE]: 'eve' };
  return {
    room,
    get,
    event: async (name) =>
      (await get(`/rooms/${encodeURIComponent(room.roomId)}/event/${encodeURIComponent(room.id(name))}`)) as never,
    redact: async (id, sender, target, prev) => {
      await room.push({
        ...{ id, type: 'm.room.redaction', sender, prev: [prev], auth: ['create', 'power', auth[sender]!] },
        ...(inContent ? { content: { redacts: room.id(target) } } : { redacts: target }),
      });
      expect(await room.event(id)).toMatchObject({ verdict: 'accepted', softFailed: false });
    },
  };
}

async function again(client: Awaited<ReturnType<typeof startClientApi>>): Promise<string> {
  const identifier = { type: 'm.id.user', user: ME };
  const body = { type: 'm.login.password', identifier, password: 'correct horse' };
  const answer = await client.ask('POST', '/_matrix/client/v3/login', body);
  return answer.body['access_token'] as string;
}

test.each(['10', '11'])(
  'by its sender, by who has the power, and before it has come, but by nobody else: version %s',
  async (version) => {
    const { room, event, redact } = await reader(version);
    const say = (id: string, prev: string) =>
      room.push(message(id, BOB, { prev: [prev], auth: ['create', 'power', 'bob'] }));
    await say('own', 'join');
    await say('moderated', 'own');
    await say('kept', 'moderated');
    await redact('by-bob', BOB, 'own', 'kept');
    await redact('by-admin', ADMIN, 'moderated', 'by-bob');
    await redact('by-eve', EVE, 'kept', 'by-admin');
    await redact('early', ADMIN, 'late', 'by-eve');
    await say('late', 'early');
    expect(await event('kept')).toMatchObject({ content: { body: 'kept' } });
    for (const [name, by] of [
      ['own', 'by-bob'],
      ['moderated', 'by-admin'],
      ['late', 'early'],
    ] as const) {
      expect(await event(name)).toMatchObject({
        ...{ type: 'm.room.message', sender: BOB, content: {} },
        unsigned: { redacted_because: { event_id: room.id(by), type: 'm.room.redaction', redacts: room.id(name) } },
      });
      expect((await event(name))['content']).toEqual({});
    }
  },
);

test('in the state, among the members and in a sync as well, and in what was there before', async () => {
  const { room, get, redact } = await reader('11');
  const topic = (id: string, prev: string) => ({
    ...{ id, type: 'm.room.topic', stateKey: '', sender: ADMIN, content: { topic: id } },
    ...{ prev: [prev], auth: BY_ADMIN },
  });
  await room.push(topic('first', 'join'));
  await room.push(topic('second', 'first'));
  await redact('no-first', ADMIN, 'first', 'second');
  await redact('no-second', ADMIN, 'second', 'no-first');
  await redact('no-eve', EVE, 'eve', 'no-second');
  const path = `/rooms/${encodeURIComponent(room.roomId)}`;
  expect(await get(`${path}/state/m.room.topic`)).toEqual({});
  const because = { unsigned: { redacted_because: { event_id: room.id('no-second') } } };
  const state = (await get(`${path}/state`)) as { type: string }[];
  expect(state.find(({ type }) => type === 'm.room.topic')).toMatchObject({ content: {}, ...because });
  const { chunk } = (await get(`${path}/members`)) as { chunk: { state_key: string }[] };
  expect(chunk.find(({ state_key: user }) => user === EVE)).toMatchObject({
    content: { membership: 'join' },
    unsigned: { redacted_because: { event_id: room.id('no-eve') } },
  });
  const filter = encodeURIComponent(JSON.stringify({ room: { rooms: [room.roomId] } }));
  const { rooms } = (await get(`/sync?filter=${filter}`)) as {
    rooms: { join: Record<string, { timeline: { events: { event_id: string }[] } }> };
  };
  const events = rooms.join[room.roomId]!.timeline.events;
  expect(events.find(({ event_id: id }) => id === room.id('second'))).toMatchObject({
    content: {},
    unsigned: { ...because.unsigned, prev_content: {}, replaces_state: room.id('first') },
  });
});

test('in what tells an invited user which room it is, and in what operators are given', async () => {
  const { room, redact } = await reader('11');
  const place = (id: string, type: string, content: object, prev: string) => ({
    ...{ id, type, stateKey: '', sender: ADMIN, content: content as never, prev: [prev], auth: BY_ADMIN },
  });
  await room.push(place('name', 'm.room.name', { name: 'secret' }, 'join'));
  await room.push(place('topic', 'm.room.topic', { topic: 'told' }, 'name'));
  await redact('no-name', ADMIN, 'name', 'topic');
  const client = await startClientApi(store);
  const guest = await client.user('guest');
  await room.push(
    member('invite', '@guest:here.test', 'invite', {
      ...{ sender: ADMIN, prev: ['no-name'], auth: ['create', 'power', 'admin', 'rules'] },
    }),
  );
  const { body } = await client.ask('GET', '/_matrix/client/v3/sync', undefined, guest);
  const { invite } = body['rooms'] as {
    invite: Record<string, { invite_state: { events: { type: string; content: object }[] } }>;
  };
  const told = invite[room.roomId]!.invite_state.events;
  expect(told.find(({ type }) => type === 'm.room.name')?.content).toEqual({});
  expect(told.find(({ type }) => type === 'm.room.topic')?.content).toEqual({ topic: 'told' });

  const reads = operatorReads({ ...room.context, notifier: client.notifier });
  for (const members of [true, false]) {
    const answer = await reads.state(room.roomId, { members, waitMs: 1, signal: new AbortController().signal });
    if (!answer.ready) throw new Error(answer.reason);
    const events: StateEvent[] = [];
    for await (const page of answer.pages) events.push(...page);
    expect(events.find(({ eventId }) => eventId === room.id('name'))).toMatchObject({
      ...{ json: expect.not.stringContaining('secret') as string },
      redactedBecause: { event_id: room.id('no-name') },
    });
  }
});
