/**
 * The checks on receipt of a PDU, in their order, and what each failure means:
 *
 * | check | the event…                                              | else     | by                                      |
 * |-------|---------------------------------------------------------|----------|-----------------------------------------|
 * | 1     | is a valid event of its room version                    | drop     | `parsePdu`, event-format.ts             |
 * | 2     | carries valid signatures of all who must sign it        | drop     | src/verification                        |
 * | 3     | has the content hash it claims                          | redacted | src/verification; goes on, redacted     |
 * | 4     | passes the auth rules by its own auth events            | reject   | `checkAgainstAuthEvents`                |
 * | 5     | passes the auth rules by the state before it            | reject   | `authoriseAgainstState`, auth/          |
 * | 6     | passes the auth rules by the room's current state       | softFail | `authoriseAgainstState`, auth/          |
 *
 * *drop*: as if it had never come, nothing is concluded from it. *reject*: kept, so that what cites it can be judged, but it
 * is not in the timeline, changes no state, and rejects what cites it as an auth event. *softFail*: accepted, its state is
 * resolved like any other's, but it is not shown and nothing new builds on it.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#checks-performed-on-receipt-of-a-pdu
 */
import { authEventIdsOf, authStateOf, checkAuthEventsCited } from './auth/auth-events.ts';
import { authorise, authoriseAgainstState } from './auth/auth-rules.ts';
import { type AuthRule, type AuthState, type AuthVerdict } from './auth/auth-verdict.ts';
import { refuse } from './refusal.ts';
import { checkByteLimits } from './event-format.ts';
import { type EventId } from './identifiers.ts';
import { type Pdu } from './pdu.ts';
import { type RoomVersionRules } from './room-versions.ts';
import { type StateMap, stateMapKey } from './state-map.ts';

/** What became of a PDU that passed checks 1 to 3. */
export type PduVerdict =
  | { readonly outcome: 'accept' }
  | {
      readonly outcome: 'drop' | 'reject' | 'softFail';
      /** The check that failed. */
      readonly check: 4 | 5 | 6;
      readonly rule: AuthRule;
      readonly reason: string;
    };

/** What check 4 looks at. */
export interface CitedAuthEvents {
  readonly event: Pdu;
  readonly rules: RoomVersionRules;
  /** The event's auth events, rejected ones included; in version 12 the create event too, though it is not cited. */
  readonly authEvents: readonly Pdu[];
  /** Whether an event was rejected on receipt. */
  readonly isRejected: (id: EventId) => boolean;
}

/** What check 5 looks at besides. */
export interface JudgedAgainstState extends CitedAuthEvents {
  /**
   * The state before the event, without rejected events. Of a partial event: the resolution of `stateSetsForPartialCheck`.
   */
  readonly stateBefore: AuthState;
}

/** What check 6 looks at besides. */
export interface JudgedOnReceipt extends JudgedAgainstState {
  /**
   * The room's current state; where the event's prev_events are not all known, resolved with the state before it.
   * `undefined` while the room is partial: a ban may be undone, or a membership missing, for want of state.
   */
  readonly currentState: AuthState | undefined;
}

/** Judges an event as it comes in, live or pulled: checks 4, 5 and 6. */
export function checkReceived(input: JudgedOnReceipt): PduVerdict {
  const { event, rules, currentState } = input;
  const judged = checkUnPartialStated(input);
  if (judged.outcome !== 'accept' || currentState === undefined) return judged;
  return failedCheck(6, authoriseAgainstState(event, currentState, rules)) ?? judged;
}

/** Judges a partial event anew once the full state before it is known: checks 4 and 5. Check 6 follows for all, by `checkReplayed`. */
export function checkUnPartialStated(input: JudgedAgainstState): PduVerdict {
  const { event, rules, stateBefore } = input;
  const judged = checkOutlier(input);
  if (judged.outcome !== 'accept') return judged;
  return failedCheck(5, authoriseAgainstState(event, stateBefore, rules)) ?? judged;
}

/**
 * Check 6 for an event that was accepted while its room was partial, once the room is not.
 *
 * @param currentState as in `JudgedOnReceipt`: the one there was when the event was taken in, as it is known now
 */
export function checkReplayed(event: Pdu, rules: RoomVersionRules, currentState: AuthState): PduVerdict {
  return failedCheck(6, authoriseAgainstState(event, currentState, rules)) ?? { outcome: 'accept' };
}

/** Judges an outlier, an event fetched as part of a state or an auth chain, outside the timeline: check 4. */
export function checkOutlier({ event, rules, authEvents, isRejected }: CitedAuthEvents): PduVerdict {
  return failedCheck(4, checkAgainstAuthEvents(event, authEvents, rules, isRejected)) ?? { outcome: 'accept' };
}

/**
 * The states to resolve for check 5 of a partial event: what is known of the state before it, and the state that its auth
 * events make up. Known bans come out on top of what the event claims, and what it claims fills the gaps.
 */
export function stateSetsForPartialCheck(
  partialStateBefore: StateMap,
  authEvents: readonly Pdu[],
): readonly [StateMap, StateMap] {
  const claimed = new Map<string, EventId>();
  for (const { type, stateKey, eventId } of authEvents) {
    if (stateKey !== undefined) claimed.set(stateMapKey(type, stateKey), eventId);
  }
  return [partialStateBefore, claimed];
}

/**
 * Check 4: the right auth events are cited, and the event passes the auth rules by them. Before that, in versions 1 to 10,
 * the limits on type and state key in bytes, which those versions did not always have: an event beyond them is rejected
 * whatever it cites (as in Synapse), because other servers hold it.
 *
 * @param authEvents as `CitedAuthEvents.authEvents`; others among them are not looked at.
 * @returns `auth-event-missing` when one of those cited was not given: that is no verdict on the event.
 */
function checkAgainstAuthEvents(
  event: Pdu,
  authEvents: readonly Pdu[],
  rules: RoomVersionRules,
  isRejected: (id: EventId) => boolean,
): AuthVerdict {
  const oversized = checkByteLimits(event);
  if (oversized !== undefined) return refuse('name-too-long', oversized.reason);
  const cited = checkAuthEventsCited(event, authEvents, rules, isRejected);
  if (!cited.ok) return cited;
  const citedIds = new Set(authEventIdsOf(event, rules));
  return authorise(event, authStateOf(authEvents.filter(({ eventId }) => citedIds.has(eventId))), rules);
}

/** The verdict of a check that failed; `undefined` when it passed. */
function failedCheck(check: 4 | 5 | 6, verdict: AuthVerdict): PduVerdict | undefined {
  if (verdict.ok) return undefined;
  // What is not at hand is no fault of the event: it is judged when its auth events are there.
  const outcome = verdict.rule === 'auth-event-missing' ? 'drop' : check === 6 ? 'softFail' : 'reject';
  return { outcome, check, rule: verdict.rule, reason: verdict.reason };
}
