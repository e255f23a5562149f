/**
 * Deletes events that prove nothing and that nothing needs: outliers without a verdict, whose auth chain leads to an event that
 * is not held, so that they cannot get one. They come with answers that were never used, and from strangers who push what cites
 * what nobody has. Whoever wants such an event asks for it again.
 *
 * The numbers of their places (`state_keys`) stay, one for an event at the most: every process remembers them for good
 * (snapshots/state-keys.ts), and a place that got another number would be empty to those that know the old one.
 *
 * What has a verdict stays, whatever it is: states, and verdicts on others, rest on it. Of what has none stays
 *
 * - what is younger than a day: somebody may be at work on it;
 * - all of a room that is partial, or in which joins of ours wait: what such work has stored it goes on with, and it has an end;
 * - what events that wait for a verdict cite, and what that needs for its own. Of others in their room nothing: anybody may keep
 *   something waiting for as long as he likes;
 * - what is a parent of events that we hold, an anchor, a gap or missing, and what a state at an anchor gets once it is judged;
 * - what clients were or may be shown of the time before we came;
 * - what could be judged: it may be an event of a state that was stored redacted, and whose body has come since.
 */
import { eventsCiting } from '../../matrix/auth/citing-events.ts';
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { lockRoom } from '../journal/rooms.ts';
import { type Sql, type Store, withTransaction } from '../open-store.ts';
import { textArray } from '../sql-values.ts';

const KEPT_MS = 86_400_000;
/** Events that are looked at in one statement, and at the most deleted in one transaction. */
const EVENTS_AT_A_TIME = 5_000;
/** A table with more events is looked through in parts: each hour another one, all of it in a day. */
const WHOLE_PASS_EVENTS_MAX = 200_000;
const PARTS = 24;
const HOUR_MS = 3_600_000;

/** Of `p` in pdus, `$1`: milliseconds since the Unix epoch; younger ones stay. */
const UNREFERENCED = `
      p.stored_at <= $1::bigint
  AND NOT EXISTS (SELECT FROM event_states e WHERE e.event_nid = p.nid)
  AND NOT EXISTS (SELECT FROM outlier_verdicts o WHERE o.event_nid = p.nid)
  AND NOT EXISTS (SELECT FROM rooms r LEFT JOIN resyncs y ON y.room_id = r.room_id AND y.epoch = r.epoch
                   WHERE r.room_id = p.room_id AND r.partial AND y.phase IS DISTINCT FROM 'ended')
  AND NOT EXISTS (SELECT FROM gaps g WHERE g.room_id = p.room_id AND g.event_id = p.event_id)
  AND NOT EXISTS (SELECT FROM missing_events m WHERE m.room_id = p.room_id AND m.event_id = p.event_id)
  AND NOT EXISTS (SELECT FROM join_intents j WHERE j.room_id = p.room_id)
  AND NOT EXISTS (SELECT FROM staged_pdus s
                   WHERE s.room_id = p.room_id AND s.event_id = p.event_id AND s.dropped_at IS NULL)
  AND NOT EXISTS (SELECT FROM anchors a WHERE a.room_id = p.room_id AND a.event_id = p.event_id)
  AND NOT EXISTS (SELECT FROM event_edges c WHERE c.room_id = p.room_id AND c.prev_event_id = p.event_id)
  AND NOT EXISTS (SELECT FROM history_events h WHERE h.room_id = p.room_id AND h.event_id = p.event_id)
  AND NOT EXISTS (SELECT FROM left_out l WHERE l.room_id = p.room_id AND l.event_id = p.event_id)
  AND NOT EXISTS (SELECT FROM awaited_events w WHERE w.room_id = p.room_id AND w.event_id = p.event_id)`;

