/**
 * What a sync reads of rooms, for all rooms of a user at once. It runs in one snapshot of the database, so what these
 * statements say fits together, and nothing has to be bounded by the newest position.
 */
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type ResyncState, asResyncState } from '../../resync/state.ts';
import { type Sql } from '../open-store.ts';
import { type TrieKey, trieKey } from '../snapshots/snapshot-trie.ts';
import { int8Array, textArray } from '../sql-values.ts';
import { isForgotten } from '../tables/forgotten-rooms.ts';
import { fromStorable } from '../storable-text.ts';

/** A room in which a user of ours has, or had, a membership: as it is, and as it was at a position. */
export interface SeenRoom {
  readonly roomId: RoomId;
  readonly state: SnapshotId;
  readonly partial: boolean;
  /** Of the user; `null`: none any more. Of who has left silently `leave`, whatever the state says. */
  readonly membership: string | null;
  readonly membershipInState: string | null;
  readonly memberEventId: EventId | null;
  /** From when on his membership's event is shown; `null`: it is not. */
  readonly memberShownAt: number | null;
  /** Joined, and invited; `null`: not known. */
  readonly joined: number | null;
  readonly invited: number | null;
  /** The room has a name or a canonical alias. */
  readonly isNamed: boolean;
  /** At the position; `null`: it had none, or the room is newer. */
  readonly stateThen: SnapshotId | null;
  readonly wasPartial: boolean;
  /** He had left silently then, so that his client has the room as left, whatever its state said. */
  readonly wasLeftSilently: boolean;
  /** He has left it, and wants to see no more of it. */
  readonly isForgotten: boolean;
  /** Of the newest event that is shown. */
  readonly newest: number;
  /** The user has said that he has read what is shown up to here, 0: nothing; and when he said so last. */
  readonly readUpTo: number;
  readonly readAt: number;
}

/** The newest position, and all rooms of a user with what they were at `since`. */
export async function readSeenRooms(
  sql: Sql,
  userId: UserId,
  since: number,
): Promise<{ readonly head: number; readonly rooms: SeenRoom[] }> {
  const rows = await sql.query<{ head: number } & (SeenRoom | { readonly roomId: null })>(
    `SELECT h.position AS head, r.room_id AS "roomId", encode(r.current_state, 'hex') AS state, r.partial,
            CASE WHEN m.membership = 'join' AND silent.settled_at IS NULL AND silent.left_at IS NOT NULL THEN 'leave' ELSE m.membership END
              AS membership,
            m.membership AS "membershipInState", m.event_id AS "memberEventId",
            CASE WHEN m.membership = 'join' AND silent.settled_at IS NULL AND silent.left_at IS NOT NULL THEN silent.left_at
                 ELSE (SELECT shown_at FROM event_states e WHERE e.event_id = m.event_id AND e.room_id = m.room_id) END
              AS "memberShownAt",
            ${isForgotten('$1', 'm.room_id', 'm.event_id', 'm.left_by')} AS "isForgotten",
            coalesce(silent.left_at <= $2 AND (silent.settled_at IS NULL OR silent.settled_at > $2), false) AS "wasLeftSilently",
            r.members AS joined, r.invited, r.name IS NOT NULL OR r.canonical_alias IS NOT NULL AS "isNamed",
            encode(t.state, 'hex') AS "stateThen", coalesce(t.partial, false) AS "wasPartial",
            coalesce((SELECT e.shown_at FROM event_states e WHERE e.room_id = r.room_id AND e.shown_at IS NOT NULL
                       ORDER BY e.shown_at DESC LIMIT 1), 0) AS newest,
            coalesce(read.up_to, 0) AS "readUpTo", coalesce(read.position, 0) AS "readAt"
       FROM journal_head h
       LEFT JOIN (SELECT l.room_id, l.membership, l.event_id, f.left_by FROM local_members l
                    LEFT JOIN former_members f ON f.user_id = $1 AND f.room_id = l.room_id WHERE l.user_id = $1
                  UNION ALL
                  SELECT f.room_id, NULL, NULL, f.left_by FROM former_members f
                   WHERE f.user_id = $1 AND NOT EXISTS (SELECT FROM local_members l
                                                         WHERE l.room_id = f.room_id AND l.user_id = $1)) AS m ON true
       LEFT JOIN rooms r ON r.room_id = m.room_id AND r.current_state IS NOT NULL
       LEFT JOIN silent_leaves silent ON silent.room_id = m.room_id AND silent.user_id = $1
       LEFT JOIN LATERAL (SELECT state, partial FROM current_states c
                           WHERE c.room_id = r.room_id AND c.position <= $2
                           ORDER BY c.position DESC LIMIT 1) AS t ON true
       LEFT JOIN (SELECT room_id, max(up_to) AS up_to, max(position) AS position FROM read_receipts
                   WHERE user_id = $1 GROUP BY room_id) AS read ON read.room_id = r.room_id
      ORDER BY r.room_id`,
    [userId, since],
  );
  const rooms = rows.flatMap((row) => {
    if (row.roomId === null) return [];
    const [membership, membershipInState] = [row.membership, row.membershipInState].map((is) => is && fromStorable(is));
    return [{ ...row, membership: membership ?? null, membershipInState: membershipInState ?? null }];
  });
  return { head: rows[0]?.head ?? 0, rooms };
}

