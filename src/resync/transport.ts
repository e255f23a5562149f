/** What of a control event travels through Temporal: no list of a stranger beyond what the fold looks at. */
import { headOf } from './candidates.ts';
import { type ResyncEvent } from './events.ts';

/** The same event for `evolve`, with lists cut to the part it reads. */
export function trimForTransport(event: ResyncEvent): ResyncEvent {
  if (event.type === 'PartialStateJoined' || event.type === 'ResidentsLearned') {
    const { via } = event;
    return { ...event, serversInRoom: headOf(event.serversInRoom), ...(via === undefined ? {} : { via: headOf(via) }) };
  }
  if (event.type === 'SpeakersLearned') return { ...event, servers: headOf(event.servers) };
  if (event.type === 'AnchorCorrected') return { ...event, putIn: [], takenOut: [] };
  if (event.type === 'MissingSought') return { ...event, foundIds: [] };
  if (event.type === 'RoundFailed' && event.hints !== undefined) return { ...event, hints: headOf(event.hints) };
  return event;
}
