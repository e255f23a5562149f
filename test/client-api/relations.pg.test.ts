import { expect, test } from 'vitest';
import { type RoomId } from '../../src/matrix/identifiers.ts';
import { readRelations } from '../../src/store/events/read-relations.ts';
import { SCANNED_MAX, readTimelinePage } from '../../src/store/journal/timeline-page.ts';
import { openTestStore } from '../support/postgres.ts';
import { statementsOf } from '../support/statements.ts';
import { type Answer, type TestClient, startClientApi } from './client.ts';

const V3 = '/_matrix/client/v3';
const V1 = '/_matrix/client/v1';

const { store } = await openTestStore();

type Event = Readonly<Record<string, unknown>> & { readonly event_id: string };
type Relations = Readonly<Record<string, Event & Readonly<Record<string, unknown>>>>;

interface Room {
  readonly client: TestClient;
  readonly token: string;
  readonly roomId: string;
  say(content: object, as?: string, type?: string): Promise<string>;
  relate(to: string, relType: string, content?: object, as?: string, type?: string): Promise<string>;
  redact(eventId: string, as?: string): Promise<void>;
  get(path: string, as?: string): Promise<Answer>;
  related(path: string, as?: string): Promise<string[]>;
  relationsOf(eventId: string, as?: string): Promise<Relations | undefined>;
}

let made = 0;

async function room(body: object = {}): Promise<Room> {
  const client = await startClientApi(store);
  const token = await client.login(`author${(made += 1)}`);
  const created = await client.ask('POST', `${V3}/createRoom`, { preset: 'public_chat', ...body }, token);
  const roomId = created.body['room_id'] as string;
  const path = `/rooms/${encodeURIComponent(roomId)}`;
  let txn = 0;
  const say: Room['say'] = async (content, as = token, type = 'm.room.message') => {
    client.clock.at += 1_000;
    const sent = await client.ask('PUT', `${V3}${path}/send/${type}/t${(txn += 1)}`, content, as);
    expect([sent.status, sent.body]).toEqual([200, sent.body]);
    return sent.body['event_id'] as string;
  };
  const get: Room['get'] = (rest, as = token) => client.ask('GET', rest.replace('ROOM', path), undefined, as);
  return {
    ...{ client, token, roomId, say, get },
    relate: (to, relType, content = { body: 'x' }, as, type) =>
      say({ ...content, 'm.relates_to': { rel_type: relType, event_id: to } }, as, type),
    redact: async (eventId, as = token) => {
      const url = `${V3}${path}/redact/${encodeURIComponent(eventId)}/r${(txn += 1)}`;
      expect((await client.ask('PUT', url, {}, as)).status).toBe(200);
    },
    related: async (rest, as) => {
      const { status, body } = await get(`${V1}ROOM/relations/${rest}`, as);
      expect([status, body]).toEqual([200, body]);
      return (body['chunk'] as Event[]).map(({ event_id: id }) => id);
    },
    relationsOf: async (eventId, as) => {
      const { body } = await get(`${V3}ROOM/event/${encodeURIComponent(eventId)}`, as);
      return (body['unsigned'] as Readonly<Record<string, Relations>>)['m.relations'];
    },
  };
}

const encoded = encodeURIComponent;

