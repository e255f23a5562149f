/**
 * `npm run bench:resolve`: what state resolution over stored states costs, in a PostgreSQL of its own without fsync. Rooms
 * of 10,000 and 100,000 members with 60 and 100 forks, each a member's change of a name on an old parent; two big states
 * that differ in one profile; one in which an old membership is in doubt; a chain of 1,600 auth events; check 5 of messages
 * in a partial room. The same room each time. Medians and maxima of the
 * clock, this process's processor time, which tells more where others use the machine too, and its growth.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { launchPostgres } from '../src/launch/postgres.ts';
import { type ServerName } from '../src/matrix/identifiers.ts';
import { resolveSnapshots } from '../src/rooms/judge/resolve.ts';
import { partialAuthStatesOf } from '../src/rooms/judge/partial-auth-state.ts';
import { createCaches } from '../src/store/caches.ts';
import { migrate } from '../src/store/migrate.ts';
import { type Store, openStore } from '../src/store/open-store.ts';
import { changeSnapshot, createSnapshot } from '../src/store/snapshots/snapshots.ts';
import { type SnapshotId } from '../src/resync/events.ts';
import { BigRoom } from './bench/big-room.ts';
import { megabytes, spreadOf, tableLines } from './bench/table.ts';

const SIZES = [
  { members: 10_000, forks: 60 },
  { members: 100_000, forks: 100 },
];
const CHAIN_EVENTS = 1_600;
/** Forks that are pushed once the others are there; each is measured. */
const PUSHED = 20;
const PARTIAL_MESSAGES = 1_000;
const PARTIAL_BATCH = 50;

type Row = readonly [what: string, median: string, max: string, processor: string, memory: string];
const ms = (value: number): string => value.toFixed(1);

/** One pass over `works`: their times, this process's processor time for each, and what it grew by at the end. */
async function measured(what: string, works: readonly (() => Promise<unknown>)[]): Promise<Row> {
  const before = process.memoryUsage().rss;
  const times: number[] = [];
  const cpu = process.cpuUsage();
  for (const work of works) {
    const start = performance.now();
    await work();
    times.push(performance.now() - start);
  }
  const { user, system } = process.cpuUsage(cpu);
  const { median, max } = spreadOf(times);
  const each = ms((user + system) / 1_000 / works.length);
  const row = [what, ms(median), ms(max), each, megabytes(Math.max(0, process.memoryUsage().rss - before))] as const;
  console.error(row.join('  '));
  return row;
}

/** As another process finds it: nothing in memory. */
function cold(store: Store): Store {
  return { ...store, caches: createCaches() };
}

async function forks(store: Store, room: BigRoom, base: SnapshotId, count: number, name: string): Promise<Row[]> {
  const events = await room.renames(store, count + PUSHED);
  const snapshots: SnapshotId[] = [];
  for (const eventId of events) snapshots.push(await changeSnapshot(store, room.roomId, base, [{ eventId }]));
  const resolve = (ends: readonly SnapshotId[], sql = store) => resolveSnapshots(sql, room.roomId, room.rules, ends);
  const rows = [
    await measured(`${name}, ${String(count)} forks, all at once`, [
      () => resolve(snapshots.slice(0, count), cold(store)),
    ]),
  ];
  await resolve(snapshots.slice(0, count));
  const pushes = Array.from({ length: PUSHED }, (_, i) => () => resolve(snapshots.slice(i + 1, count + i + 1)));
  rows.push(await measured(`${name}, ${String(count)} forks, one more each`, pushes));
  rows.push(await measured(`${name}, ${String(count)} forks, the same again`, pushes));
  return rows;
}

async function pairs(store: Store, room: BigRoom, base: SnapshotId, name: string): Promise<Row[]> {
  const rows: Row[] = [];
  const resolve = (pair: readonly SnapshotId[]) => () => resolveSnapshots(cold(store), room.roomId, room.rules, pair);
  const [renamed] = await room.renames(store, 1);
  if (renamed === undefined) throw new Error('a member was renamed');
  const one = await changeSnapshot(store, room.roomId, base, [{ eventId: renamed }]);
  rows.push(
    await measured(
      `${name}, one profile differs`,
      Array.from({ length: 5 }, () => resolve([base, one])),
    ),
  );
  const doubt = await room.lostMembership(store);
  const states: SnapshotId[] = [];
  for (const eventId of doubt.topics) {
    states.push(await changeSnapshot(store, room.roomId, base, [{ eventId: doubt.standing }, { eventId }]));
  }
  rows.push(
    await measured(
      `${name}, an old membership in doubt`,
      Array.from({ length: 5 }, () => resolve(states)),
    ),
  );
  return rows;
}

async function chain(store: Store, room: BigRoom, base: SnapshotId): Promise<Row> {
  const { last, fork } = await room.chain(store, CHAIN_EVENTS);
  const states: SnapshotId[] = [];
  for (const eventId of [last, fork]) states.push(await changeSnapshot(store, room.roomId, base, [{ eventId }]));
  const works = Array.from({ length: 5 }, () => () => resolveSnapshots(cold(store), room.roomId, room.rules, states));
  return measured(`a chain of ${String(CHAIN_EVENTS)} auth events`, works);
}

/** Milliseconds a batch, of messages of members of whom the partial state knows nothing. */
async function partialCheck(store: Store, room: BigRoom): Promise<Row> {
  const snapshot = await createSnapshot(store, room.roomId, room.founding);
  const wanted = room.messages(PARTIAL_MESSAGES).map((message) => ({ snapshot, ...message }));
  const batches = Array.from(
    { length: PARTIAL_MESSAGES / PARTIAL_BATCH },
    (_, i) => () =>
      partialAuthStatesOf(store, room.roomId, room.rules, wanted.slice(i * PARTIAL_BATCH, (i + 1) * PARTIAL_BATCH)),
  );
  return measured(`check 5 by partial state, ${String(PARTIAL_BATCH)} messages`, batches);
}

const folder = await mkdtemp(join(tmpdir(), 'rejoinder-bench-resolve-'));
const server = await launchPostgres({
  dataDirectory: folder,
  durability: 'throw-away',
  env: process.env,
  progress: (line) => console.error(line),
});
try {
  await migrate(server.databaseUrl);
  const rows: Row[] = [];
  for (const { members, forks: count } of SIZES) {
    const store = openStore({
      ...{ databaseUrl: server.databaseUrl, serverName: 'here.test' as ServerName },
      ...{ poolSizeMax: 4, applicationName: 'bench' },
    });
    const room = new BigRoom(members);
    const base = await createSnapshot(store, room.roomId, await room.store(store));
    await store.query('ANALYZE');
    const name = `${members.toLocaleString('en')} members`;
    rows.push(...(await forks(store, room, base, count, name)));
    rows.push(...(await pairs(store, room, base, name)));
    if (members === SIZES[0]?.members) rows.push(await chain(store, room, base), await partialCheck(store, room));
    await store.close();
  }
  for (const line of tableLines(['', 'median ms', 'max ms', 'processor ms', 'grown MB'], rows)) console.log(line);
} finally {
  await server.stop();
  await rm(folder, { recursive: true, force: true });
}