/** What the events that wait in the room `$2` cite, and the auth events in whose place these wait, as far as they have no verdict. */
const NEEDED_BY_WAITING = `
  needed (event_id) AS (
    SELECT unnest(p.prev_events || p.auth_events)
      FROM staged_pdus s JOIN pdus p ON p.event_id = s.event_id AND p.room_id = $2
     WHERE s.room_id = $2 AND s.dropped_at IS NULL
     UNION
    SELECT unnest(p.auth_events)
      FROM needed n
     CROSS JOIN LATERAL (SELECT nid, auth_events FROM pdus WHERE event_id = n.event_id AND room_id = $2 OFFSET 0) AS p
     WHERE (SELECT count(*) FROM event_states e WHERE e.event_nid = p.nid) = 0
       AND (SELECT count(*) FROM outlier_verdicts o WHERE o.event_nid = p.nid) = 0
  )`;

interface Candidate {
  readonly eventId: EventId;
  readonly roomId: RoomId;
  readonly authEvents: readonly EventId[];
}

export interface ForgetOptions {
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  readonly isOver: () => boolean;
  readonly heartbeat: () => void;
}

/** Looks through all events, or this hour's part of them; gives how many were deleted. */
export async function forgetOutliers(store: Store, { now, isOver, heartbeat }: ForgetOptions): Promise<number> {
  const [newest] = await store.query<{ nid: number }>(`SELECT coalesce(max(nid), 0)::bigint AS nid FROM pdus`);
  const events = newest?.nid ?? 0;
  const parts = events > WHOLE_PASS_EVENTS_MAX ? PARTS : 1;
  const part = Math.floor(now / HOUR_MS) % parts;
  const until = Math.ceil(((part + 1) * events) / parts);
  let deleted = 0;
  for (let from = Math.ceil((part * events) / parts); from < until && !isOver(); from += EVENTS_AT_A_TIME) {
    const candidates = await readCandidates(store, now - KEPT_MS, from, Math.min(from + EVENTS_AT_A_TIME, until));
    const byRoom = new Map<RoomId, Candidate[]>();
    for (const candidate of candidates) {
      const others = byRoom.get(candidate.roomId);
      if (others === undefined) byRoom.set(candidate.roomId, [candidate]);
      else others.push(candidate);
    }
    for (const [roomId, ofRoom] of byRoom) {
      deleted += await forgetInRoom(store, roomId, ofRoom, now - KEPT_MS);
    }
    heartbeat();
  }
  return deleted;
}

function readCandidates(sql: Sql, storedBy: number, from: number, until: number): Promise<Candidate[]> {
  return sql.query(
    `SELECT p.event_id AS "eventId", p.room_id AS "roomId", p.auth_events AS "authEvents"
       FROM pdus p WHERE p.nid > $2 AND p.nid <= $3 AND ${UNREFERENCED}`,
    [storedBy, from, until],
  );
}

/** Under the room's lock: whoever takes an event in finds it there, or not at all. */
async function forgetInRoom(
  store: Store,
  roomId: RoomId,
  candidates: readonly Candidate[],
  storedBy: number,
): Promise<number> {
  const beyondJudging = await withoutVerdictForEver(store, roomId, candidates);
  if (beyondJudging.length === 0) return 0;
  return withTransaction(store, async (tx) => {
    await lockRoom(tx, roomId);
    const rows = await tx.query(
      `WITH RECURSIVE ${NEEDED_BY_WAITING}
       DELETE FROM pdus p
        WHERE p.room_id = $2 AND p.event_id = ANY ($3::text[]) AND ${UNREFERENCED}
          AND p.event_id NOT IN (SELECT event_id FROM needed) RETURNING 1`,
      [storedBy, roomId, textArray(beyondJudging)],
    );
    return rows.length;
  });
}

/** Those whose auth chain leads, through other candidates, to an event that is not held. */
async function withoutVerdictForEver(
  sql: Sql,
  roomId: RoomId,
  candidates: readonly Candidate[],
): Promise<readonly EventId[]> {
  const cited = [...new Set(candidates.flatMap(({ authEvents }) => authEvents))];
  const held = await sql.query<{ eventId: EventId }>(
    `SELECT event_id AS "eventId" FROM pdus WHERE room_id = $1 AND event_id = ANY ($2::text[])`,
    [roomId, textArray(cited)],
  );
  const isHeld = new Set(held.map(({ eventId }) => eventId));
  const absent = cited.filter((eventId) => !isHeld.has(eventId));
  return [...eventsCiting(candidates, absent)];
}
