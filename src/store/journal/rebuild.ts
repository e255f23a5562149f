/**
 * `journal rebuild`: folds the recorded entries of a room once more, by the functions that fold them when they are appended,
 * and compares the outcome with the live tables. Nothing is decided again. Live rows are never replaced: who finds a difference
 * has found a bug, and wants to see both sides of it.
 *
 * The shadow tables are temporary ones of the same names on a connection of their own, so that PostgreSQL finds them first;
 * the transaction that folds is read only, which PostgreSQL does not hold against temporary tables. So no fold can touch a
 * live row, even one that writes a table which has no shadow here: it fails. A room is folded and compared in one snapshot of
 * the database, while servers go on.
 *
 * Snapshots in between may have been collected long ago: no state is read but the current one, which is there always.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { isTimelineEvent } from '../../resync/entries.ts';
import { type Journalled } from '../../resync/events.ts';
import { CONNECTION_LIMITS } from '../connection-limits.ts';
import {
  type Store,
  type StoreOptions,
  type Transaction,
  openStore,
  sqlStateOf,
  withTransaction,
} from '../open-store.ts';
import { type TableDifference, compareFolds } from './compare-folds.ts';
import { foldCurrentState } from './fold-current-state.ts';
import { foldEntries } from './fold-entries.ts';
import { foldSpeakers } from './fold-room-servers.ts';
import { FOLD_TABLES } from './fold-tables.ts';
import { foldSilentLeaves } from './silent-leaves.ts';
import { timelineFacts } from './fold-timeline.ts';
import { readHead, readJournal } from './journal.ts';
import { type LockedRoom, createRoom, lockRoom, openEpoch } from './rooms.ts';
import { writeFolded } from './write-entries.ts';

/** Entries in memory at a time; one is a few hundred bytes, and some kilobytes where it lists servers. */
const ENTRIES_A_READ = 500;
/** Timeline entries that are folded together, as many as a batch of a walk has. */
const ENTRIES_A_FOLD = 200;
/** Rooms whose names are read at a time. */
const ROOMS_A_READ = 1_000;
/** Comparing the tables of the largest room is one statement each. */
const STATEMENT_MS_MAX = 600_000;

export interface RoomRebuilt {
  readonly roomId: RoomId;
  /** Entries that were folded. */
  readonly entries: number;
  /** The head of the journal then: what both sides are compared at. */
  readonly position: number;
  /** One for each table in which something differs. */
  readonly differences: readonly TableDifference[];
  /** Present: an entry does not say what its folds need, as one of an older version may not. Then nothing was compared. */
  readonly unfoldable?: string;
}

/** An entry, or one of those folded with it, lacks what its folds need. */
class UnfoldableError extends Error {
  override readonly name = 'UnfoldableError';
}

export interface RebuildQuery {
  /** Absent: all rooms. */
  readonly roomId?: RoomId;
  /** Rows that are shown of a table that differs. */
  readonly rowsMax: number;
  readonly signal: AbortSignal;
}

/** Shadow tables, to fold into again and again. */
export interface Shadows {
  /** Folds rooms of `store`, one after the other, and gives how each compares. One call at a time. */
  rebuild(store: Store, query: RebuildQuery): AsyncGenerator<RoomRebuilt>;
  close(): Promise<void>;
}

/** Folds one room after the other into shadow tables of its own. */
export async function* rebuildFolds(store: Store, query: RebuildQuery): AsyncGenerator<RoomRebuilt> {
  const { connection, serverName } = store;
  const shadows = await openShadows({ databaseUrl: connection.connectionString ?? '', serverName });
  try {
    yield* shadows.rebuild(store, query);
  } finally {
    await shadows.close();
  }
}

/** Shadow tables of a database, on a connection of their own. */
export async function openShadows(database: Pick<StoreOptions, 'databaseUrl' | 'serverName'>): Promise<Shadows> {
  const shadow = openStore({
    ...database,
    poolSizeMax: 1,
    applicationName: 'rejoinder journal rebuild',
    limits: { ...CONNECTION_LIMITS, statementMs: STATEMENT_MS_MAX },
  });
  // With the connection its tables would go.
  shadow.pool.options.idleTimeoutMillis = 0;
  try {
    const schema = await createShadows(shadow);
    return {
      rebuild: (store, query) => rebuildRooms(store, { ...shadow, serverName: store.serverName }, { ...query, schema }),
      close: () => shadow.close(),
    };
  } catch (error) {
    await shadow.close();
    throw error;
  }
}

