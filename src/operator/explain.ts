/** Each control event of the journal as one sentence for a person: what was decided, and why. */
import { type ResyncEvent } from '../resync/events.ts';

const iso = (ms: number): string => new Date(ms).toISOString();

export function explain(event: ResyncEvent): string {
  switch (event.type) {
    case 'PartialStateJoined':
      return `${event.userId} joined via ${event.joinedVia} without the room's memberships; servers said to be in the room: ${event.serversInRoom.length}`;
    case 'FullStateJoined':
      return `${event.userId} joined via ${event.joinedVia} with the whole state: ${event.members} members`;
    case 'ResidentsLearned':
      return `A further join via ${event.joinedVia}; servers said to be in the room: ${event.serversInRoom.length}`;
    case 'StateFetchStarted':
      return `Attempt ${event.attemptNo}: asked ${event.resident} for the state before ${event.atEventId}`;
    case 'StateFetchFailed': {
      const retry = event.retryAt === undefined ? '' : `; it wants to be left alone until ${iso(event.retryAt)}`;
      return `Attempt ${event.attemptNo} at ${event.resident} failed (${event.failure}): ${event.reason}${retry}`;
    }
    case 'StateFetched': {
      const { state, members, fetched, alreadyHeld, dropped } = event.counts;
      return `${event.resident} gave the state: ${state} events, ${members} members; ${fetched} fetched, ${alreadyHeld} held before, ${dropped} dropped`;
    }
    case 'RoundFailed':
      return `Round ${event.round}: every server failed (${event.reason}); the next round starts at ${iso(event.wakeAt)}`;
    case 'EventsWalked':
      return `Events judged again with full state: ${event.walked}; corrected: ${event.corrected}; left: ${event.remaining}`;
    case 'ResyncCompleted':
      return `The room is whole: ${event.members} members`;
  }
}
