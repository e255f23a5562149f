import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { type EventId, type RoomId, type UserId } from '../../../src/matrix/identifiers.ts';
import { type Store, withTransaction } from '../../../src/store/open-store.ts';
import { insertPdus } from '../../../src/store/events/pdus.ts';
import {
  type StateEntry,
  changeSnapshot,
  countMembers,
  createSnapshot,
  diffSnapshots,
  readSnapshot,
} from '../../../src/store/snapshots/snapshots.ts';
import { type CheckedPdu } from '../../../src/verification/contract.ts';
import { type TestDatabase, createTestDatabase } from '../../support/postgres.ts';
import { ROOM, ids, member, message, state } from '../events.ts';

let database: TestDatabase;
let store: Store;

/** Enough members for a trie of three levels somewhere. */
const MEMBERS = 2_000;
const users = Array.from({ length: MEMBERS }, (_, i) => `@user-${i}:there.test`);
const events: CheckedPdu[] = [
  state('$create', 'm.room.create', ''),
  state('$odd', 'odd\u0000type', 'odd\u0000key'),
  // A state event of another type whose key looks like a member.
  state('$profile', 'org.example.profile', '@user-1:there.test'),
  ...users.map((user, i) => member(`$member-${i}`, user, i % 10 === 0 ? 'leave' : 'join')),
];
const eventIds = events.map(({ eventId }) => eventId);

beforeAll(async () => {
  database = await createTestDatabase();
  store = database.openStore();
  await insertPdus(store, events);
  await insertPdus(store, [
    message('$message'),
    state('$foreign', 'm.room.topic', '', { roomId: '!other:there.test' }),
    member('$member-5-left', '@user-5:there.test', 'leave'),
    member('$member-new', '@new:there.test'),
    state('$topic', 'm.room.topic', ''),
  ]);
});
afterAll(() => database.drop());

function byId(entries: readonly StateEntry[]): StateEntry[] {
  return entries.toSorted((a, b) => (a.eventId < b.eventId ? -1 : 1));
}

function expected(wanted: (event: CheckedPdu) => boolean): StateEntry[] {
  return byId(
    events.filter(wanted).map(({ type, stateKey, eventId, membership }) => ({
      ...{ type, eventId, membership },
      stateKey: stateKey!,
    })),
  );
}

test('a state is read back as it was put in, by parts too, from the cache and from the database', async () => {
  const id = await createSnapshot(store, ROOM, eventIds);
  for (const reader of [store, database.openStore()]) {
    expect(byId(await readSnapshot(reader, ROOM, id))).toEqual(expected(() => true));
    expect(byId(await readSnapshot(reader, ROOM, id, { members: false }))).toEqual(
      expected(({ type }) => type !== 'm.room.member'),
    );
    const keys = [
      { type: 'odd\u0000type', stateKey: 'odd\u0000key' },
      { type: 'm.room.member', stateKey: '@user-3:there.test' },
      { type: 'm.room.topic', stateKey: '' },
      { type: 'never', stateKey: 'seen' },
    ];
    expect(byId(await readSnapshot(reader, ROOM, id, { keys }))).toEqual(
      expected(({ eventId }) => ['$odd', '$member-3'].includes(eventId)),
    );
    expect(byId(await readSnapshot(reader, ROOM, id, { members: false, userIds: [users[7] as UserId] }))).toEqual(
      expected(({ type, eventId }) => type !== 'm.room.member' || eventId === '$member-7'),
    );
    expect(await readSnapshot(reader, ROOM, id, { userIds: [], keys: [] })).toEqual([]);
    expect(await countMembers(reader, ROOM, id)).toBe(MEMBERS * 0.9);
  }
});

test('the state without memberships reads two chunks of a large state', async () => {
  const id = await createSnapshot(store, ROOM, eventIds);
  const reader = database.openStore();
  const loaded: unknown[] = [];
  const spied = {
    ...reader,
    query: async <Row extends object>(text: string, values?: readonly unknown[]) => {
      const rows = await reader.query<Row>(text, values);
      if (text.includes('snapshot_chunks')) loaded.push(...rows);
      return rows;
    },
  };
  await readSnapshot(spied, ROOM, id, { members: false });
  expect(loaded).toHaveLength(2);
});

