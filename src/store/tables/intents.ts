/**
 * Joins on their way. The signed join is recorded before it is sent, so that one which a resident accepted and this server
 * lost (matrix-spec#752) is found again and finished.
 */
import { and, asc, eq, getTableColumns, lte, sql as sqlText } from 'drizzle-orm';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { canonicalJson } from '../../matrix/json/canonical-json.ts';
import { parseJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { invariant } from '../../invariant.ts';
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

/** The event as text: its depth may be more than a JavaScript number holds, and its hash is of every digit. */
const COLUMNS = { ...getTableColumns(joinIntents), event: sqlText<string>`${joinIntents.event}::text` };

/** Records a join; the same one again changes nothing. */
export async function recordJoinIntent(sql: Sql, intent: JoinIntent): Promise<void> {
  await sql.db
    .insert(joinIntents)
    .values({ ...intent, via: [...intent.via], event: sqlText`${canonicalJson(intent.event)}::json` })
    .onConflictDoNothing();
}

/** Intents of one user in one room, the newest last. */
export async function readJoinIntents(sql: Sql, roomId: RoomId, userId: UserId): Promise<JoinIntent[]> {
  const rows = await sql.db
    .select(COLUMNS)
    .from(joinIntents)
    .where(and(eq(joinIntents.roomId, roomId), eq(joinIntents.userId, userId)))
    .orderBy(asc(joinIntents.createdAt));
  return rows.map(intentOf);
}

/** Intents recorded at or before `createdBefore` that nobody finished or withdrew, the oldest first. */
export async function readStaleJoinIntents(sql: Sql, createdBefore: number, limit: number): Promise<JoinIntent[]> {
  const rows = await sql.db
    .select(COLUMNS)
    .from(joinIntents)
    .where(lte(joinIntents.createdAt, createdBefore))
    .orderBy(asc(joinIntents.createdAt))
    .limit(limit);
  return rows.map(intentOf);
}

function intentOf({ event, ...row }: Omit<JoinIntent, 'event'> & { readonly event: string }): JoinIntent {
  const parsed = parseJsonObject(event);
  invariant(parsed.ok, 'a recorded join is JSON');
  return { ...row, event: parsed.value };
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
