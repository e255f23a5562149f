/**
 * The redaction algorithm of every room version: what is left of an event when its sender's words are taken out. Event
 * ids and signatures cover exactly this, so it decides identity as well as erasure.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#redactions and each room version's page.
 */
import { NUMBER_SPELLINGS, type SpelledNumbers } from '../json/json-numbers.ts';
import { type Json, type JsonObject } from '../pdu.ts';
import { type RoomVersionRules } from '../room-versions.ts';
import { isJsonObject } from '../json/strict-json.ts';

/** Top-level keys that every version keeps, besides `content`, of which a part stays. */
const KEPT: ReadonlySet<string> = new Set([
  'event_id',
  'type',
  'room_id',
  'sender',
  'state_key',
  'hashes',
  'signatures',
  'depth',
  'prev_events',
  'auth_events',
  'origin_server_ts',
]);
const KEPT_UNTIL_V11: ReadonlySet<string> = new Set([...KEPT, 'origin', 'membership', 'prev_state']);

const NOTHING: readonly string[] = [];
const MEMBERSHIP = ['membership'];
const MEMBERSHIP_AND_AUTHORISER = ['membership', 'join_authorised_via_users_server'];
const CREATOR = ['creator'];
const JOIN_RULE = ['join_rule'];
const JOIN_RULE_AND_ALLOW = ['join_rule', 'allow'];
const ALIASES = ['aliases'];
const HISTORY_VISIBILITY = ['history_visibility'];
const REDACTS = ['redacts'];
const POWER_LEVELS = ['users', 'users_default', 'events', 'events_default', 'state_default', 'ban', 'kick', 'redact'];
const POWER_LEVELS_AND_INVITE = [...POWER_LEVELS, 'invite'];

/**
 * The redacted event. `unsigned` goes entirely (servers put their own back in for clients). The result shares the kept
 * values with `event`; neither is ever changed.
 */
export function redact(event: JsonObject, rules: RoomVersionRules): JsonObject {
  const kept = rules.redaction.keepsObsoleteTopLevelKeys ? KEPT_UNTIL_V11 : KEPT;
  const redacted: Record<string, Json> = {};
  for (const key in event) if (kept.has(key)) redacted[key] = event[key] as Json;
  if (rules.redaction.dropsRoomIdOfCreate && event['type'] === 'm.room.create') delete redacted['room_id'];
  keepSpellings(event, redacted);
  const content = event['content'];
  redacted['content'] = isJsonObject(content) ? redactContent(event['type'], content, rules) : {};
  return redacted;
}

function redactContent(type: Json | undefined, content: JsonObject, rules: RoomVersionRules): JsonObject {
  if (type === 'm.room.create' && rules.redaction.keepsWholeCreateContent) return content;
  const redacted: Record<string, Json> = {};
  for (const key of keptContentKeys(typeof type === 'string' ? type : '', rules)) {
    if (Object.hasOwn(content, key)) redacted[key] = content[key] as Json;
  }
  if (type === 'm.room.member' && rules.redaction.keepsThirdPartyInviteSigned) {
    const invite = content['third_party_invite'];
    if (isJsonObject(invite)) {
      // Of an invite with nothing signed an empty object stays, as in the reference implementation.
      const signed: Record<string, Json> = Object.hasOwn(invite, 'signed') ? { signed: invite['signed'] as Json } : {};
      keepSpellings(invite, signed);
      redacted['third_party_invite'] = signed;
    }
  }
  keepSpellings(content, redacted);
  return redacted;
}

function keptContentKeys(type: string, { redaction }: RoomVersionRules): readonly string[] {
  switch (type) {
    case 'm.room.member':
      return redaction.keepsJoinAuthorisedVia ? MEMBERSHIP_AND_AUTHORISER : MEMBERSHIP;
    case 'm.room.create':
      return CREATOR;
    case 'm.room.join_rules':
      return redaction.keepsJoinRuleAllow ? JOIN_RULE_AND_ALLOW : JOIN_RULE;
    case 'm.room.power_levels':
      return redaction.keepsInvitePowerLevel ? POWER_LEVELS_AND_INVITE : POWER_LEVELS;
    case 'm.room.aliases':
      return redaction.keepsAliases ? ALIASES : NOTHING;
    case 'm.room.history_visibility':
      return HISTORY_VISIBILITY;
    case 'm.room.redaction':
      return redaction.keepsRedacts ? REDACTS : NOTHING;
    default:
      return NOTHING;
  }
}

function keepSpellings(from: JsonObject, to: SpelledNumbers): void {
  const spellings = (from as SpelledNumbers)[NUMBER_SPELLINGS];
  if (spellings !== undefined) to[NUMBER_SPELLINGS] = spellings;
}
