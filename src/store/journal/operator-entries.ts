/** What operators have said of a room, in all of our stays in it. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type EntryType } from '../../resync/entries.ts';
import { type OperatorEvent } from '../../resync/operator-events.ts';
import { type Sql } from '../open-store.ts';

const TYPES: readonly EntryType[] = ['ResidentPinned', 'ResidentBanned', 'RoomPolicySet'];

/** More than what may be in force at a time; what was lifted and said again is the newest. */
const ENTRIES_MAX = 200;

/** Pins, bans and policies, the newest first, whether they were lifted since or not. */
export async function readOperatorEntries(sql: Sql, roomId: RoomId): Promise<OperatorEvent[]> {
  const rows = await sql.query<{ event: OperatorEvent }>(
    `SELECT data AS event FROM journal
      WHERE room_id = $1 AND stream = 'resync' AND type = ANY ($2::text[]) ORDER BY seq DESC LIMIT $3`,
    [roomId, TYPES, ENTRIES_MAX],
  );
  return rows.map(({ event }) => event);
}