test('what relates to an event is given by kind and by type, page by page, in either direction', async () => {
  const here = await room();
  const root = await here.say({ body: 'root' });
  const one = await here.relate(root, 'm.thread');
  const two = await here.relate(root, 'm.annotation', {}, here.token, 'm.reaction');
  await here.say({ body: 'something else' });
  const three = await here.relate(root, 'm.thread', { body: 'y' }, here.token, 'm.sticker');
  const at = encoded(root);
  expect(await here.related(at)).toEqual([three, two, one]);
  expect(await here.related(`${at}?dir=f`)).toEqual([one, two, three]);
  expect(await here.related(`${at}/m.thread`)).toEqual([three, one]);
  expect(await here.related(`${at}/m.thread/m.sticker`)).toEqual([three]);
  expect(await here.related(`${at}/m.reference`)).toEqual([]);
  const first = await here.get(`${V1}ROOM/relations/${at}?limit=2`);
  expect(await here.related(`${at}?limit=2&from=${String(first.body['next_batch'])}`)).toEqual([one]);
  const rest = await here.get(`${V1}ROOM/relations/${at}?limit=2&from=${String(first.body['next_batch'])}`);
  expect(rest.body['next_batch']).toBeUndefined();
  // A token of /messages or /sync is as good.
  const sync = await here.client.ask('GET', `${V3}/sync`, undefined, here.token);
  const four = await here.relate(root, 'm.thread');
  const since = String(sync.body['next_batch']);
  expect(await here.related(`${at}?from=${since}`)).toEqual([three, two, one]);
  expect(await here.related(`${at}?to=${since}`)).toEqual([four]);
});

test('what relates to what relates to an event is found where that is wanted', async () => {
  const here = await room();
  const root = await here.say({ body: 'root' });
  const child = await here.relate(root, 'm.thread');
  const grandchild = await here.relate(child, 'm.annotation');
  const next = await here.relate(grandchild, 'm.reference');
  const tooFar = await here.relate(next, 'm.reference');
  expect(await here.related(encoded(root))).toEqual([child]);
  const answer = await here.get(`${V1}ROOM/relations/${encoded(root)}?recurse=true`);
  expect((answer.body['chunk'] as Event[]).map(({ event_id: id }) => id)).toEqual([next, grandchild, child]);
  expect(answer.body['recursion_depth']).toBe(3);
  expect(await here.related(`${encoded(root)}/m.annotation?recurse=true`)).toEqual([grandchild]);
  expect(await here.related(encoded(next))).toEqual([tooFar]);
});

test('a reply, and what names no event or no kind, relates to nothing', async () => {
  const here = await room();
  const root = await here.say({ body: 'root' });
  await here.say({ body: 'x', 'm.relates_to': { 'm.in_reply_to': { event_id: root } } });
  await here.say({ body: 'x', 'm.relates_to': { event_id: root } });
  await here.say({ body: 'x', 'm.relates_to': { event_id: root, rel_type: 'x'.repeat(300) } });
  await here.say({ body: 'x', 'm.relates_to': { event_id: [root], rel_type: 'm.thread' } });
  await here.say({ body: 'x', 'm.relates_to': root });
  expect(await here.related(encoded(root))).toEqual([]);
  expect(await here.relationsOf(root)).toBeUndefined();
  const odd = await here.relate(root, 'odd\0kind');
  expect(await here.related(`${encoded(root)}/odd%00kind`)).toEqual([odd]);
});

test('the newest edit by the author is summed up, and nobody else is taken for him', async () => {
  const here = await room();
  const other = await here.client.login(`other${made}`);
  await here.client.ask('POST', `${V3}/join/${encoded(here.roomId)}`, {}, other);
  const said = await here.say({ body: 'firts' });
  const edit = (body: string, as?: string) =>
    here.relate(said, 'm.replace', { body: `* ${body}`, 'm.new_content': { body } }, as);
  await edit('first');
  const second = await edit('second');
  await edit('a forgery', other);
  await here.relate(said, 'm.replace', { body: 'without new content' });
  const relations = await here.relationsOf(said);
  expect(relations?.['m.replace']).toMatchObject({
    event_id: second,
    content: { 'm.new_content': { body: 'second' } },
    sender: expect.any(String) as string,
  });
  expect(await here.relationsOf(second)).toBeUndefined();
  // An edit that is taken back counts no more.
  await here.redact(second);
  expect((await here.relationsOf(said))?.['m.replace']).toMatchObject({
    content: { 'm.new_content': { body: 'first' } },
  });
  expect(await here.related(`${encoded(said)}/m.replace`)).not.toContain(second);
  await here.redact(said);
  expect(await here.relationsOf(said)).toBeUndefined();
});

