/**
 * What the auth rules take and answer: the state an event is judged against, and a verdict that names the rule broken.
 * A rule's name is stable: the journal stores it, tests and operators read it.
 */
import { type Pdu } from '../pdu.ts';
import { type Refusal } from '../refusal.ts';

/** Looks up the state an event is judged against: one held and accepted event for each place, or `undefined`. */
export type AuthState = (type: string, stateKey: string) => Pdu | undefined;

/** The rule that refused an event, in the order the rules are checked. */
export type AuthRule =
  // Before the rules: limits in bytes, versions 1 to 10
  | 'name-too-long'
  // 1. m.room.create
  | 'create-has-prev-events'
  | 'create-has-room-id'
  | 'create-sender-domain'
  | 'create-room-version'
  | 'create-lacks-creator'
  | 'create-additional-creators'
  // 2. the auth events cited
  | 'auth-event-other-room'
  | 'auth-event-duplicate'
  | 'auth-event-unexpected'
  | 'auth-event-rejected'
  | 'auth-event-missing'
  | 'auth-events-lack-create'
  // 3. and on: the state
  | 'no-create-event'
  | 'not-federated'
  | 'aliases-state-key'
  | 'member-malformed'
  | 'join-for-another'
  | 'join-banned'
  | 'join-not-invited'
  | 'join-not-authorised'
  | 'join-rule-unknown'
  | 'invite-third-party-token'
  | 'invite-third-party-sender'
  | 'invite-third-party-malformed'
  | 'invite-third-party-signature'
  | 'invite-target-banned'
  | 'invite-target-joined'
  | 'invite-power'
  | 'leave-not-in-room'
  | 'unban-power'
  | 'kick-power'
  | 'ban-power'
  | 'knock-join-rule'
  | 'knock-for-another'
  | 'knock-already-in'
  | 'knock-banned'
  | 'membership-unknown'
  | 'sender-not-joined'
  | 'third-party-invite-power'
  | 'send-power'
  | 'state-key-other-user'
  | 'power-levels-unreadable'
  | 'power-levels-malformed'
  | 'power-levels-name-creator'
  | 'power-levels-exceed'
  | 'power-levels-lower-equal'
  | 'redaction-power';

/** Rejected for want of an auth event, by whoever looked for it: without it the event is never judged by anything else. */
export const FOR_WANT: ReadonlySet<string> = new Set([
  'auth-event-missing',
  'auth-event-other-room',
] satisfies AuthRule[]);

export type AuthVerdict = { readonly ok: true } | Refusal<AuthRule>;

export const ALLOWED: AuthVerdict = { ok: true };
