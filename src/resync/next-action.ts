/** What a resync does next, decided from the journal alone. Pure: the workflow calls it with its own deterministic clock. */
import { type EventId, type ServerName } from '../matrix/identifiers.ts';
import { type ResyncState, willingFrom } from './state.ts';

export type NextAction =
  /** Ask `resident` for the state before `atEventId`. */
  | {
      readonly type: 'fetchState';
      readonly attemptNo: number;
      readonly resident: ServerName;
      readonly atEventId: EventId;
    }
  /** No candidate is left in this round: journal when the next one starts. */
  | { readonly type: 'endRound'; readonly round: number }
  | { readonly type: 'sleep'; readonly untilMs: number; readonly round: number }
  /** Judge the partial events again, and complete when none is left. */
  | { readonly type: 'walk' }
  | { readonly type: 'close'; readonly because: 'complete' | 'absent' | 'ended' };

/** What a resync in this state does next. `now`: milliseconds since the Unix epoch. */
export function nextAction(state: ResyncState, now: number): NextAction {
  switch (state.phase) {
    case 'absent':
      return { type: 'close', because: 'absent' };
    case 'complete':
    case 'ended':
      return { type: 'close', because: state.phase };
    case 'walking':
      return { type: 'walk' };
    case 'waiting':
      if (state.nextWakeAt !== null && state.nextWakeAt > now) {
        return { type: 'sleep', untilMs: state.nextWakeAt, round: state.round };
      }
      return nextFetch(state, now);
    case 'fetching':
      return nextFetch(state, now);
  }
}

function nextFetch(state: ResyncState, now: number): NextAction {
  // An attempt without an outcome was cut off (worker killed, run reset): it goes on under its own number.
  if (state.attempt !== null) return { type: 'fetchState', ...state.attempt };
  const atEventId = state.fetchAt[0];
  if (atEventId === undefined) return { type: 'walk' };
  const resident = state.candidates.find(
    (candidate) => !state.triedThisRound.includes(candidate) && willingFrom(state, candidate) <= now,
  );
  if (resident === undefined) return { type: 'endRound', round: state.round };
  return { type: 'fetchState', attemptNo: state.attempts + 1, resident, atEventId };
}
