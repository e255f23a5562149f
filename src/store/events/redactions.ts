/**
 * What has been taken back: events as clients are given them once an accepted redaction names them. Events are stored as they came, so
 * it is the same whichever of the two came first, and a redaction that turns out to be rejected takes nothing back any more.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#redactions and https://spec.matrix.org/v1.16/rooms/v3/#handling-redactions
 */
import { atLeast, powerLevelsOf } from '../../matrix/auth/power-levels.ts';
import { clientEvent } from '../../matrix/client/client-event.ts';
import { ownString } from '../../matrix/content.ts';
import { type EventId, type RoomId, type UserId, domainOf } from '../../matrix/identifiers.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type RoomVersionRules, roomVersionRules } from '../../matrix/room-versions.ts';
import { redact } from '../../matrix/signing/redaction.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { readNumbered } from '../journal/seen-by-clients.ts';
import { type Sql } from '../open-store.ts';
import { type StateRead, readStates } from '../snapshots/many-snapshots.ts';
import { readStateKeys } from '../snapshots/state-keys.ts';
import { textArray } from '../sql-values.ts';
import { stateMapKey } from '../../matrix/state-map.ts';

/** An event's JSON text, and which room it is of. */
export interface GivenBody {
  readonly eventId: EventId;
  readonly roomId: RoomId;
  readonly json: string;
}

export interface RedactedBody {
  /** What is left of it. */
  readonly json: string;
  /** The redaction, in the form of clients. */
  readonly because: JsonObject;
}

/** Redactions of one event that are looked at, one of each sender. */
const REDACTIONS_MAX = 200;
/** As the index has it: the first that looks like it; what it says in truth is read from the event. */
export const REDACTS = (pdus: string): string => `substring(${pdus}.json::text from '"redacts"\\s*:\\s*"([^"\\\\]+)"')`;
const PLACES = ['m.room.create', 'm.room.power_levels'].map((type) => ({ type, stateKey: '' }));

/** Of one event, as they were stored: of who floods an event with redactions that count for nothing more are not looked at. */
const SCANNED_MAX = 10_000;
/** Bodies that are read for one event, one after the other while they do not say what they look like. */
const BODIES_MAX = 20;

/** An event that looks as if it took another back. */
interface Redaction {
  readonly target: EventId;
  /** `null`: the event is gone meanwhile. */
  readonly author: UserId | null;
  readonly nid: number;
  readonly eventId: EventId;
  readonly roomId: RoomId;
  readonly roomVersion: string;
  readonly sender: UserId;
  readonly stateBefore: SnapshotId;
}

/** One that does. */
interface Effective {
  readonly rules: RoomVersionRules;
  readonly event: JsonObject;
  readonly eventId: EventId;
  readonly roomId: RoomId;
}

/** Whether the room has a redaction of anything, good or not. */
export async function hasRedactions(sql: Sql, roomId: RoomId): Promise<boolean> {
  const [row] = await sql.query<{ found: boolean }>(
    `SELECT EXISTS (SELECT FROM pdus WHERE room_id = $1 AND type = 'm.room.redaction') AS found`,
    [roomId],
  );
  return row?.found === true;
}

/** Those of some events that were taken back by who may. */
export async function readRedacted(
  sql: Sql,
  events: readonly GivenBody[],
): Promise<ReadonlyMap<EventId, RedactedBody>> {
  const bodies = new Map(events.map((event) => [event.eventId, event]));
  const redacted = new Map<EventId, RedactedBody>();
  for (const [target, { rules, event, eventId, roomId }] of await readEffective(sql, [...bodies.values()])) {
    const body = JSON.parse(bodies.get(target)?.json ?? '{}') as JsonObject;
    const because = clientEvent(event, { eventId, roomId });
    redacted.set(target, { json: JSON.stringify(redact(body, rules)), because });
  }
  return redacted;
}

/** The same, where the events themselves are not wanted. */
export async function readTaken(
  sql: Sql,
  events: readonly Pick<GivenBody, 'eventId' | 'roomId'>[],
): Promise<ReadonlySet<EventId>> {
  return new Set((await readEffective(sql, events)).keys());
}

