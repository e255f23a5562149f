/**
 * What we intend about memberships and nobody has settled yet. A signed join is recorded before it is sent, so that one which
 * a resident accepted and this server lost (https://github.com/matrix-org/matrix-spec/issues/752) is found again and
 * finished. One that a resident accepted and we cannot use becomes an intent to leave. Whoever works on an intent claims it;
 * claims end by PostgreSQL's clock, which is the same for all processes.
 */
import { and, asc, eq, sql as expression, inArray, lte } from 'drizzle-orm';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { canonicalJson } from '../../matrix/json/canonical-json.ts';
import { parseJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { invariant } from '../../invariant.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { joinIntents } from '../schema/tables.ts';
import { isPurged, lockingJoins } from './room-purges.ts';

/** Longer than anybody works on an intent: the longest join takes less (`JOIN_MS_MAX`), and whoever is alive gives it back. */
const CLAIM_MS = 15 * 60_000;
const DATABASE_NOW = expression`(extract(epoch from clock_timestamp()) * 1000)::bigint`;

export interface JoinIntent {
  /** Whether the join or the knock is to be finished, or the room left again. */
  readonly what: 'join' | 'leave' | 'knock';
  readonly roomId: RoomId;
  readonly userId: UserId;
  readonly eventId: EventId;
  /** The membership event as it is sent, signed; of a leave the one that is undone. */
  readonly event: JsonObject;
  readonly roomVersion: string;
  /** The server that may have taken the join, or has. */
  readonly resident: ServerName;
  /** Servers to turn to after it, best first. */
  readonly via: readonly ServerName[];
  /** Milliseconds since the Unix epoch, as all times. */
  readonly createdAt: number;
  /** Passes that failed; of a leave, since it is one. */
  readonly attempts: number;
  /** When it is tried again. */
  readonly notBefore: number;
  /** Why it is still open: one line for a person. */
  readonly lastReason: string | null;
}

const columns = {
  what: joinIntents.what,
  roomId: joinIntents.roomId,
  userId: joinIntents.userId,
  eventId: joinIntents.eventId,
  /** As text: its depth may be more than a JavaScript number holds, and its hash is of every digit. */
  event: expression<string>`${joinIntents.event}::text`,
  roomVersion: joinIntents.roomVersion,
  resident: joinIntents.resident,
  via: joinIntents.via,
  createdAt: joinIntents.createdAt,
  attempts: joinIntents.attempts,
  notBefore: joinIntents.notBefore,
  lastReason: joinIntents.lastReason,
};
const claimed = { claimedUntil: expression`${DATABASE_NOW} + ${CLAIM_MS}` };
const ofUser = (roomId: RoomId, userId: UserId) => and(eq(joinIntents.roomId, roomId), eq(joinIntents.userId, userId));

/**
 * Records a join and claims it; the same one again changes nothing.
 *
 * @param mine intents of the user that the caller has claimed already
 * @returns false, and nothing is recorded, when somebody else is at work for this user in this room
 */
export async function recordJoinIntent(sql: Sql, intent: JoinIntent, mine: readonly EventId[] = []): Promise<boolean> {
  return sql.inTransaction(async (tx) => {
    await lockUser(tx, intent.roomId, intent.userId);
    if (await isAnotherAtWork(tx, intent.roomId, intent.userId, mine)) return false;
    await tx.db
      .insert(joinIntents)
      .values({ ...intent, via: [...intent.via], event: expression`${canonicalJson(intent.event)}::json`, ...claimed })
      .onConflictDoNothing();
    return true;
  });
}

/** Claims all intents of one user in one room, the oldest first; `undefined` when somebody else is at work for them. */
export async function claimJoinIntents(sql: Sql, roomId: RoomId, userId: UserId): Promise<JoinIntent[] | undefined> {
  return sql.inTransaction(async (tx) => {
    await lockUser(tx, roomId, userId);
    if (await isAnotherAtWork(tx, roomId, userId, [])) return undefined;
    const rows = await tx.db.update(joinIntents).set(claimed).where(ofUser(roomId, userId)).returning(columns);
    return rows.map(intentOf).sort((a, b) => a.createdAt - b.createdAt);
  });
}

/** Claims the intent that has waited longest for its next try, of users for whom nobody is at work; `undefined`: there is none. */
export async function claimDueIntent(sql: Sql, now: number): Promise<JoinIntent | undefined> {
  for (;;) {
    const [due] = await sql.query<{ eventId: EventId; roomId: RoomId; userId: UserId }>(
      `SELECT event_id AS "eventId", room_id AS "roomId", user_id AS "userId" FROM join_intents AS due
        WHERE not_before <= $1 AND NOT ${isPurged('due.room_id')} AND NOT EXISTS (
          SELECT FROM join_intents AS other WHERE other.room_id = due.room_id AND other.user_id = due.user_id
             AND other.claimed_until > extract(epoch from clock_timestamp()) * 1000)
        ORDER BY not_before, created_at LIMIT 1`,
      [now],
    );
    if (due === undefined) return undefined;
    const intent = await sql.inTransaction(async (tx) => {
      await lockUser(tx, due.roomId, due.userId);
      if (await isAnotherAtWork(tx, due.roomId, due.userId, [])) return undefined;
      const [row] = await tx.db
        .update(joinIntents)
        .set(claimed)
        .where(and(eq(joinIntents.eventId, due.eventId), lte(joinIntents.notBefore, now)))
        .returning(columns);
      return row && intentOf(row);
    });
    // Otherwise somebody was quicker, and the next look does not find it any more.
    if (intent !== undefined) return intent;
  }
}

/** Gives a claimed intent back as it is, or with what became of this try. */
export async function releaseIntent(
  sql: Sql,
  { eventId }: Pick<JoinIntent, 'eventId'>,
  change: Partial<Pick<JoinIntent, 'what' | 'resident' | 'attempts' | 'notBefore' | 'lastReason'>> = {},
): Promise<void> {
  await sql.db
    .update(joinIntents)
    .set({ ...change, claimedUntil: 0 })
    .where(eq(joinIntents.eventId, eventId));
}

/** Intents of one user in one room, the newest last. */
export async function readJoinIntents(sql: Sql, roomId: RoomId, userId: UserId): Promise<JoinIntent[]> {
  const rows = await sql.db
    .select(columns)
    .from(joinIntents)
    .where(ofUser(roomId, userId))
    .orderBy(asc(joinIntents.createdAt));
  return rows.map(intentOf);
}

/** An intent as people see it. */
export type OpenIntent = Omit<JoinIntent, 'event' | 'roomVersion' | 'roomId' | 'via'>;

/** Intents of a room that nobody has settled, the oldest first. */
export function readOpenIntents(sql: Sql, roomId: RoomId, limit: number): Promise<OpenIntent[]> {
  const { what, userId, eventId, resident, createdAt, attempts, notBefore, lastReason } = joinIntents;
  return sql.db
    .select({ what, userId, eventId, resident, createdAt, attempts, notBefore, lastReason })
    .from(joinIntents)
    .where(eq(joinIntents.roomId, roomId))
    .orderBy(asc(createdAt), asc(eventId))
    .limit(limit);
}

function intentOf({ event, ...row }: Omit<JoinIntent, 'event'> & { readonly event: string }): JoinIntent {
  const parsed = parseJsonObject(event);
  invariant(parsed.ok, 'a recorded join is JSON');
  return { ...row, event: parsed.value };
}

/** Forgets what is settled: a join that was refused for good, a room that is left. */
export async function deleteJoinIntent(sql: Sql, eventId: EventId): Promise<void> {
  await sql.db.delete(joinIntents).where(eq(joinIntents.eventId, eventId));
}

/** A join of the user is journalled: other tries, and what was to be left, are settled with it. */
export async function deleteJoinIntents(sql: Sql, roomId: RoomId, userId: UserId): Promise<void> {
  await sql.db.delete(joinIntents).where(ofUser(roomId, userId));
}

/** Knocks of the user that may be out are forgotten: he takes back what he said. */
export async function deleteKnockIntents(sql: Sql, roomId: RoomId, userId: UserId): Promise<void> {
  await sql.db.delete(joinIntents).where(and(ofUser(roomId, userId), eq(joinIntents.what, 'knock')));
}

/** A knock is settled; `false`: it was before, or the user has taken it back. */
export async function deleteKnockIntent(sql: Sql, eventId: EventId): Promise<boolean> {
  const gone = await sql.db
    .delete(joinIntents)
    .where(and(eq(joinIntents.eventId, eventId), eq(joinIntents.what, 'knock')))
    .returning({ eventId: joinIntents.eventId });
  return gone.length > 0;
}

/** Knocks at some rooms that may be out, of all users. */
export async function readOpenKnocks(sql: Sql, roomIds: readonly RoomId[]): Promise<JoinIntent[]> {
  const rows = await sql.db
    .select(columns)
    .from(joinIntents)
    .where(and(inArray(joinIntents.roomId, [...roomIds]), eq(joinIntents.what, 'knock')));
  return rows.map(intentOf);
}

/** Until the transaction ends nobody else looks for claims on this user's intents, or makes any, and no purge of the room begins. */
async function lockUser(tx: Transaction, roomId: RoomId, userId: UserId): Promise<void> {
  await tx.query(`SELECT ${lockingJoins('$2', 'join')}, pg_advisory_xact_lock(hashtextextended($1, 0))`, [
    `join_intents ${roomId} ${userId}`,
    roomId,
  ]);
}

/** Another join of the user, or a purge of the room, which is over soon. */
async function isAnotherAtWork(
  tx: Transaction,
  roomId: RoomId,
  userId: UserId,
  mine: readonly EventId[],
): Promise<boolean> {
  const rows = await tx.query(
    `SELECT FROM join_intents
      WHERE room_id = $1 AND user_id = $2 AND NOT event_id = ANY ($3::text[])
        AND claimed_until > extract(epoch from clock_timestamp()) * 1000
      UNION ALL SELECT FROM room_purges WHERE room_id = $1 LIMIT 1`,
    [roomId, userId, mine],
  );
  return rows.length > 0;
}
