import { describe, expect, test } from 'vitest';
import { type UserId } from '../../../src/matrix/identifiers.ts';
import {
  NO_CHANGES,
  type Place,
  type PushRuleChanges,
  pushRulesAnswer,
  pushRulesOf,
  withRule,
  withRuleChanged,
  withoutRule,
} from '../../../src/matrix/client/push-rules.ts';

const USER = '@fry:here.test' as UserId;

const ids = (changes: PushRuleChanges | undefined, kind: 'override' | 'content' = 'content'): string[] =>
  pushRulesOf(USER, changes ?? NO_CHANGES)[kind].map(({ ruleId }) => ruleId);

const put = (changes: PushRuleChanges | undefined, ruleId: string, place?: Place): PushRuleChanges | undefined =>
  withRule(changes ?? NO_CHANGES, 'content', { ruleId, actions: [], pattern: ruleId }, place);

describe('push rules', () => {
  test('of a user who has said nothing are those of the specification, in their order', () => {
    expect(ids(NO_CHANGES, 'override').map((id) => id.replace('.m.rule.', ''))).toEqual([
      ...['master', 'suppress_notices', 'invite_for_me', 'member_event', 'is_user_mention', 'contains_display_name'],
      ...['is_room_mention', 'roomnotif', 'tombstone', 'reaction', 'room.server_acl', 'suppress_edits'],
    ]);
    const { global } = pushRulesAnswer(pushRulesOf(USER, NO_CHANGES)) as { global: Record<string, unknown[]> };
    expect(Object.keys(global).sort()).toEqual(['content', 'override', 'room', 'sender', 'underride']);
    expect(global['override']?.[0]).toEqual({
      ...{ rule_id: '.m.rule.master', default: true, enabled: false },
      ...{ conditions: [], actions: [] },
    });
    expect(global['content']).toEqual([
      {
        ...{ rule_id: '.m.rule.contains_user_name', default: true, enabled: true, pattern: 'fry' },
        actions: ['notify', { set_tweak: 'sound', value: 'default' }, { set_tweak: 'highlight' }],
      },
    ]);
  });

  test('of the user himself come before the others of their kind, the newest first, but for the master', () => {
    expect(ids(put(put(NO_CHANGES, 'a'), 'b'))).toEqual(['b', 'a', '.m.rule.contains_user_name']);
    const override = withRule(NO_CHANGES, 'override', { ruleId: 'x', actions: [], conditions: [] }, undefined);
    expect(ids(override, 'override').slice(0, 3)).toEqual(['.m.rule.master', 'x', '.m.rule.suppress_notices']);
  });

  test('are put where it is said, moved when it is said again, and else stay where they are', () => {
    const three = put(put(put(NO_CHANGES, 'c'), 'b'), 'a');
    expect(ids(put(three, 'd', { before: 'b' })).slice(0, 4)).toEqual(['a', 'd', 'b', 'c']);
    expect(ids(put(three, 'd', { after: 'c' })).slice(0, 4)).toEqual(['a', 'b', 'c', 'd']);
    expect(ids(put(three, 'a', { after: 'c' })).slice(0, 3)).toEqual(['b', 'c', 'a']);
    expect(ids(put(three, 'b')).slice(0, 3)).toEqual(['a', 'b', 'c']);
    for (const beside of ['nothing', 'a', '.m.rule.contains_user_name']) {
      expect(put(put(NO_CHANGES, 'a'), 'a', { before: beside })).toBeUndefined();
    }
  });

  test('that are replaced stay switched off', () => {
    const off = withRuleChanged(put(NO_CHANGES, 'a') ?? NO_CHANGES, USER, 'content', 'a', { isEnabled: false });
    const [rule] = pushRulesOf(USER, put(off, 'a') ?? NO_CHANGES).content;
    expect(rule).toMatchObject({ ruleId: 'a', isEnabled: false });
  });

  test('that everybody has can be changed and not be taken away', () => {
    const id = '.m.rule.contains_user_name';
    const off = withRuleChanged(NO_CHANGES, USER, 'content', id, { isEnabled: false });
    const quiet = withRuleChanged(off ?? NO_CHANGES, USER, 'content', id, { actions: [] });
    expect(pushRulesOf(USER, quiet ?? NO_CHANGES).content).toEqual([
      { ruleId: id, isEnabled: false, actions: [], pattern: 'fry' },
    ]);
    expect(withoutRule(NO_CHANGES, 'content', id)).toBeUndefined();
    expect(withRuleChanged(NO_CHANGES, USER, 'override', id, { isEnabled: false })).toBeUndefined();
  });
});
