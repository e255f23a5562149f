import { describe, expect, test } from 'vitest';
import { type Store } from '../../src/store/open-store.ts';
import { ADMIN, type EventInTest, PartialRoom, member, message } from '../rooms/resync/partial-room.ts';
import { openTestStore } from '../support/postgres.ts';
import { statementsOf } from '../support/statements.ts';
import { type Answer, type TestClient, startClientApi } from './client.ts';

const V3 = '/_matrix/client/v3';
const BY_ADMIN = { sender: ADMIN, auth: ['create', 'power', 'admin'] };
const VISIBILITY = 'm.room.history_visibility';

const { store } = await openTestStore();

interface Talk {
  readonly client: TestClient;
  readonly token: string;
  readonly roomId: string;
  readonly said: readonly string[];
  get(path: string, as?: string): Promise<Answer>;
}

/** A room of ours in which its maker has said some things: `said`, the oldest first. */
async function talk(count: number, body: object = {}, over: Parameters<typeof startClientApi>[1] = {}): Promise<Talk> {
  const client = await startClientApi(store, over);
  const token = await client.login('talker');
  const made = await client.ask('POST', `${V3}/createRoom`, { preset: 'public_chat', ...body }, token);
  const roomId = made.body['room_id'] as string;
  const path = `${V3}/rooms/${encodeURIComponent(roomId)}`;
  const said: string[] = [];
  for (let i = 0; i < count; i += 1) {
    const sent = await client.ask('PUT', `${path}/send/m.room.message/${roomId}${i}`, { body: `number ${i}` }, token);
    said.push(sent.body['event_id'] as string);
  }
  return { client, token, roomId, said, get: (rest, as = token) => client.ask('GET', path + rest, undefined, as) };
}

const idsOf = (events: unknown): string[] => (events as { event_id: string }[]).map(({ event_id: id }) => id);
const chunkOf = ({ body }: Answer): string[] => idsOf(body['chunk']);

/** All pages of a room from its newest event. */
async function pages(room: Talk, limit: number): Promise<string[][]> {
  const found: string[][] = [];
  for (let from: string | undefined = ''; from !== undefined;) {
    const answer: Answer = await room.get(`/messages?dir=b&limit=${limit}&from=${from}`);
    expect(answer.status).toBe(200);
    found.push(chunkOf(answer));
    from = answer.body['end'] as string | undefined;
  }
  return found;
}

test('a room is read back page by page to its beginning, and forwards again, each event once', async () => {
  const room = await talk(25);
  const back = (await pages(room, 10)).flat();
  expect(back.slice(0, 25)).toEqual(room.said.toReversed());
  const all = await room.get('/messages?dir=f&limit=100');
  expect(chunkOf(all)).toEqual(back.toReversed());
  expect((all.body['chunk'] as object[])[0]).toMatchObject({ type: 'm.room.create' });
  expect(new Set(back).size).toBe(back.length);
  const first = await room.get('/messages?dir=b&limit=10');
  expect(first.body['state']).toMatchObject([{ type: 'm.room.member', state_key: '@talker:here.test' }]);
  const back10 = await room.get(`/messages?dir=f&limit=10&from=${String(first.body['end'])}`);
  expect(chunkOf(back10)).toEqual(room.said.slice(-10));
});

test('where a limited sync ends, /messages goes on, and nothing is missing between the two', async () => {
  const room = await talk(8);
  const filter = encodeURIComponent(JSON.stringify({ room: { timeline: { limit: 3 } } }));
  const sync = await room.client.ask('GET', `${V3}/sync?filter=${filter}`, undefined, room.token);
  const { timeline } = (
    sync.body as { rooms: { join: Record<string, { timeline: { events: []; prev_batch: string } }> } }
  ).rooms.join[room.roomId]!;
  expect(idsOf(timeline.events)).toEqual(room.said.slice(-3));
  const before = await room.get(`/messages?dir=b&limit=2&from=${timeline.prev_batch}`);
  expect(chunkOf(before)).toEqual([room.said[4], room.said[3]]);
  // As it was given before, and as a sync gives it for what comes next.
  const older = await room.get(`/messages?dir=b&limit=1&from=t5_${Number(timeline.prev_batch.slice(3)) + 1}`);
  expect(chunkOf(older)).toEqual([room.said[4]]);
  const next = await room.get(`/messages?dir=b&limit=1&from=${String(sync.body['next_batch'])}`);
  expect(chunkOf(next)).toEqual([room.said[7]]);
});

