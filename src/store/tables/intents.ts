/**
 * Joins on their way. The signed join is recorded before it is sent, so that one which a resident accepted and this server
 * lost (matrix-spec#752) is found again and finished.
 */
import { and, asc, eq, lte } from 'drizzle-orm';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type Sql } from '../open-store.ts';
import { joinIntents } from '../schema/tables.ts';

export interface JoinIntent {
  readonly roomId: RoomId;
  readonly userId: UserId;
  readonly eventId: EventId;
  /** The join event as it is sent, signed. */
  readonly event: JsonObject;
  readonly roomVersion: string;
  /** The server that the join is sent to. */
  readonly resident: ServerName;
  /** Servers to turn to after it, best first. */
  readonly via: readonly ServerName[];
  /** Milliseconds since the Unix epoch. */
  readonly createdAt: number;
}

/** Records a join; the same one again changes nothing. */
export async function recordJoinIntent(sql: Sql, intent: JoinIntent): Promise<void> {
  await sql.db
    .insert(joinIntents)
    .values({ ...intent, via: [...intent.via] })
    .onConflictDoNothing();
}

/** Intents of one user in one room, the newest last. */
export async function readJoinIntents(sql: Sql, roomId: RoomId, userId: UserId): Promise<JoinIntent[]> {
  return await sql.db
    .select()
    .from(joinIntents)
    .where(and(eq(joinIntents.roomId, roomId), eq(joinIntents.userId, userId)))
    .orderBy(asc(joinIntents.createdAt));
}

/** Intents recorded at or before `createdBefore` that nobody finished or withdrew, the oldest first. */
export async function readStaleJoinIntents(sql: Sql, createdBefore: number, limit: number): Promise<JoinIntent[]> {
  return await sql.db
    .select()
    .from(joinIntents)
    .where(lte(joinIntents.createdAt, createdBefore))
    .orderBy(asc(joinIntents.createdAt))
    .limit(limit);
}

/** Forgets a join that is journalled, or that was refused for good. */
export async function deleteJoinIntent(sql: Sql, eventId: EventId): Promise<void> {
  await sql.db.delete(joinIntents).where(eq(joinIntents.eventId, eventId));
}

/** Whether a join of the room is under way. */
export async function hasJoinIntent(sql: Sql, roomId: RoomId): Promise<boolean> {
  const one = sql.db.select({ eventId: joinIntents.eventId }).from(joinIntents).where(eq(joinIntents.roomId, roomId));
  return (await one.limit(1)).length > 0;
}
