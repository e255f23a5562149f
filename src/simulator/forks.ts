/**
 * Two servers that send at one moment make two events with the same parents; whoever sends next merges them. Only events
 * that touch nothing of each other come in pairs, so that every version of state resolution keeps both.
 */
import { type Draft } from '../matrix/compose.ts';
import { type GrowingRoom } from './grow-room.ts';
import { type SimulatedEvent } from './room.ts';
import { type SeededRandom } from './seeded-random.ts';

export interface ForkingRoom {
  /** Adds an event to the history, now and then beside the one before it if both may fork and have different senders. */
  place(draft: Draft, originServerTsMs: number, mayFork: boolean): SimulatedEvent;
  /** Keeps the states from here on if nothing is forked at the moment; whether it did. */
  keepStates(): boolean;
}

/** @param forkShare the share of events that have a sibling, of those that may. */
export function withForks(
  { room, place, keepStates }: GrowingRoom,
  forkShare: number,
  random: SeededRandom,
): ForkingRoom {
  /** The event before, if another may stand beside it. */
  let mayGetSibling: SimulatedEvent | undefined;
  return {
    place(draft, originServerTsMs, mayFork) {
      // Half of those with a sibling are second.
      const sibling = mayFork && mayGetSibling?.sender !== draft.sender && random.chance(forkShare / 2);
      const beside = sibling ? mayGetSibling : undefined;
      const event = place(draft, {
        originServerTsMs,
        ...(beside !== undefined && { prevEvents: beside.prevEvents }),
      });
      mayGetSibling = mayFork && beside === undefined ? event : undefined;
      return event;
    },
    keepStates() {
      if (room.extremities.length !== 1) return false;
      mayGetSibling = undefined;
      keepStates();
      return true;
    },
  };
}
