/** The numbers a resync is run by; configuration (`resync:` in rejoinder.yaml) with these defaults. */
import { type ResyncState, willingFrom } from './state.ts';

/** Up to a tenth is added to each pause, so that rooms which failed together do not come back together. */
const JITTER_SHARE = 0.1;

export interface ResyncPolicy {
  /** Pause after the first round in which every candidate failed, milliseconds; it doubles each round. */
  readonly firstRetryMs: number;
  readonly longestRetryMs: number;
  /** When a room goes on without events that cannot be had; absent: `defaultDegradePolicy`. */
  readonly degrade?: DegradePolicy;
}

/** How long, and at how many servers, an event is looked for before its room goes on without it, as degraded. */
export interface DegradePolicy {
  /** Rounds that failed: what one resident lacks another may have, and what it lacks now it may have in the next round. */
  readonly rounds: number;
  /** And since the first failure, milliseconds: an outage of some minutes costs no room its wholeness. */
  readonly afterMs: number;
  /** Servers in whose answers it was missing, or all that are known: one of them alone may hide it. */
  readonly answers: number;
  /** After this long it is enough that one answers: whoever else there is does not come back in time. */
  readonly atLastMs: number;
}

export const defaultDegradePolicy: DegradePolicy = { rounds: 2, afterMs: 600_000, answers: 3, atLastMs: 86_400_000 };

export const defaultResyncPolicy: ResyncPolicy = { firstRetryMs: 30_000, longestRetryMs: 3_600_000 };

/** An event that an answer lacks, as far as it matters here. */
export interface Lacking {
  /** Servers in whose answers it was missing. */
  readonly askedOf: number;
  /** Another event of the state cites it as auth event, which falls with it. */
  readonly isCited: boolean;
}

/**
 * Whether a room goes on without what an answer lacks. What others of the state are judged by is waited for a day; a lone
 * membership for two rounds and ten minutes.
 */
export function mayGoOnWithout(
  state: Pick<ResyncState, 'candidates' | 'failedRounds' | 'failingSince'>,
  lacking: readonly Lacking[],
  now: number,
  { rounds, afterMs, answers, atLastMs }: DegradePolicy = defaultDegradePolicy,
): boolean {
  const failingMs = state.failingSince === null ? 0 : now - state.failingSince;
  if (failingMs >= atLastMs) return true;
  if (state.failedRounds < rounds || failingMs < afterMs) return false;
  const answersMin = Math.min(answers, state.candidates.length);
  return lacking.every(({ askedOf, isCited }) => !isCited && askedOf >= answersMin);
}

/** Pauses between looking for what a room goes on without: it is no hurry, and somebody's server may come back. */
const FIRST_SEEK_MS = 600_000;
const LONGEST_SEEK_MS = 86_400_000;

/** When missing events are looked for next; `jitter` is in [0, 1). */
export function nextSeekAt(sought: number, now: number, jitter: number): number {
  const pauseMs = Math.min(FIRST_SEEK_MS * 2 ** Math.min(sought, 30), LONGEST_SEEK_MS);
  return now + Math.round(pauseMs * (1 + JITTER_SHARE * jitter));
}

/** Residents asked for the state at a gap in one attempt. */
export const GAP_RESIDENTS_AN_ATTEMPT = 3;
/** Then a gap is given up: some four hours after it opened, and after 24 residents or each of fewer several times. */
const GAP_ATTEMPTS_MAX = 8;
/** An attempt that says nothing for so long was cut off; states of big rooms take minutes. */
export const GAP_ATTEMPT_MS_MAX = 15 * 60_000;

/** When a gap is tried next after an attempt that failed; `null`: it is given up. `jitter` is in [0, 1). */
export function nextGapAttemptAt(attempts: number, policy: ResyncPolicy, now: number, jitter: number): number | null {
  if (attempts >= GAP_ATTEMPTS_MAX) return null;
  const pauseMs = Math.min(policy.firstRetryMs * 2 ** Math.max(0, attempts - 1), policy.longestRetryMs);
  return now + Math.round(pauseMs * (1 + JITTER_SHARE * jitter));
}

/** Begins of an attempt that stored nothing: a fourth time it would end as before. */
export const BEGINS_MAX = 3;

/** An unreachable server is left alone for so long, doubled each time, by all rooms. The first is less than the first pause of a resync. */
export const UNREACHABLE_FIRST_MS = 20_000;
export const UNREACHABLE_LONGEST_MS = 15 * 60_000;

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