test('a filter says which events are given, where they end, and whether who sent them is told', async () => {
  const room = await talk(4);
  const path = `${V3}/rooms/${encodeURIComponent(room.roomId)}`;
  const sent = await room.client.ask('PUT', `${path}/send/m.room.message/url`, { url: 'mxc://a/b' }, room.token);
  const get = async (filter: object, rest = ''): Promise<Answer> =>
    room.get(`/messages?dir=b${rest}&filter=${encodeURIComponent(JSON.stringify(filter))}`);
  expect(chunkOf(await get({ contains_url: true }))).toEqual([sent.body['event_id']]);
  expect(chunkOf(await get({ types: ['m.room.cre*'] }))).toHaveLength(1);
  expect(chunkOf(await get({ not_types: ['*'] }))).toEqual([]);
  expect(chunkOf(await get({ senders: ['@nobody:here.test'] }))).toEqual([]);
  expect(chunkOf(await get({ not_rooms: [room.roomId] }))).toEqual([]);
  expect(chunkOf(await get({ limit: 2 }))).toHaveLength(2);
  const lazy = await get({ lazy_load_members: true, types: ['m.room.message'] });
  expect(lazy.body['state']).toEqual([
    expect.objectContaining({ type: 'm.room.member', state_key: '@talker:here.test', content: { membership: 'join' } }),
  ]);
  const to = (await room.get('/messages?dir=b&limit=2')).body['end'] as string;
  expect(chunkOf(await get({}, `&to=${to}`))).toHaveLength(2);
});

const REFUSED: readonly (readonly [what: string, path: string, status: number])[] = [
  ['no direction', '/messages', 400],
  ['a wrong direction', '/messages?dir=up', 400],
  ['a token that is none', '/messages?dir=b&from=nonsense', 400],
  ['a token from the future', '/messages?dir=b&from=s1_99999999', 400],
  ['an end that is no token', '/messages?dir=b&to=s1_x', 400],
  ['no number as limit', '/messages?dir=b&limit=many', 400],
  ['nothing as limit', '/messages?dir=b&limit=0', 400],
  ['less than nothing as limit', '/messages?dir=b&limit=-1', 400],
  ['a filter that is no JSON', '/messages?dir=b&filter=%7B', 400],
  ['a filter of the wrong type', '/messages?dir=b&filter=%7B%22types%22%3A1%7D', 400],
  ['an event id that is none', '/context/nothing', 400],
  ['an event that is not here', '/context/%24nothing', 404],
];

test('what cannot be read is refused', async () => {
  const room = await talk(0);
  for (const [what, path, status] of REFUSED) {
    const answer = await room.get(path);
    const errcode = status === 404 ? 'M_NOT_FOUND' : 'M_INVALID_PARAM';
    expect([what, answer.status, answer.body['errcode']]).toEqual([what, status, errcode]);
  }
});

test('more than is given at a time is cut, and who is not in the room, or in none that is here, is refused', async () => {
  const room = await talk(2);
  expect((await room.get('/messages?dir=b&limit=1000000')).status).toBe(200);
  const stranger = await room.client.login('stranger');
  for (const path of ['/messages?dir=b', `/context/${encodeURIComponent(room.said[0]!)}`]) {
    expect(await room.get(path, stranger)).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } });
    const nowhere = await room.client.ask('GET', `${V3}/rooms/!nowhere:here.test${path}`, undefined, room.token);
    expect(nowhere).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } });
  }
});

