/**
 * How an attempt to fetch a state ended, in the words by which the next step is chosen: what the resident said of us and the room,
 * and whether asking again may help. A failed request has a kind (`FailureClass`); what that means depends on who answered, and when.
 */
import { type AttemptOutcome } from './attempts.ts';
import { type FailureClass } from './events.ts';

/** How long after a join another server than the one that took it may not have heard of it. */
const JOIN_ARRIVES_MS = 10 * 60_000;

/** Who failed, as far as it matters to what the failure means. */
export interface Circumstances {
  /** It let us in, or gave us a state. */
  readonly hasAnswered: boolean;
  /** Since our newest join, milliseconds. */
  readonly sinceJoinMs: number;
  /** So much came, bytes, of which nothing was new; absent: something was. */
  readonly oldBytes?: number;
}

/** An answer that was cut off by time after so many bytes, which all had come before, is cut off there each time. */
const OLD_BYTES_TOO_LARGE = 16 * 1024 * 1024;

/** What a failure means. Journal entries from before outcomes were kept have none: theirs follows from the kind of failure alone. */
export function outcomeOf(failure: FailureClass, circumstances?: Circumstances): AttemptOutcome {
  switch (failure) {
    case 'timeout':
      return (circumstances?.oldBytes ?? 0) >= OLD_BYTES_TOO_LARGE ? 'too-large' : 'transient';
    case 'unreachable':
    case 'server-error':
      return 'transient';
    case 'rate-limited':
      return 'rate-limited';
    case 'forbidden': {
      const mayBeNews = circumstances !== undefined && !circumstances.hasAnswered;
      return mayBeNews && circumstances.sinceJoinMs < JOIN_ARRIVES_MS ? 'not-yet-joined-there' : 'not-in-room';
    }
    case 'not-found':
      return 'unknown-event';
    case 'partial-state-there':
      return 'partial-there';
    case 'too-large':
      return 'too-large';
    case 'keys-unobtainable':
      return 'keys-unobtainable';
    case 'contradictory':
      return 'contradictory';
    case 'refused':
    case 'incompatible-version':
    case 'malformed':
    case 'incomplete':
      return 'invalid';
    // Whatever ended the work again and again, and addresses that our own configuration denies.
    case 'abandoned':
    case 'refused-by-policy':
      return 'ours';
  }
}

/** Whether the server gave what it has of a state, and not all that it names. */
export function isInPart(failure: FailureClass | null | undefined): boolean {
  return failure === 'incomplete' || failure === 'keys-unobtainable';
}

/** Of what is said of a room in a round, what a failure says; `undefined`: nothing. */
export function sayingOf(outcome: AttemptOutcome): 'refused' | 'tooLarge' | 'open' | undefined {
  switch (outcome) {
    case 'not-in-room':
    case 'unknown-event':
      return 'refused';
    case 'too-large':
      return 'tooLarge';
    case 'transient':
      return undefined;
    case 'rate-limited':
    case 'not-yet-joined-there':
    case 'partial-there':
    case 'invalid':
    case 'contradictory':
    case 'keys-unobtainable':
    case 'ours':
      return 'open';
  }
}
