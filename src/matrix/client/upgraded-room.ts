/**
 * What a room begins with that takes the place of another: what of the old one's state goes with it.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#server-behaviour-19 (room upgrades)
 */
import { type EventId, type RoomId, type UserId } from '../identifiers.ts';
import { isJsonObject } from '../json/strict-json.ts';
import { type Json, type JsonObject } from '../pdu.ts';
import { type RoomVersionRules } from '../room-versions.ts';

/** State that is said anew as it was. */
export const CARRIED_TYPES = [
  ...['m.room.server_acl', 'm.room.encryption', 'm.room.name', 'm.room.avatar', 'm.room.topic', 'm.room.guest_access'],
  ...['m.room.history_visibility', 'm.room.join_rules', 'm.room.pinned_events'],
] as const;

const ADMINISTRATOR = 100;
const MODERATOR = 50;

/** Of the old room: the content of its create event. */
export function successorContent(
  create: JsonObject,
  rules: RoomVersionRules,
  from: { readonly roomId: RoomId; readonly lastEventId: EventId | undefined },
  additionalCreators: readonly UserId[],
): JsonObject {
  const { type, 'm.federate': isFederated } = create;
  return {
    ...(typeof type === 'string' ? { type } : {}),
    ...(typeof isFederated === 'boolean' ? { 'm.federate': isFederated } : {}),
    // In version 12 the new room's id follows from this event, so that no event of the old one can come after it.
    predecessor: {
      room_id: from.roomId,
      ...(rules.privilegedCreators || from.lastEventId === undefined ? {} : { event_id: from.lastEventId }),
    },
    ...(rules.privilegedCreators && additionalCreators.length > 0
      ? { additional_creators: [...additionalCreators] }
      : {}),
  };
}

/** How a room may be joined, in a version that may not know the old one's rule. */
export function carriedJoinRules(content: JsonObject, rules: RoomVersionRules): JsonObject {
  const { join_rule: rule } = content;
  const isKnown =
    (rule !== 'restricted' || rules.restrictedJoins) &&
    (rule !== 'knock' || rules.knocking) &&
    (rule !== 'knock_restricted' || rules.knockRestricted);
  return isKnown ? content : { join_rule: 'invite' };
}

export interface CarriedLevels {
  /** By which the rest can be said. */
  readonly first: JsonObject;
  /** As it was; `null`: `first` says it. */
  readonly last: JsonObject | null;
}

/** The old room's power levels as the new version has them. Who makes the room is an administrator until all is said. */
export function carriedLevels(
  content: JsonObject,
  creators: readonly UserId[],
  rules: RoomVersionRules,
): CarriedLevels {
  const old = asIntegers(content);
  const users = isJsonObject(old['users']) ? old['users'] : {};
  if (rules.privilegedCreators) {
    const others = Object.entries(users).filter(([user]) => !creators.includes(user as UserId));
    return { first: { ...old, users: Object.fromEntries(others) }, last: null };
  }
  const [creator = ''] = creators;
  const own = users[creator] ?? old['users_default'] ?? 0;
  const needed = Math.max(ADMINISTRATOR, ...levelsIn(old));
  if (Number(own) >= needed) return { first: old, last: null };
  const first = { ...old, users: { ...users, [creator]: needed } };
  // Without a level he could say nothing of the kind that he said in the old room as its creator.
  return Object.hasOwn(users, creator) || Number(own) >= MODERATOR ? { first, last: old } : { first, last: null };
}

/** What keeps the old room quiet: only moderators may speak or invite. `undefined`: it is so already. */
export function quietLevels(content: JsonObject): JsonObject | undefined {
  const of = (name: string): number => levelOf(content[name]) ?? 0;
  const quiet = Math.max(MODERATOR, of('users_default') + 1);
  if (of('events_default') >= quiet && of('invite') >= quiet) return undefined;
  return { ...content, events_default: Math.max(quiet, of('events_default')), invite: Math.max(quiet, of('invite')) };
}

function levelsIn({ state_default: state, ban, events }: JsonObject): number[] {
  const ofEvents = isJsonObject(events) ? Object.values(events) : [];
  return [state, ban, ...ofEvents].flatMap((level) => levelOf(level) ?? []);
}

/** Older rooms say levels as texts. */
function levelOf(level: Json | undefined): number | undefined {
  const number = typeof level === 'string' && /^\s*-?\d{1,15}\s*$/.test(level) ? Number(level) : level;
  return Number.isSafeInteger(number) ? (number as number) : undefined;
}

/** Levels are integers; what is none is left out. */
function asIntegers(content: JsonObject): JsonObject {
  return Object.fromEntries(
    Object.entries(content).flatMap(([name, value]): [string, Json][] => {
      if (!isJsonObject(value)) {
        const level = levelOf(value);
        return level === undefined ? [] : [[name, level]];
      }
      const levels = Object.entries(value).flatMap(([key, of]): [string, Json][] => {
        const level = levelOf(of);
        return level === undefined ? [] : [[key, level]];
      });
      return [[name, Object.fromEntries(levels)]];
    }),
  );
}
