/** Events that are their own ancestors, as they may be where senders choose ids. */
import { type EventId } from '../../matrix/identifiers.ts';

/**
 * The event with all that it reaches by prev edges and that reaches it; by itself where it is not its own ancestor.
 *
 * @param prevEventsOf of the events that are looked at; `undefined`: it is none of these
 */
export function circleOf(
  eventId: EventId,
  prevEventsOf: (eventId: EventId) => readonly EventId[] | undefined,
): ReadonlySet<EventId> {
  const reached = new Map<EventId, readonly EventId[]>();
  const toLook = [eventId];
  for (let id = toLook.pop(); id !== undefined; id = toLook.pop()) {
    const prevEvents = reached.has(id) ? undefined : prevEventsOf(id);
    if (prevEvents === undefined) continue;
    reached.set(id, prevEvents);
    toLook.push(...prevEvents);
  }
  const children = new Map<EventId, EventId[]>();
  for (const [id, prevEvents] of reached) {
    for (const prev of prevEvents) {
      const known = children.get(prev);
      if (known === undefined) children.set(prev, [id]);
      else known.push(id);
    }
  }
  const circle = new Set([eventId]);
  // What is added while a set is gone through has its turn, too.
  for (const id of circle) for (const child of children.get(id) ?? []) circle.add(child);
  return circle;
}

/** What a circle builds on: before each event of it there is the one state that these lead to. */
export function parentsOf(
  circle: ReadonlySet<EventId>,
  prevEventsOf: (eventId: EventId) => readonly EventId[] | undefined,
): EventId[] {
  return [...circle].flatMap((id) => (prevEventsOf(id) ?? []).filter((prev) => !circle.has(prev)));
}
