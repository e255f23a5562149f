/**
 * `npm run bench:walk`: what it costs to judge again what was said in a big room while it was partial, in a PostgreSQL of its own
 * without fsync. A room of 100,000 members; 1,000, 3,000 and 10,000 events since our join, a third of them state, 2 % on two branches
 * at a time, admitted as partial ones by the code that does so; then the full state comes and the room is walked to its end,
 * check 6 included. After the last walk the verdict on one member's membership turns, by which half of the messages were judged.
 * Each in a database of its own, with nothing in memory.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../src/clock.ts';
import { launchPostgres } from '../src/launch/postgres.ts';
import { type EventId, type ServerName, type UserId } from '../src/matrix/identifiers.ts';
import { defaultResyncPolicy } from '../src/resync/policy.ts';
import { type SnapshotId } from '../src/resync/events.ts';
import { type JournalEvent } from '../src/resync/entries.ts';
import { type RoomsContext } from '../src/rooms/context.ts';
import { ADMITTED_AT_ONCE_MAX, admitEvents } from '../src/rooms/judge/admit.ts';
import { correctEvents } from '../src/rooms/resync/correct-events.ts';
import { walkPartialEvents } from '../src/rooms/resync/walk.ts';
import { append } from '../src/store/journal/journal.ts';
import { createRoom, lockRoom, openEpoch, readRoom } from '../src/store/journal/rooms.ts';
import { migrate } from '../src/store/migrate.ts';
import { type Store, openStore, withTransaction } from '../src/store/open-store.ts';
import { changeSnapshot, createSnapshot } from '../src/store/snapshots/snapshots.ts';
import { BigRoom } from './bench/big-room.ts';
import { connectDatabase, readWrites, resetWrites, walBytes } from './bench/database.ts';
import { count, megabytes, seconds, tableLines } from './bench/table.ts';

const MEMBERS = 100_000;
const EVENTS = [1_000, 3_000, 10_000];
const ME = '@me:here.test' as UserId;
const RESIDENT = 'bench.test' as ServerName;
const WATCH_MEMORY_EVERY_MS = 50;

type Row = readonly string[];
const HEAD = ['', 'events', 'seconds', 'ms an event', 'processor s', 'rows written', 'WAL MB', 'chunks MB', 'peak MB'];

interface Filled {
  readonly room: BigRoom;
  /** The state before our join, whole and as a resident gives it first. */
  readonly full: SnapshotId;
  readonly partial: SnapshotId;
  readonly before: EventId;
}

const folder = await mkdtemp(join(tmpdir(), 'rejoinder-bench-walk-'));
const server = await launchPostgres({
  dataDirectory: folder,
  durability: 'throw-away',
  env: process.env,
  progress: (line) => console.error(line),
});

function databaseUrl(name: string): string {
  const url = new URL(server.databaseUrl);
  url.pathname = `/${name}`;
  return url.href;
}

function open(name: string): Store {
  return openStore({
    ...{ databaseUrl: databaseUrl(name), serverName: 'here.test' as ServerName },
    ...{ poolSizeMax: 4, applicationName: 'bench' },
  });
}

function contextOf(store: Store): RoomsContext {
  const used: Pick<RoomsContext, 'store' | 'clock' | 'policy' | 'serverName'> = {
    store,
    clock: systemClock,
    policy: defaultResyncPolicy,
    serverName: 'here.test' as ServerName,
  };
  return used as RoomsContext;
}

async function fill(): Promise<Filled> {
  await migrate(databaseUrl('filled'));
  const store = open('filled');
  const room = new BigRoom(MEMBERS);
  const full = await createSnapshot(store, room.roomId, await room.store(store));
  const partial = await createSnapshot(store, room.roomId, room.founding);
  await store.query('ANALYZE');
  await store.close();
  return { room, full, partial, before: room.last };
}

async function appendTo(store: Store, { roomId }: BigRoom, ...events: readonly JournalEvent[]): Promise<void> {
  await withTransaction(store, async (tx) => {
    const room = await lockRoom(tx, roomId);
    if (room === undefined) throw new Error('the room was made');
    await append(tx, room, events);
  });
}

