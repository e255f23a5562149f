/** The rows of rooms and of their resyncs: locking, epochs, and reading them. */
import { invariant } from '../../invariant.ts';
import { type EventId, type RoomAlias, type RoomId, type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type ResyncState, asResyncState } from '../../resync/state.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { fromStorable } from '../storable-text.ts';
import { IS_SILENT, OWN_MEMBERSHIP } from './silent-leaves.ts';

/** What is decided about a room belongs to where it stands: its stay, its newest events, the state after them. */
export interface RoomStanding {
  readonly roomId: RoomId;
  readonly roomVersion: string;
  /** 0: created, and no stay opened yet. */
  readonly epoch: number;
  readonly stateVersion: number;
  readonly partial: boolean;
  readonly currentState: SnapshotId | null;
  /** By id. */
  readonly extremities: readonly EventId[];
  /** Whether a user of ours is joined, one who has left silently among them. */
  readonly isAnybodyIn: boolean;
  /** Whether one has left silently (silent-leaves.ts). */
  readonly isLeftSilently: boolean;
}

type RoomFolds = Pick<RoomStanding, 'extremities' | 'isAnybodyIn' | 'isLeftSilently'>;

/** Where a room stands whose row is locked by the open transaction, from when the lock was taken. */
export type LockedRoom = RoomStanding;

/** What a list says of a room, from its current state. */
export interface RoomSummary {
  /** Joined ones, as far as they are known. */
  readonly members: number;
  /** As the room says; nobody has checked it. */
  readonly name: string | null;
  readonly canonicalAlias: RoomAlias | null;
}

/** A room as readers see it. */
export interface RoomRow extends Omit<LockedRoom, keyof RoomFolds> {
  readonly joinEventId: EventId | null;
  readonly joinedVia: ServerName | null;
  /** `null`: not in its row; `summaryOf` (room-summaries.ts) reads it. */
  readonly summary: RoomSummary | null;
  /** Of the current epoch. */
  readonly resync: ResyncState;
}

export interface ResyncRow {
  readonly epoch: number;
  /** Of the newest control event of the room; `readResyncEvents` continues from it. */
  readonly seq: number;
  readonly state: ResyncState;
  readonly stateVersion: number;
  /** When somebody waited for the room last; `null`: nobody did. */
  readonly wantedAt: number | null;
  /** How many did then, at the process that said so. */
  readonly waiters: number;
}

/** Of room `$1`. */
const EXTREMITIES = `ARRAY(SELECT event_id FROM forward_extremities WHERE room_id = $1 ORDER BY event_id)`;
const LEFT_SILENTLY = `EXISTS (SELECT FROM silent_leaves WHERE room_id = $1 AND settled_at IS NULL)`;
const ANYBODY_IN = `EXISTS (SELECT FROM local_members WHERE room_id = $1 AND membership = 'join')`;

/** Creates the room's row where there is none, and locks it. Stays in a room that was purged are counted on. */
export async function createRoom(tx: Transaction, roomId: RoomId, roomVersion: string): Promise<LockedRoom> {
  await tx.query(
    `INSERT INTO rooms (room_id, room_version, epoch, resync_seq, purged_to)
     SELECT $1, $2, coalesce(t.epoch, 0), coalesce(t.seq, 0), coalesce((t.data ->> 'eventsTo')::bigint, 0)
       FROM (SELECT) AS one
       LEFT JOIN (SELECT * FROM journal WHERE room_id = $1 ORDER BY position LIMIT 1) AS t ON t.type = 'RoomPurged'
     ON CONFLICT DO NOTHING`,
    [roomId, roomVersion],
  );
  const room = await lockRoom(tx, roomId);
  invariant(room, `the row of ${roomId} is there`);
  return room;
}

/** Takes the lock under which a room's events are appended; `undefined` when there is no such room. */
export async function lockRoom(tx: Transaction, roomId: RoomId): Promise<LockedRoom | undefined> {
  const [locked] = await tx.query<Omit<LockedRoom, keyof RoomFolds> & Purged>(
    `SELECT room_id AS "roomId", room_version AS "roomVersion", epoch, state_version AS "stateVersion", partial,
            encode(current_state, 'hex') AS "currentState", purged_to AS "purgedTo"
       FROM rooms WHERE room_id = $1 FOR NO KEY UPDATE`,
    [roomId],
  );
  if (locked === undefined) return undefined;
  const row = withoutPurged(tx, locked);
  // A statement of its own: the one that waited for the lock still sees what was before.
  const [folds] = await tx.query<RoomFolds>(
    `SELECT ${EXTREMITIES} AS extremities, ${ANYBODY_IN} AS "isAnybodyIn", ${LEFT_SILENTLY} AS "isLeftSilently"`,
    [roomId],
  );
  invariant(folds, 'a statement without FROM gives a row');
  return { ...row, ...folds };
}