/** From which position on events of a room are shown; those that are not are absent. */
export async function readShownAt(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
): Promise<ReadonlyMap<EventId, number>> {
  const rows = await sql.query<{ eventId: EventId; shownAt: number }>(
    `SELECT event_id AS "eventId", shown_at AS "shownAt" FROM event_states
      WHERE event_id = ANY ($2::text[]) AND room_id = $1 AND shown_at IS NOT NULL`,
    [roomId, eventIds],
  );
  return new Map(rows.map(({ eventId, shownAt }) => [eventId, shownAt]));
}

/** The same of events that a state holds, whatever their rooms. */
export async function readShownSince(sql: Sql, eventIds: readonly EventId[]): Promise<ReadonlyMap<EventId, number>> {
  if (eventIds.length === 0) return new Map();
  const rows = await sql.query<{ eventId: EventId; shownAt: number }>(
    `SELECT event_id AS "eventId", shown_at AS "shownAt" FROM event_states
      WHERE event_id = ANY ($1::text[]) AND shown_at IS NOT NULL`,
    [eventIds],
  );
  return new Map(rows.map(({ eventId, shownAt }) => [eventId, shownAt]));
}

/** Part of a room's timeline: after one position, up to another. */
export interface TimelineSpan {
  readonly roomId: RoomId;
  /** Exclusive. */
  readonly after: number;
  readonly upTo: number;
}

/** Which events are read; patterns are SQL's LIKE. */
export interface TimelineSelection {
  /** The newest of each room. */
  readonly limit: number;
  readonly types: readonly string[] | null;
  readonly notTypes: readonly string[];
  readonly senders: readonly UserId[] | null;
  readonly notSenders: readonly UserId[];
  /** Their messages are left out; their state events are not. */
  readonly ignored: readonly UserId[];
  /** Of all rooms together: each has its newest event before any has its second. */
  readonly bytesMax: number;
}

/** What was said in rooms. */
export interface Timelines {
  /** The oldest first within a room; rooms in which nothing was said are absent. */
  readonly events: ReadonlyMap<RoomId, readonly ShownPdu[]>;
  /** Rooms of which older events were left out for their size, or all. */
  readonly cut: ReadonlySet<RoomId>;
}

/** An event as clients may be shown it. */
export interface ShownPdu {
  readonly roomId: RoomId;
  readonly eventId: EventId;
  readonly nid: number;
  readonly shownAt: number;
  readonly stateBefore: SnapshotId;
  readonly stateAfter: SnapshotId;
  readonly sender: UserId;
  /** `null`: no state event. */
  readonly key: TrieKey | null;
  readonly authEvents: readonly EventId[];
  readonly depth: number;
  readonly json: string;
}

