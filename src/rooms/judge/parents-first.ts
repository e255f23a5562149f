/** The order in which events that came together are judged: what an event cites before the event. */
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
export function parentsFirst<Event extends CitingEvent>(events: readonly Event[]): Event[] {
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