test('what was said around an event is told, and reading goes on from both ends', async () => {
  const room = await talk(9);
  const { body } = await room.get(`/context/${encodeURIComponent(room.said[4]!)}?limit=4`);
  expect(body['event']).toMatchObject({ event_id: room.said[4], content: { body: 'number 4' } });
  expect(idsOf(body['events_before'])).toEqual([room.said[3], room.said[2]]);
  expect(idsOf(body['events_after'])).toEqual([room.said[5], room.said[6]]);
  expect(chunkOf(await room.get(`/messages?dir=b&limit=1&from=${String(body['start'])}`))).toEqual([room.said[1]]);
  expect(chunkOf(await room.get(`/messages?dir=f&limit=1&from=${String(body['end'])}`))).toEqual([room.said[7]]);
  const bare = await room.get(`/context/${encodeURIComponent(room.said[8]!)}?limit=0`);
  expect(bare).toMatchObject({ status: 200, body: { events_before: [], event: {}, events_after: [] } });
  const alone = await room.get(`/context/${encodeURIComponent(room.said[8]!)}?limit=1`);
  expect([alone.body['events_before'], alone.body['events_after']]).toEqual([[], []]);
});

test('what was taken back is given redacted, and an event tells what it has replaced and who sent it', async () => {
  const room = await talk(1);
  const path = `${V3}/rooms/${encodeURIComponent(room.roomId)}`;
  await room.client.ask('PUT', `${path}/redact/${encodeURIComponent(room.said[0]!)}/r`, {}, room.token);
  await room.client.ask('PUT', `${path}/state/m.room.topic`, { topic: 'one' }, room.token);
  await room.client.ask('PUT', `${path}/state/m.room.topic`, { topic: 'two' }, room.token);
  const [topic, , redaction, taken] = (await room.get('/messages?dir=b&limit=4')).body['chunk'] as Record<
    string,
    unknown
  >[];
  expect(topic).toMatchObject({ unsigned: { prev_content: { topic: 'one' }, membership: 'join' } });
  expect(redaction).toMatchObject({
    type: 'm.room.redaction',
    redacts: room.said[0],
    unsigned: { transaction_id: 'r' },
  });
  expect(taken).toMatchObject({ event_id: room.said[0], content: {}, unsigned: { redacted_because: {} } });
});

test('who came later sees what the history visibility at each event lets him see', async () => {
  const hidden = { initial_state: [{ type: VISIBILITY, content: { history_visibility: 'joined' } }] };
  const room = await talk(3, hidden);
  const path = `${V3}/rooms/${encodeURIComponent(room.roomId)}`;
  const late = await room.client.login('late');
  await room.client.ask('PUT', `${path}/state/${VISIBILITY}`, { history_visibility: 'shared' }, room.token);
  await room.client.ask('PUT', `${path}/send/m.room.message/open`, { body: 'open' }, room.token);
  await room.client.ask('POST', `${V3}/join/${encodeURIComponent(room.roomId)}`, {}, late);
  const answer = await room.get('/messages?dir=b&limit=50', late);
  const types = (answer.body['chunk'] as { type: string }[]).map(({ type }) => type);
  // Until somebody said how visible it is, a room's history is shared.
  expect(types.slice(0, 4)).toEqual(['m.room.member', 'm.room.message', VISIBILITY, VISIBILITY]);
  expect(types.filter((type) => type === 'm.room.message')).toHaveLength(1);
  const [, said] = (await room.get('/messages?dir=b&limit=50', late)).body['chunk'] as Record<string, unknown>[];
  expect(said).toMatchObject({ unsigned: { membership: 'leave' } });
  expect((await room.get(`/context/${encodeURIComponent(room.said[0]!)}`, late)).status).toBe(404);
});

