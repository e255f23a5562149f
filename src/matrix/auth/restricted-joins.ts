/**
 * Restricted rooms: whoever is in one of the rooms that the join rule names may join, if somebody who may invite answers for him.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#restricted-rooms
 */
import { ownValue } from '../content.ts';
import { type RoomId, parseRoomId } from '../identifiers.ts';
import { isJsonObject } from '../json/strict-json.ts';
import { type Json, type JsonObject } from '../pdu.ts';
import { type RoomVersionRules } from '../room-versions.ts';

/** Rooms of a join rule that are looked at. */
const ALLOWED_ROOMS_MAX = 50;

/** Whether the content of m.room.join_rules restricts joins to members of other rooms. */
export function isRestricted(joinRules: JsonObject, rules: RoomVersionRules): boolean {
  const rule = ownValue(joinRules, 'join_rule');
  return (rules.restrictedJoins && rule === 'restricted') || (rules.knockRestricted && rule === 'knock_restricted');
}

/** The rooms whose members may join; conditions of other types are for those who know them. */
export function allowedRoomsOf(joinRules: JsonObject): readonly RoomId[] {
  const allow = ownValue(joinRules, 'allow');
  const named = (Array.isArray(allow) ? (allow as readonly Json[]) : [])
    .slice(0, ALLOWED_ROOMS_MAX)
    .flatMap((entry) => {
      if (!isJsonObject(entry) || entry['type'] !== 'm.room_membership') return [];
      return parseRoomId(entry['room_id']) ?? [];
    });
  return [...new Set(named)];
}
