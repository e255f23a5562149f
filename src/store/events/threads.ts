/**
 * A room's threads, by who spoke in them last. How much was said in one, and how much of it is shown, is for strangers to say: a look goes through
 * so many events of threads, and through so many of each thread.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv1roomsroomidthreads
 */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type Sql } from '../open-store.ts';
import { IGNORING, IS_IGNORED } from './relations.ts';

/** Where a thread was last spoken in. */
export interface ThreadEnd {
  readonly root: EventId;
  readonly nid: number;
}

export interface ThreadsQuery {
  readonly roomId: RoomId;
  /** For whom: nothing is told of what those sent whom he ignores. */
  readonly userId: UserId;
  /** Exclusive; `null`: from the newest on. */
  readonly before: number | null;
  /** As `RelatedParent`. */
  readonly upTo: number | null;
  /** Only those in which this user has spoken, or that he began; `null`: all. */
  readonly participant: UserId | null;
  readonly limit: number;
}

/** Events of threads that one statement looks through, threads that it looks at closer, and the newest events of each. */
const SPOKEN_MAX = 5_000;
const THREADS_MAX = 200;
const OF_ONE_MAX = 1_000;

/**
 * Threads, those first in which somebody has spoken last. `next`: where it goes on; `null`: nothing more is there. It may give none and go on all
 * the same. In the order in which their events were stored, which is that of the timeline as good as always.
 */
export async function readThreads(
  sql: Sql,
  { roomId, userId, before, upTo, participant, limit }: ThreadsQuery,
): Promise<{ readonly threads: readonly ThreadEnd[]; readonly next: number | null }> {
  const isIgnored = (row: string): string => IS_IGNORED(row, '(SELECT said FROM ignoring)');
  const shown = (row: string): string =>
    `NOT ${isIgnored(row)}
     AND EXISTS (SELECT FROM event_states e WHERE e.event_nid = ${row}.nid AND e.shown_at <= coalesce($3::bigint, e.shown_at))`;
  const newest = `(SELECT nid, sender, state_key_nid FROM pdus WHERE room_id = $1 AND relates_to = t.root AND rel_type = 'm.thread'
                     ORDER BY nid DESC LIMIT ${OF_ONE_MAX})`;
  type Row = ThreadEnd & { readonly isEnd: boolean };
  const rows = await sql.query<
    { readonly scannedTo: number | null; readonly isMore: boolean } & (Row | { root: null })
  >(
    `WITH ignoring AS MATERIALIZED (SELECT ${IGNORING('$5')} AS said),
     spoken AS MATERIALIZED (
       SELECT nid, relates_to, sender, state_key_nid FROM pdus
        WHERE room_id = $1 AND rel_type = 'm.thread' AND ($2::bigint IS NULL OR nid < $2)
        ORDER BY nid DESC LIMIT ${SPOKEN_MAX}
     ), scanned AS MATERIALIZED (SELECT min(nid) AS "scannedTo", count(*) = ${SPOKEN_MAX} AS "isMore" FROM spoken),
     threads AS MATERIALIZED (
       SELECT p.relates_to AS root, max(p.nid) AS nid FROM spoken p WHERE ${shown('p')}
        GROUP BY p.relates_to ORDER BY max(p.nid) DESC LIMIT ${THREADS_MAX}
     )
     SELECT s."scannedTo", s."isMore", t.root, t.nid,
            NOT EXISTS (SELECT FROM pdus r WHERE r.event_id = t.root AND r.room_id = $1 AND ${isIgnored('r')})
            AND ($2::bigint IS NULL OR NOT EXISTS (SELECT FROM ${newest} AS n WHERE n.nid >= $2 AND ${shown('n')}))
            AND ($4::text IS NULL
                 OR EXISTS (SELECT FROM pdus r WHERE r.event_id = t.root AND r.room_id = $1 AND r.sender = $4)
                 OR EXISTS (SELECT FROM ${newest} AS n WHERE n.sender = $4 AND ${shown('n')})) AS "isEnd"
       FROM scanned s LEFT JOIN threads t ON true ORDER BY t.nid DESC`,
    [roomId, before, upTo, participant, userId],
  );
  const looked = rows.flatMap((row) => (row.root === null ? [] : [row]));
  const threads = looked.filter(({ isEnd }) => isEnd).slice(0, limit);
  const next = (): number | null => {
    if (threads.length === limit) return threads.at(-1)?.nid ?? null;
    if (looked.length === THREADS_MAX) return looked.at(-1)?.nid ?? null;
    return rows[0]?.isMore === true ? rows[0].scannedTo : null;
  };
  return { threads: threads.map(({ root, nid }) => ({ root, nid })), next: next() };
}
