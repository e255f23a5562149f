/** Event ids as each room version has them: https://spec.matrix.org/v1.16/appendices/#event-ids */
import { type EventId, parseEventId } from './identifiers.ts';
import { type RoomVersionRules } from './room-versions.ts';

/** `$` and a SHA-256 of 32 bytes, without padding. */
const HASHED = {
  base64: /^\$[A-Za-z0-9+/]{43}$/,
  'url-safe-base64': /^\$[A-Za-z0-9_-]{43}$/,
} as const;

/** Parses an id that an event of this room version may have; `parseEventId` takes those of any version. */
export function parseEventIdOf(value: unknown, { eventIdFormat }: RoomVersionRules): EventId | undefined {
  const eventId = parseEventId(value);
  const isOfVersion =
    eventIdFormat === 'given' ? eventId?.includes(':') === true : HASHED[eventIdFormat].test(eventId ?? '');
  return isOfVersion ? eventId : undefined;
}