/** The newest events of each span. */
export async function readTimelines(
  sql: Sql,
  spans: readonly TimelineSpan[],
  { limit, types, notTypes, senders, notSenders, ignored, bytesMax }: TimelineSelection,
): Promise<Timelines> {
  const [events, cut] = [new Map<RoomId, ShownPdu[]>(), new Set<RoomId>()];
  if (spans.length === 0) return { events, cut };
  type Row = Omit<ShownPdu, 'key' | 'json'> & {
    stateKeyNid: number | null;
    isMember: boolean;
    json: string | null;
  };
  const rows = await sql.query<Row>(
    `WITH said AS (
       SELECT w.room_id, s.*, row_number() OVER (PARTITION BY w.room_id ORDER BY s.shown_at DESC) AS nth
         FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS w(room_id, after, up_to)
        CROSS JOIN LATERAL (
          SELECT e.event_nid, e.shown_at, octet_length(p.json::text) AS bytes
            FROM event_states e JOIN pdus p ON p.nid = e.event_nid
           WHERE e.room_id = w.room_id AND e.shown_at > w.after AND e.shown_at <= w.up_to
             AND ($5::text[] IS NULL OR p.type LIKE ANY ($5)) AND NOT p.type LIKE ANY ($6::text[])
             AND ($7::text[] IS NULL OR p.sender = ANY ($7)) AND NOT p.sender = ANY ($8::text[])
             AND (p.state_key_nid IS NOT NULL OR NOT p.sender = ANY ($9::text[]))
           ORDER BY e.shown_at DESC LIMIT $4) AS s
     ), sized AS (SELECT *, sum(bytes) OVER (ORDER BY nth, room_id) > $10 AS is_cut FROM said)
     SELECT s.room_id AS "roomId", e.event_id AS "eventId", e.event_nid AS nid, e.shown_at AS "shownAt",
            encode(e.state_before, 'hex') AS "stateBefore", encode(e.state_after, 'hex') AS "stateAfter", p.sender,
            p.state_key_nid AS "stateKeyNid", p.type = 'm.room.member' AS "isMember", p.auth_events AS "authEvents",
            p.depth, CASE WHEN NOT s.is_cut THEN p.json::text END AS json
       FROM sized s JOIN event_states e ON e.event_nid = s.event_nid JOIN pdus p ON p.nid = e.event_nid
      ORDER BY s.room_id, s.shown_at`,
    [
      textArray(spans.map(({ roomId }) => roomId)),
      int8Array(spans.map(({ after }) => after)),
      int8Array(spans.map(({ upTo }) => upTo)),
      limit,
      types,
      notTypes,
      senders,
      notSenders,
      ignored,
      bytesMax,
    ],
  );
  for (const { stateKeyNid, isMember, json, ...row } of rows) {
    if (json === null) {
      cut.add(row.roomId);
      continue;
    }
    const ofRoom = events.get(row.roomId) ?? [];
    events.set(row.roomId, ofRoom);
    ofRoom.push({ ...row, json, key: stateKeyNid === null ? null : trieKey(stateKeyNid, isMember) });
  }
  return { events, cut };
}

/** What a room was at a position. */
export interface StateThen {
  readonly state: SnapshotId;
  readonly partial: boolean;
}

/** The current state of each room just before a position; rooms that had none then are absent. */
export async function readStatesBefore(
  sql: Sql,
  wanted: readonly { readonly roomId: RoomId; readonly position: number }[],
): Promise<ReadonlyMap<RoomId, StateThen>> {
  if (wanted.length === 0) return new Map();
  const rows = await sql.query<StateThen & { roomId: RoomId }>(
    `SELECT w.room_id AS "roomId", encode(s.state, 'hex') AS state, s.partial
       FROM unnest($1::text[], $2::bigint[]) AS w(room_id, position)
      CROSS JOIN LATERAL (SELECT state, partial FROM current_states c WHERE c.room_id = w.room_id AND c.position < w.position
                           ORDER BY c.position DESC LIMIT 1) AS s`,
    [textArray(wanted.map(({ roomId }) => roomId)), int8Array(wanted.map(({ position }) => position))],
  );
  return new Map(rows.map((row) => [row.roomId, row]));
}

