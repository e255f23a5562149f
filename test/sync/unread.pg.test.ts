/** What a sync counts as unread. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type EventId, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { type ReadMark } from '../../src/rooms/client-contract.ts';
import { markRead } from '../../src/rooms/read/mark-read.ts';
import { type Notifier, createNotifier } from '../../src/store/notify.ts';
import { type Sync } from '../../src/sync/contract.ts';
import { createSync } from '../../src/sync/sync.ts';
import { ADMIN, ME, PartialRoom, member, message } from '../rooms/resync/partial-room.ts';
import { openTestStore } from '../support/postgres.ts';
import { statementsOf } from '../support/statements.ts';
import { FoldingClient, type FoldingOptions } from './folding-client.ts';

const { store } = await openTestStore();
let notifier: Notifier;
let sync: Sync;
beforeEach(() => {
  notifier = createNotifier(store);
  sync = newSync();
});
afterEach(() => notifier.close());

const BY_ADMIN = { auth: ['create', 'power', 'admin'] };
const BY_ME = { auth: ['create', 'power', 'join'] };
const newSync = (): Sync => createSync({ store, notifier, clock: { now: () => 5_000 } });
const clientIn = (room: PartialRoom, options: Partial<FoldingOptions> = {}): FoldingClient =>
  new FoldingClient(sync, { userId: ME, rooms: [room.roomId], ...options });
const allUnread = async (client: FoldingClient, room: PartialRoom) =>
  (await client.sync()).joined.get(room.roomId)?.unread ?? null;
/** Of a client that does not count threads apart. */
const unread = async (client: FoldingClient, room: PartialRoom) => {
  const { threads, ...counts } = (await allUnread(client, room)) ?? { threads: undefined };
  expect(threads ?? null).toBeNull();
  return threads === undefined ? null : counts;
};

async function wholeRoom(): Promise<PartialRoom> {
  const room = new PartialRoom(store);
  await room.join();
  await room.fetch('create', 'admin', 'power', 'rules');
  expect(await room.walk()).toMatchObject({ partial: false });
  return room;
}

/** Says things one after the other; the last one can be gone on from. */
async function say(room: PartialRoom, after: string, sender: string, ids: readonly string[], content?: JsonObject) {
  for (const [i, id] of ids.entries()) {
    const by = sender === ME ? BY_ME : BY_ADMIN;
    const prev = [i === 0 ? after : ids[i - 1]!];
    await room.push({ ...message(id, sender, { prev, ...by }), ...(content === undefined ? {} : { content }) });
  }
}

const mark = (room: PartialRoom, type: ReadMark, id: string, thread: string | null = null): Promise<void> =>
  markRead({ store, clock: { now: () => 1 } }, ME as UserId, room.roomId, new Map([[type, room.id(id)]]), thread);

const BY_THREAD = { timeline: { unread_thread_notifications: true } };
const inThread = (room: PartialRoom, root: string, body = 'x'): JsonObject => ({
  ...{ body, msgtype: 'm.text' },
  'm.relates_to': { rel_type: 'm.thread', event_id: room.id(root) },
});

test('what others have said since one came counts, and what names one counts twice', async () => {
  const room = await wholeRoom();
  const client = clientIn(room);
  expect(await unread(client, room)).toEqual({ notified: 0, highlighted: 0 });
  await say(room, 'join', ADMIN, ['one', 'two']);
  expect(await unread(client, room)).toEqual({ notified: 2, highlighted: 0 });
  await say(room, 'two', ADMIN, ['three'], { body: 'me?', msgtype: 'm.text' });
  await say(room, 'three', ADMIN, ['notice'], { body: 'me?', msgtype: 'm.notice' });
  expect(await unread(client, room)).toEqual({ notified: 3, highlighted: 1 });
  // A process that has counted nothing yet says the same, and so does a client that begins.
  sync = newSync();
  expect(await unread(clientIn(room), room)).toEqual({ notified: 3, highlighted: 1 });
});

test('whoever speaks has read what was said before, and who is called otherwise has not', async () => {
  const room = await wholeRoom();
  const client = clientIn(room);
  await say(room, 'join', ADMIN, ['one', 'two']);
  const renamed = member('renamed', ME, 'join', { prev: ['two'], auth: ['create', 'power', 'rules', 'join'] });
  await room.push({ ...renamed, content: { membership: 'join', displayname: 'Somebody' } });
  expect(await unread(client, room)).toEqual({ notified: 2, highlighted: 0 });
  await room.push(message('own', ME, { prev: ['renamed'], auth: ['create', 'power', 'renamed'] }));
  expect(await unread(client, room)).toEqual({ notified: 0, highlighted: 0 });
  await say(room, 'own', ADMIN, ['three'], { body: 'somebody there?' });
  expect(await unread(client, room)).toEqual({ notified: 1, highlighted: 1 });
});

