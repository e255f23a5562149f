/**
 * The folds of what differs between one current state and the next: memberships of local users, how many members are
 * joined, what the room calls itself. They cost what differs, not what the states hold.
 */
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Transaction } from '../open-store.ts';
import { stateKeyNidOf } from '../snapshots/snapshot-trie.ts';
import { streamDifferences } from '../snapshots/snapshots.ts';
import { int8Array } from '../sql-values.ts';
import { CALLED_BY, type NamingEvent, isHollow, namesOf, storableNames } from './room-summaries.ts';

/**
 * Bodies are read of what names the room only: those of a state's memberships are a hundred megabytes. A count that is not
 * known stays so; the first state of a room is counted from nothing.
 */
const FOLD_DIFFERENCES = `
  WITH changed AS MATERIALIZED (
    SELECT k.type, k.state_key, b.membership AS was, a.membership, a.event_id, d.after
      FROM unnest($3::bigint[], $4::bigint[], $5::bigint[]) AS d(key, before, after)
      JOIN state_keys k ON k.nid = d.key
      LEFT JOIN pdus b ON b.nid = d.before
      LEFT JOIN pdus a ON a.nid = d.after
     WHERE k.type = 'm.room.member' OR k.type = ANY ($6::text[]) AND k.state_key = ''
  ), local AS (
    SELECT state_key AS user_id, was, membership, event_id FROM changed
     WHERE type = 'm.room.member' AND substr(state_key, strpos(state_key, ':')) = $2
  ), gone AS (
    DELETE FROM local_members m USING local l
     WHERE m.room_id = $1 AND m.user_id = l.user_id AND l.membership IS NULL
     RETURNING m.user_id
  ), former AS (
    INSERT INTO former_members AS f (room_id, user_id, left_by)
    SELECT $1, user_id, NULL FROM gone
     UNION ALL
    SELECT $1, user_id, event_id FROM local WHERE was = 'join' AND membership <> 'join'
    ON CONFLICT (user_id, room_id) DO UPDATE SET left_by = coalesce(excluded.left_by, f.left_by)
  ), kept AS (
    INSERT INTO local_members (room_id, user_id, membership, event_id)
    SELECT $1, user_id, membership, event_id FROM local WHERE membership IS NOT NULL
    ON CONFLICT (room_id, user_id) DO UPDATE SET (membership, event_id) = (excluded.membership, excluded.event_id)
  ), counted AS (
    UPDATE rooms r SET members = CASE WHEN $7 THEN 0 ELSE r.members END + c.joined,
                       invited = CASE WHEN $7 THEN 0 ELSE r.invited END + c.invited
      FROM (SELECT count(*) FILTER (WHERE membership = 'join') - count(*) FILTER (WHERE was = 'join') AS joined,
                   count(*) FILTER (WHERE membership = 'invite') - count(*) FILTER (WHERE was = 'invite') AS invited
              FROM changed WHERE type = 'm.room.member') AS c
     WHERE r.room_id = $1 AND (c.joined <> 0 OR c.invited <> 0 OR $7)
  )
  SELECT c.type, NULL AS "userId", p.json::text AS json, p.hollow FROM changed c LEFT JOIN pdus p ON p.nid = c.after
   WHERE c.type <> 'm.room.member'
   UNION ALL
  SELECT 'm.room.member', user_id, NULL, NULL FROM local`;

/** An event that names the room, or else a member of this server. */
interface Difference extends NamingEvent {
  readonly userId: UserId | null;
}

/**
 * Follows the folds from one current state of a locked room to the next. `before`: `null` for the room's first state. Gives the
 * users of this server whose membership is another.
 */
export async function foldCurrentState(
  tx: Transaction,
  roomId: RoomId,
  before: SnapshotId | null,
  after: SnapshotId,
): Promise<UserId[]> {
  const users: UserId[] = [];
  const naming: NamingEvent[] = [];
  let isFirst = before === null;
  for await (const differences of streamDifferences(tx, roomId, before, after)) {
    const rows = await tx.query<Difference>(FOLD_DIFFERENCES, [
      roomId,
      `:${tx.serverName}`,
      int8Array(differences.map(({ key }) => stateKeyNidOf(key))),
      int8Array(differences.map((difference) => difference.before)),
      int8Array(differences.map((difference) => difference.after)),
      CALLED_BY,
      isFirst,
    ]);
    isFirst = false;
    for (const row of rows) {
      if (row.userId === null) naming.push(row);
      else users.push(row.userId);
    }
  }
  if (naming.length > 0) await foldNames(tx, roomId, naming);
  return users;
}

/** Of the places that differ. What is not known stays so; and nothing is, while the body of one of the events may come yet. */
async function foldNames(tx: Transaction, roomId: RoomId, naming: readonly NamingEvent[]): Promise<void> {
  if (naming.some(isHollow)) {
    await tx.query(`UPDATE rooms SET (members, name, canonical_alias) = (NULL, NULL, NULL) WHERE room_id = $1`, [
      roomId,
    ]);
    return;
  }
  const { name, canonicalAlias } = storableNames(namesOf(naming));
  const differs = (type: NamingEvent['type']) => naming.some((event) => event.type === type);
  await tx.query(
    `UPDATE rooms
        SET name = CASE WHEN $2 THEN $3 ELSE name END, canonical_alias = CASE WHEN $4 THEN $5 ELSE canonical_alias END
      WHERE room_id = $1 AND members IS NOT NULL`,
    [roomId, differs('m.room.name'), name, differs('m.room.canonical_alias'), canonicalAlias],
  );
}
