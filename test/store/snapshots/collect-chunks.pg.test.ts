import { expect, test } from 'vitest';
import { type RoomId } from '../../../src/matrix/identifiers.ts';
import { type SnapshotId } from '../../../src/resync/events.ts';
import { insertPdus } from '../../../src/store/events/pdus.ts';
import { createRoom, openEpoch } from '../../../src/store/journal/rooms.ts';
import { withTransaction } from '../../../src/store/open-store.ts';
import { isStored } from '../../../src/store/snapshots/chunks.ts';
import { collectChunks, roomsToCollect } from '../../../src/store/snapshots/collect-chunks.ts';
import { changeSnapshot, createSnapshot, readSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ids, member, state } from '../events.ts';

const { database, store } = await openTestStore();

const DAY = 86_400_000;
const MEMBERS = 300;
const first = 1_700_000_000_000;
let rooms = 0;

interface Room {
  readonly roomId: RoomId;
  /** Named by the room. */
  readonly current: SnapshotId;
  /** Shares most of its chunks with `current`, and is named by nothing. */
  readonly unnamed: SnapshotId;
}

async function openRoom(): Promise<Room> {
  rooms += 1;
  const roomId = `!collected-${rooms}:there.test` as RoomId;
  const members = Array.from({ length: MEMBERS }, (_, i) =>
    member(`$member-${rooms}-${i}`, `@member-${i}:there.test`, 'join', { roomId }),
  );
  const names = ['a', 'b', 'c'].map((name) => state(`$name-${rooms}-${name}`, 'm.room.name', '', { roomId }));
  await insertPdus(store, [...members, ...names]);
  const current = await createSnapshot(
    store,
    roomId,
    members.map(({ eventId }) => eventId),
  );
  const unnamed = await changeSnapshot(store, roomId, current, [{ eventId: ids(`$name-${rooms}-a`)[0]! }]);
  await withTransaction(store, async (tx) => openEpoch(tx, await createRoom(tx, roomId, '11')));
  await name(roomId, current);
  return { roomId, current, unnamed };
}

async function name(roomId: RoomId, state: SnapshotId): Promise<void> {
  await store.query(`UPDATE rooms SET current_state = decode($2, 'hex') WHERE room_id = $1`, [roomId, state]);
}

const collect = (roomId: RoomId, now: number): Promise<number> =>
  collectChunks(store, roomId, { now, heartbeat: () => undefined });

/** A store with nothing in memory reads what is really there. */
async function sizeOf(roomId: RoomId, id: SnapshotId): Promise<number> {
  return (await readSnapshot(database.openStore(), roomId, id)).length;
}

async function somebodyWaits(): Promise<void> {
  for (let waits = false; !waits;) {
    const [row] = await store.query<{ waits: boolean }>(
      `SELECT EXISTS (SELECT FROM pg_stat_activity
                       WHERE datname = current_database() AND wait_event_type = 'Lock') AS waits`,
    );
    waits = row?.waits ?? false;
  }
}

test('a state that nothing names is deleted a day after it was found so, and one that is named stays whole', async () => {
  const { roomId, current, unnamed } = await openRoom();
  expect(await collect(roomId, first)).toBe(0);
  expect(await collect(roomId, first + DAY - 1)).toBe(0);
  expect(await sizeOf(roomId, unnamed)).toBe(MEMBERS + 1);
  expect(await collect(roomId, first + DAY)).toBeGreaterThan(0);
  await expect(sizeOf(roomId, unnamed)).rejects.toThrow('is not stored');
  expect(await sizeOf(roomId, current)).toBe(MEMBERS);
  expect(await collect(roomId, first + 3 * DAY)).toBe(0);
});

test.each(['event_states', 'anchors'])('a state that a row of %s names stays', async (table) => {
  const { roomId, unnamed } = await openRoom();
  await store.query(
    table === 'anchors'
      ? `INSERT INTO anchors (room_id, event_id, epoch, state_after, partial) VALUES ($1, '$p', 1, decode($2, 'hex'), false)`
      : `INSERT INTO event_states (event_nid, event_id, room_id, epoch, position, state_before, state_after, verdict, soft_failed, partial)
         VALUES (-hashtext($1), $1, $1, 1, 1, decode($2, 'hex'), decode($2, 'hex'), 'accepted', false, false)`,
    [roomId, unnamed],
  );
  for (const now of [first, first + 2 * DAY]) expect(await collect(roomId, now)).toBe(0);
  expect(await sizeOf(roomId, unnamed)).toBe(MEMBERS + 1);
});

test('what is named between two passes is saved', async () => {
  const { roomId, unnamed } = await openRoom();
  await collect(roomId, first);
  expect(await isStored(store, roomId, unnamed)).toBe(false);
  await name(roomId, unnamed);
  await collect(roomId, first + 2 * DAY);
  expect(await isStored(store, roomId, unnamed)).toBe(true);
  expect(await sizeOf(roomId, unnamed)).toBe(MEMBERS + 1);
});

test('what is stored again is saved at once', async () => {
  const { roomId, current, unnamed } = await openRoom();
  await collect(roomId, first);
  const again = await changeSnapshot(store, roomId, current, [{ eventId: ids(`$name-${rooms}-a`)[0]! }]);
  expect(again).toBe(unnamed);
  expect(await collect(roomId, first + 2 * DAY)).toBe(0);
  expect(await sizeOf(roomId, unnamed)).toBe(MEMBERS + 1);
});