test('who has left reads up to his leave, and nothing after it', async () => {
  const room = await talk(1);
  const path = `${V3}/rooms/${encodeURIComponent(room.roomId)}`;
  const gone = await room.client.login('gone');
  await room.client.ask('POST', `${V3}/join/${encodeURIComponent(room.roomId)}`, {}, gone);
  await room.client.ask('POST', `${path}/leave`, {}, gone);
  const after = await room.client.ask('PUT', `${path}/send/m.room.message/after`, { body: 'after' }, room.token);
  const [newest] = (await room.get('/messages?dir=b', gone)).body['chunk'] as Record<string, unknown>[];
  expect(newest).toMatchObject({
    type: 'm.room.member',
    state_key: '@gone:here.test',
    content: { membership: 'leave' },
  });
  expect(chunkOf(await room.get('/messages?dir=f&limit=100', gone))).not.toContain(after.body['event_id']);
});

test('a page of a hundred events costs as many statements as one of ten', async () => {
  const room = await talk(60);
  const count = async (limit: number): Promise<number> =>
    (await statementsOf(() => room.get(`/messages?dir=b&limit=${limit}`))).length;
  await count(10);
  const [few, many] = [await count(10), await count(50)];
  expect(many).toBe(few);
  expect(few).toBeLessThanOrEqual(14);
});

test('the nearest event to a time is found, of those that its reader may see, and of the timeline alone', async () => {
  const room = await talk(0);
  const path = `${V3}/rooms/${encodeURIComponent(room.roomId)}`;
  const say = async (text: string, as: string): Promise<string> => {
    room.client.clock.at += 1_000;
    return (await room.client.ask('PUT', `${path}/send/m.room.message/${text}`, { body: text }, as)).body[
      'event_id'
    ] as string;
  };
  const began = room.client.clock.now();
  const said = [await say('one', room.token), await say('two', room.token), await say('three', room.token)];
  const nearest = async (dir: 'b' | 'f', at: number, as = room.token): Promise<unknown> => {
    const url = `/_matrix/client/v1/rooms/${encodeURIComponent(room.roomId)}/timestamp_to_event?dir=${dir}&ts=${at}`;
    const { status, body } = await room.client.ask('GET', url, undefined, as);
    return status === 200 ? body['event_id'] : [status, body['errcode']];
  };
  expect(await nearest('f', began + 1_500)).toBe(said[1]);
  expect(await nearest('b', began + 1_500)).toBe(said[0]);
  expect(await nearest('f', began + 2_000)).toBe(said[1]);
  expect(await nearest('b', began + 2_000)).toBe(said[1]);
  expect(await nearest('b', began + 1_000_000)).toBe(said[2]);
  expect(await nearest('f', began + 1_000_000)).toEqual([404, 'M_NOT_FOUND']);
  expect(await nearest('b', 0)).toEqual([404, 'M_NOT_FOUND']);

  // Who comes in later sees nothing of a history that is for members.
  const hide = { history_visibility: 'joined' };
  await room.client.ask('PUT', `${path}/state/${VISIBILITY}/`, hide, room.token);
  const hidden = await say('hidden', room.token);
  expect(await nearest('f', began + 3_500)).toBe(hidden);
  room.client.clock.at += 1_000;
  const late = await room.client.login('latecomer');
  await room.client.ask('POST', `${path}/join`, {}, late);
  const shown = await say('shown', room.token);
  expect(await nearest('f', began + 5_500, late)).toBe(shown);
  expect(await nearest('f', began + 3_500, late)).not.toBe(hidden);
});

test('a room of thousands of state events that are in no timeline is looked through for a time in a few statements', async () => {
  const room = await talk(3);
  await store.query(
    `INSERT INTO pdus (event_id, room_id, type, sender, depth, origin_server_ts, prev_events, auth_events, json, hollow, stored_at)
     SELECT '$out' || n, $1, 'm.room.member', '@x:far.test', 1, n, '{}', '{}', '{}', false, 0 FROM generate_series(1, 5000) AS n`,
    [room.roomId],
  );
  const url = `/_matrix/client/v1/rooms/${encodeURIComponent(room.roomId)}/timestamp_to_event?dir=f&ts=0`;
  const look = () => room.client.ask('GET', url, undefined, room.token);
  expect((await look()).status).toBe(200);
  expect((await statementsOf(look)).length).toBeLessThanOrEqual(15);
  await store.query(`DELETE FROM pdus WHERE event_id LIKE '$out%'`);
});

