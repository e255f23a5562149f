/**
 * The push rules that everybody has until he says otherwise.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#predefined-rules
 */
import { type UserId } from '../identifiers.ts';
import { type Json } from '../pdu.ts';

/** In the order in which they are asked. */
export const PUSH_RULE_KINDS = ['override', 'content', 'room', 'sender', 'underride'] as const;
export type PushRuleKind = (typeof PUSH_RULE_KINDS)[number];

export interface PushRule {
  readonly ruleId: string;
  readonly isEnabled: boolean;
  readonly actions: readonly Json[];
  /** Of `override` and `underride`. */
  readonly conditions?: readonly Json[] | undefined;
  /** Of `content`. */
  readonly pattern?: string | undefined;
}

/** The more important first. */
export type PushRules = Readonly<Record<PushRuleKind, readonly PushRule[]>>;

const NOTIFY = 'notify';
const HIGHLIGHT = { set_tweak: 'highlight' };
const sound = (value: string): Json => ({ set_tweak: 'sound', value });

const matches = (key: string, pattern: string): Json => ({ kind: 'event_match', key, pattern });
const is = (key: string, value: Json): Json => ({ kind: 'event_property_is', key, value });
const ofType = (type: string): Json => matches('type', type);
const MAY_NOTIFY_ROOM: Json = { kind: 'sender_notification_permission', key: 'room' };
const OF_TWO: Json = { kind: 'room_member_count', is: '2' };

const rule = (name: string, conditions: readonly Json[], actions: readonly Json[]): PushRule => ({
  ruleId: `.m.rule.${name}`,
  isEnabled: name !== 'master',
  actions,
  conditions,
});

/** By kind, the more important first. */
export function defaultPushRules(userId: UserId): PushRules {
  const localpart = userId.slice(1, userId.indexOf(':'));
  return {
    override: [
      rule('master', [], []),
      rule('suppress_notices', [matches('content.msgtype', 'm.notice')], []),
      rule(
        'invite_for_me',
        [ofType('m.room.member'), matches('content.membership', 'invite'), matches('state_key', userId)],
        [NOTIFY, sound('default')],
      ),
      rule('member_event', [ofType('m.room.member')], []),
      rule(
        'is_user_mention',
        [{ kind: 'event_property_contains', key: String.raw`content.m\.mentions.user_ids`, value: userId }],
        [NOTIFY, sound('default'), HIGHLIGHT],
      ),
      rule('contains_display_name', [{ kind: 'contains_display_name' }], [NOTIFY, sound('default'), HIGHLIGHT]),
      rule('is_room_mention', [is(String.raw`content.m\.mentions.room`, true), MAY_NOTIFY_ROOM], [NOTIFY, HIGHLIGHT]),
      rule('roomnotif', [matches('content.body', '@room'), MAY_NOTIFY_ROOM], [NOTIFY, HIGHLIGHT]),
      rule('tombstone', [ofType('m.room.tombstone'), matches('state_key', '')], [NOTIFY, HIGHLIGHT]),
      rule('reaction', [ofType('m.reaction')], []),
      rule('room.server_acl', [ofType('m.room.server_acl'), matches('state_key', '')], []),
      rule('suppress_edits', [is(String.raw`content.m\.relates_to.rel_type`, 'm.replace')], []),
    ],
    content: [
      {
        ruleId: '.m.rule.contains_user_name',
        isEnabled: true,
        actions: [NOTIFY, sound('default'), HIGHLIGHT],
        pattern: localpart,
      },
    ],
    room: [],
    sender: [],
    underride: [
      rule('call', [ofType('m.call.invite')], [NOTIFY, sound('ring')]),
      rule('encrypted_room_one_to_one', [OF_TWO, ofType('m.room.encrypted')], [NOTIFY, sound('default')]),
      rule('room_one_to_one', [OF_TWO, ofType('m.room.message')], [NOTIFY, sound('default')]),
      rule('message', [ofType('m.room.message')], [NOTIFY]),
      rule('encrypted', [ofType('m.room.encrypted')], [NOTIFY]),
    ],
  };
}