test('a thread is summed up, wherever its root is given, and listed by who spoke last', async () => {
  const here = await room();
  const other = await here.client.login(`reader${made}`);
  await here.client.ask('POST', `${V3}/join/${encoded(here.roomId)}`, {}, other);
  const [a, b] = [await here.say({ body: 'a' }), await here.say({ body: 'b' })];
  await here.relate(a, 'm.thread');
  await here.relate(b, 'm.thread', { body: 'x' }, other);
  const last = await here.relate(a, 'm.thread');
  const taken = await here.relate(a, 'm.thread');
  await here.redact(taken);
  const thread = (await here.relationsOf(a))?.['m.thread'];
  expect(thread).toMatchObject({ count: 2, current_user_participated: true, latest_event: { event_id: last } });
  expect((await here.relationsOf(a, other))?.['m.thread']).toMatchObject({ current_user_participated: false });
  expect((await here.relationsOf(b, other))?.['m.thread']).toMatchObject({ count: 1, current_user_participated: true });

  const filter = encoded(JSON.stringify({ room: { timeline: { limit: 50 } } }));
  const sync = await here.client.ask('GET', `${V3}/sync?filter=${filter}`, undefined, here.token);
  const joined = (sync.body as { rooms: { join: Record<string, { timeline: { events: Event[] } }> } }).rooms.join;
  const messages = await here.get(`${V3}ROOM/messages?dir=b&limit=50`);
  const context = await here.get(`${V3}ROOM/context/${encoded(a)}`);
  for (const events of [
    joined[here.roomId]!.timeline.events,
    messages.body['chunk'] as Event[],
    [context.body['event'] as Event],
  ]) {
    const shown = events.find(({ event_id: id }) => id === a);
    expect(shown).toMatchObject({ unsigned: { 'm.relations': { 'm.thread': { count: 2 } } } });
  }

  const threads = async (query = '', as?: string): Promise<readonly [string[], unknown]> => {
    const { status, body } = await here.get(`${V1}ROOM/threads${query}`, as);
    expect([status, body]).toEqual([200, body]);
    return [(body['chunk'] as Event[]).map(({ event_id: id }) => id), body['next_batch']];
  };
  expect((await threads())[0]).toEqual([a, b]);
  await here.relate(b, 'm.thread');
  expect((await threads())[0]).toEqual([b, a]);
  const [first, next] = await threads('?limit=1');
  expect(first).toEqual([b]);
  expect((await threads(`?limit=1&from=${String(next)}`))[0]).toEqual([a]);
  expect((await threads('?include=participated', other))[0]).toEqual([b]);
});