async function* rebuildRooms(
  store: Store,
  shadow: Store,
  query: RebuildQuery & Pick<RoomQuery, 'schema'>,
): AsyncGenerator<RoomRebuilt> {
  for await (const roomId of query.roomId === undefined ? allRooms(store) : [query.roomId]) {
    query.signal.throwIfAborted();
    yield await rebuildRoom(shadow, { ...query, roomId });
  }
}

/** They end with the connection, and are empty at the begin of each transaction. Gives the schema of the live tables. */
async function createShadows(shadow: Store): Promise<string> {
  return shadow.inTransaction(async (tx) => {
    const [live] = await tx.query<{ schema: string }>(
      `SELECT relnamespace::regnamespace::text AS schema FROM pg_class WHERE oid = 'rooms'::regclass`,
    );
    const schema = live?.schema ?? 'public';
    for (const { name } of FOLD_TABLES) {
      await tx.query(`CREATE TEMPORARY TABLE ${name} (LIKE ${schema}.${name} INCLUDING ALL) ON COMMIT DELETE ROWS`);
    }
    return schema;
  });
}

/** Rooms with a row or with entries, by id; an entry without a row would be a find, too. */
async function* allRooms(store: Store): AsyncGenerator<RoomId> {
  for (let after = ''; ;) {
    const rooms = await store.query<{ roomId: RoomId }>(
      `WITH RECURSIVE entered (room_id) AS (
         (SELECT room_id FROM journal WHERE room_id > $1 ORDER BY room_id LIMIT 1)
         UNION ALL
         SELECT (SELECT j.room_id FROM journal j WHERE j.room_id > e.room_id ORDER BY j.room_id LIMIT 1)
           FROM entered e WHERE e.room_id IS NOT NULL
       )
       (SELECT room_id AS "roomId" FROM rooms WHERE room_id > $1 ORDER BY room_id LIMIT $2)
       UNION
       (SELECT room_id FROM (SELECT room_id FROM entered LIMIT $2) AS named WHERE room_id IS NOT NULL)
       ORDER BY 1 LIMIT $2`,
      [after, ROOMS_A_READ],
    );
    for (const { roomId } of rooms) yield roomId;
    const last = rooms.at(-1);
    if (last === undefined || rooms.length < ROOMS_A_READ) return;
    after = last.roomId;
  }
}

interface RoomQuery extends RebuildQuery {
  readonly roomId: RoomId;
  /** Of the live tables. */
  readonly schema: string;
}

async function rebuildRoom(shadow: Store, query: RoomQuery): Promise<RoomRebuilt> {
  try {
    return await withTransaction(shadow, (tx) => rebuildInSnapshot(tx, query));
  } catch (error) {
    if (!(error instanceof UnfoldableError)) throw error;
    const { roomId } = query;
    return { roomId, entries: 0, position: await readHead(shadow), differences: [], unfoldable: error.message };
  }
}

async function rebuildInSnapshot(
  tx: Transaction,
  { roomId, schema, rowsMax, signal }: RoomQuery,
): Promise<RoomRebuilt> {
  await tx.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
  const position = await readHead(tx);
  let entries = 0;
  for (let since = 0; ;) {
    const read = await readJournal(tx, { roomId, sincePosition: since, limit: ENTRIES_A_READ });
    for (const run of runsOf(read)) {
      signal.throwIfAborted();
      await foldRun(tx, roomId, schema, run).catch((error: unknown) => {
        throw asUnfoldable(run, error);
      });
    }
    entries += read.length;
    since = read.at(-1)?.position ?? since;
    if (read.length < ENTRIES_A_READ) break;
  }
  const room = await lockRoom(tx, roomId);
  if (room?.currentState != null) await foldCurrentState(tx, roomId, null, room.currentState);
  return { roomId, entries, position, differences: await compareFolds(tx, { roomId, schema, rowsMax }) };
}