/** What takes each of some events back: of those who may the first whose event says so. No body is read of who may not. */
async function readEffective(
  sql: Sql,
  events: readonly Pick<GivenBody, 'eventId' | 'roomId'>[],
): Promise<ReadonlyMap<EventId, Effective>> {
  const effective = new Map<EventId, Effective>();
  if (events.length === 0) return effective;
  const rows = await sql.query<Redaction>(
    `SELECT t.event_id AS target, t.room_id AS "roomId", r.room_version AS "roomVersion",
            (SELECT a.sender FROM pdus a WHERE a.event_id = t.event_id) AS author, s.*
       FROM unnest($1::text[], $2::text[]) AS t(event_id, room_id)
       JOIN rooms r ON r.room_id = t.room_id
      CROSS JOIN LATERAL (
        SELECT DISTINCT ON (p.sender) p.nid, p.event_id AS "eventId", p.sender, encode(e.state_before, 'hex') AS "stateBefore", e.shown_at
          FROM (SELECT nid, event_id, sender FROM pdus p
                 WHERE p.type = 'm.room.redaction' AND p.room_id = t.room_id AND ${REDACTS('p')} = t.event_id LIMIT ${SCANNED_MAX}) AS p
          JOIN event_states e ON e.event_nid = p.nid AND e.shown_at IS NOT NULL
         ORDER BY p.sender, e.shown_at LIMIT ${REDACTIONS_MAX}) AS s
      ORDER BY s.shown_at`,
    [textArray(events.map(({ eventId }) => eventId)), textArray(events.map(({ roomId }) => roomId))],
  );
  const named = rows.flatMap((row) => {
    const rules = roomVersionRules(row.roomVersion);
    return rules === undefined || row.author === null ? [] : [{ ...row, author: row.author, rules }];
  });
  const isFree = ({ rules, author, sender }: (typeof named)[number]): boolean =>
    rules.redactionsJudgedByAuthRules || domainOf(author) === domainOf(sender);
  const allowed = await withPower(
    sql,
    named.filter((one) => !isFree(one)),
  );
  let left = named.filter((one) => isFree(one) || allowed.has(one.eventId));
  for (let round = 0; round < BODIES_MAX && left.length > 0; round += 1) {
    // The first of each event: nearly all say what they look like.
    const first = [...new Map(left.toReversed().map((one) => [one.target, one])).values()];
    const bodies = await readNumbered(
      sql,
      first.map(({ nid }) => nid),
    );
    for (const { target, nid, rules, eventId, roomId } of first) {
      const event = JSON.parse(bodies.get(nid)?.json ?? '{}') as JsonObject;
      if (redactsOf(event, rules) === target) effective.set(target, { rules, event, eventId, roomId });
    }
    const read = new Set(first);
    left = left.filter((one) => !read.has(one) && !effective.has(one.target));
  }
  return effective;
}

/** As the room's version has it: a name elsewhere counts for nothing. */
function redactsOf(redaction: JsonObject, rules: RoomVersionRules): string | undefined {
  if (!rules.redaction.keepsRedacts) return ownString(redaction, 'redacts');
  const { content } = redaction;
  return isJsonObject(content) ? ownString(content, 'redacts') : undefined;
}

/** Redactions whose sender had the power to take back what others say. */
async function withPower(
  sql: Sql,
  redactions: readonly (Redaction & { readonly rules: RoomVersionRules })[],
): Promise<ReadonlySet<EventId>> {
  if (redactions.length === 0) return new Set();
  const keys = await readStateKeys(sql, PLACES);
  const [create, power] = PLACES.map(({ type, stateKey }) => keys.get(stateMapKey(type, stateKey)));
  const selection = { keys: new Set(keys.values()) };
  const states = await readStates(
    sql,
    redactions.map(({ roomId, stateBefore: state }): StateRead => ({ roomId, state, selection })),
  );
  const bodies = await readNumbered(
    sql,
    states.flatMap((state) => [...state.values()]),
  );
  type Said = { readonly sender: UserId; readonly content: JsonObject };
  return new Set(
    redactions.flatMap(({ eventId, sender, rules }, i) => {
      const at = (key: number | undefined): Said | undefined => {
        const body = key === undefined ? undefined : bodies.get(states[i]?.get(key) ?? -1);
        return body && (JSON.parse(body.json) as Said);
      };
      const [created, levelsEvent] = [at(create), at(power)];
      if (created === undefined) return [];
      const levels = powerLevelsOf(created, () => levelsEvent, rules);
      return atLeast(levels.ofUser(sender), levels.toDo('redact')) ? [eventId] : [];
    }),
  );
}
