/**
 * How events refer to each other: by id, and in versions 1 and 2 by id and reference hash.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v1/#event-format
 */
import { hash } from 'node:crypto';
import { invariant } from '../invariant.ts';
import { type EventId } from '../matrix/identifiers.ts';
import { type Json } from '../matrix/pdu.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';

export interface References {
  /** Takes note of an event, by the text under its signatures, so that it can be referred to. */
  note(eventId: EventId, signedText: string): void;
  /** `prev_events` or `auth_events` that name these. */
  to(eventIds: readonly EventId[]): readonly Json[];
}

/** References as the room version writes them. */
export function referencesOf(rules: RoomVersionRules): References {
  if (rules.eventReferences === 'ids') return { note: () => undefined, to: (eventIds) => eventIds };
  const hashes = new Map<EventId, string>();
  return {
    note: (eventId, signedText) => {
      hashes.set(eventId, hash('sha256', signedText, 'base64').slice(0, -1));
    },
    to: (eventIds) =>
      eventIds.map((eventId) => {
        const sha256 = hashes.get(eventId);
        invariant(sha256 !== undefined, `event ${eventId} is not of the simulated room`);
        return [eventId, { sha256 }];
      }),
  };
}

/** The ids that `prev_events` or `auth_events` of any version name. The event has passed the format check. */
export function referencedIds(references: Json | undefined): EventId[] {
  return (references as readonly Json[]).map(
    (reference) => (Array.isArray(reference) ? (reference[0] as Json) : reference) as EventId,
  );
}
