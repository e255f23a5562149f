/** The journal says all that the fold tables hold: folded again, each room gives the same rows. */
import { getTableColumns, getTableName, is } from 'drizzle-orm';
import { toSnakeCase } from 'drizzle-orm/casing';
import { PgTable } from 'drizzle-orm/pg-core';
import { describe, expect, test, vi } from 'vitest';
import { type RoomId, type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { FOLD_TABLES } from '../../../src/store/journal/fold-tables.ts';
import { append, readHead } from '../../../src/store/journal/journal.ts';
import { type RoomRebuilt } from '../../../src/store/journal/rebuild.ts';
import { lockRoom, openEpoch } from '../../../src/store/journal/rooms.ts';
import { withTransaction } from '../../../src/store/open-store.ts';
import { outlierVerdicts } from '../../../src/store/schema/events.ts';
import * as folds from '../../../src/store/schema/folds.ts';
import { collectChunks } from '../../../src/store/snapshots/collect-chunks.ts';
import { ADMIN, ME, PartialRoom, member, message } from '../../rooms/resync/partial-room.ts';
import { expectFoldsRebuilt, rebuilt } from '../../support/folds.ts';
import { openTestStore } from '../../support/postgres.ts';

const { store } = await openTestStore();

const AUTH = ['create', 'power', 'rules'];
const KNOWN = ['create', 'admin', 'power', 'rules'];
const FROM_ADMIN = { auth: ['create', 'power', 'admin'] };
const BOB = '@bob:there.test';

/** Joined partially; then a gap, a user who had in truth been banned, a fork, and completion. */
async function roomWithAll(): Promise<PartialRoom> {
  const room = new PartialRoom(store);
  await room.join();
  const assumedState = await room.state(...AUTH, 'join');
  const gap = { eventIds: [room.id('gap')], origin: 'there.test' as ServerName, assumedState, at: 3 };
  await room.journal({ type: 'GapOpened', ...gap });
  await room.hold(
    member('bob', BOB, 'join', { auth: AUTH }),
    member('bob-ban', BOB, 'ban', { sender: ADMIN, ...FROM_ADMIN }),
  );
  await room.push(
    message('beside', ADMIN, { prev: ['before'], ...FROM_ADMIN }),
    message('banned', BOB, { prev: ['join'], auth: ['create', 'power', 'bob'] }),
    { id: 'named', type: 'm.room.name', stateKey: '', content: { name: 'The room' }, prev: ['join'], ...FROM_ADMIN },
  );
  await room.push(
    message('over', ADMIN, { prev: ['gap'], ...FROM_ADMIN }),
    message('both', ADMIN, { prev: ['banned', 'named'], ...FROM_ADMIN }),
  );
  await room.fetch(...KNOWN, 'bob-ban');
  expect(await room.walk()).toMatchObject({ partial: false });
  expect(await room.event('banned')).toMatchObject({ verdict: 'rejected' });
  await room.push(message('later', ADMIN, { prev: ['both', 'over', 'beside'], ...FROM_ADMIN }));
  return room;
}

test('a room that was partial, had a gap and corrections, and became whole is folded again to the same rows', async () => {
  const room = await roomWithAll();
  await expectFoldsRebuilt(store, room.roomId);
});

test('so is one that is still partial, and one whose old snapshots were collected', async () => {
  const partial = new PartialRoom(store);
  await partial.join();
  await partial.push(message('said', ADMIN, { prev: ['join'], ...FROM_ADMIN }));
  await expectFoldsRebuilt(store, partial.roomId);
  const whole = await roomWithAll();
  const day = 86_400_000;
  await collectChunks(store, whole.roomId, { now: day, heartbeat: () => undefined });
  expect(await collectChunks(store, whole.roomId, { now: 3 * day, heartbeat: () => undefined })).toBeGreaterThan(0);
  await expectFoldsRebuilt(store, whole.roomId);
});

test('so is one that we left while it was partial, and joined again: its partial events are of the new stay', async () => {
  const room = new PartialRoom(store);
  await room.join();
  await room.push(message('said', ADMIN, { prev: ['join'], ...FROM_ADMIN }));
  await room.hold(member('again', ME, 'join', { prev: ['before'], auth: AUTH }));
  const [stateBefore, stateAfter] = [await room.state(...AUTH), await room.state(...AUTH, 'again')];
  await withTransaction(store, async (tx) => {
    const stay = await openEpoch(tx, (await lockRoom(tx, room.roomId))!);
    const there = 'there.test' as ServerName;
    const joined = { joinEventId: room.id('again'), userId: ME as UserId, roomVersion: '10', joinedVia: there };
    const states = { stateBefore, stateAfter, currentState: stateAfter };
    await append(tx, stay, [
      { type: 'PartialStateJoined', ...joined, serversInRoom: [], fetchAt: [room.id('before')], stateBefore, at: 5 },
      { type: 'PduAccepted', eventId: room.id('again'), partial: true, softFailed: false, ...states },
    ]);
  });
  expect(await room.event('said')).toMatchObject({ partial: true, epoch: 2 });
  await expectFoldsRebuilt(store, room.roomId);
});

test('what is to be corrected yet comes of the entries that say so, and of the last about each', async () => {
  const room = await roomWithAll();
  const turn = { was: 'accepted', is: 'rejected', rule: 'late', reason: 'late', cause: 1 } as const;
  await room.journal({ type: 'VerdictChanged', eventId: room.id('power'), ...turn });
  await expectFoldsRebuilt(store, room.roomId);
  await store.query('UPDATE correction_causes SET cause = cause - 1 WHERE room_id = $1', [room.roomId]);
  const [found] = await rebuilt(store, room.roomId);
  expect(found?.differences).toMatchObject([{ table: 'correction_causes' }]);
  await store.query('UPDATE correction_causes SET cause = cause + 1, guess_ended = cause WHERE room_id = $1', [
    room.roomId,
  ]);
  const [guessed] = await rebuilt(store, room.roomId);
  expect(guessed?.differences).toMatchObject([{ table: 'correction_causes' }]);
  await store.query('UPDATE correction_causes SET guess_ended = NULL WHERE room_id = $1', [room.roomId]);
  await room.correct();
  await expectFoldsRebuilt(store, room.roomId);
});

describe('a change that was not carried on is found where its row is gone', () => {
  const WITH_BOB = [...KNOWN, 'bob'];
  const why = { was: 'accepted', is: 'rejected', rule: 'late', reason: 'late', cause: 1 } as const;

  async function withBob(): Promise<PartialRoom> {
    const room = new PartialRoom(store);
    await room.join();
    await room.hold(member('bob', BOB, 'join', { auth: ['create', 'power', 'rules'] }));
    await room.push(message('said', BOB, { prev: ['join'], auth: ['create', 'power', 'bob'] }));
    await room.fetch(...WITH_BOB);
    await room.walk();
    await expectFoldsRebuilt(store, room.roomId);
    return room;
  }

  async function lost(room: PartialRoom, eventId: string): Promise<void> {
    await store.query('DELETE FROM correction_causes WHERE room_id = $1 AND event_id = $2', [room.roomId, eventId]);
    const [found] = await rebuilt(store, room.roomId);
    expect(found?.differences).toMatchObject([
      { table: 'correction_causes', first: [{ key: [room.roomId, eventId], only: 'rebuilt' }] },
    ]);
  }

  test('of a verdict, by what cites the event', async () => {
    const room = await withBob();
    await room.journal({ type: 'VerdictChanged', eventId: room.id('bob'), ...why });
    await expectFoldsRebuilt(store, room.roomId);
    await lost(room, room.id('bob'));
  });

  test('of a state, by what builds on the event', async () => {
    const room = await withBob();
    const [stateBefore, stateAfter] = [await room.state(...WITH_BOB), await room.state('create', 'power', 'join')];
    const eventIds = [room.id('join')];
    await room.journal({ type: 'StatesChanged', eventIds, stateBefore, stateAfter, cause: 1 });
    await expectFoldsRebuilt(store, room.roomId);
    await lost(room, room.id('join'));
  });

  test('of the current state, by the newest event', async () => {
    const room = await withBob();
    const [stateBefore, stateAfter] = [
      await room.state(...WITH_BOB, 'join'),
      await room.state('create', 'power', 'join'),
    ];
    const eventIds = [room.id('said')];
    await room.journal({ type: 'StatesChanged', eventIds, stateBefore, stateAfter, cause: 1 });
    await store.query('DELETE FROM correction_causes WHERE room_id = $1 AND event_id <> $2', [room.roomId, '']);
    await expectFoldsRebuilt(store, room.roomId);
    await lost(room, '');
  });
});

describe('a row that was changed by hand is found', () => {
  const changes: readonly [table: string, statement: string][] = [
    ['rooms', `UPDATE rooms SET state_version = state_version + 1 WHERE room_id = $1`],
    ['rooms', `UPDATE rooms SET members = members + 1 WHERE room_id = $1`],
    ['rooms', `UPDATE rooms SET name = 'Another' WHERE room_id = $1`],
    ['resyncs', `UPDATE resyncs SET state = replace(state::text, '"walked":', '"walked":1')::json WHERE room_id = $1`],
    ['event_states', `UPDATE event_states SET verdict = 'accepted' WHERE room_id = $1 AND verdict = 'rejected'`],
    ['event_states', `DELETE FROM event_states WHERE room_id = $1 AND rule IS NOT NULL`],
    ['anchors', `UPDATE anchors SET partial = true WHERE room_id = $1`],
    ['gaps', `UPDATE gaps SET wake_at = NULL WHERE room_id = $1`],
    ['event_states', `UPDATE event_states SET shown_at = NULL WHERE room_id = $1 AND event_id LIKE '$later%'`],
    ['current_states', `DELETE FROM current_states WHERE room_id = $1 AND NOT partial`],
    ['room_servers', `INSERT INTO room_servers VALUES ($1, 'nobody.test', 'hint', 1)`],
    ['event_edges', `DELETE FROM event_edges WHERE room_id = $1 AND event_id LIKE '$later%'`],
    ['forward_extremities', `INSERT INTO forward_extremities VALUES ($1, '$another')`],
    ['correction_causes', `INSERT INTO correction_causes VALUES ($1, '$nobody', 1, true, true, true, 1)`],
    ['local_members', `UPDATE local_members SET membership = 'leave' WHERE room_id = $1`],
  ];
  test.each(changes)('in %s: %s', async (table, statement) => {
    const room = await roomWithAll();
    await store.query(statement, [room.roomId]);
    const [found] = await rebuilt(store, room.roomId);
    expect(found?.differences.map((difference) => difference.table)).toEqual([table]);
    expect(found?.differences[0]?.rows).toBeGreaterThan(0);
    expect(found?.differences[0]?.first.length).toBeGreaterThan(0);
  });

  test('with both sides of it, and the field of a state by its name', async () => {
    const room = await roomWithAll();
    await store.query(`UPDATE local_members SET membership = 'leave' WHERE room_id = $1`, [room.roomId]);
    await store.query(
      `UPDATE resyncs SET state = replace(state::text, '"corrected":1', '"corrected":7')::json WHERE room_id = $1`,
      [room.roomId],
    );
    const [found] = await rebuilt(store, room.roomId);
    expect(found?.differences).toEqual([
      {
        table: 'resyncs',
        rows: 1,
        first: [{ key: [room.roomId, '1'], columns: { 'state.corrected': { live: '7', rebuilt: '1' } } }],
      },
      {
        table: 'local_members',
        rows: 1,
        first: [{ key: [room.roomId, ME], columns: { membership: { live: 'leave', rebuilt: 'join' } } }],
      },
    ]);
  });

  test('a room that is not in the journal, and entries of a room that has lost its row', async () => {
    const lost = await roomWithAll();
    await store.query(`DELETE FROM rooms WHERE room_id = $1`, [lost.roomId]);
    const unheard = '!unheard:there.test' as RoomId;
    await store.query(`INSERT INTO rooms (room_id, room_version) VALUES ($1, '11')`, [unheard]);
    const found = (await rebuilt(store)).filter(({ differences }) =>
      differences.some(({ table }) => table === 'rooms'),
    );
    expect(found.map(({ roomId, differences }) => [roomId, differences[0]?.first[0]?.only])).toEqual(
      expect.arrayContaining([
        [lost.roomId, 'rebuilt'],
        [unheard, 'live'],
      ]),
    );
  });
});

test('what is appended while a room is folded again is on neither side', async () => {
  const room = await roomWithAll();
  let rebuilding: Promise<RoomRebuilt[]> | undefined;
  const position = await readHead(store);
  await withTransaction(store, async (tx) => {
    await tx.query('LOCK TABLE pdus IN ACCESS EXCLUSIVE MODE');
    rebuilding = rebuilt(store, room.roomId);
    await vi.waitFor(async () => {
      const waiting = await store.query(
        `SELECT FROM pg_stat_activity WHERE application_name LIKE '%rebuild' AND wait_event_type = 'Lock'`,
      );
      expect(waiting).toHaveLength(1);
    });
    const gap = { eventIds: [room.id('late')], origin: 'late.test' as ServerName, assumedState: null, at: 9 };
    await append(tx, (await lockRoom(tx, room.roomId))!, [{ type: 'GapOpened', ...gap }]);
  });
  expect(await rebuilding).toMatchObject([{ position, differences: [] }]);
  expect(await readHead(store)).toBe(position + 1);
  await expectFoldsRebuilt(store, room.roomId);
});

test('an entry that does not say what folds of today need is named, and the other rooms are compared', async () => {
  const [old, young] = [await roomWithAll(), await roomWithAll()];
  await store.query(
    `UPDATE journal SET data = (data::jsonb - 'stateBefore')::json WHERE room_id = $1 AND type = 'PartialStateJoined'`,
    [old.roomId],
  );
  const found = new Map((await rebuilt(store)).map((room) => [room.roomId, room]));
  expect(found.get(old.roomId)?.unfoldable).toMatch(/^PartialStateJoined at position \d+: .*state_after/);
  expect(found.get(young.roomId)).toMatchObject({ differences: [] });
  expect(found.get(young.roomId)?.unfoldable).toBeUndefined();
});

test('nothing that a rebuild writes reaches a live table', async () => {
  const room = await roomWithAll();
  const before = await store.query(`SELECT xmin::text, ctid::text FROM event_states WHERE room_id = $1 ORDER BY 2`, [
    room.roomId,
  ]);
  await expectFoldsRebuilt(store, room.roomId);
  const after = await store.query(`SELECT xmin::text, ctid::text FROM event_states WHERE room_id = $1 ORDER BY 2`, [
    room.roomId,
  ]);
  expect(after).toEqual(before);
});

test('every column of every fold table is compared, or it says why not', () => {
  const tables = Object.values(folds as Record<string, unknown>).filter((table) => is(table, PgTable));
  const columnsOf = (table: PgTable) =>
    Object.values(getTableColumns(table))
      .map(({ name }) => toSnakeCase(name))
      .sort();
  const declared = Object.fromEntries(tables.map((table) => [getTableName(table), columnsOf(table)]));
  const compared = Object.fromEntries(
    FOLD_TABLES.map(({ name, key, columns, noFold }) => [
      name,
      noFold === undefined ? [...key, ...Object.keys(columns)].sort() : declared[name],
    ]),
  );
  const { outlier_verdicts: outliers, ...ofFolds } = compared;
  expect(ofFolds).toEqual(declared);
  expect(outliers).toEqual(columnsOf(outlierVerdicts));
});
