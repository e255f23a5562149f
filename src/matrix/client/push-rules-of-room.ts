/** A user's own push rules that are about one room, for the room that takes its place: https://spec.matrix.org/v1.16/client-server-api/#room-upgrades */
import { type RoomId } from '../identifiers.ts';
import { isJsonObject } from '../json/strict-json.ts';
import { type Json } from '../pdu.ts';
import { type PushRule } from './default-push-rules.ts';
import { type PushRuleChanges } from './push-rules.ts';

/** Kinds of rules that may be about a room. */
export const ROOM_RULES = ['override', 'room', 'underride'] as const;

/** With rules for the new room beside those that name the old one: of kind `room` by their ids, of others by a condition on `room_id`. */
export function movedRules({ own, defaults }: PushRuleChanges, from: RoomId, to: RoomId): PushRuleChanges {
  const moved = (rules: readonly PushRule[]): readonly PushRule[] => {
    const known = new Set(rules.map(({ ruleId }) => ruleId));
    const added = rules.flatMap((rule) => {
      const followed = followedBy(rule, from, to);
      return followed === undefined || known.has(followed.ruleId) ? [] : [followed];
    });
    return added.length === 0 ? rules : [...added, ...rules];
  };
  return {
    own: { ...own, override: moved(own.override), room: moved(own.room), underride: moved(own.underride) },
    defaults,
  };
}

function followedBy(rule: PushRule, from: RoomId, to: RoomId): PushRule | undefined {
  const isNamed = rule.ruleId === from;
  const isMeant = rule.conditions?.some((condition) => isOf(condition, from)) === true;
  if (!isNamed && !isMeant) return undefined;
  const conditions = rule.conditions?.map((condition) =>
    isJsonObject(condition) && isOf(condition, from) ? { ...condition, pattern: to } : condition,
  );
  // A rule's id is no more than a name, but of kind `room`.
  const ruleId = isNamed ? to : rule.ruleId.includes(from) ? rule.ruleId.replace(from, to) : `${rule.ruleId}:${to}`;
  return { ...rule, ruleId, ...(conditions === undefined ? {} : { conditions }) };
}

function isOf(condition: Json, roomId: RoomId): boolean {
  return (
    isJsonObject(condition) &&
    condition['kind'] === 'event_match' &&
    condition['key'] === 'room_id' &&
    condition['pattern'] === roomId
  );
}
