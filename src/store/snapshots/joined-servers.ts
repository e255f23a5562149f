/** The servers of those who are joined in a state. They follow from one state to the next at the cost of what differs. */
import { LRUCache } from 'lru-cache';
import { type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';
import { int8Array } from '../sql-values.ts';
import { streamDifferences } from './snapshots.ts';

/** Rooms whose servers are remembered: a big one has some thousand. */
const ROOMS_MAX = 500;

interface Known {
  readonly state: SnapshotId;
  /** Joined members of each. */
  readonly members: Map<ServerName, number>;
}

export class JoinedServers {
  readonly #known = new LRUCache<RoomId, Known>({ max: ROOMS_MAX });

  /** The servers of members who are joined in the state, ourselves among them. */
  async of(sql: Sql, roomId: RoomId, state: SnapshotId): Promise<readonly ServerName[]> {
    const known = this.#known.get(roomId);
    const members = new Map(known?.members);
    for await (const differences of streamDifferences(sql, roomId, known?.state ?? null, state)) {
      const rows = await sql.query<{ server: ServerName; more: number }>(
        `SELECT substr(p.sender, strpos(p.sender, ':') + 1) AS server, sum(d.sign)::bigint AS more
           FROM (SELECT unnest($1::bigint[]) AS nid, -1 AS sign UNION ALL SELECT unnest($2::bigint[]), 1) AS d
           JOIN pdus p ON p.nid = d.nid AND p.room_id = $3
          WHERE p.type = 'm.room.member' AND p.membership = 'join' GROUP BY 1`,
        [
          int8Array(differences.flatMap(({ before }) => before ?? [])),
          int8Array(differences.flatMap(({ after }) => after ?? [])),
          roomId,
        ],
      );
      for (const { server, more } of rows) members.set(server, (members.get(server) ?? 0) + more);
    }
    // Of a part alone a server may have fewer than none.
    for (const [server, count] of members) if (count <= 0) members.delete(server);
    this.#known.set(roomId, { state, members });
    return [...members.keys()];
  }
}