test('of those whom a user ignores nothing is summed up, and their threads are not listed', async () => {
  const here = await room();
  const [rude, name] = [await here.client.login(`rude${made}`), `@rude${made}:here.test`];
  const reader = await here.client.login(`ignorer${made}`);
  for (const as of [rude, reader]) await here.client.ask('POST', `${V3}/join/${encoded(here.roomId)}`, {}, as);
  const [a, b] = [await here.say({ body: 'a' }), await here.say({ body: 'b' })];
  const theirs = await here.say({ body: 'c' }, rude);
  const kind = await here.relate(a, 'm.thread');
  await here.relate(b, 'm.thread');
  await here.relate(theirs, 'm.thread');
  const last = await here.relate(a, 'm.thread', { body: 'rude' }, rude);
  const reference = await here.relate(b, 'm.reference', { body: 'rude' }, rude);
  const only = await here.say({ body: 'd' });
  await here.relate(only, 'm.thread', { body: 'rude' }, rude);
  const threads = async (as: string): Promise<string[]> =>
    ((await here.get(`${V1}ROOM/threads`, as)).body['chunk'] as Event[]).map(({ event_id: id }) => id);
  const sums = async (as: string) => [
    (await here.relationsOf(a, as))?.['m.thread'],
    (await here.relationsOf(b, as))?.['m.reference'],
    await here.relationsOf(only, as),
  ];
  const all = [
    { count: 2, latest_event: { event_id: last } },
    { chunk: [{ event_id: reference }] },
    { 'm.thread': {} },
  ];
  expect(await sums(reader)).toMatchObject(all);
  expect(await threads(reader)).toEqual([only, a, theirs, b]);
  const me = `@ignorer${made}:here.test`;
  const url = `${V3}/user/${me}/account_data/m.ignored_user_list`;
  const list = { ignored_users: { [name]: {}, '@nul\0:x': {} } };
  expect((await here.client.ask('PUT', url, list, reader)).status).toBe(200);
  const left = await sums(reader);
  expect(left).toMatchObject([{ count: 1, latest_event: { event_id: kind } }, undefined, undefined]);
  expect(await threads(reader)).toEqual([b, a]);
  expect(await sums(here.token)).toMatchObject(all);
  expect(await threads(here.token)).toEqual([only, a, theirs, b]);
});

test('references are listed, and nothing is told of what came after one left', async () => {
  const here = await room();
  const other = await here.client.login(`leaver${made}`);
  await here.client.ask('POST', `${V3}/join/${encoded(here.roomId)}`, {}, other);
  const root = await here.say({ body: 'root' });
  const first = await here.relate(root, 'm.reference');
  await here.client.ask('POST', `${V3}/rooms/${encoded(here.roomId)}/leave`, {}, other);
  const second = await here.relate(root, 'm.reference');
  const chunk = (...ids: string[]) => ({ chunk: ids.map((id) => ({ event_id: id })) });
  expect((await here.relationsOf(root))?.['m.reference']).toEqual(chunk(first, second));
  expect((await here.relationsOf(root, other))?.['m.reference']).toEqual(chunk(first));
  expect(await here.related(encoded(root), other)).toEqual([first]);
});

test('a page is summed up in the same few statements, however much relates to its events', async () => {
  const here = await room();
  const roots: string[] = [];
  for (let i = 0; i < 10; i += 1) roots.push(await here.say({ body: `${i}` }));
  const page = () => here.get(`${V3}ROOM/messages?dir=b&limit=40`);
  const count = async (): Promise<number> => (await statementsOf(page)).length;
  await count();
  await here.relate(roots[0]!, 'm.thread');
  await count();
  const few = await count();
  for (const root of roots) await here.relate(root, 'm.thread');
  for (const root of roots) await here.relate(root, 'm.replace', { 'm.new_content': {} });
  expect(await count()).toBeLessThanOrEqual(few);
});

/** As the maintenance does. */
const readLeft = (): Promise<number> => readRelations(store, { isOver: () => false, heartbeat: () => undefined });

test('of events from before there were relations they are found in what their content says, and nowhere else', async () => {
  const here = await room();
  const root = await here.say({ body: 'root' });
  const relation = { rel_type: 'm.thread', event_id: root };
  const one = await here.say({
    body: 'x',
    'm.relates_to': { ...relation, is_falling_back: true, 'm.in_reply_to': { event_id: root } },
  });
  const two = await here.relate(root, 'm.annotation', { nul: '\0' });
  await here.say({ body: 'x', 'm.relates_to': { 'm.in_reply_to': { event_id: root, rel_type: 'm.thread' } } });
  const edit = await here.relate(two, 'm.replace', { 'm.new_content': { 'm.relates_to': relation } });
  const nested = await here.say({ body: 'x', other: { 'm.relates_to': relation } });
  const wrong = `UPDATE pdus SET relates_to = $2, rel_type = 'm.thread' WHERE event_id = ANY ($1)`;
  await store.query(`UPDATE pdus SET relates_to = NULL, rel_type = NULL WHERE room_id = $1`, [here.roomId]);
  // As it was taken from the text.
  await store.query(wrong, [[edit, nested], root]);
  await store.query(`INSERT INTO unread_relations (up_to) SELECT max(nid) FROM pdus`, []);
  expect(await readLeft()).toBeGreaterThan(5);
  expect(await here.related(encoded(root))).toEqual([two, one]);
  expect(await here.related(encoded(two))).toEqual([edit]);
  expect(await store.query(`SELECT FROM unread_relations`)).toEqual([]);
  expect(await readLeft()).toBe(0);
});

