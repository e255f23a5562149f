/** The ways back from auth events to what cites them. */
import { type EventId } from '../identifiers.ts';

/** An event and the auth events that count for the caller. */
export interface CitingEvent {
  readonly eventId: EventId;
  readonly authEvents: readonly EventId[];
}

/** Those of `events` whose auth chain leads, through others of them, to one of `roots`. A cycle ends it. */
export function eventsCiting(events: Iterable<CitingEvent>, roots: Iterable<EventId>): Set<EventId> {
  const citing = new Map<EventId, EventId[]>();
  for (const { eventId, authEvents } of events) {
    for (const cited of authEvents) {
      const others = citing.get(cited);
      if (others === undefined) citing.set(cited, [eventId]);
      else others.push(eventId);
    }
  }
  const found = new Set<EventId>();
  const toSee = [...roots];
  for (let eventId = toSee.pop(); eventId !== undefined; eventId = toSee.pop()) {
    for (const other of citing.get(eventId) ?? []) {
      if (found.has(other)) continue;
      found.add(other);
      toSee.push(other);
    }
  }
  return found;
}
