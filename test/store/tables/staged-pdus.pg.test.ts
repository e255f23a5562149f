/** When events that wait for others have their turn. The events themselves are of no concern here. */
import { beforeEach, expect, test } from 'vitest';
import { type EventId, type RoomId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { dropStaged, setStagedAside, settleStaged, stagePdus } from '../../../src/store/tables/staged-pdus.ts';
import { readDropped } from '../../../src/store/tables/staged-reads.ts';
import { claimWaitingRooms } from '../../../src/store/tables/staged-rooms.ts';
import { learnServers } from '../../../src/store/tables/room-servers.ts';
import { openTestStore } from '../../support/postgres.ts';

const { store } = await openTestStore();

let rooms = 0;
let roomId: RoomId;
beforeEach(() => {
  roomId = `!staged-${(rooms += 1)}:a.test` as RoomId;
});

const SERVER = 'a.test' as ServerName;

/** Stages an event for each name, which waits for those named; it is stored, as all are that had a turn and passed. */
async function stage(waits: Readonly<Record<string, readonly string[]>>): Promise<void> {
  const names = Object.keys(waits);
  await stagePdus(
    store,
    SERVER,
    names.map((name) => ({ roomId, eventId: idOf(name), raw: Buffer.from('{}'), waitsFor: [] })),
  );
  await store.query(
    `INSERT INTO pdus (event_id, room_id, type, sender, depth, origin_server_ts, prev_events, auth_events, json, hollow, stored_at)
     SELECT name, $1, 'm.room.message', '@a:a.test', 1, 1, '{}', '{}', '{}', false, 1 FROM unnest($2::text[]) AS i(name)`,
    [roomId, names.map(idOf)],
  );
  const aside = names.map(async (name) => ({
    nid: await nidOf(name),
    reason: 'waits',
    waitsFor: (waits[name] ?? []).map(idOf),
  }));
  await setStagedAside(
    store,
    (await Promise.all(aside)).filter(({ waitsFor }) => waitsFor.length > 0),
  );
}

const idOf = (name: string): EventId => `$${name}-${roomId}` as EventId;

async function nidOf(name: string): Promise<number> {
  const [row] = await store.query<{ nid: number }>(`SELECT nid FROM staged_pdus WHERE event_id = $1`, [idOf(name)]);
  return row!.nid;
}

/** Staged events that wait for nothing, in the order they came. */
async function due(): Promise<string[]> {
  const rows = await store.query<{ eventId: EventId }>(
    `SELECT event_id AS "eventId" FROM staged_pdus
      WHERE room_id = $1 AND waits_for = '{}' AND dropped_at IS NULL ORDER BY nid`,
    [roomId],
  );
  return rows.map(({ eventId }) => eventId.slice(1, eventId.indexOf('-')));
}

const settle = async (name: string, limit: number) =>
  (await settleStaged(store, roomId, [await nidOf(name)], limit)).released;

test('a chain of events that wait for each other is released from its start, as many as have a turn', async () => {
  await stage({ one: [], two: ['one'], three: ['two'], four: ['three'], five: ['four'] });
  expect(await settle('one', 2)).toBe(2);
  expect(await due()).toEqual(['two', 'three']);
  expect(await settle('two', 2)).toBe(0);
  expect(await settle('three', 2)).toBe(2);
  expect(await due()).toEqual(['four', 'five']);
});

test('an event that waits for several is released when the last of them is settled or released', async () => {
  await stage({ one: [], other: [], merge: ['one', 'other'], after: ['merge', 'one'] });
  expect(await settle('one', 50)).toBe(0);
  expect(await settle('other', 50)).toBe(2);
  expect(await due()).toEqual(['merge', 'after']);
});

test('what waits for a gap stays when something else is settled, and what waits for it in turn is released with it', async () => {
  await store.query(
    `INSERT INTO gaps (room_id, event_id, epoch, origin, opened_at, wake_at) VALUES ($1, $2, 1, $3, 0, 0)`,
    [roomId, idOf('gap'), SERVER],
  );
  await stage({ one: [], behind: ['gap'], later: ['behind', 'one'] });
  expect(await settle('one', 50)).toBe(0);
  await settleStaged(store, roomId, [], 50);
  expect(await due()).toEqual([]);
  await store.query(`UPDATE gaps SET wake_at = NULL WHERE room_id = $1`, [roomId]);
  await settleStaged(store, roomId, [], 50);
  expect(await due()).toEqual(['behind', 'later']);
});

test('an event at which there is a gap waits until that is closed or given up, though others stand on it already', async () => {
  await stage({ settled: [], anchor: ['anchor'], after: ['anchor'] });
  await store.query(
    `INSERT INTO gaps (room_id, event_id, epoch, opened_at, wake_at, origin) VALUES ($1, $2, 1, 1, 1, $3)`,
    [roomId, idOf('anchor'), SERVER],
  );
  await store.query(
    `INSERT INTO anchors (room_id, event_id, epoch, state_after, partial) VALUES ($1, $2, 1, '\\x00', true)`,
    [roomId, idOf('anchor')],
  );
  expect(await settle('settled', 50)).toBe(1);
  expect(await due()).toEqual(['after']);
  await store.query(`UPDATE gaps SET wake_at = NULL WHERE room_id = $1`, [roomId]);
  expect(await settle('after', 50)).toBe(1);
  expect(await due()).toEqual(['anchor']);
});

test('what waits for an event that is given up is released, to learn of it', async () => {
  await stage({ one: [], two: ['one'] });
  await dropStaged(store, roomId, [{ nid: await nidOf('one'), reason: 'malformed' }]);
  expect((await settleStaged(store, roomId, [], 50)).released).toBe(1);
});

test('events that wait for each other in a circle are released by nothing', async () => {
  await stage({ one: [], egg: ['hen'], hen: ['egg'], self: ['self'] });
  expect(await settle('one', 50)).toBe(0);
  expect(await due()).toEqual([]);
});

test('an event of another room of the same id settles nothing here', async () => {
  await stage({ one: [], two: ['one'] });
  const elsewhere = '!elsewhere:a.test' as RoomId;
  expect((await settleStaged(store, elsewhere, [], 50)).released).toBe(0);
  expect(await due()).toEqual(['one']);
});

test('each room in which events wait is looked at by one process at a time, the longest not looked at first', async () => {
  await stage({ one: [], two: ['one'] });
  const first = roomId;
  roomId = `!staged-other:a.test` as RoomId;
  await stage({ three: [], four: ['three'] });
  const second = roomId;
  roomId = `!staged-nothing-waits:a.test` as RoomId;
  await stage({ five: [] });
  await store.query(`UPDATE staged_rooms SET looked_at = CASE room_id WHEN $1 THEN 1 WHEN $2 THEN 2 ELSE 9e15 END`, [
    second,
    first,
  ]);
  await store.query(`UPDATE staged_rooms SET looked_at = 0 WHERE room_id = $1`, [roomId]);
  const claim = { everyMs: 60_000, limit: 1 };
  expect(await Promise.all([claimWaitingRooms(store, claim), claimWaitingRooms(store, claim)])).toEqual(
    expect.arrayContaining([[first], [second]]),
  );
  expect(await claimWaitingRooms(store, claim)).toEqual([]);
  await store.query(`UPDATE staged_rooms SET looked_at = looked_at - 120000 WHERE room_id = $1`, [first]);
  expect(await claimWaitingRooms(store, { ...claim, limit: 9 })).toEqual([first]);
});

/** Events of a server are given up, one after the other. */
async function giveUp(origin: string, count: number): Promise<void> {
  for (let i = 0; i < count; i++) {
    const eventId = `$${origin}-${i}-${roomId}` as EventId;
    await stagePdus(store, origin as ServerName, [{ roomId, eventId, raw: Buffer.from('{}'), waitsFor: [] }]);
    const [row] = await store.query<{ nid: number }>(`SELECT nid FROM staged_pdus WHERE event_id = $1`, [eventId]);
    await dropStaged(store, roomId, [{ nid: row!.nid, reason: `${origin} ${i}` }]);
  }
}

const reasons = async (limit: number): Promise<string[]> =>
  (await readDropped(store, roomId, limit)).map(({ reason }) => reason);

test('why the events of a server were given up is kept and shown, whoever has more given up after it', async () => {
  await giveUp('honest.test', 3);
  await giveUp('flood.test', 120);
  expect(await reasons(200)).toHaveLength(100);
  const shown = await reasons(4);
  expect(shown).toEqual(['flood.test 119', 'flood.test 118', 'honest.test 2', 'honest.test 1']);
});

test('of servers without number that have one event given up each, those keep theirs that are in the room', async () => {
  await learnServers(store, roomId, ['honest.test' as ServerName], 'spoke', 1);
  await giveUp('honest.test', 2);
  for (let i = 0; i < 105; i++) await giveUp(`name-${i}.flood.test`, 1);
  const kept = await reasons(200);
  expect(kept).toHaveLength(100);
  expect(kept.at(-1)).toBe('honest.test 1');
});
