/**
 * Stored events as auth rules and state resolution read them, parsed once and kept for a while. Of most only a few fields
 * are read, and a resolution of a big room may look at tens of thousands of memberships.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type AuthEvent } from '../../store/events/auth-event-cache.ts';
import { type AuthEventRow, readAuthEvents } from '../../store/events/auth-events.ts';
import { type Sql } from '../../store/open-store.ts';
import { trieKey } from '../../store/snapshots/snapshot-trie.ts';
import { parseStored } from './load-pdus.ts';

/** Events parsed before others get their turn: some 10 ms. */
const PARSED_A_TURN = 500;
/** What a parsed membership takes in memory, about; of others the text counts twice on top. */
const EVENT_BYTES = 1_200;

const NOTHING: JsonObject = {};
/** What the rules read of a membership. */
const MEMBER_KEYS = ['membership', 'join_authorised_via_users_server', 'third_party_invite'];
/** Types of which the rules read the content, or more. */
const READ_WHOLE: ReadonlySet<string> = new Set([
  'm.room.create',
  'm.room.power_levels',
  'm.room.join_rules',
  'm.room.third_party_invite',
  'm.room.redaction',
]);

/** Those of the events that are held in this room, each once; in one statement at a time for those that are not kept. */
export async function loadAuthEvents(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  wanted: { readonly nids?: Iterable<number>; readonly eventIds?: Iterable<EventId> },
): Promise<AuthEvent[]> {
  const { authEvents } = sql.caches;
  const found = new Map<EventId, AuthEvent>();
  const unknown: { readonly nid?: number; readonly eventId?: EventId }[] = [];
  for (const nid of new Set(wanted.nids)) {
    const event = authEvents.byNid(roomId, nid);
    if (event === undefined) unknown.push({ nid });
    else found.set(event.pdu.eventId, event);
  }
  for (const eventId of new Set(wanted.eventIds)) {
    const event = authEvents.byId(roomId, eventId);
    if (event === undefined) unknown.push({ eventId });
    else found.set(eventId, event);
  }
  for (let start = 0; start < unknown.length; start += PARSED_A_TURN) {
    if (start > 0) await turn();
    const some = unknown.slice(start, start + PARSED_A_TURN);
    const nids = some.flatMap(({ nid }) => nid ?? []);
    const eventIds = some.flatMap(({ eventId }) => eventId ?? []);
    for (const row of await readAuthEvents(sql, roomId, { nids, eventIds })) {
      const event = authEventOf(row, rules);
      found.set(row.eventId, event);
      // A hollow event is not kept: its body may come.
      if (!row.hollow) authEvents.set(event);
    }
  }
  return [...found.values()];
}

function authEventOf({ nid, type, stateKeyNid, json, eventId }: AuthEventRow, rules: RoomVersionRules): AuthEvent {
  const pdu = slim(parseStored(json, rules, eventId));
  return {
    nid,
    key: stateKeyNid === null ? null : trieKey(stateKeyNid, type === 'm.room.member'),
    pdu,
    bytes: EVENT_BYTES + (READ_WHOLE.has(type) ? 2 * json.length : 0),
  };
}

/** The event without what neither auth rules nor state resolution read. */
function slim(pdu: Pdu): Pdu {
  switch (pdu.type) {
    case 'm.room.create':
    case 'm.room.redaction':
      return pdu;
    case 'm.room.member': {
      const entries = MEMBER_KEYS.filter((key) => Object.hasOwn(pdu.content, key)).map((key) => [
        key,
        pdu.content[key],
      ]);
      return { ...pdu, content: Object.fromEntries(entries) as JsonObject, json: NOTHING };
    }
    default:
      return { ...pdu, content: READ_WHOLE.has(pdu.type) ? pdu.content : NOTHING, json: NOTHING };
  }
}