test('what an older program stores is read too, also into what was stored without its body', async () => {
  const here = await room();
  const root = await here.say({ body: 'root' });
  const [stored, completed] = [await here.relate(root, 'm.thread'), await here.relate(root, 'm.thread')];
  const set = (values: string, eventId: string) =>
    store.query(`UPDATE pdus SET ${values} WHERE event_id = $1`, [eventId]);
  await set(`relates_to = NULL, rel_type = NULL, relation_unread = DEFAULT`, stored);
  await set(`relates_to = NULL, rel_type = NULL, hollow = true`, completed);
  await store.query(`INSERT INTO unread_relations (up_to) SELECT max(nid) FROM pdus`, []);
  await readLeft();
  expect(await here.related(encoded(root))).toEqual([stored]);
  // An older program knows of no other columns.
  await set(`hollow = false`, completed);
  expect(await readLeft()).toBe(1);
  expect(await here.related(encoded(root))).toEqual([completed, stored]);
});

test('a thread whose newest replies were taken back is summed up by those that were not', async () => {
  const here = await room();
  const root = await here.say({ body: 'root' });
  const replies: string[] = [];
  for (let i = 0; i < 12; i += 1) replies.push(await here.relate(root, 'm.thread'));
  for (const reply of replies.slice(4)) await here.redact(reply);
  const last = { event_id: replies[3] };
  expect((await here.relationsOf(root))?.['m.thread']).toMatchObject({ count: 4, latest_event: last });
  for (const reply of replies.slice(0, 4)) await here.redact(reply);
  expect(await here.relationsOf(root)).toBeUndefined();
});

test('who has no power to take back replies changes nothing of a thread', async () => {
  const here = await room();
  const root = await here.say({ body: 'root' });
  await here.relate(root, 'm.thread');
  const last = await here.relate(root, 'm.thread');
  // As another server's user may say it: it is accepted, and takes nothing back.
  const redaction = await here.say({ body: 'x' });
  await here.redact(last);
  await store.query(
    `UPDATE pdus SET sender = '@stranger:elsewhere.test' WHERE type = 'm.room.redaction' AND room_id = $1`,
    [here.roomId],
  );
  expect(redaction).not.toBe(last);
  expect((await here.relationsOf(root))?.['m.thread']).toMatchObject({ count: 2, latest_event: { event_id: last } });
});