/** Stays of ours in a room, by the positions at which they began, around a position. */
export interface StaysAround {
  /** The one of then; `null`: the room was made here, or there was none. */
  readonly begun: number | null;
  /** The one after that; `null`: there is none. */
  readonly next: number | null;
}

/** Of each room that we have joined elsewhere; found by the index that holds what is told of joins and nothing else. */
export async function readStaysAround(
  sql: Sql,
  wanted: readonly { readonly roomId: RoomId; readonly position: number }[],
): Promise<ReadonlyMap<RoomId, StaysAround>> {
  if (wanted.length === 0) return new Map();
  const rows = await sql.query<StaysAround & { roomId: RoomId }>(
    `SELECT s.room_id AS "roomId", max(s.start) FILTER (WHERE s.start <= s.position) AS begun,
            min(s.start) FILTER (WHERE s.start > s.position) AS next
       FROM (SELECT w.room_id, w.position, min(j.position) AS start
               FROM unnest($1::text[], $2::bigint[]) AS w(room_id, position)
               JOIN journal j ON j.room_id = w.room_id AND j.type IN ('PartialStateJoined', 'FullStateJoined')
              GROUP BY w.room_id, w.position, j.epoch) AS s
      GROUP BY s.room_id`,
    [textArray(wanted.map(({ roomId }) => roomId)), int8Array(wanted.map(({ position }) => position))],
  );
  return new Map(rows.map((row) => [row.roomId, row]));
}

/** A place of a room's state. */
export interface PlaceShown {
  readonly roomId: RoomId;
  readonly key: TrieKey;
}

/**
 * The places that state events say something about which were shown in a span of positions, at most `limit` of them. What is hidden by
 * now may have been shown where it was taken in.
 */
export async function readPlacesShown(
  sql: Sql,
  roomIds: readonly RoomId[],
  { after, upTo }: { readonly after: number; readonly upTo: number },
  limit: number,
): Promise<PlaceShown[]> {
  const rows = await sql.query<{ roomId: RoomId; stateKeyNid: number; isMember: boolean }>(
    `SELECT DISTINCT e.room_id AS "roomId", p.state_key_nid AS "stateKeyNid", p.type = 'm.room.member' AS "isMember"
       FROM event_states e JOIN pdus p ON p.nid = e.event_nid
      WHERE e.room_id = ANY ($1::text[]) AND p.state_key_nid IS NOT NULL
        AND (e.shown_at > $2 AND e.shown_at <= $3 OR e.shown_at IS NULL AND e.position > $2 AND e.position <= $3)
      LIMIT $4`,
    [roomIds, after, upTo, limit],
  );
  return rows.map(({ roomId, stateKeyNid, isMember }) => ({ roomId, key: trieKey(stateKeyNid, isMember) }));
}

/** Whose events clients may have been shown up to a position since the room's stay began: of those taken in since, whatever became of them. */
export async function readSpeakers(
  sql: Sql,
  roomIds: readonly RoomId[],
  upTo: number,
  limit: number,
): Promise<{ readonly roomId: RoomId; readonly sender: UserId }[]> {
  if (roomIds.length === 0) return [];
  return sql.query(
    `SELECT DISTINCT e.room_id AS "roomId", p.sender
       FROM rooms r JOIN event_states e ON e.room_id = r.room_id AND e.epoch = r.epoch AND e.position <= $2
       JOIN pdus p ON p.nid = e.event_nid
      WHERE r.room_id = ANY ($1::text[]) LIMIT $3`,
    [roomIds, upTo, limit],
  );
}

/** A stored event's body, by its number. */
export interface NumberedBody {
  readonly nid: number;
  readonly eventId: EventId;
  readonly membership: string | null;
  readonly json: string;
}

/** Bodies by number. */
export async function readNumbered(sql: Sql, nids: Iterable<number>): Promise<ReadonlyMap<number, NumberedBody>> {
  const wanted = [...new Set(nids)];
  if (wanted.length === 0) return new Map();
  const rows = await sql.query<NumberedBody>(
    `SELECT nid, event_id AS "eventId", membership, json::text AS json FROM pdus WHERE nid = ANY ($1::bigint[])`,
    [int8Array(wanted)],
  );
  return byNumber(rows);
}

