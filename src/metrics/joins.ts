/** A join that is counted, with how it ended and how long the caller waited. */
import { type Clock } from '../clock.ts';
import { type JoinRequest, type JoinedRoom } from '../rooms/contract.ts';
import { RoomError } from '../rooms/error.ts';
import { type Instruments, type JoinOutcome } from './instruments.ts';

export type JoinRoom = (request: JoinRequest) => Promise<JoinedRoom>;

/** How many joins there are now. */
export interface OpenJoins {
  readonly underWay: number;
  readonly waiting: number;
}

/** The use case, counted by outcome, with how long callers waited. */
export function countJoins(join: JoinRoom, { joins, joinSeconds }: Instruments, clock: Clock): JoinRoom {
  return async (request) => {
    const startedAt = clock.now();
    try {
      const joined = await join(request);
      const outcome = outcomeOf(joined);
      joins.inc({ outcome });
      // Who was in the room already waited for nobody.
      if (outcome !== 'held') joinSeconds.observe(Math.max(0, clock.now() - startedAt) / 1000);
      return joined;
    } catch (error) {
      joins.inc({ outcome: failureOf(error, request.signal) });
      throw error;
    }
  };
}

function outcomeOf({ partial, timingsMs }: JoinedRoom): JoinOutcome {
  if (!('send_join' in timingsMs)) return 'held';
  return partial ? 'partial' : 'whole';
}

function failureOf(error: unknown, signal: AbortSignal): JoinOutcome {
  if (signal.aborted) return 'aborted';
  return error instanceof RoomError ? error.kind : 'error';
}