/** Where a room stands, without a lock: it may have moved on by now. */
export async function readStanding(sql: Sql, roomId: RoomId): Promise<RoomStanding | undefined> {
  const [row] = await sql.query<RoomStanding & Purged>(
    `SELECT room_id AS "roomId", room_version AS "roomVersion", epoch, state_version AS "stateVersion", partial,
            encode(current_state, 'hex') AS "currentState", ${EXTREMITIES} AS extremities, ${ANYBODY_IN} AS "isAnybodyIn",
            ${LEFT_SILENTLY} AS "isLeftSilently", purged_to AS "purgedTo"
       FROM rooms WHERE room_id = $1`,
    [roomId],
  );
  return row && withoutPurged(sql, row);
}

interface Purged {
  readonly roomId: RoomId;
  readonly purgedTo: number;
}

/** What is kept in memory of events that were purged is of no use in the room's next life, in which they have other numbers. */
function withoutPurged<Row extends Purged>(sql: Sql, { purgedTo, ...row }: Row): Omit<Row, 'purgedTo'> {
  if (purgedTo > 0) sql.caches.authEvents.begin(row.roomId, purgedTo);
  return row;
}

/** Whether what was decided by `before` may be appended to the room as it is `now`. */
export function standsStill(before: RoomStanding, now: RoomStanding): boolean {
  return (
    before.epoch === now.epoch &&
    before.stateVersion === now.stateVersion &&
    before.extremities.length === now.extremities.length &&
    before.extremities.every((eventId, i) => eventId === now.extremities[i])
  );
}

/**
 * Opens a new stay in a locked room. Late writes of the earlier stay are fenced off by its epoch; its partial events are
 * carried into the new one, its resync ends, and the timeline starts anew from the join that is appended next.
 */
export async function openEpoch(tx: Transaction, room: LockedRoom): Promise<LockedRoom> {
  const { roomId } = room;
  // Waits for bulk writers of the earlier epoch (fence.ts).
  await tx.query(`SELECT FROM rooms WHERE room_id = $1 FOR UPDATE`, [roomId]);
  await tx.query(`UPDATE rooms SET epoch = epoch + 1 WHERE room_id = $1`, [roomId]);
  await tx.query(`UPDATE event_states SET epoch = $2 WHERE room_id = $1 AND partial`, [roomId, room.epoch + 1]);
  await tx.query(`UPDATE anchors SET epoch = $2 WHERE room_id = $1 AND partial`, [roomId, room.epoch + 1]);
  // What an earlier stay had not is an anchor, and carried as one.
  await tx.query(`DELETE FROM gaps WHERE room_id = $1`, [roomId]);
  await tx.query(`UPDATE resyncs SET next_wake_at = NULL, purge_at = NULL WHERE room_id = $1`, [roomId]);
  await tx.query(`DELETE FROM forward_extremities WHERE room_id = $1`, [roomId]);
  const opened = await lockRoom(tx, roomId);
  invariant(opened?.epoch === room.epoch + 1, `the lock on ${roomId} keeps other epochs out`);
  return opened;
}

const SELECT_ROOMS = `
  SELECT r.room_id AS "roomId", r.room_version AS "roomVersion", r.epoch, r.state_version AS "stateVersion", r.partial,
         encode(r.current_state, 'hex') AS "currentState", r.join_event_id AS "joinEventId", r.joined_via AS "joinedVia",
         r.members, r.name, r.canonical_alias AS "canonicalAlias", s.state AS resync
    FROM rooms r LEFT JOIN resyncs s USING (room_id, epoch)`;

interface SelectedRoom extends Omit<RoomRow, 'summary' | 'resync'> {
  readonly members: number | null;
  /** As stored, both. */
  readonly name: string | null;
  readonly canonicalAlias: string | null;
  readonly resync: Partial<ResyncState> | null;
}