/** As many of the bodies as come to so many bytes, the first of `nids` first: which are absent is left to be read. */
export async function readNumberedUpTo(
  sql: Sql,
  nids: readonly number[],
  bytesMax: number,
): Promise<ReadonlyMap<number, NumberedBody>> {
  if (nids.length === 0) return new Map();
  const rows = await sql.query<NumberedBody>(
    `SELECT nid, event_id AS "eventId", membership, json::text AS json
       FROM (SELECT p.nid, p.event_id, p.membership, p.json, sum(octet_length(p.json::text)) OVER (ORDER BY w.nth) AS bytes
               FROM unnest($1::bigint[]) WITH ORDINALITY AS w(nid, nth) JOIN pdus p ON p.nid = w.nid) AS read
      WHERE bytes <= $2`,
    [int8Array(nids), bytesMax],
  );
  return byNumber(rows);
}

/** Which of some events, by number, are memberships of those who are joined. */
export async function readJoinedAmong(sql: Sql, nids: readonly number[]): Promise<ReadonlySet<number>> {
  if (nids.length === 0) return new Set();
  const rows = await sql.query<{ nid: number }>(
    `SELECT nid FROM pdus WHERE nid = ANY ($1::bigint[]) AND type = 'm.room.member' AND membership = 'join'`,
    [int8Array(nids)],
  );
  return new Set(rows.map(({ nid }) => nid));
}

/** Of memberships among some events: whose they are, by number. */
export interface CitedMember {
  readonly roomId: RoomId;
  readonly eventId: EventId;
  readonly nid: number;
  readonly key: TrieKey;
}

/** The accepted or not yet judged memberships among `eventIds`, the deepest last. */
export async function readCitedMembers(sql: Sql, eventIds: readonly EventId[]): Promise<CitedMember[]> {
  if (eventIds.length === 0) return [];
  const rows = await sql.query<{ roomId: RoomId; eventId: EventId; nid: number; stateKeyNid: number }>(
    `SELECT p.room_id AS "roomId", p.event_id AS "eventId", p.nid, p.state_key_nid AS "stateKeyNid"
       FROM pdus p
       LEFT JOIN event_states e ON e.event_nid = p.nid
       LEFT JOIN outlier_verdicts o ON o.event_nid = p.nid
      WHERE p.event_id = ANY ($1::text[]) AND p.type = 'm.room.member' AND p.state_key_nid IS NOT NULL
        AND coalesce(e.verdict, o.verdict, 'accepted') = 'accepted'
      ORDER BY p.depth, p.nid`,
    [eventIds],
  );
  return rows.map(({ stateKeyNid, ...row }) => ({ ...row, key: trieKey(stateKeyNid, true) }));
}

/**
 * How far the resync of each room is that is partial, or whole but for events that could not be had; others are absent. Read as text, since
 * PostgreSQL looks into no JSON that holds \u0000, as a stranger's reason may; within a string the quotes would be escaped.
 */
export async function readResyncs(sql: Sql, roomIds: readonly RoomId[]): Promise<ReadonlyMap<RoomId, ResyncState>> {
  if (roomIds.length === 0) return new Map();
  const rows = await sql.query<{ roomId: RoomId; state: ResyncState }>(
    `SELECT r.room_id AS "roomId", s.state FROM rooms r JOIN resyncs s ON s.room_id = r.room_id AND s.epoch = r.epoch
      WHERE r.room_id = ANY ($1::text[]) AND (r.partial OR s.state::text NOT LIKE '%"degraded":null%')`,
    [roomIds],
  );
  return new Map(rows.map(({ roomId, state }) => [roomId, asResyncState(state)]));
}

/** Rows of `pdus` by the number of the event, with what they hold of memberships as it was written. */
export function byNumber<Row extends { readonly nid: number; readonly membership: string | null }>(
  rows: readonly Row[],
): ReadonlyMap<number, Row> {
  return new Map(
    rows.map((row) => [row.nid, { ...row, membership: row.membership === null ? null : fromStorable(row.membership) }]),
  );
}
