/** The numbers a resync is run by; configuration (`resync:` in rejoinder.yaml) with these defaults. */
import { type ParkedBecause } from './attempts.ts';
import { type ResyncEvent } from './events.ts';
import { mayBeAsked } from './choice.ts';
import { type LeaveDuringResync, type RoomPolicy } from './room-policy.ts';
import { type ResyncState, willingFrom } from './state.ts';

/** Up to a tenth is added to each pause, so that rooms which failed together do not come back together. */
const JITTER_SHARE = 0.1;

export interface ResyncPolicy {
  /** Pause after the first round in which every candidate failed, milliseconds; it doubles each round. */
  readonly firstRetryMs: number;
  readonly longestRetryMs: number;
  /** Longer pauses for what has failed for days; absent: `defaultLatePolicy`. */
  readonly late?: LatePolicy;
  /** When residents are asked no more; absent: `defaultParkPolicy`. */
  readonly park?: ParkPolicy;
  /** What becomes of a room that everybody of us leaves while it is partial; absent: `defaultLeavePolicy`. */
  readonly leave?: LeavePolicy;
  /** When a room goes on without events that cannot be had; absent: `defaultDegradePolicy`. */
  readonly degrade?: DegradePolicy;
  /** Servers whose word on a join's state is compared; absent: 1, nobody's but the resident's. */
  readonly stateQuorum?: number;
  /** How long a resident is waited for at a join before the next one is asked for a template too, milliseconds; absent: 3 s. */
  readonly hedgeMs?: number;
  /** Whether check 6 is made at completion for what was taken in while a room was partial; absent: it is. */
  readonly retroSoftFail?: boolean;
}

export interface LatePolicy {
  /** Since its first round failed, milliseconds. */
  readonly afterMs: number;
  readonly longestRetryMs: number;
}

const DAY_MS = 24 * 3_600_000;

export const defaultLatePolicy: LatePolicy = { afterMs: 3 * DAY_MS, longestRetryMs: DAY_MS };

export interface ParkPolicy {
  /** Rounds, a day or more apart, in which whoever answered refused for good. */
  readonly refusedRounds: number;
  /** Since the first round failed, milliseconds; `null`: it is never given up for age. */
  readonly giveUpAfterMs: number | null;
  /** What becomes of our users in the room. */
  readonly then: 'park' | 'leave';
}

export const defaultParkPolicy: ParkPolicy = { refusedRounds: 3, giveUpAfterMs: null, then: 'park' };

/**
 * Whether a room whose round has just failed is parked, and why, in words. One whose state is larger than we take is parked at once:
 * to ask again is to be sent all of it again.
 */
export function parkedAfter(
  round: ResyncState,
  after: ResyncState,
  now: number,
  { refusedRounds, giveUpAfterMs }: ParkPolicy = defaultParkPolicy,
): { readonly because: ParkedBecause; readonly reason: string } | undefined {
  const { said, lastFailure, tooLarge } = round;
  if (round.askingOnly === null && said.tooLarge > 0 && said.open === 0) {
    const figures = tooLarge ?? 'the state is larger than this server takes';
    return { because: 'too-large', reason: `${figures} (federation.state_size_max and state_timeout are the limits)` };
  }
  const last = lastFailure === null ? '' : `; the last said: ${lastFailure.reason}`;
  if (after.refusals.rounds >= refusedRounds) {
    const rounds = `in ${after.refusals.rounds} rounds, at least a day apart,`;
    return { because: 'refused', reason: `${rounds} every server that answered refused${last}` };
  }
  if (giveUpAfterMs !== null && after.failingSince !== null && now - after.failingSince >= giveUpAfterMs) {
    return { because: 'gave-up', reason: `nobody gave the state in ${humanHours(giveUpAfterMs)}${last}` };
  }
  return undefined;
}

function humanHours(ms: number): string {
  return `${Math.round(ms / 3_600_000)} hours`;
}