test('what is taken back before it is read counts no more, whether it was counted already or not', async () => {
  const room = await wholeRoom();
  const client = clientIn(room);
  await say(room, 'join', ADMIN, ['one', 'two', 'three'], { body: 'me?', msgtype: 'm.text' });
  expect(await unread(client, room)).toEqual({ notified: 3, highlighted: 3 });
  const takeBack = (id: string, redacts: string, prev: string) => ({
    ...message(id, ADMIN, { prev: [prev], ...BY_ADMIN }),
    ...{ type: 'm.room.redaction', redacts },
  });
  await room.push(takeBack('back', 'two', 'three'));
  expect(await unread(client, room)).toEqual({ notified: 2, highlighted: 2 });
  await say(room, 'back', ADMIN, ['four']);
  await room.push(takeBack('back2', 'four', 'four'));
  expect(await unread(client, room)).toEqual({ notified: 2, highlighted: 2 });
  sync = newSync();
  expect(await unread(clientIn(room), room)).toEqual({ notified: 2, highlighted: 2 });
});

test('a receipt is told to other devices at once, and never goes back', async () => {
  const room = await wholeRoom();
  const client = clientIn(room);
  await say(room, 'join', ADMIN, ['one', 'two', 'three']);
  expect(await unread(client, room)).toEqual({ notified: 3, highlighted: 0 });
  const woken = client.sync({ timeoutMs: 600_000 });
  await mark(room, 'm.read', 'two');
  expect((await woken).joined.get(room.roomId)?.unread).toMatchObject({ notified: 1, highlighted: 0 });
  await mark(room, 'm.read.private', 'one');
  await mark(room, 'm.read', 'one');
  expect(await unread(clientIn(room), room)).toEqual({ notified: 1, highlighted: 0 });
  await mark(room, 'm.read.private', 'three');
  expect(await unread(client, room)).toEqual({ notified: 0, highlighted: 0 });
  expect(await unread(client, room)).toBeNull();
});

test('a mark of how far all is read is account data, and one of an event that is not here changes no count', async () => {
  const room = await wholeRoom();
  const client = clientIn(room);
  await say(room, 'join', ADMIN, ['one']);
  await client.catchUp();
  await mark(room, 'm.read', 'unknown');
  expect((await client.sync()).joined.size).toBe(0);
  await mark(room, 'm.fully_read', 'one');
  const part = (await client.sync()).joined.get(room.roomId)!;
  expect(part.accountData).toEqual([{ type: 'm.fully_read', content: { event_id: room.id('one') } }]);
  expect(part.unread).toMatchObject({ notified: 1, highlighted: 0 });
  const clock = { now: () => 1 };
  const outside = markRead(
    { store, clock },
    '@other:here.test' as UserId,
    room.roomId,
    new Map<ReadMark, EventId>(),
    null,
  );
  await expect(outside).rejects.toMatchObject({ kind: 'forbidden' });
});

test('more than a hundred are a hundred, and no look reads more', async () => {
  const room = await wholeRoom();
  const ids = Array.from({ length: 120 }, (_, i) => `m${i}`);
  await say(room, 'join', ADMIN, ids);
  expect(await unread(clientIn(room), room)).toEqual({ notified: 100, highlighted: 0 });
});

test('counting goes on from what was counted, in as many statements for twenty rooms as for one', async () => {
  const rooms = await Promise.all(Array.from({ length: 20 }, () => wholeRoom()));
  const follow = (of: readonly PartialRoom[]): FoldingClient =>
    new FoldingClient(sync, { userId: ME, rooms: of.map(({ roomId }) => roomId) });
  const cost = async (of: readonly PartialRoom[], id: string, after: string): Promise<number> => {
    const client = follow(of);
    await client.catchUp();
    for (const room of rooms) await say(room, after, ADMIN, [id]);
    return (await statementsOf(() => client.sync())).length;
  };
  await cost(rooms, 'warm', 'join');
  const [one, many] = [await cost(rooms.slice(0, 1), 'first', 'warm'), await cost(rooms, 'second', 'first')];
  expect(many).toBeLessThanOrEqual(one);
  expect(many).toBeLessThanOrEqual(25);
});

