/** How far a partial room is, in the words that clients are given. Not of the specification, hence the prefix. */
import { type JsonObject } from '../matrix/pdu.ts';
import { type ResyncState, shownPhase } from '../resync/state.ts';

/** The member under which it stands. */
export const PROGRESS = 'org.rejoinder.progress';

/**
 * `phase`: as the operator API has it, such as `fetching`; `servers`: that may be asked; `walked`: events since the join that are
 * judged by full state; `last_failure`: one sentence; `next_attempt_ts`: when the next round begins, where it waits for one; `missing`: events of the state that could not be had, where it lacks some.
 */
export function progressOf(resync: ResyncState): JsonObject {
  const { attempts, round, candidates, walked, lastFailure, nextWakeAt, phase, degraded } = resync;
  return {
    phase: shownPhase(resync),
    attempts,
    round,
    servers: candidates.length,
    walked,
    ...(lastFailure === null ? {} : { last_failure: lastFailure.reason }),
    ...(degraded === null ? {} : { missing: degraded.count - degraded.found }),
    ...(phase === 'waiting' && nextWakeAt !== null ? { next_attempt_ts: nextWakeAt } : {}),
  };
}