function toRoomRow({ members, name, canonicalAlias, ...row }: SelectedRoom): RoomRow {
  const names = {
    name: name === null ? null : fromStorable(name),
    canonicalAlias: canonicalAlias === null ? null : (fromStorable(canonicalAlias) as RoomAlias),
  };
  return { ...row, summary: members === null ? null : { members, ...names }, resync: asResyncState(row.resync) };
}

/** All rooms that have a row, by id. */
export async function listRooms(sql: Sql): Promise<RoomRow[]> {
  return (await sql.query<SelectedRoom>(`${SELECT_ROOMS} ORDER BY r.room_id`)).map(toRoomRow);
}

/** A room with the resync of its current epoch; `undefined` when it has no row. */
export async function readRoom(sql: Sql, roomId: RoomId): Promise<RoomRow | undefined> {
  const [row] = await sql.query<SelectedRoom>(`${SELECT_ROOMS} WHERE r.room_id = $1`, [roomId]);
  return row && toRoomRow(row);
}

/** How many rooms lack full state, by the phase of their resync; read from an index that holds no other rooms. */
export async function countPartialRooms(sql: Sql): Promise<Map<string, number>> {
  const rows = await sql.query<{ phase: string; rooms: number }>(
    `SELECT phase, count(*) AS rooms FROM resyncs
      WHERE next_wake_at IS NOT NULL AND phase NOT IN ('complete', 'ended', 'parked') GROUP BY phase
      UNION ALL
     SELECT 'parked', count(*) FROM resyncs JOIN rooms USING (room_id, epoch) WHERE phase = 'parked'
      UNION ALL
     SELECT 'cancelled', count(*) FROM resyncs JOIN rooms USING (room_id, epoch) WHERE phase = 'cancelled' HAVING count(*) > 0`,
  );
  return new Map(rows.map(({ phase, rooms }) => [phase, rooms]));
}

/** What the journal says of the resync of the room's current epoch; `undefined` when there is no such room. */
export async function readResync(sql: Sql, roomId: RoomId): Promise<ResyncRow | undefined> {
  const [found] = await sql.query<Omit<ResyncRow, 'state'> & Purged & { state: ResyncState | null }>(
    `SELECT r.epoch, r.resync_seq AS seq, r.state_version AS "stateVersion", s.state, s.wanted_at AS "wantedAt",
            coalesce(s.waiters, 0) AS waiters, r.room_id AS "roomId", r.purged_to AS "purgedTo"
       FROM rooms r LEFT JOIN resyncs s ON s.room_id = r.room_id AND s.epoch = r.epoch
      WHERE r.room_id = $1`,
    [roomId],
  );
  if (found === undefined) return undefined;
  const { epoch, seq, stateVersion, wantedAt, waiters, state } = withoutPurged(sql, found);
  return { epoch, seq, stateVersion, wantedAt, waiters, state: asResyncState(state) };
}

/** Notes that so many wait for the room, at `now`, milliseconds. */
export async function markWanted(sql: Sql, roomId: RoomId, now: number, waiters: number): Promise<void> {
  await sql.query(
    `UPDATE resyncs s SET wanted_at = $2, waiters = $3 FROM rooms r WHERE r.room_id = $1 AND s.room_id = r.room_id AND s.epoch = r.epoch`,
    [roomId, now, waiters],
  );
}

export interface LockedResync {
  readonly room: LockedRoom;
  /** As it is under the lock. */
  readonly resync: ResyncState;
}

/** Locks a room and reads its resync in the stay `epoch`; `undefined` when that stay is over, or there is no such room. */
export async function lockResync(tx: Transaction, roomId: RoomId, epoch: number): Promise<LockedResync | undefined> {
  const room = await lockRoom(tx, roomId);
  if (room?.epoch !== epoch) return undefined;
  const row = await readResync(tx, roomId);
  invariant(row?.epoch === epoch, `the lock on ${roomId} keeps other epochs out`);
  return { room, resync: row.state };
}

export interface LocalMember {
  readonly userId: UserId;
  /** In the current state; of who has left silently `leave`. */
  readonly membership: string;
  readonly eventId: EventId;
  /** He is joined for all others. */
  readonly isSilent: boolean;
}

/** Memberships of this server's users in the room. */
export async function readLocalMembers(sql: Sql, roomId: RoomId): Promise<LocalMember[]> {
  return sql.query<LocalMember>(
    `SELECT m.user_id AS "userId", ${OWN_MEMBERSHIP} AS membership, m.event_id AS "eventId",
            m.membership = 'join' AND ${IS_SILENT} AS "isSilent"
       FROM local_members m WHERE m.room_id = $1 ORDER BY m.user_id`,
    [roomId],
  );
}