/** Joins, takes the conversation in as partial events, and gets the full state. Gives the membership of who speaks most. */
async function converse(store: Store, { room, full, partial, before }: Filled, events: number): Promise<EventId> {
  const { roomId } = room;
  const { join: joinEventId, said, busiest } = await room.conversation(store, { user: ME, prev: before }, events);
  const joined = { joinEventId, userId: ME, roomVersion: room.rules.version, joinedVia: RESIDENT };
  const stateAfter = await changeSnapshot(store, roomId, partial, [{ eventId: joinEventId }]);
  await withTransaction(store, async (tx) => {
    await openEpoch(tx, await createRoom(tx, roomId, room.rules.version));
  });
  const asked = { ...joined, serversInRoom: [RESIDENT], fetchAt: [before], stateBefore: partial, at: 1 };
  const states = { stateBefore: partial, stateAfter, currentState: stateAfter };
  await appendTo(
    store,
    room,
    { type: 'PartialStateJoined', ...asked },
    { type: 'PduAccepted', eventId: joinEventId, partial: true, softFailed: false, ...states },
  );
  for (let start = 0; start < said.length; start += ADMITTED_AT_ONCE_MAX) {
    const admissions = await admitEvents(contextOf(store), roomId, said.slice(start, start + ADMITTED_AT_ONCE_MAX));
    for (const admission of admissions.values()) {
      if (admission.outcome !== 'admitted' || admission.verdict !== 'accepted') throw new Error('an event was refused');
    }
  }
  const attempt = { attemptNo: 1, resident: RESIDENT, atEventId: before, at: 2 };
  const counts = { state: MEMBERS, authChain: 0, members: MEMBERS, fetched: 0, alreadyHeld: 0, dropped: 0 };
  await appendTo(
    store,
    room,
    { type: 'StateFetchStarted', ...attempt },
    { type: 'StateFetched', ...attempt, snapshotId: full, counts, digest: 'd'.repeat(64) },
  );
  return busiest;
}

/** Time, what was written, and the most memory that this process had meanwhile, above what it had before. */
async function measured(
  what: string,
  database: string,
  events: number,
  work: (store: Store) => Promise<void>,
): Promise<Row> {
  const client = await connectDatabase(databaseUrl(database));
  await client.query('ANALYZE');
  await resetWrites(client);
  const chunks = async (): Promise<number> => {
    const { rows } = await client.query<{ bytes: string }>(
      'SELECT coalesce(sum(length(body)), 0) AS bytes FROM snapshot_chunks',
    );
    return Number(rows[0]?.bytes);
  };
  const [chunksBefore, walBefore] = [await chunks(), await walBytes(client)];
  globalThis.gc?.();
  const store = open(database);
  const before = process.memoryUsage().rss;
  let peak = before;
  const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), WATCH_MEMORY_EVERY_MS);
  const cpu = process.cpuUsage();
  const start = performance.now();
  await work(store);
  const tookMs = performance.now() - start;
  const { user, system } = process.cpuUsage(cpu);
  clearInterval(watch);
  await store.close();
  const wal = (await walBytes(client)) - walBefore;
  const written = (await readWrites(client)).tables.reduce(
    (sum, { inserted, updated, deleted }) => sum + inserted + updated + deleted,
    0,
  );
  const row = [
    what,
    count(events),
    seconds(tookMs / 1_000),
    seconds(tookMs / events),
    seconds((user + system) / 1e6),
    count(written),
    megabytes(wal),
    megabytes((await chunks()) - chunksBefore),
    megabytes(peak - before),
  ];
  await client.end();
  console.error(row.join('  '));
  return row;
}

try {
  const admin = await connectDatabase(server.databaseUrl);
  await admin.query('CREATE DATABASE filled');
  const filled = await fill();
  const progress = { signal: new AbortController().signal, heartbeat: () => undefined };
  const { roomId } = filled.room;
  const rows: Row[] = [];
  for (const events of EVENTS) {
    const database = `walk_${String(events)}`;
    await admin.query(`CREATE DATABASE ${database} TEMPLATE filled`);
    const store = open(database);
    const start = performance.now();
    const busiest = await converse(store, filled, events);
    await store.close();
    console.error(`${count(events)} events taken in within ${seconds((performance.now() - start) / 1_000)} s`);
    rows.push(
      await measured('walked', database, events + 1, async (walking) => {
        await walkPartialEvents(contextOf(walking), roomId, 1, progress);
        const room = await readRoom(walking, roomId);
        if (room?.resync.phase !== 'complete') throw new Error('the room is complete');
      }),
    );
    if (events !== EVENTS.at(-1)) continue;
    const turning = open(database);
    const verdict = {
      eventId: busiest,
      was: 'accepted',
      is: 'rejected',
      cause: 1,
      rule: 'bench',
      reason: 'bench',
    } as const;
    await appendTo(turning, filled.room, { type: 'VerdictChanged', ...verdict });
    await turning.close();
    rows.push(
      await measured('a verdict turned', database, events / 2, async (correcting) => {
        while (!(await correctEvents(contextOf(correcting), { roomId, epoch: 1 }, progress)));
      }),
    );
  }
  await admin.end();
  for (const line of tableLines(HEAD, rows)) console.log(line);
} finally {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
}