test('who stores a chunk while it is deleted has it stored, whoever is first', async () => {
  const { roomId, current, unnamed } = await openRoom();
  await collect(roomId, first);
  const change = [{ eventId: ids(`$name-${rooms}-a`)[0]! }];
  let storing: Promise<unknown> = Promise.resolve();
  await withTransaction(store, async (tx) => {
    await tx.query('DELETE FROM snapshot_chunks WHERE room_id = $1 AND condemned_at IS NOT NULL', [roomId]);
    storing = changeSnapshot(store, roomId, current, change);
    await somebodyWaits();
  });
  await storing;
  expect(await sizeOf(roomId, unnamed)).toBe(MEMBERS + 1);

  await collect(roomId, first);
  let deleting: Promise<unknown> = Promise.resolve();
  await withTransaction(store, async (tx) => {
    await changeSnapshot(tx, roomId, current, change);
    deleting = collect(roomId, first + 2 * DAY);
    await somebodyWaits();
  });
  await deleting;
  expect(await sizeOf(roomId, unnamed)).toBe(MEMBERS + 1);
});

/** One step of a pass, a few rows each; `true`: the pass is over with it. */
async function step(roomId: RoomId, now: number): Promise<boolean> {
  let asked = 0;
  const isOver = (): boolean => (asked += 1) > 1;
  // As a process that has just been started.
  await collectChunks(database.openStore(), roomId, { now, heartbeat: () => undefined, isOver, rowsAStep: 7 });
  return (await store.query(`SELECT FROM collections WHERE room_id = $1`, [roomId])).length === 0;
}

test('a pass that is left after each step is gone on with, and no state that is made and named meanwhile is lost', async () => {
  const { roomId, current, unnamed } = await openRoom();
  await collect(roomId, first);
  const number = rooms;
  const named = async (position: number, state: SnapshotId) =>
    store.query(
      `INSERT INTO current_states (room_id, position, state, partial) VALUES ($1, $2, decode($3, 'hex'), false)
       ON CONFLICT (room_id, position) DO UPDATE SET state = excluded.state`,
      [roomId, position, state],
    );
  const made: SnapshotId[] = [];
  for (const day of [1, 2, 3]) {
    let steps = 0;
    do {
      // One after the other, at a place that the pass has been at or will be at; each replaces the one before.
      const members = Array.from(
        { length: 1 + ((made.length * 7) % MEMBERS) },
        (_, i) => ids(`$member-${number}-${i}`)[0]!,
      );
      made.push(await createSnapshot(store, roomId, members));
      await named(1 + (made.length % 3), made.at(-1)!);
      steps += 1;
    } while (!(await step(roomId, first + day * DAY)));
    expect(steps).toBeGreaterThan(5);
    for (const state of [current, ...made.slice(-3)]) expect(await sizeOf(roomId, state)).toBeGreaterThan(0);
  }
  await expect(sizeOf(roomId, unnamed)).rejects.toThrow('is not stored');
  await expect(sizeOf(roomId, made[0]!)).rejects.toThrow('is not stored');
  expect(await store.query('SELECT FROM reached_chunks')).toEqual([]);
}, 60_000);

test('a room of many more chunks than a step takes is collected as any other, though no statistics tell of them', async () => {
  const { roomId, current } = await openRoom();
  await store.query('ANALYZE snapshot_chunks, reached_chunks');
  await store.query(
    `INSERT INTO snapshot_chunks (room_id, hash, body)
     SELECT $1, decode(md5(i::text), 'hex'), '' FROM generate_series(1, 20001) AS i`,
    [roomId],
  );
  const chunks = { heartbeat: () => undefined, rowsAStep: 5_000 };
  expect(await collectChunks(store, roomId, { ...chunks, now: first })).toBe(0);
  expect(await collectChunks(store, roomId, { ...chunks, now: first + DAY })).toBeGreaterThan(20_000);
  expect(await sizeOf(roomId, current)).toBe(MEMBERS);
}, 120_000);

test('a pass that has condemned chunks for hours is given up, and what it condemned is saved by the next', async () => {
  const { roomId, unnamed } = await openRoom();
  const isCondemned = async () =>
    (await store.query(`SELECT FROM snapshot_chunks WHERE room_id = $1 AND condemned_at IS NOT NULL`, [roomId]))
      .length > 0;
  while (!(await isCondemned())) await step(roomId, first);
  await name(roomId, unnamed);
  for (let isOver = false; !isOver;) isOver = await step(roomId, first + DAY);
  expect(await isCondemned()).toBe(true);
  for (let isOver = false; !isOver;) isOver = await step(roomId, first + DAY);
  expect(await sizeOf(roomId, unnamed)).toBe(MEMBERS + 1);
});

test('a room whose pass is not over is due again before its day is, after those whose day is over', async () => {
  const { roomId } = await openRoom();
  const query = { everyMs: DAY, limit: 100 };
  const now = first + 50 * DAY;
  expect(await roomsToCollect(store, { ...query, now })).toContain(roomId);
  expect(await roomsToCollect(store, { ...query, now: now + 1 })).toEqual([]);
  await step(roomId, now);
  expect(await roomsToCollect(store, { ...query, now })).toEqual([]);
  expect(await roomsToCollect(store, { ...query, now: now + 1 })).toEqual([roomId]);
  while (!(await step(roomId, now)));
});

test('each room has its turn, and once in the time given', async () => {
  const found: RoomId[] = [];
  const query = { now: first + 100 * DAY, everyMs: DAY, limit: 2 };
  for (let page = await roomsToCollect(store, query); page.length > 0; page = await roomsToCollect(store, query)) {
    found.push(...page);
  }
  expect(found).toHaveLength(rooms);
  expect(new Set(found).size).toBe(rooms);
});