/** What is in force in a room, by what is so in all of them. */
export function policyFor(
  all: ResyncPolicy,
  { givenUp, giveUpAfterMs, stateQuorum, leaveDuringResync }: RoomPolicy,
): ResyncPolicy & { readonly park: ParkPolicy; readonly leave: LeavePolicy } {
  const park = all.park ?? defaultParkPolicy;
  const leave = all.leave ?? defaultLeavePolicy;
  return {
    ...all,
    leave: { ...leave, during: leaveDuringResync ?? leave.during },
    park: {
      ...park,
      then: givenUp ?? park.then,
      giveUpAfterMs:
        giveUpAfterMs === undefined ? park.giveUpAfterMs : giveUpAfterMs === 'never' ? null : giveUpAfterMs,
    },
    ...(stateQuorum === undefined ? {} : { stateQuorum }),
  };
}

/** How long, and at how many servers, an event is looked for before its room goes on without it, as degraded. */
export interface DegradePolicy {
  /** Rounds that failed: what one resident lacks another may have, and what it lacks now it may have in the next round. */
  readonly rounds: number;
  /** And since it was first missing, milliseconds: an outage of some minutes costs no room its wholeness. */
  readonly afterMs: number;
  /** Servers that answered and did not give it, or all that are known: one of them alone may hide it. */
  readonly answers: number;
  /** After this long it is enough that one answers: whoever else there is does not come back in time. */
  readonly atLastMs: number;
}

export const defaultDegradePolicy: DegradePolicy = { rounds: 2, afterMs: 600_000, answers: 3, atLastMs: 86_400_000 };

export const defaultResyncPolicy: ResyncPolicy = { firstRetryMs: 30_000, longestRetryMs: 3_600_000 };

/** From this round on what came in bad copies only is dropped: the first one gives every resident the chance of a better copy. */
const DROP_FROM_ROUND = 2;

/** An event that an answer lacks, as far as it matters here. */
export interface Lacking {
  /** Servers that answered and did not give it, or gave what cannot be used. One that was out of reach is none of them. */
  readonly answers: number;
  /** When it was first missing, milliseconds since the Unix epoch. */
  readonly since: number;
  /** Others are judged by it: an event of the state or a join of ours cites it, or it is of a type that the auth rules read. */
  readonly isNeeded: boolean;
  /** It came, badly signed or malformed. */
  readonly isUnusable: boolean;
}

/**
 * What becomes of an event that an answer lacks, where `known` servers may be asked and everybody was asked in vain
 * `failedRounds` times: it is waited for, so that the answer is of no use; it is dropped, since every copy of it is bad; or the
 * room goes on without it, as degraded. What others are judged by is waited for a day.
 */
export function settleLacking(
  { known, failedRounds }: { readonly known: number; readonly failedRounds: number },
  { answers, since, isNeeded, isUnusable }: Lacking,
  now: number,
  policy: DegradePolicy = defaultDegradePolicy,
): 'awaited' | 'dropped' | 'gone-without' {
  const missingMs = now - since;
  const isLookedFor = !isNeeded && answers >= Math.min(policy.answers, known);
  if (isUnusable && isLookedFor && failedRounds + 1 >= DROP_FROM_ROUND) return 'dropped';
  // A day on which nothing of ours ran is no try.
  if (failedRounds < policy.rounds || missingMs < policy.afterMs) return 'awaited';
  return isLookedFor || missingMs >= policy.atLastMs ? 'gone-without' : 'awaited';
}

/** Pauses between looking for what a room goes on without: it is no hurry, and somebody's server may come back. */
const FIRST_SEEK_MS = 600_000;
const LONGEST_SEEK_MS = 86_400_000;
/** What only a state at a gap lacks is looked for so often, some four days: it may never have been there. */
export const SEEKS_AT_GAPS_MAX = 10;

/** When missing events are looked for next; `jitter` is in [0, 1). */
export function nextSeekAt(sought: number, now: number, jitter: number): number {
  const pauseMs = Math.min(FIRST_SEEK_MS * 2 ** Math.min(sought, 30), LONGEST_SEEK_MS);
  return now + Math.round(pauseMs * (1 + JITTER_SHARE * jitter));
}

/** Residents asked for the state at a gap in one attempt. */
export const GAP_RESIDENTS_AN_ATTEMPT = 3;
/** Then a gap is given up: some four hours after it opened, and after 24 residents or each of fewer several times. */
const GAP_ATTEMPTS_MAX = 8;