test('beside an event the state after the last that is given is told, to lazy clients without the others of its members', async () => {
  const room = await talk(1);
  const other = await room.client.login('bystander');
  await room.client.ask('POST', `${V3}/join/${encodeURIComponent(room.roomId)}`, {}, other);
  const lazy = encodeURIComponent(JSON.stringify({ lazy_load_members: true }));
  const stateOf = async (query: string): Promise<string[]> => {
    const { status, body } = await room.get(`/context/${encodeURIComponent(room.said[0]!)}${query}`);
    expect([status, body]).toEqual([200, body]);
    return (body['state'] as { type: string; state_key: string }[]).map((event) => `${event.type} ${event.state_key}`);
  };
  const whole = await stateOf('?limit=10');
  const members = ['m.room.member @bystander:here.test', 'm.room.member @talker:here.test'];
  expect(whole.filter((place) => place.startsWith('m.room.member')).sort()).toEqual(members);
  expect(whole).toContain('m.room.create ');
  expect(await stateOf('?limit=0')).not.toContain(members[0]);
  const little = await stateOf(`?limit=0&filter=${lazy}`);
  expect(little.filter((place) => place.startsWith('m.room.member'))).toEqual([members[1]]);
  expect(little).toContain('m.room.create ');
});

describe('in a partial room', () => {
  async function partial(...before: readonly EventInTest[]): Promise<PartialRoom> {
    const room = new PartialRoom(store);
    await room.join();
    await room.hold(...before);
    return room;
  }
  const ask = (client: TestClient, room: PartialRoom, path: string, as: string) =>
    client.ask('GET', `${V3}/rooms/${encodeURIComponent(room.roomId)}${path}`, undefined, as);

  async function listener(of: Store = store): Promise<readonly [TestClient, string]> {
    const client = await startClientApi(of, { stateWaitMaxMs: 0 });
    return [client, await client.login('me')];
  }

  test('what is known is given at once, with those who spoke, by what their events cite', async () => {
    const room = await partial(member('bob', '@bob:there.test', 'join', { auth: ['create', 'power', 'rules'] }));
    await room.push(message('said', '@bob:there.test', { prev: ['join'], auth: ['create', 'power', 'bob'] }));
    const [client, token] = await listener();
    const filter = encodeURIComponent(JSON.stringify({ lazy_load_members: true }));
    const { status, body } = await ask(client, room, `/messages?dir=b&filter=${filter}`, token);
    expect(status).toBe(200);
    expect(idsOf(body['chunk'])).toEqual([room.id('said'), room.id('join')]);
    expect(idsOf(body['state']).sort()).toEqual([room.id('bob'), room.id('join')].sort());
  });

  test('it waits where an invite from before we came would decide, and nowhere else', async () => {
    const room = await partial();
    await room.push({
      ...{ id: 'hide', type: VISIBILITY, stateKey: '', content: { history_visibility: 'invited' } },
      ...{ prev: ['join'], ...BY_ADMIN },
    });
    await room.push(message('quiet', ADMIN, { prev: ['hide'], ...BY_ADMIN }));
    const second = member('second', '@second:here.test', 'join', {
      prev: ['quiet'],
      auth: ['create', 'power', 'rules'],
    });
    await room.push(second);
    const [client, token] = await listener();
    expect((await ask(client, room, '/messages?dir=b', token)).status).toBe(200);
    const other = await client.login('second');
    expect(await ask(client, room, '/messages?dir=b', other)).toMatchObject({
      status: 503,
      body: { errcode: 'M_UNABLE_DUE_TO_PARTIAL_STATE' },
    });
    await room.fetch('create', 'admin', 'power', 'rules');
    await room.walk();
    const told = await ask(client, room, '/messages?dir=b', other);
    expect(idsOf(told.body['chunk'])).toEqual([room.id('second'), room.id('hide'), room.id('join')]);
  });
});
