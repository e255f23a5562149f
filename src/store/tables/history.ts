/**
 * What was said in rooms before stays of ours in them, as far as clients have asked for it: in the order in which it is read, the newest
 * first. Its events are outliers, with the verdicts of these: they are in no timeline, and nothing builds on them. One that comes into
 * the timeline by another way is shown there, and here no more.
 */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { type TrieKey, trieKey } from '../snapshots/snapshot-trie.ts';
import { type PageSelection, SCANNED_MAX, relatedAs, relatedValues } from '../journal/timeline-page.ts';
import { int8Array, textArray } from '../sql-values.ts';
import { fromStorable } from '../storable-text.ts';

/** What lies before a stay. */
export interface BeforeStay {
  readonly roomId: RoomId;
  readonly epoch: number;
}

export interface HistoryPdu {
  readonly eventId: EventId;
  readonly nid: number;
  /** Its place, counted back from the stay. */
  readonly nth: number;
  readonly sender: UserId;
  /** `null`: no state event. */
  readonly key: TrieKey | null;
  readonly authEvents: readonly EventId[];
  readonly depth: number;
  readonly json: string;
}

/** Events that were asked for in vain are asked for again after a minute, then two, and so on up to a day. */
const AGAIN_MS = 60_000;
const AGAIN_DOUBLED_MAX = 10;
/** Events that a request may name (src/federation-api/endpoints-events.ts allows others as many). */
const ASKED_FOR_MAX = 20;
/** Visibilities and memberships of one user in one history. */
const SIGNS_MAX = 1_000;

const SHOWN = `
  JOIN pdus p ON p.event_id = h.event_id AND p.room_id = h.room_id
  JOIN outlier_verdicts o ON o.event_nid = p.nid AND o.verdict = 'accepted'
 WHERE h.room_id = $1 AND h.epoch = $2 AND NOT EXISTS (SELECT FROM event_states e WHERE e.event_nid = p.nid)`;

/**
 * Accepted events before a stay: backwards those behind the place `nth`, forwards those up to it; and as far as `until`, where that is given. It
 * looks through `SCANNED_MAX` places.
 */
export async function readHistoryPage(
  sql: Sql,
  epoch: number,
  nth: number,
  { roomId, direction, limit, types, notTypes, senders, notSenders, ignored, related }: PageSelection,
  until: number | null = null,
): Promise<HistoryPdu[]> {
  type Row = Omit<HistoryPdu, 'key'> & { readonly stateKeyNid: number | null; readonly isMember: boolean };
  const [span, order] =
    direction === 'backwards'
      ? [`nth > $3 AND nth <= $3 + ${SCANNED_MAX} AND ($10::integer IS NULL OR nth <= $10)`, 'ASC']
      : [`nth <= $3 AND nth > $3 - ${SCANNED_MAX} AND ($10::integer IS NULL OR nth > $10)`, 'DESC'];
  const rows = await sql.query<Row>(
    `SELECT p.event_id AS "eventId", p.nid, h.nth, p.sender, p.state_key_nid AS "stateKeyNid",
            p.type = 'm.room.member' AS "isMember", p.auth_events AS "authEvents", p.depth, p.json::text AS json
       FROM (SELECT * FROM history_events WHERE room_id = $1 AND epoch = $2 AND ${span} ORDER BY nth ${order} LIMIT ${SCANNED_MAX}) AS h
      CROSS JOIN LATERAL (SELECT * FROM pdus WHERE event_id = h.event_id AND room_id = h.room_id OFFSET 0) AS p
      CROSS JOIN LATERAL (SELECT FROM outlier_verdicts WHERE event_nid = p.nid AND verdict = 'accepted' OFFSET 0) AS o
      WHERE NOT EXISTS (SELECT FROM event_states e WHERE e.event_nid = p.nid) ${relatedAs(related, 11)}
        AND ($5::text[] IS NULL OR p.type LIKE ANY ($5)) AND NOT p.type LIKE ANY ($6::text[])
        AND ($7::text[] IS NULL OR p.sender = ANY ($7)) AND NOT p.sender = ANY ($8::text[])
        AND (p.state_key_nid IS NOT NULL OR NOT p.sender = ANY ($9::text[]))
      ORDER BY h.nth ${order} LIMIT $4`,
    [roomId, epoch, nth, limit, types, notTypes, senders, notSenders, ignored, until, ...relatedValues(related)],
  );
  return rows.map(({ stateKeyNid, isMember, ...row }) => {
    return { ...row, key: stateKeyNid === null ? null : trieKey(stateKeyNid, isMember) };
  });
}

/** Where an event stands before a stay. */
export interface HistoryPlace {
  readonly epoch: number;
  readonly nth: number;
}

/** `undefined`: it is not there, or is shown in the timeline. */
export async function readHistoryPlace(sql: Sql, roomId: RoomId, eventId: EventId): Promise<HistoryPlace | undefined> {
  const [place] = await sql.query<HistoryPlace>(
    `SELECT h.epoch, h.nth FROM history_events h
      WHERE h.room_id = $1 AND h.event_id = $2
        AND NOT EXISTS (SELECT FROM event_states e WHERE e.event_id = h.event_id AND e.room_id = $1)`,
    [roomId, eventId],
  );
  return place;
}

/** When the oldest event was made that is held of what lies before a stay, as its server says; `null`: none is held. */
export async function readHistoryBeginning(sql: Sql, { roomId, epoch }: BeforeStay): Promise<number | null> {
  const [row] = await sql.query<{ at: number }>(
    `SELECT p.origin_server_ts AS at FROM history_events h JOIN pdus p ON p.event_id = h.event_id AND p.room_id = h.room_id
      WHERE h.room_id = $1 AND h.epoch = $2 ORDER BY h.nth DESC LIMIT 1`,
    [roomId, epoch],
  );
  return row?.at ?? null;
}

