/** What the journal says of attempts beside their failures: how they ended, whom they asked and why, and what they took. */
import { type ServerName } from '../matrix/identifiers.ts';

/** How an attempt to fetch a state ended: what its failure means, by who failed and when (outcomes.ts). */
export type AttemptOutcome =
  /** It did not answer, or its answer broke off: it may be back in a while. */
  | 'transient'
  /** It answers, and wants to be left alone. */
  | 'rate-limited'
  /** It lets in nobody of us yet: our join, given by another server a moment ago, may be on its way to it. */
  | 'not-yet-joined-there'
  /** It says that we are not in the room, or that what came before our join is not for us. */
  | 'not-in-room'
  /** It does not know the room, or not the event. */
  | 'unknown-event'
  /** It is joining the room itself. */
  | 'partial-there'
  /** More than we take. */
  | 'too-large'
  /** What it answered is of no use: malformed, or not what it names. */
  | 'invalid'
  /** Servers that were compared gave states that cannot be made one. */
  | 'contradictory'
  /** Its events are signed with keys that nobody gives us. */
  | 'keys-unobtainable'
  /** Trouble of this server: no fault of the resident. */
  | 'ours';

/**
 * - `refused`: round after round, days apart, whoever answered said that we are not in the room, or does not know it;
 * - `too-large`: whoever has the state has more of it than we take;
 * - `gave-up`: it took longer than the operator wants to wait;
 * - `cancelled`: an operator has stopped it. Nothing but an operator or a further join of ours makes it go on.
 */
export type ParkedBecause = 'refused' | 'too-large' | 'gave-up' | 'cancelled';

/** Why a server is asked before the others that are left (choice.ts). */
export type ChosenBecause =
  'pinned' | 'let-us-in' | 'has-answered' | 'named-by-user' | 'spoke' | 'said-to-be-in' | 'departed';

/** What an attempt asked and what it took; absent in entries from before it was kept. */
export interface AttemptCost {
  /** Of the request that failed, or what the answer mostly came of: `state`, `event` or `state_ids`; absent: none was sent. */
  readonly endpoint?: string;
  /** Until its first answer began; absent: none did. */
  readonly latencyMs?: number;
  /** Received in all. */
  readonly bytes?: number;
  /** From its begin, or from when it went on, to its end. */
  readonly tookMs?: number;
}

/** What several servers said of one state. */
export interface StateComparison {
  /** Servers whose word was wanted. */
  readonly wanted: number;
  /** Those that gave theirs, the first one first; fewer than were wanted: nobody else gave it in time. */
  readonly residents: readonly ServerName[];
  /** Places of the state in which one differs from the first; what they have there was resolved. */
  readonly differing: number;
}
