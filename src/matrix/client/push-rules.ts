/**
 * Push rules of a user: what is kept is how they differ from those that everybody has, so that a release which knows another
 * rule gives it to everybody.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#push-rules
 */
import { type UserId } from '../identifiers.ts';
import { isJsonObject } from '../json/strict-json.ts';
import { type Json, type JsonObject } from '../pdu.ts';
import {
  PUSH_RULE_KINDS,
  type PushRule,
  type PushRuleKind,
  type PushRules,
  defaultPushRules,
} from './default-push-rules.ts';

/** What a user has said otherwise. */
export interface PushRuleChanges {
  readonly own: PushRules;
  /** By kind and rule id. */
  readonly defaults: Readonly<Record<string, Partial<Pick<PushRule, 'isEnabled' | 'actions'>>>>;
}

/** Of a user who has said nothing. */
export const NO_CHANGES: PushRuleChanges = {
  own: { override: [], content: [], room: [], sender: [], underride: [] },
  defaults: {},
};

/** The rule before which all others of its kind are asked, the user's own among them. */
const MASTER = '.m.rule.master';

const keyOf = (kind: PushRuleKind, ruleId: string): string => `${kind}/${ruleId}`;

/** All rules of a user, the more important first. */
export function pushRulesOf(userId: UserId, { own, defaults }: PushRuleChanges): PushRules {
  const given = defaultPushRules(userId);
  const ofKind = (kind: PushRuleKind): PushRule[] => {
    const changed = given[kind].map((rule) => ({ ...rule, ...defaults[keyOf(kind, rule.ruleId)] }));
    const first = changed.filter(({ ruleId }) => ruleId === MASTER);
    return [...first, ...own[kind], ...changed.filter(({ ruleId }) => ruleId !== MASTER)];
  };
  return {
    override: ofKind('override'),
    content: ofKind('content'),
    room: ofKind('room'),
    sender: ofKind('sender'),
    underride: ofKind('underride'),
  };
}

/** Where a rule is put among a user's own; `undefined`: where it is, or first. */
export type Place = { readonly before: string } | { readonly after: string } | undefined;

/**
 * With a rule of the user's own: one of that id is replaced, and stays switched on or off. `undefined`: there is no rule of the
 * user's own where it is to be put.
 */
export function withRule(
  changes: PushRuleChanges,
  kind: PushRuleKind,
  rule: Omit<PushRule, 'isEnabled'>,
  place: Place,
): PushRuleChanges | undefined {
  const all = changes.own[kind];
  const at = all.findIndex(({ ruleId }) => ruleId === rule.ruleId);
  const made = { ...rule, isEnabled: all[at]?.isEnabled ?? true };
  const others = all.filter(({ ruleId }) => ruleId !== rule.ruleId);
  let index = Math.max(at, 0);
  if (place !== undefined) {
    const beside = 'before' in place ? place.before : place.after;
    const found = others.findIndex(({ ruleId }) => ruleId === beside);
    if (found < 0) return undefined;
    index = 'before' in place ? found : found + 1;
  }
  return withOwn(changes, kind, [...others.slice(0, index), made, ...others.slice(index)]);
}

/** Without a rule of the user's own; `undefined`: he has no such rule. */
export function withoutRule(changes: PushRuleChanges, kind: PushRuleKind, id: string): PushRuleChanges | undefined {
  const others = changes.own[kind].filter(({ ruleId }) => ruleId !== id);
  return others.length === changes.own[kind].length ? undefined : withOwn(changes, kind, others);
}

/** With a rule, the user's own or not, switched on or off or doing something else; `undefined`: there is no such rule. */
export function withRuleChanged(
  changes: PushRuleChanges,
  userId: UserId,
  kind: PushRuleKind,
  id: string,
  change: Partial<Pick<PushRule, 'isEnabled' | 'actions'>>,
): PushRuleChanges | undefined {
  const isIt = ({ ruleId }: PushRule): boolean => ruleId === id;
  if (changes.own[kind].some(isIt)) {
    return withOwn(
      changes,
      kind,
      changes.own[kind].map((rule) => (isIt(rule) ? { ...rule, ...change } : rule)),
    );
  }
  if (!defaultPushRules(userId)[kind].some(isIt)) return undefined;
  const key = keyOf(kind, id);
  return { ...changes, defaults: { ...changes.defaults, [key]: { ...changes.defaults[key], ...change } } };
}

function withOwn(changes: PushRuleChanges, kind: PushRuleKind, rules: readonly PushRule[]): PushRuleChanges {
  return { ...changes, own: { ...changes.own, [kind]: rules } };
}

/** A rule in the form that clients get. */
export function pushRuleAnswer({ ruleId, isEnabled, actions, conditions, pattern }: PushRule): JsonObject {
  return {
    rule_id: ruleId,
    default: ruleId.startsWith('.'),
    enabled: isEnabled,
    actions,
    ...(conditions === undefined ? {} : { conditions }),
    ...(pattern === undefined ? {} : { pattern }),
  };
}

/** All rules in the form that clients get: the content of `m.push_rules` too. */
export function pushRulesAnswer(rules: PushRules): JsonObject {
  return { global: Object.fromEntries(PUSH_RULE_KINDS.map((kind) => [kind, rules[kind].map(pushRuleAnswer)])) };
}

/** Whether something has the form of the actions of a rule. */
export function areActions(actions: Json | undefined): actions is readonly Json[] {
  return (
    Array.isArray(actions) &&
    (actions as readonly Json[]).every(
      (action) => typeof action === 'string' || (isJsonObject(action) && typeof action['set_tweak'] === 'string'),
    )
  );
}

/** Which members of the conditions that are known are texts, and have to be there. */
const TEXTS_OF: Readonly<Record<string, readonly string[] | undefined>> = {
  event_match: ['key', 'pattern'],
  event_property_is: ['key'],
  event_property_contains: ['key'],
  room_member_count: ['is'],
  sender_notification_permission: ['key'],
};

/** Whether something has the form of the conditions of a rule; of kinds that nobody knows anything may be said. */
export function areConditions(conditions: Json | undefined): conditions is readonly Json[] {
  return (
    Array.isArray(conditions) &&
    (conditions as readonly Json[]).every((item) => {
      if (!isJsonObject(item) || typeof item['kind'] !== 'string') return false;
      return (TEXTS_OF[item['kind']] ?? []).every((name) => typeof item[name] === 'string');
    })
  );
}