/** Rooms that a user of this server is joined to, by id. */
export async function readJoinedRooms(sql: Sql, userId: UserId): Promise<RoomId[]> {
  const rows = await sql.query<{ roomId: RoomId }>(
    `SELECT m.room_id AS "roomId" FROM local_members m
      WHERE m.user_id = $1 AND m.membership = 'join' AND NOT ${IS_SILENT} ORDER BY m.room_id`,
    [userId],
  );
  return rows.map(({ roomId }) => roomId);
}

/** The membership of a user of this server in the room, as in `LocalMember`; `undefined`: none. */
export async function readLocalMember(sql: Sql, roomId: RoomId, userId: UserId): Promise<string | undefined> {
  const [row] = await sql.query<{ membership: string }>(
    `SELECT ${OWN_MEMBERSHIP} AS membership FROM local_members m WHERE m.room_id = $1 AND m.user_id = $2`,
    [roomId, userId],
  );
  return row?.membership;
}

/** The same, and in a transaction the row stays until its end: so what is written of him goes with the room, should that be purged. */
export async function holdLocalMember(sql: Sql, roomId: RoomId, userId: UserId): Promise<string | undefined> {
  const [row] = await sql.query<{ membership: string }>(
    `SELECT ${OWN_MEMBERSHIP} AS membership FROM local_members m WHERE m.room_id = $1 AND m.user_id = $2 FOR KEY SHARE`,
    [roomId, userId],
  );
  return row?.membership;
}

/** Whether a user of this server is joined to one of the rooms. */
export async function isInAny(sql: Sql, userId: UserId, roomIds: readonly RoomId[]): Promise<boolean> {
  const rows = await sql.query(
    `SELECT FROM local_members m
      WHERE m.user_id = $1 AND m.membership = 'join' AND NOT ${IS_SILENT} AND m.room_id = ANY ($2::text[]) LIMIT 1`,
    [userId, roomIds],
  );
  return rows.length > 0;
}

/** The current states of those of the rooms that a user of this server is joined to, and that are whole. */
export async function readWholeStates(
  sql: Sql,
  roomIds: readonly RoomId[],
): Promise<{ readonly roomId: RoomId; readonly state: SnapshotId }[]> {
  if (roomIds.length === 0) return [];
  return sql.query(
    `SELECT r.room_id AS "roomId", encode(r.current_state, 'hex') AS state FROM rooms r
      WHERE r.room_id = ANY ($1::text[]) AND NOT r.partial AND r.current_state IS NOT NULL
        AND EXISTS (SELECT FROM local_members m WHERE m.room_id = r.room_id AND m.membership = 'join')`,
    [roomIds],
  );
}

/** Whether a user of this server is joined in the room's current state. */
export async function isAnybodyIn(sql: Sql, roomId: RoomId): Promise<boolean> {
  const [row] = await sql.query<{ isIn: boolean }>(`SELECT ${ANYBODY_IN} AS "isIn"`, [roomId]);
  return row?.isIn === true;
}

/** Between what an event lacks is looked for. */
export interface GapBounds {
  /** Our newest events, a choice of them. */
  readonly extremities: readonly EventId[];
  /** As our join claims it: what lies before is history. At most 2^53 - 1. */
  readonly joinDepth: number;
}

/** Of the room as it is, with at most `extremitiesMax` of its extremities. */
export async function readGapBounds(sql: Sql, roomId: RoomId, extremitiesMax: number): Promise<GapBounds> {
  const [row] = await sql.query<GapBounds>(
    `SELECT coalesce(least(p.depth, 9007199254740991), 0) AS "joinDepth",
            ARRAY(SELECT event_id FROM forward_extremities WHERE room_id = $1 ORDER BY event_id LIMIT $2) AS extremities
       FROM rooms r LEFT JOIN pdus p ON p.event_id = r.join_event_id AND p.room_id = r.room_id WHERE r.room_id = $1`,
    [roomId, extremitiesMax],
  );
  return row ?? { extremities: [], joinDepth: 0 };
}

/** A room whose resync waits for a round, or is parked. */
export interface WaitingRoom {
  readonly roomId: RoomId;
  readonly epoch: number;
}