test('threads are counted apart for who asks for that, and in the room otherwise', async () => {
  const room = await wholeRoom();
  await say(room, 'join', ADMIN, ['root', 'main']);
  await say(room, 'main', ADMIN, ['t1', 't2'], inThread(room, 'root'));
  await say(room, 't2', ADMIN, ['t3'], inThread(room, 'root', 'me?'));
  await say(room, 't3', ADMIN, ['u1'], inThread(room, 'main'));
  expect(await unread(clientIn(room), room)).toEqual({ notified: 6, highlighted: 1 });
  const client = clientIn(room, BY_THREAD);
  const counts = (thread1: number, main: number, thread2: number) => {
    const ofThread = (root: string, notified: number, highlighted: number) =>
      notified === 0 ? [] : [[room.id(root), { notified, highlighted }] as const];
    const threads = new Map([...ofThread('root', thread1, thread1 === 0 ? 0 : 1), ...ofThread('main', thread2, 0)]);
    return { notified: main, highlighted: 0, threads };
  };
  expect(await allUnread(client, room)).toEqual(counts(3, 2, 1));
  // What is read of the main timeline is read of no thread, and the other way round.
  await mark(room, 'm.read', 'main', 'main');
  expect(await allUnread(client, room)).toEqual(counts(3, 0, 1));
  await mark(room, 'm.read', 't1', room.id('root'));
  expect(await allUnread(client, room)).toEqual(counts(2, 0, 1));
  await mark(room, 'm.read.private', 'u1', room.id('main'));
  expect(await allUnread(client, room)).toEqual(counts(2, 0, 0));
  sync = newSync();
  expect(await allUnread(clientIn(room, BY_THREAD), room)).toEqual(counts(2, 0, 0));
  await say(room, 'u1', ADMIN, ['later']);
  await say(room, 'later', ADMIN, ['u2'], inThread(room, 'main'));
  expect(await allUnread(client, room)).toEqual(counts(2, 1, 1));
  // Who speaks in a thread has read that.
  await say(room, 'u2', ME, ['own'], inThread(room, 'root'));
  expect(await allUnread(client, room)).toEqual(counts(0, 1, 1));
  // And what is read of the room is read of all.
  await mark(room, 'm.read', 'own');
  expect(await allUnread(client, room)).toEqual(counts(0, 0, 0));
});

test('what is taken back in a thread counts no more, and what others relate to an event without a thread is in none', async () => {
  const room = await wholeRoom();
  await say(room, 'join', ADMIN, ['root']);
  const client = clientIn(room, BY_THREAD);
  await say(room, 'root', ADMIN, ['t1', 't2'], inThread(room, 'root'));
  for (const [id, after, relation] of [
    ['odd1', 't2', 'rubbish'],
    ['odd2', 'odd1', { rel_type: 'm.thread' }],
    ['odd3', 'odd2', { rel_type: 'm.thread', event_id: 'rubbish' }],
    ['odd4', 'odd3', { rel_type: 'm.reference', event_id: room.id('t1') }],
  ] as const) {
    await say(room, after, ADMIN, [id], { body: 'x', msgtype: 'm.text', 'm.relates_to': relation });
  }
  expect(await allUnread(client, room)).toEqual({
    ...{ notified: 5, highlighted: 0 },
    threads: new Map([[room.id('root'), { notified: 2, highlighted: 0 }]]),
  });
  await room.push({
    ...message('back', ADMIN, { prev: ['odd4'], ...BY_ADMIN }),
    ...{ type: 'm.room.redaction', redacts: 't1' },
  });
  expect(await allUnread(client, room)).toEqual({
    ...{ notified: 5, highlighted: 0 },
    threads: new Map([[room.id('root'), { notified: 1, highlighted: 0 }]]),
  });
});

test('threads are counted in as many statements for twenty rooms as for one, and in one more than without', async () => {
  const rooms = await Promise.all(Array.from({ length: 20 }, () => wholeRoom()));
  for (const room of rooms) await say(room, 'join', ADMIN, ['root']);
  let after = 'root';
  const cost = async (of: readonly PartialRoom[], options: Partial<FoldingOptions>): Promise<number> => {
    const client = new FoldingClient(sync, { userId: ME, rooms: of.map(({ roomId }) => roomId), ...options });
    await client.catchUp();
    const id = `${after}x`;
    for (const room of rooms) await say(room, after, ADMIN, [id], inThread(room, 'root'));
    after = id;
    return (await statementsOf(() => client.sync())).length;
  };
  await cost(rooms, BY_THREAD);
  const one = await cost(rooms.slice(0, 1), BY_THREAD);
  expect(await cost(rooms, BY_THREAD)).toBe(one);
  expect(await cost(rooms, {})).toBe(one - 1);
});
