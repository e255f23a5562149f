/** What a new event has to know of those that it cites. */
import { invariant } from '../../invariant.ts';
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { parseJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type Sql } from '../open-store.ts';

export interface GraphParent {
  readonly eventId: EventId;
  /** Up to 2^63 - 1 in old rooms. */
  readonly depth: bigint;
  /** Absent unless bodies were asked for. */
  readonly event?: JsonObject | undefined;
}

/** Those of `eventIds` that are stored events of the room. */
export async function readGraphParents(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
  withBodies: boolean,
): Promise<Map<EventId, GraphParent>> {
  if (eventIds.length === 0) return new Map();
  const rows = await sql.query<{ eventId: EventId; depth: string; json: string | null }>(
    `SELECT event_id AS "eventId", depth::text AS depth, CASE WHEN $3 THEN json::text END AS json
       FROM pdus WHERE room_id = $1 AND event_id = ANY ($2::text[])`,
    [roomId, eventIds, withBodies],
  );
  return new Map(
    rows.map(({ eventId, depth, json }) => {
      const parent = { eventId, depth: BigInt(depth) };
      return [eventId, json === null ? parent : { ...parent, event: parseStored(json) }];
    }),
  );
}

function parseStored(json: string): JsonObject {
  const read = parseJsonObject(json);
  invariant(read.ok, 'what is stored is JSON');
  return read.value;
}
