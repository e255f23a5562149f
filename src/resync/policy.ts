/** The numbers a resync is run by; configuration (`resync:` in rejoinder.yaml) with these defaults. */
import { type ResyncState, willingFrom } from './state.ts';

export interface ResyncPolicy {
  /** Pause after the first round in which every candidate failed, milliseconds; it doubles each round. */
  readonly firstRetryMs: number;
  readonly longestRetryMs: number;
}

export const defaultResyncPolicy: ResyncPolicy = { firstRetryMs: 30_000, longestRetryMs: 3_600_000 };

/** Up to a tenth is added to each pause, so that rooms which failed together do not come back together. */
const JITTER_SHARE = 0.1;

/**
 * When the round after `state.round` starts, milliseconds since the Unix epoch: after the doubled pause, and not before
 * the first candidate is willing to be asked again. `jitter` is in [0, 1).
 */
export function nextRoundAt(state: ResyncState, policy: ResyncPolicy, now: number, jitter: number): number {
  const doubled = policy.firstRetryMs * 2 ** Math.min(state.round - 1, 30);
  const pauseMs = Math.min(doubled, policy.longestRetryMs);
  const willingAt = Math.min(...state.candidates.map((candidate) => willingFrom(state, candidate)));
  return Math.max(now + Math.round(pauseMs * (1 + JITTER_SHARE * jitter)), willingAt);
}
