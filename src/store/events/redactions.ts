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

interface Redaction {
  readonly target: EventId;
  readonly eventId: EventId;
  readonly roomId: RoomId;
  readonly roomVersion: string;
  readonly sender: UserId;
  readonly json: string;
  readonly stateBefore: SnapshotId;
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
  if (bodies.size === 0) return new Map();
  const given = [...bodies.values()];
  const rows = await sql.query<Redaction>(
    `SELECT t.event_id AS target, t.room_id AS "roomId", r.room_version AS "roomVersion", s.*
       FROM unnest($1::text[], $2::text[]) AS t(event_id, room_id)
       JOIN rooms r ON r.room_id = t.room_id
      CROSS JOIN LATERAL (
        SELECT DISTINCT ON (p.sender) p.event_id AS "eventId", p.sender, p.json::text AS json,
               encode(e.state_before, 'hex') AS "stateBefore", e.shown_at
          FROM pdus p JOIN event_states e ON e.event_nid = p.nid AND e.shown_at IS NOT NULL
         WHERE p.type = 'm.room.redaction' AND p.room_id = t.room_id AND ${REDACTS('p')} = t.event_id
         ORDER BY p.sender, e.shown_at LIMIT ${REDACTIONS_MAX}) AS s
      ORDER BY s.shown_at`,
    [textArray(given.map(({ eventId }) => eventId)), textArray(given.map(({ roomId }) => roomId))],
  );
  const named = rows.flatMap((row) => {
    const rules = roomVersionRules(row.roomVersion);
    const redaction = JSON.parse(row.json) as JsonObject;
    const body = bodies.get(row.target);
    if (rules === undefined || body === undefined || redactsOf(redaction, rules) !== row.target) return [];
    return [{ ...row, rules, redaction, event: JSON.parse(body.json) as JsonObject }];
  });
  const isFree = ({ rules, event, sender }: (typeof named)[number]): boolean =>
    rules.redactionsJudgedByAuthRules || domainOf(event['sender'] as UserId) === domainOf(sender);
  const allowed = await withPower(
    sql,
    named.filter((one) => !isFree(one)),
  );
  const redacted = new Map<EventId, RedactedBody>();
  for (const one of named) {
    if (redacted.has(one.target) || !(isFree(one) || allowed.has(one.eventId))) continue;
    const { eventId, roomId, redaction, event, rules } = one;
    const because = clientEvent(redaction, { eventId, roomId });
    redacted.set(one.target, { json: JSON.stringify(redact(event, rules)), because });
  }
  return redacted;
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
