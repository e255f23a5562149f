/** The events with which a public room begins, in the order in which homeservers send them. */
import { type Draft } from '../matrix/compose.ts';
import { type RoomAlias, type UserId, domainOf } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { type SeededRandom } from './seeded-random.ts';
import { mediaUrl, topicText } from './words.ts';

/** The content of m.room.create. */
export function createContent(creator: UserId, rules: RoomVersionRules): JsonObject {
  return { ...(!rules.creatorIsSender && { creator }), room_version: rules.version };
}

/** The content of the first m.room.power_levels; version 12 does not list creators, who stand above it. */
export function firstPowerLevels(creator: UserId, rules: RoomVersionRules): JsonObject {
  return {
    ban: 50,
    events: {
      'm.room.avatar': 50,
      'm.room.canonical_alias': 50,
      'm.room.encryption': 100,
      'm.room.history_visibility': 100,
      'm.room.name': 50,
      'm.room.power_levels': 100,
      'm.room.server_acl': 100,
      'm.room.tombstone': 100,
    },
    events_default: 0,
    invite: 0,
    kick: 50,
    redact: 50,
    state_default: 50,
    users: rules.privilegedCreators ? {} : { [creator]: 100 },
    users_default: 0,
  };
}

/** All that follows the creator's join. */
export function foundingDrafts(
  creator: UserId,
  alias: RoomAlias,
  rules: RoomVersionRules,
  random: SeededRandom,
): Draft[] {
  const server = domainOf(creator);
  const state = (type: string, content: JsonObject, stateKey = ''): Draft => ({
    sender: creator,
    type,
    stateKey,
    content,
  });
  return [
    state('m.room.power_levels', firstPowerLevels(creator, rules)),
    state('m.room.canonical_alias', { alias }),
    ...(rules.aliasesSpecialCase ? [state('m.room.aliases', { aliases: [alias] }, server)] : []),
    state('m.room.join_rules', { join_rule: 'public' }),
    state('m.room.history_visibility', { history_visibility: 'shared' }),
    state('m.room.guest_access', { guest_access: 'can_join' }),
    state('m.room.name', { name: alias.slice(1, alias.indexOf(':')) }),
    state('m.room.topic', { topic: topicText(random) }),
    state('m.room.avatar', { url: mediaUrl(random, server) }),
    state('m.room.server_acl', { allow: ['*'], allow_ip_literals: true, deny: ['spam.example', '*.spam.example'] }),
  ];
}
