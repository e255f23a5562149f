/**
 * Rule 1 of the auth rules: m.room.create, judged by itself alone.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v11/#authorization-rules, and v12 for its own.
 */
import { domainPartOf } from './auth-rules-federation.ts';
import { ALLOWED, type AuthVerdict } from './auth-verdict.ts';
import { refuse } from '../refusal.ts';
import { ownValue } from '../content.ts';
import { parseUserId } from '../identifiers.ts';
import { type Pdu } from '../pdu.ts';
import { type RoomVersionRules, roomVersionRules } from '../room-versions.ts';

/** Rule 1: m.room.create. */
export function authoriseCreate(event: Pdu, rules: RoomVersionRules): AuthVerdict {
  // 1.1. It has previous events.
  if (event.prevEvents.length > 0) return refuse('create-has-prev-events', 'm.room.create has prev_events.');

  if (rules.roomIdIsCreateHash) {
    // Version 12, 1.2. It has a room_id: its own hash is the room's id.
    if (Object.hasOwn(event.json, 'room_id')) return refuse('create-has-room-id', 'm.room.create has a room_id.');
  } else {
    // 1.2. The domain of the room id is not the sender's.
    const roomDomain = domainPartOf(event.roomId);
    if (roomDomain === undefined || roomDomain !== domainPartOf(event.sender)) {
      return refuse('create-sender-domain', `The room id ${event.roomId} is not of the server of ${event.sender}.`);
    }
  }

  // 1.3. content.room_version is present and not a recognised version.
  if (Object.hasOwn(event.content, 'room_version')) {
    const version = ownValue(event.content, 'room_version');
    if (typeof version !== 'string' || roomVersionRules(version) === undefined) {
      return refuse('create-room-version', 'The room version is not one this server understands.');
    }
  }

  // Versions 1 to 10, 1.4. content has no creator.
  if (!rules.creatorIsSender && !Object.hasOwn(event.content, 'creator')) {
    return refuse('create-lacks-creator', 'm.room.create names no creator.');
  }

  // Version 12, 1.4. additional_creators is present and not an array of user ids.
  if (rules.privilegedCreators && Object.hasOwn(event.content, 'additional_creators')) {
    const additional = ownValue(event.content, 'additional_creators');
    if (!Array.isArray(additional) || !additional.every((id) => parseUserId(id) !== undefined)) {
      return refuse('create-additional-creators', 'additional_creators is not an array of user ids.');
    }
  }

  // 1.5. Otherwise, allow.
  return ALLOWED;
}
