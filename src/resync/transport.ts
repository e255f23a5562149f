/** What of a control event travels through Temporal: no list of a stranger beyond what the fold looks at. */
import { type ResyncEvent } from './events.ts';
import { CANDIDATES_MAX } from './state.ts';

/** The same event for `evolve`, with lists cut to the part it reads. */
export function trimForTransport(event: ResyncEvent): ResyncEvent {
  if (!('serversInRoom' in event)) return event;
  return { ...event, serversInRoom: event.serversInRoom.slice(0, CANDIDATES_MAX) };
}
