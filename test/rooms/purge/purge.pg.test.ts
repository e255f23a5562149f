/** A purged room leaves nothing but the entry that says so, wherever the purge was cut off, and whoever was at work at it. */
import { describe, expect, test } from 'vitest';
import { inStay } from '../../../src/rooms/in-stay.ts';
import { goOnPurging, planPurge, recordRequest } from '../../../src/rooms/purge/purge.ts';
import { resumePurges } from '../../../src/rooms/purge/purges.ts';
import { type RoomId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { walkPartialEvents } from '../../../src/rooms/resync/walk.ts';
import { StayOverError } from '../../../src/store/fence.ts';
import { insertPdus, recordOutlierVerdicts } from '../../../src/store/events/pdus.ts';
import { readTombstone } from '../../../src/store/journal/tombstones.ts';
import { createRoom, openEpoch, readRoom } from '../../../src/store/journal/rooms.ts';
import { type Appended, withTransaction } from '../../../src/store/open-store.ts';
import { PURGED_TABLES } from '../../../src/store/purge/purged-tables.ts';
import { claimDueIntent, claimJoinIntents } from '../../../src/store/tables/intents.ts';
import { readPurge } from '../../../src/store/tables/room-purges.ts';
import { writeFetchProgress } from '../../../src/store/tables/fetch-progress.ts';
import { openConnections } from '../../simulation/connections.ts';
import { Activity, Crash, openFragileStore } from '../../simulation/fragile-store.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore } from '../../support/postgres.ts';
import { statementsOf } from '../../support/statements.ts';
import { ME, type PartialRoom, member, message } from '../resync/partial-room.ts';
import { NOBODY_STOPS, me, purgingContext, recordMove, roomToPurge } from './room-to-purge.ts';

const told: Appended[] = [];
const { store, database } = await openTestStore({ onAppended: (appended) => void told.push(appended) });

const leave = member('out', ME, 'leave', { prev: ['over'], auth: ['create', 'power', 'join'] });

/** Asks for it and does it. */
async function purge(room: PartialRoom, isForced = true): Promise<void> {
  const context = purgingContext(room);
  await recordRequest(context, { roomId: room.roomId, isForced });
  await goOnPurging(context, room.roomId, NOBODY_STOPS);
}

interface Column {
  readonly table: string;
  readonly column: string;
}

function columns(where: string): Promise<Column[]> {
  return store.query<Column>(
    `SELECT c.relname AS table, a.attname AS column FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
      WHERE c.relkind = 'r' AND c.relnamespace = 'public'::regnamespace AND a.attnum > 0 AND NOT a.attisdropped AND ${where}
      ORDER BY 1, 2`,
  );
}

/** How many rows of each table say anything of the room: its id, or an id of one of its events. */
async function traces({ roomId, number }: PartialRoom): Promise<Record<string, number>> {
  const found: Record<string, number> = {};
  for (const table of new Set((await columns('true')).map((column) => column.table))) {
    const [row] = await store.query<{ n: number }>(
      `SELECT count(*) AS n FROM ${table} t WHERE t::text LIKE '%' || $1 || '%' OR t::text ~ $2`,
      [roomId, `-${number}:there.test`],
    );
    if (row !== undefined && row.n > 0) found[table] = row.n;
  }
  return found;
}

const rowsIn = async (table: string): Promise<number> =>
  (await store.query<{ n: number }>(`SELECT count(*) AS n FROM ${table}`))[0]?.n ?? 0;

describe('a purge', () => {
  test('deletes from every table that names a room, an event or a pass over a room', async () => {
    const purged = new Set(
      PURGED_TABLES.flatMap(({ name, also }) => [name, ...(also === undefined ? [] : [also.name])]),
    );
    // Its row goes with the last step.
    purged.add('room_purges');
    const naming = await columns(`a.attname ~ '(^|_)(room|event|pass|anchor|gap)(_id|_nid)?$'`);
    expect(naming.filter(({ table }) => !purged.has(table))).toEqual([]);
    expect(naming.length).toBeGreaterThan(PURGED_TABLES.length);
  });

  test('says beforehand how many rows of each table would go, and leaves none but the entry that says so', async () => {
    const room = await roomToPurge(store);
    await recordMove(store, room);
    const others = await roomToPurge(store);
    const othersBefore = await traces(others);
    const plan = await planPurge({ store }, room.roomId);
    expect(plan).toMatchObject({ members: [me], openMoves: 1 });
    const all = PURGED_TABLES.flatMap(({ name, also }) => [name, ...(also === undefined ? [] : [also.name])]);
    expect(plan.tables.map(({ table }) => table).sort()).toEqual(all.sort());
    const before = new Map(await Promise.all(all.map(async (table) => [table, await rowsIn(table)] as const)));

    await purge(room);
    expect(await traces(room)).toEqual({ journal: 1 });
    expect(await traces(others)).toEqual(othersBefore);
    for (const { table, rows } of plan.tables) {
      // What the leave added is gone with the rest.
      const left = await rowsIn(table);
      expect([table, (before.get(table) ?? 0) - left]).toEqual([table, table === 'journal' ? rows - 1 : rows]);
    }
    const tombstone = await readTombstone(store, room.roomId);
    expect(tombstone).toMatchObject({ epoch: 2, event: { type: 'RoomPurged', putOut: [me] } });
    expect(tombstone?.event.users).toEqual(['@former:here.test', me]);
    await expectFoldsRebuilt(store, room.roomId);
  });

  test('has users of ours leave by an event that others get, before anything goes', async () => {
    const room = await roomToPurge(store);
    told.length = 0;
    await purge(room);
    const entries = told.flatMap((appended) => appended.entries).filter(({ roomId }) => roomId === room.roomId);
    expect(entries.map(({ event }) => event.type)).toEqual(['PduAccepted', 'EverybodyLeft', 'RoomPurged']);
    expect(entries[0]?.event).toMatchObject({ outgoing: true });
  });

  test('of a room that somebody of us is in, or is about to be, asks for force and changes nothing', async () => {
    const room = await roomToPurge(store);
    const before = await traces(room);
    const ask = (isForced = false) => recordRequest(purgingContext(room), { roomId: room.roomId, isForced });
    await expect(ask()).rejects.toMatchObject({ kind: 'needs-force', message: expect.stringContaining(ME) as string });
    await recordMove(store, room, Number.MAX_SAFE_INTEGER);
    await expect(ask(true)).rejects.toMatchObject({ kind: 'busy' });
    await store.query(`DELETE FROM join_intents WHERE room_id = $1`, [room.roomId]);
    await room.push(leave);
    await recordMove(store, room);
    await expect(ask()).rejects.toMatchObject({
      kind: 'needs-force',
      message: expect.stringContaining('not settled') as string,
    });
    expect(Object.keys(await traces(room)).filter((table) => !(table in before))).toEqual(['join_intents']);
    await expect(planPurge({ store }, '!unknown:t' as RoomId)).rejects.toMatchObject({ kind: 'unknown-room' });
    await expect(
      recordRequest(purgingContext(room), { roomId: '!unknown:t' as RoomId, isForced: true }),
    ).rejects.toMatchObject({ kind: 'unknown-room' });
  });

  test('asked for twice is one purge', async () => {
    const room = await roomToPurge(store);
    const request = { roomId: room.roomId, isForced: true };
    const first = await recordRequest(purgingContext(room), request);
    expect((await recordRequest(purgingContext(room), request)).purgeId).toBe(first.purgeId);
    await goOnPurging(purgingContext(room), room.roomId, NOBODY_STOPS);
    expect((await readTombstone(store, room.roomId))?.event.purgeId).toBe(first.purgeId);
  });

  test('keeps joins waiting until it is over', async () => {
    const room = await roomToPurge(store);
    await recordRequest(purgingContext(room), { roomId: room.roomId, isForced: true });
    expect(await claimJoinIntents(store, room.roomId, me)).toBeUndefined();
    await recordMove(store, room);
    expect((await claimDueIntent(store, 1))?.roomId).not.toBe(room.roomId);
    await goOnPurging(purgingContext(room), room.roomId, NOBODY_STOPS);
    expect(await claimJoinIntents(store, room.roomId, me)).toEqual([]);
  });

  test('gives other servers a minute to hear of the leaves, and no longer', async () => {
    const room = await roomToPurge(store);
    await store.query(
      `INSERT INTO deliveries (server_name, leased_until, failures, retry_at) VALUES ('there.test', 0, 0, 0) ON CONFLICT DO NOTHING`,
    );
    await store.query(`UPDATE destination_rooms SET owed = 9 WHERE room_id = $1`, [room.roomId]);
    let now = 1_000;
    const stop = new AbortController();
    const context = purgingContext(room, { clock: { now: () => now } });
    await recordRequest(context, { roomId: room.roomId, isForced: true });
    const purging = goOnPurging(context, room.roomId, stop.signal);
    await expect.poll(async () => (await readPurge(store, room.roomId))?.fencedAt).toBe(1_000);
    expect(await readRoom(store, room.roomId)).toBeDefined();
    now += 60_000;
    await purging;
    expect(await traces(room)).toEqual({ journal: 1 });
  });

  test.each(['before', 'after'] as const)(
    'that is killed again and again, %s a commit, is gone on with to the same end',
    async (when) => {
      const room = await roomToPurge(store);
      await recordRequest(purgingContext(room), { roomId: room.roomId, isForced: true });
      let lives = 0;
      const connections = openConnections(database.url, 3);
      const options = {
        ...{ databaseUrl: database.url, serverName: 'here.test' as ServerName },
        ...{ poolSizeMax: 3, applicationName: 'a purge that is killed' },
      };
      while ((await readPurge(store, room.roomId)) !== undefined) {
        lives += 1;
        expect(lives).toBeLessThan(300);
        const activity = new Activity();
        const fragile = openFragileStore(options, activity, connections);
        // Each life ends a commit later; what it had done stays done.
        fragile.arm(lives, when);
        const context = purgingContext(room, { store: fragile.store });
        await goOnPurging(context, room.roomId, NOBODY_STOPS).catch((error: unknown) => {
          if (!(error instanceof Crash)) throw error;
        });
        await activity.idle();
        // What the dead had claimed is free in half a minute.
        await store.query(`UPDATE room_purges SET claimed_until = 0`);
      }
      await connections.close();
      expect(lives).toBeGreaterThan(10);
      expect(await traces(room)).toEqual({ journal: 1 });
    },
  );

  test('that was cut off is gone on with by whoever looks for such next', async () => {
    const room = await roomToPurge(store);
    const context = purgingContext(room);
    await recordRequest(context, { roomId: room.roomId, isForced: true });
    await goOnPurging(context, room.roomId, AbortSignal.abort());
    expect(await readRoom(store, room.roomId)).toBeDefined();
    expect(await resumePurges(context, NOBODY_STOPS)).toBe(1);
    expect(await traces(room)).toEqual({ journal: 1 });
    expect(await resumePurges(context, NOBODY_STOPS)).toBe(0);
  });

  test('takes as many statements whatever else the database holds', async () => {
    const [one, two] = [await roomToPurge(store), await roomToPurge(store)];
    const first = (await statementsOf(() => purge(one))).length;
    await Promise.all([roomToPurge(store), roomToPurge(store)]);
    expect((await statementsOf(() => purge(two))).length).toBe(first);
  });
});

describe('what was under way for a room', () => {
  test('writes nothing more once it is purged, nor in its next life, and reads nothing', async () => {
    const room = await roomToPurge(store);
    const staying = inStay(room.context, { roomId: room.roomId, epoch: 1 });
    const late = async (): Promise<void> => {
      const progress = { roomId: room.roomId, epoch: 1, attemptNo: 1, wanted: 1, held: 1, bytes: 1, at: 1 };
      const verdict = { eventId: room.id('bob'), verdict: 'accepted', authDepth: 1 } as const;
      await expect(writeFetchProgress(staying.store, progress)).rejects.toThrow(StayOverError);
      await expect(recordOutlierVerdicts(staying.store, room.roomId, [verdict])).rejects.toThrow(StayOverError);
      await expect(insertPdus(staying.store, [room.pdu(message('late', ME))])).rejects.toThrow(StayOverError);
      const many = Array.from({ length: 600 }, (_, i) => room.pdu(message(`late${i}`, ME)));
      await expect(insertPdus(staying.store, many)).rejects.toThrow(StayOverError);
      await expect(room.state('create').then(() => 'made')).rejects.toThrow();
      await expect(staying.store.inTransaction(() => Promise.resolve('written'))).rejects.toThrow(StayOverError);
    };
    await insertPdus(staying.store, [room.pdu(message('in-time', ME))]);
    await purge(room);
    await late();
    expect(await traces(room)).toEqual({ journal: 1 });
    await withTransaction(store, async (tx) => openEpoch(tx, await createRoom(tx, room.roomId, '10')));
    await expect(insertPdus(staying.store, [room.pdu(message('late', ME))])).rejects.toThrow(StayOverError);
    await expect(
      walkPartialEvents(staying, room.roomId, 1, { signal: NOBODY_STOPS, heartbeat: () => undefined }),
    ).resolves.not.toThrow();
  });

  test('and is writing at this moment is waited for, and goes with the rest', async () => {
    const room = await roomToPurge(store);
    await recordRequest(purgingContext(room), { roomId: room.roomId, isForced: true });
    let release = (): void => undefined;
    let holds = (): void => undefined;
    const isHolding = new Promise<void>((resolve) => (holds = resolve));
    const released = new Promise<void>((resolve) => (release = resolve));
    const writing = inStay(room.context, { roomId: room.roomId, epoch: 1 }).store.inTransaction(async (tx) => {
      await insertPdus(tx, [room.pdu(message('slow', ME))]);
      holds();
      await released;
    });
    await isHolding;
    const purging = goOnPurging(purgingContext(room), room.roomId, NOBODY_STOPS);
    await expect
      .poll(
        async () =>
          (
            await store.query(
              `SELECT FROM pg_stat_activity WHERE query LIKE '%FOR UPDATE' AND wait_event_type = 'Lock'`,
            )
          ).length,
      )
      .toBeGreaterThan(0);
    expect((await readPurge(store, room.roomId))?.fencedAt).toBeNull();
    release();
    await writing;
    await purging;
    expect(await traces(room)).toEqual({ journal: 1 });
  });
});
