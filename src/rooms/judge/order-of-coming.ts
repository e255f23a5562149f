/**
 * The order in which events that came together are judged. Only what must wait comes later than it came: check 6 goes by the state
 * when an event comes, so a ban that was pushed after a message does not come before it because something cites the ban. Where
 * no verdict depends on that, as in the walk, ancestors are pulled forward instead (`parentsFirst`, store/events/event-states.ts).
 */
import { type EventId } from '../../matrix/identifiers.ts';

export interface CitingEvent {
  readonly eventId: EventId;
  readonly prevEvents: readonly EventId[];
  readonly authEvents: readonly EventId[];
}

/**
 * The events ordered so that each comes after those it cites, by prev or auth edges; otherwise as given. Events on a cycle
 * (possible in room versions 1 and 2) and those behind them come last, as given.
 */
export function inOrderOfComing<Event extends CitingEvent>(events: readonly Event[]): Event[] {
  const waiting = new Map(events.map((event) => [event.eventId, event]));
  const ordered: Event[] = [];
  const cites = ({ eventId, prevEvents, authEvents }: Event): boolean =>
    [...prevEvents, ...authEvents].some((id) => id !== eventId && waiting.has(id));
  for (let before = -1; ordered.length > before;) {
    before = ordered.length;
    for (const event of [...waiting.values()]) {
      if (cites(event)) continue;
      waiting.delete(event.eventId);
      ordered.push(event);
    }
  }
  return [...ordered, ...waiting.values()];
}