/** What an event before a stay says of who may see what. */
export interface HistorySign {
  readonly nth: number;
  readonly type: string;
  readonly json: string;
}

/** The events that change the room's history visibility, or what a user is in it, the newest first. */
export async function readHistorySigns(
  sql: Sql,
  { roomId, epoch }: BeforeStay,
  keys: readonly TrieKey[],
): Promise<HistorySign[]> {
  const rows = await sql.query<HistorySign>(
    `SELECT h.nth, p.type, p.json::text AS json FROM history_events h ${SHOWN}
        AND p.state_key_nid = ANY ($3::bigint[]) ORDER BY h.nth LIMIT $4`,
    [roomId, epoch, int8Array(keys.map((key) => Math.floor(key / 2))), SIGNS_MAX],
  );
  return rows.map((row) => ({ ...row, type: fromStorable(row.type) }));
}

export interface HistoryState {
  /** Of the last event that is held; 0: none is. */
  readonly last: number;
  /** Nothing lies behind it that we do not hold. */
  readonly isWhole: boolean;
  /** What may be asked for now. */
  readonly wanted: readonly EventId[];
}

/** How far the history is held. `now`: milliseconds since the Unix epoch. */
export async function readHistoryState(sql: Sql, { roomId, epoch }: BeforeStay, now: number): Promise<HistoryState> {
  const [row] = await sql.query<HistoryState>(
    `SELECT coalesce((SELECT max(nth) FROM history_events WHERE room_id = $1 AND epoch = $2), 0) AS last,
            NOT EXISTS (SELECT FROM history_edges WHERE room_id = $1 AND epoch = $2) AS "isWhole",
            ARRAY(SELECT event_id FROM history_edges WHERE room_id = $1 AND epoch = $2 AND not_before <= $3
                   ORDER BY tries, event_id LIMIT $4) AS wanted`,
    [roomId, epoch, now, ASKED_FOR_MAX],
  );
  return row ?? { last: 0, isWhole: true, wanted: [] };
}

/** Where the history of a stay begins that nobody has asked for yet: at the parents of its join that we do not hold as ours. */
export async function beginHistory(
  tx: Transaction,
  { roomId, epoch }: BeforeStay,
  joinEventId: EventId,
): Promise<void> {
  await tx.query(
    `INSERT INTO history_edges (room_id, epoch, event_id)
     SELECT $1, $2, prev.event_id FROM pdus j CROSS JOIN unnest(j.prev_events) AS prev(event_id)
      WHERE j.room_id = $1 AND j.event_id = $3
        AND NOT EXISTS (SELECT FROM history_events WHERE room_id = $1 AND epoch = $2)
        AND NOT EXISTS (SELECT FROM event_states e WHERE e.event_id = prev.event_id AND e.room_id = $1)
     ON CONFLICT DO NOTHING`,
    [roomId, epoch, joinEventId],
  );
}

/** An event of an answer, and what it follows. */
export interface GivenEvent {
  readonly eventId: EventId;
  readonly prevEvents: readonly EventId[];
}

/** Adds events behind those that are held, in this order; the room is locked. What of `asked` did not come is asked for later. */
export async function addHistory(
  tx: Transaction,
  { roomId, epoch }: BeforeStay,
  events: readonly GivenEvent[],
  { asked, now }: { readonly asked: readonly EventId[]; readonly now: number },
): Promise<void> {
  const ids = textArray(events.map(({ eventId }) => eventId));
  await tx.query(
    `INSERT INTO history_events (room_id, epoch, nth, event_id)
     SELECT $1, $2, (SELECT coalesce(max(nth), 0) FROM history_events WHERE room_id = $1 AND epoch = $2)
                    + row_number() OVER (ORDER BY given.place), given.event_id
       FROM unnest($3::text[]) WITH ORDINALITY AS given(event_id, place)
      WHERE NOT EXISTS (SELECT FROM history_events h WHERE h.room_id = $1 AND h.event_id = given.event_id)
     ON CONFLICT DO NOTHING`,
    [roomId, epoch, ids],
  );
  await tx.query(`DELETE FROM history_edges WHERE room_id = $1 AND epoch = $2 AND event_id = ANY ($3::text[])`, [
    roomId,
    epoch,
    ids,
  ]);
  await tx.query(
    `INSERT INTO history_edges (room_id, epoch, event_id)
     SELECT DISTINCT $1, $2::integer, prev.event_id FROM unnest($3::text[]) AS prev(event_id)
      WHERE NOT EXISTS (SELECT FROM history_events h WHERE h.room_id = $1 AND h.event_id = prev.event_id)
        AND NOT EXISTS (SELECT FROM event_states e WHERE e.event_id = prev.event_id AND e.room_id = $1)
     ON CONFLICT DO NOTHING`,
    [roomId, epoch, textArray([...new Set(events.flatMap(({ prevEvents }) => prevEvents))])],
  );
  await tx.query(
    `UPDATE history_edges SET tries = tries + 1, not_before = $4::bigint + $5::bigint * (1 << least(tries, $6))
      WHERE room_id = $1 AND epoch = $2 AND event_id = ANY ($3::text[])`,
    [roomId, epoch, textArray(asked), now, AGAIN_MS, AGAIN_DOUBLED_MAX],
  );
}
