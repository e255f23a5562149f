/** Stored events as the protocol core wants them. */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { parsePdu } from '../../matrix/event-format.ts';
import { type JsonObject, type Pdu } from '../../matrix/pdu.ts';
import { type RoomVersionRules, roomVersionRules } from '../../matrix/room-versions.ts';
import { parseJsonObject } from '../../matrix/json/strict-json.ts';
import { invariant } from '../../invariant.ts';
import { type Sql } from '../../store/open-store.ts';
import { readPdus } from '../../store/events/pdus.ts';

export interface LoadedPdus {
  readonly pdus: Map<EventId, Pdu>;
  /** Refused as an outlier by its own auth events, or rejected in the timeline. */
  readonly rejected: Set<EventId>;
  /** Asked for and not held in this room, or held and not judged: nothing follows from it. */
  readonly absent: Set<EventId>;
}

/** Nothing loaded yet, for `loadPdus` to add to. */
function emptyLoadedPdus(): LoadedPdus {
  return { pdus: new Map(), rejected: new Set(), absent: new Set() };
}

/** Loads judged events of the room into `into`, in one query. */
export async function loadPdus(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  eventIds: readonly EventId[],
  into: LoadedPdus = emptyLoadedPdus(),
): Promise<LoadedPdus> {
  if (eventIds.length === 0) return into;
  for (const row of await readPdus(sql, roomId, eventIds)) {
    if (row.verdict === 'unjudged') continue;
    into.pdus.set(row.eventId, parseStored(row.json, rules, row.eventId));
    if (row.verdict === 'rejected') into.rejected.add(row.eventId);
  }
  for (const eventId of eventIds) if (!into.pdus.has(eventId)) into.absent.add(eventId);
  return into;
}

/**
 * A stored event passed the format check when it came in; one that fails it now is a fault of ours. Versions 1 to 5 let
 * numbers pass that JavaScript cannot hold, and outliers may be older than the limits on references.
 */
export function parseStored(json: string, rules: RoomVersionRules, eventId: EventId): Pdu {
  const read = rules.strictCanonicalJson
    ? { ok: true as const, value: JSON.parse(json) as JsonObject }
    : parseJsonObject(json);
  invariant(read.ok, `stored event ${eventId} is no JSON`);
  const parsed = parsePdu(read.value, rules, { knownId: eventId, capReferences: false });
  invariant(parsed.ok, `stored event ${eventId} does not parse`);
  return parsed.pdu;
}

/** The rules of a room that we joined: its version was one of ours then. */
export function rulesOfJoined(roomVersion: string): RoomVersionRules {
  const rules = roomVersionRules(roomVersion);
  invariant(rules !== undefined, `a joined room has a known version, not "${roomVersion}"`);
  return rules;
}