/**
 * Entries that may be folded together: of one stay and one kind, and none about an event that another is about. Where an append
 * began and ended is not recorded, and need not be: its folds are the same one after the other.
 */
function* runsOf(entries: readonly Journalled[]): Generator<readonly Journalled[]> {
  let run: Journalled[] = [];
  let named = new Set<string>();
  for (const entry of entries) {
    const ids = idsOf(entry);
    const [first] = run;
    const goesOn =
      first !== undefined &&
      first.epoch === entry.epoch &&
      isTimelineEvent(entry.event) &&
      kindOf(first) === kindOf(entry) &&
      run.length < ENTRIES_A_FOLD &&
      !ids.some((id) => named.has(id));
    if (!goesOn && run.length > 0) {
      yield run;
      run = [];
      named = new Set();
    }
    run.push(entry);
    for (const id of ids) named.add(id);
  }
  if (run.length > 0) yield run;
}

function kindOf({ event }: Journalled): string {
  return event.type === 'PduRejected' ? 'PduAccepted' : event.type;
}

function idsOf({ event }: Journalled): readonly string[] {
  if ('eventIds' in event) return event.eventIds;
  return 'eventId' in event ? [event.eventId] : [];
}

/** Data that does not fit, for the database or for us, is a matter of the entries; all else is trouble of another kind. */
function asUnfoldable(run: readonly Journalled[], error: unknown): unknown {
  const isOfData = error instanceof TypeError || /^2[23]/.test(sqlStateOf(error) ?? '');
  const [first] = run;
  if (!isOfData || first === undefined) return error;
  const reason = error instanceof Error ? error.message : String(error);
  return new UnfoldableError(`${first.event.type} at position ${first.position}: ${reason}`, { cause: error });
}

async function foldRun(tx: Transaction, roomId: RoomId, schema: string, run: readonly Journalled[]): Promise<void> {
  const [first] = run;
  // Of the room before there is no row, and no other entry.
  if (first === undefined || first.event.type === 'RoomPurged') return;
  const room = await roomInEpoch(tx, schema, first);
  const events = run.map(({ event }) => event);
  const timeline = events.filter(isTimelineEvent);
  if (timeline.length > 0) await takeOutliers(tx, roomId, schema, run.flatMap(idsOf));
  const facts = await timelineFacts(tx, roomId, timeline);
  await foldSpeakers(tx, room, timeline, facts.events, 0);
  await writeFolded(tx, room, run, await foldEntries(tx, room, events, facts));
  await foldSilentLeaves(tx, roomId, run);
}

/** First verdicts on outliers are no fold: those that entries about these events change, or rest on, are as they are. */
async function takeOutliers(
  tx: Transaction,
  roomId: RoomId,
  schema: string,
  eventIds: readonly string[],
): Promise<void> {
  await tx.query(
    `INSERT INTO pg_temp.outlier_verdicts
     SELECT o.* FROM pdus p CROSS JOIN unnest(p.auth_events || p.event_id) AS needed(event_id)
       JOIN pdus n ON n.event_id = needed.event_id AND n.room_id = $1
       JOIN ${schema}.outlier_verdicts o ON o.event_nid = n.nid
      WHERE p.room_id = $1 AND p.event_id = ANY ($2::text[])
     ON CONFLICT DO NOTHING`,
    [roomId, eventIds],
  );
}

/** The shadow of the room's row in the stay of an entry: a stay is opened by its first entry. */
async function roomInEpoch(tx: Transaction, schema: string, { roomId, epoch, event }: Journalled): Promise<LockedRoom> {
  let room = (await lockRoom(tx, roomId)) ?? (await createRoom(tx, roomId, await versionOf()));
  while (room.epoch < epoch) room = await openEpoch(tx, room);
  return room;

  /** Said by the join that opens a stay; rooms of tests may begin without one. */
  async function versionOf(): Promise<string> {
    if ('roomVersion' in event) return event.roomVersion;
    const [live] = await tx.query<{ version: string }>(
      `SELECT room_version AS version FROM ${schema}.rooms WHERE room_id = $1`,
      [roomId],
    );
    return live?.version ?? '';
  }
}