/**
 * What becomes of an event that the state at a gap lacks, in the `attempts`th attempt, where `known` servers are known: as in the
 * state of a join, but bounded by the attempts. What others are judged by is not waited for a day: names are made up for nothing,
 * and one server that gives the state in part would keep the gap open with them. By the last attempt the state is taken as it is.
 */
export function settleLackingAtGap(
  { known, attempts }: { readonly known: number; readonly attempts: number },
  lacking: Lacking,
  now: number,
  policy: DegradePolicy = defaultDegradePolicy,
): 'awaited' | 'dropped' | 'gone-without' {
  const { isNeeded, isUnusable } = lacking;
  if (attempts >= GAP_ATTEMPTS_MAX) return 'gone-without';
  const lone = { ...lacking, isNeeded: false, isUnusable: isUnusable && !isNeeded };
  return settleLacking({ known, failedRounds: attempts - 1 }, lone, now, policy);
}

/** When a gap is tried next after its `attempts`th attempt failed; `null`: it is given up. `jitter` is in [0, 1). */
export function nextGapAttemptAt(attempts: number, policy: ResyncPolicy, now: number, jitter: number): number | null {
  if (attempts >= GAP_ATTEMPTS_MAX) return null;
  const pauseMs = Math.min(policy.firstRetryMs * 2 ** Math.max(0, attempts - 1), policy.longestRetryMs);
  return now + Math.round(pauseMs * (1 + JITTER_SHARE * jitter));
}

export interface LeavePolicy {
  readonly during: LeaveDuringResync;
  /** From the leave until the room is purged, where it is, milliseconds. */
  readonly purgeAfterMs: number;
}

export const defaultLeavePolicy: LeavePolicy = { during: 'abandon', purgeAfterMs: 7 * DAY_MS };

/** When the last of our users has left a partial room, residents are asked for so long: most refuse by then. */
export const LAST_ROUND_MS = 60_000;
/** And where it is worth more than that to us. */
const BEST_EFFORT_MS = 3_600_000;

/** What is journalled when the last of our users has left a partial room. */
export function everybodyLeft(
  at: number,
  { during, purgeAfterMs }: LeavePolicy = defaultLeavePolicy,
): Extract<ResyncEvent, { readonly type: 'EverybodyLeft' }> {
  if (during === 'finish_best_effort') return { type: 'EverybodyLeft', until: at + BEST_EFFORT_MS, goesOn: true, at };
  const purge = during === 'purge' ? { purgeAt: at + purgeAfterMs } : {};
  return { type: 'EverybodyLeft', until: at + LAST_ROUND_MS, ...purge, at };
}

/** Begins of an attempt that stored nothing: a fourth time it would end as before. */
export const BEGINS_MAX = 3;

/** An unreachable server is left alone for so long, doubled each time, by all rooms. The first is less than the first pause of a resync. */
export const UNREACHABLE_FIRST_MS = 20_000;
export const UNREACHABLE_LONGEST_MS = 15 * 60_000;

/**
 * When the round after `state.round` starts, milliseconds since the Unix epoch: after the doubled pause, and not before
 * the first candidate is willing to be asked again. A round of servers that are back puts off no round of all. `jitter` is in [0, 1).
 */
export function nextRoundAt(state: ResyncState, policy: ResyncPolicy, now: number, jitter: number): number {
  const { askingOnly, failingSince } = state;
  if (askingOnly !== null && askingOnly.pausedUntil !== null) return Math.max(now, askingOnly.pausedUntil);
  const late = policy.late ?? defaultLatePolicy;
  const isLate = failingSince !== null && now - failingSince >= late.afterMs;
  const doubled = policy.firstRetryMs * 2 ** Math.min(state.round - 1, 30);
  const pauseMs = Math.min(doubled, isLate ? late.longestRetryMs : policy.longestRetryMs);
  const willing = mayBeAsked(state).map((candidate) => willingFrom(state, candidate));
  // Where every server is banned the room waits for one that is not.
  const willingAt = willing.length === 0 ? 0 : Math.min(...willing);
  return Math.max(now + Math.round(pauseMs * (1 + JITTER_SHARE * jitter)), willingAt);
}