/** Of a server that may be in thousands of rooms here. */
const WAITING_ROOMS_MAX = 10_000;

/** Rooms that wait and that the server is believed to be in, of `roomIds` where given; those first that somebody waited for last. */
export function waitingFor(sql: Sql, server: ServerName, roomIds?: readonly RoomId[]): Promise<WaitingRoom[]> {
  return sql.query(
    `SELECT room_id AS "roomId", epoch
       FROM room_servers JOIN rooms USING (room_id) JOIN resyncs USING (room_id, epoch)
      WHERE server_name = $1 AND phase IN ('waiting', 'parked') AND ($2::text[] IS NULL OR room_id = ANY ($2::text[]))
      ORDER BY wanted_at DESC NULLS LAST, room_id LIMIT ${WAITING_ROOMS_MAX}`,
    [server, roomIds ?? null],
  );
}

/** Rooms whose state is being fetched or walked, or should be; those first that anything happened in last. */
export async function busyRooms(sql: Sql, limit: number): Promise<RoomId[]> {
  const rows = await sql.query<{ roomId: RoomId }>(
    `SELECT room_id AS "roomId" FROM resyncs JOIN rooms USING (room_id, epoch)
      WHERE next_wake_at IS NOT NULL AND phase IN ('fetching', 'walking') ORDER BY next_wake_at DESC LIMIT $1`,
    [limit],
  );
  return rows.map(({ roomId }) => roomId);
}

/** Likewise, in the order of their ids, those after `from`. */
export function waitingPage(sql: Sql, server: ServerName, from: string, limit: number): Promise<WaitingRoom[]> {
  return sql.query(
    `SELECT room_id AS "roomId", epoch
       FROM room_servers JOIN rooms USING (room_id) JOIN resyncs USING (room_id, epoch)
      WHERE server_name = $1 AND phase IN ('waiting', 'parked') AND room_id > $2
      ORDER BY room_id LIMIT $3`,
    [server, from, limit],
  );
}

export interface OverdueQuery {
  /** Milliseconds since the Unix epoch, as all times. */
  readonly now: number;
  /** How long after its time a resync counts as forgotten; also the pause between two rings. */
  readonly overdueMs: number;
  readonly limit: number;
}

export interface OverdueRoom {
  readonly roomId: RoomId;
  /** It was rung before, and nothing has been journalled since. */
  readonly wasRung: boolean;
}

/**
 * Rooms in which somebody should have acted by now, for their state, a gap or a correction, marked as rung at `now`: those never rung
 * first, then by the time of their last ring, so that each has its turn. Of several callers at once each gets different
 * rooms.
 */
export async function overdueResyncs(sql: Sql, query: OverdueQuery): Promise<OverdueRoom[]> {
  return sql.query<OverdueRoom>(
    `WITH due AS (
       SELECT room_id, epoch, min(due_at) AS due_at
         FROM (SELECT room_id, epoch, next_wake_at AS due_at FROM resyncs
                UNION ALL
               SELECT room_id, epoch, wake_at FROM gaps WHERE begun_until <= $1::bigint
                UNION ALL
               SELECT room_id, epoch, since
                 FROM (SELECT room_id, since FROM correction_causes UNION ALL SELECT room_id, since FROM correction_targets) AS c
                 JOIN rooms USING (room_id) JOIN resyncs USING (room_id, epoch)
                WHERE phase IN ('walking', 'complete')) AS wake
        WHERE due_at <= $1::bigint - $2::bigint
        GROUP BY room_id, epoch
     ), overdue AS MATERIALIZED (
       SELECT r.room_id, r.epoch, r.rung_at, due.due_at
         FROM due JOIN resyncs r USING (room_id, epoch)
        WHERE coalesce(r.rung_at, 0) <= $1::bigint - $2::bigint AND r.phase NOT IN ('ended', 'cancelled')
        ORDER BY coalesce(r.rung_at, 0), due.due_at LIMIT $3 FOR NO KEY UPDATE OF r SKIP LOCKED
     ), rung AS (
       UPDATE resyncs r SET rung_at = $1::bigint FROM overdue o WHERE r.room_id = o.room_id AND r.epoch = o.epoch
     )
     SELECT room_id AS "roomId", rung_at IS NOT NULL AS "wasRung" FROM overdue ORDER BY coalesce(rung_at, 0), due_at`,
    [query.now, query.overdueMs, query.limit],
  );
}
