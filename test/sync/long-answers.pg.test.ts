/** First syncs that are longer than what a process holds of them. */
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { type UserId } from '../../src/matrix/identifiers.ts';
import { createNotifier } from '../../src/store/notify.ts';
import { type Store } from '../../src/store/open-store.ts';
import { createSync } from '../../src/sync/sync.ts';
import { startClientApi } from '../client-api/client.ts';
import { ME, PartialRoom, member } from '../rooms/resync/partial-room.ts';
import { type TestDatabase, createTestDatabase } from '../support/postgres.ts';
import { statementsOf } from '../support/statements.ts';
import { FoldingClient } from './folding-client.ts';

const MEGABYTES = 1024 * 1024;
const ROOMS = 6;
/** As long as events may be: with fifty members a room some 3 MB, and all of them more than is held. */
const NAME = 'x'.repeat(60_000);

let database: TestDatabase;
let store: Store;
const rooms: PartialRoom[] = [];
beforeAll(async () => {
  database = await createTestDatabase();
  store = database.openStore();
  for (let i = 0; i < ROOMS; i += 1) rooms.push(await bigRoom(i % 2 === 0 ? 60 : 55));
});
afterAll(() => database.drop());

async function bigRoom(members: number): Promise<PartialRoom> {
  const room = new PartialRoom(store);
  await room.join();
  const names = Array.from({ length: members }, (_, i) => `m${i}`);
  await room.hold(
    ...names.map((name) =>
      member(name, `@${name}:there.test`, 'join', {
        ...{ content: { membership: 'join', displayname: NAME }, auth: ['create', 'power', 'rules'] },
      }),
    ),
  );
  await room.fetch('create', 'admin', 'power', 'rules', ...names);
  await room.walk();
  return room;
}

test('an eager client is given all members of all rooms, of which a part is read while it is sent', async () => {
  const notifier = createNotifier(store);
  onTestFinished(() => notifier.close());
  const sync = createSync({ store, notifier, clock: { now: () => 1 } });
  const client = new FoldingClient(sync, { userId: ME });
  await client.sync();
  for (const { roomId } of rooms) await client.expectTrue(store, roomId);

  const ask = (some: readonly PartialRoom[]) =>
    sync.sync({
      ...{ userId: ME as UserId, deviceId: 'DEVICE', since: undefined, isFullState: false, isStateAfter: false },
      filter: { room: { rooms: some.map(({ roomId }) => roomId) } },
      ...{ timeoutMs: 0, signal: new AbortController().signal },
    });
  const answer = await ask(rooms);
  const held = [...answer.joined.values()].flatMap(({ state }) => state);
  expect(JSON.stringify(held).length).toBeLessThan(17 * MEGABYTES);
  const given: JsonObject[] = [];
  const pages = await statementsOf(async () => {
    for await (const { events } of answer.restOfStates ?? []) given.push(...events);
  });
  expect(held.length + given.length).toBe(3 * 60 + 3 * 55 + 4 * ROOMS);
  // A page and its redactions, whatever rooms they are of.
  expect(pages.length).toBe(2);
  const few = await statementsOf(() => ask(rooms.slice(0, 1)));
  const many = await statementsOf(() => ask(rooms));
  expect(many.length).toBe(few.length);
});

test('of timelines a client is given the newest events, as many as are held at a time, and told that there are more', async () => {
  const notifier = createNotifier(store);
  onTestFinished(() => notifier.close());
  const sync = createSync({ store, notifier, clock: { now: () => 1 } });
  const each = 50;
  for (const room of rooms) {
    const names = Array.from({ length: each }, (_, i) => `topic${i}`);
    const topics = names.map((id, i) => ({
      ...{ id, type: 'm.room.topic', stateKey: '', content: { topic: NAME } },
      ...{ prev: [names[i - 1] ?? 'join'], auth: ['create', 'power', 'admin'] },
    }));
    await room.push(...topics);
  }
  const client = new FoldingClient(sync, { userId: ME, lazy: true, limit: 100, timeline: { types: ['m.room.topic'] } });
  const { joined } = await client.sync();
  const timelines = [...joined.values()].map(({ timeline }) => timeline);
  // What the events themselves say, and as much of what they replaced.
  expect(JSON.stringify(timelines).length).toBeLessThan(33 * MEGABYTES);
  const contents = timelines.flat().map(({ content }) => content);
  expect(JSON.stringify(contents).length).toBeLessThan(16 * MEGABYTES);
  for (const room of rooms) {
    const { timeline, isLimited } = joined.get(room.roomId)!;
    expect(timeline.at(-1)!['event_id']).toBe(room.id(`topic${each - 1}`));
    expect(timeline.length).toBeGreaterThan(each / 2);
    expect(timeline.length).toBeLessThan(each);
    expect(isLimited).toBe(true);
    await client.expectTrue(store, room.roomId);
  }
});

test('as one JSON document, in which nothing is missing and nothing stands twice', async () => {
  const client = await startClientApi(store);
  const token = await client.user('me');
  for (const query of ['', '&use_state_after=true']) {
    const { status, body } = await client.ask(
      'GET',
      `/_matrix/client/v3/sync?full_state=true${query}`,
      undefined,
      token,
    );
    expect(status).toBe(200);
    const { join } = body['rooms'] as { join: Record<string, Record<string, { events: JsonObject[] }>> };
    expect(Object.keys(join).sort()).toEqual(rooms.map(({ roomId }) => roomId).sort());
    for (const [i, room] of rooms.entries()) {
      const { events } = join[room.roomId]![query === '' ? 'state' : 'state_after']!;
      const ids = events.map((event) => event['event_id']);
      const names = Array.from({ length: i % 2 === 0 ? 60 : 55 }, (_, nth) => room.id(`m${nth}`));
      expect(ids).toEqual(expect.arrayContaining(names));
      expect(new Set(ids).size).toBe(ids.length);
      expect(join[room.roomId]).toHaveProperty('timeline.events');
    }
    expect(body['next_batch']).toMatch(/^s1_/);
  }
});