test('more than a look goes through is read on, and none is left out or given twice', async () => {
  const here = await room();
  const root = await here.say({ body: 'root' });
  const odd = await here.relate(root, 'm.annotation', {}, here.token, 'm.odd');
  const early = await here.relate(root, 'm.thread');
  await crowd(here.roomId, early, SCANNED_MAX + 100);
  const last = await here.relate(root, 'm.thread');
  const at = encoded(root);
  for (const dir of ['b', 'f'] as const) {
    expect(await here.related(`${at}/m.thread?dir=${dir}`)).toEqual(dir === 'b' ? [last, early] : [early, last]);
    expect(await here.related(`${at}/m.annotation/m.odd?dir=${dir}`)).toEqual([odd]);
    const filter = encoded(JSON.stringify({ types: ['m.odd'] }));
    const messages = await here.get(`${V3}ROOM/messages?dir=${dir}&limit=1&filter=${filter}`);
    expect((messages.body['chunk'] as Event[]).map(({ event_id: id }) => id)).toEqual([odd]);
    const found: string[] = [];
    for (let from: string | undefined = ''; from !== undefined && found.length < 2 * SCANNED_MAX;) {
      const page = await here.get(
        `${V1}ROOM/relations/${at}?limit=100&dir=${dir}${from === '' ? '' : `&from=${from}`}`,
      );
      found.push(...(page.body['chunk'] as Event[]).map(({ event_id: id }) => id));
      from = page.body['next_batch'] as string | undefined;
    }
    expect([found.length, new Set(found).size]).toEqual([SCANNED_MAX + 103, SCANNED_MAX + 103]);
  }
  // One look goes so far, and says how far it was.
  const [first] = await store.query<{ at: number }>(`SELECT shown_at AS at FROM event_states WHERE event_id = $1`, [
    early,
  ]);
  const any = { types: ['m.odd'], notTypes: [], senders: null, notSenders: [], ignored: [] };
  const selection = { ...any, roomId: here.roomId as RoomId, limit: 1 };
  const span = { after: first!.at, upTo: first!.at + SCANNED_MAX + 50 };
  expect(await readTimelinePage(store, { ...selection, direction: 'forwards' }, span)).toEqual({
    rows: [],
    scannedTo: first!.at + SCANNED_MAX,
  });
  expect(await readTimelinePage(store, { ...selection, direction: 'backwards' }, span)).toEqual({
    rows: [],
    scannedTo: first!.at + 51,
  });
});

test('a thread of more than a look goes through is listed once, and threads behind it after it', async () => {
  const here = await room();
  const [a, b] = [await here.say({ body: 'a' }), await here.say({ body: 'b' })];
  await here.relate(a, 'm.thread');
  const like = await here.relate(b, 'm.thread');
  await crowd(here.roomId, like, 5_100, 'm.thread');
  const roots: string[] = [];
  for (let from: string | undefined = ''; from !== undefined && roots.length < 5;) {
    const page = await here.get(`${V1}ROOM/threads?limit=1${from === '' ? '' : `&from=${from}`}`);
    roots.push(...(page.body['chunk'] as Event[]).map(({ event_id: id }) => id));
    from = page.body['next_batch'] as string | undefined;
  }
  expect(roots).toEqual([b, a]);
  expect((await here.relationsOf(b))?.['m.thread']).toMatchObject({ count: 5_101 });
});

let crowds = 0;

/** Stores events that are like one of a room, as if they had come after it. */
async function crowd(roomId: string, like: string, count: number, relType = 'm.annotation'): Promise<void> {
  const nth = (crowds += 1);
  await store.query(
    `WITH made AS (
       INSERT INTO pdus (event_id, room_id, type, sender, depth, origin_server_ts, prev_events, auth_events, json, hollow, stored_at,
                         relates_to, rel_type)
       SELECT '$crowd' || $4 || '_' || g, room_id, type, sender, depth, origin_server_ts, prev_events, auth_events, json, hollow, stored_at,
              relates_to, $5
         FROM pdus CROSS JOIN generate_series(1, $3::integer) AS g WHERE room_id = $1 AND event_id = $2 RETURNING nid, event_id
     ), moved AS (UPDATE journal_head SET position = position + $3 RETURNING position - $3 AS head)
     INSERT INTO event_states (event_nid, event_id, room_id, epoch, position, state_before, state_after, verdict, soft_failed, partial, shown_at)
     SELECT m.nid, m.event_id, e.room_id, e.epoch, v.head + row_number() OVER (ORDER BY m.nid), e.state_before, e.state_after, e.verdict,
            e.soft_failed, e.partial, v.head + row_number() OVER (ORDER BY m.nid)
       FROM made m CROSS JOIN moved v CROSS JOIN event_states e WHERE e.event_id = $2`,
    [roomId, like, count, String(nth), relType],
  );
}