test('equal states have one id, however they came about', async () => {
  const id = await createSnapshot(store, ROOM, eventIds.toReversed());
  const small = await createSnapshot(store, ROOM, eventIds.slice(0, 1_000));
  expect(
    await changeSnapshot(
      store,
      ROOM,
      small,
      eventIds.slice(1_000).map((eventId) => ({ eventId })),
    ),
  ).toBe(id);
  expect(await changeSnapshot(store, ROOM, id, [])).toBe(id);
  const without = await changeSnapshot(store, ROOM, id, [
    { type: 'm.room.member', stateKey: '@user-5:there.test' },
    { type: 'never', stateKey: 'seen' },
  ]);
  expect(await changeSnapshot(store, ROOM, without, [{ eventId: '$member-5' as EventId }])).toBe(id);
});

test('the last of several changes to one place counts, and a difference names what changed', async () => {
  const before = await createSnapshot(store, ROOM, eventIds);
  const after = await changeSnapshot(store, ROOM, before, [
    { type: 'm.room.member', stateKey: '@user-5:there.test' },
    { eventId: '$member-5-left' as EventId },
    { eventId: '$topic' as EventId },
    { type: 'm.room.topic', stateKey: '' },
    { eventId: '$member-new' as EventId },
    { type: 'odd\u0000type', stateKey: 'odd\u0000key' },
  ]);
  const differences = await diffSnapshots(store, ROOM, before, after);
  expect(differences.toSorted((a, b) => (a.stateKey < b.stateKey ? -1 : 1))).toEqual([
    { type: 'm.room.member', stateKey: '@new:there.test', before: null, after: '$member-new' },
    { type: 'm.room.member', stateKey: '@user-5:there.test', before: '$member-5', after: '$member-5-left' },
    { type: 'odd\u0000type', stateKey: 'odd\u0000key', before: '$odd', after: null },
  ]);
  expect(await diffSnapshots(store, ROOM, after, after)).toEqual([]);
});

test('an event that cannot be state of this room is refused by name', async () => {
  for (const wrong of ['$message', '$foreign', '$absent']) {
    await expect(createSnapshot(store, ROOM, ids('$create', wrong))).rejects.toThrow(
      `${wrong} is not a stored state event of ${ROOM}`,
    );
  }
  await expect(createSnapshot(store, ROOM, ids('$member-5', '$member-5-left'))).rejects.toThrow('same place');
});

test('a snapshot of another room is not found', async () => {
  const id = await createSnapshot(store, ROOM, eventIds);
  const reader = database.openStore();
  await expect(readSnapshot(reader, '!other:there.test' as RoomId, id)).rejects.toThrow('is not stored');
});

test('writers of the same state at once all get it', async () => {
  const wanted = eventIds.slice(0, 1_500);
  const made = await Promise.all(
    [1, 2, 3, 4].map((i) => createSnapshot(store, ROOM, i % 2 ? wanted : wanted.toReversed())),
  );
  expect(new Set(made).size).toBe(1);
});

test('the empty state is a state', async () => {
  const id = await createSnapshot(store, ROOM, []);
  expect(await readSnapshot(store, ROOM, id)).toEqual([]);
  expect(await countMembers(store, ROOM, id)).toBe(0);
});

test('events of a room of which no statistics tell are found each by its id', async () => {
  const fresh = await createTestDatabase();
  onTestFinished(() => fresh.drop());
  const store = fresh.openStore();
  const membersOf = (roomId: RoomId, count: number) =>
    Array.from({ length: count }, (_, i) => member(`$${roomId}-${i}`, `@member-${i}:there.test`, 'join', { roomId }));
  await insertPdus(store, membersOf(ROOM, 500));
  await store.query('ANALYZE pdus');
  const many = '!not-counted:there.test' as RoomId;
  const members = membersOf(many, 30_000);
  await insertPdus(store, members);
  await withTransaction(store, async (tx) => {
    // Each compared with all of the room takes two seconds and more.
    await tx.query(`SET LOCAL statement_timeout = '1s'`);
    const some = members.slice(0, 1_000).map(({ eventId }) => eventId);
    expect(await readSnapshot(tx, many, await createSnapshot(tx, many, some))).toHaveLength(1_000);
  });
}, 60_000);
