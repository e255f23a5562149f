/**
 * What a new room begins with, in its order: https://spec.matrix.org/v1.16/client-server-api/#post_matrixclientv3createroom
 */
import { type Draft } from '../compose.ts';
import { type RoomAlias, type UserId } from '../identifiers.ts';
import { type Json, type JsonObject } from '../pdu.ts';
import { type RoomVersionRules } from '../room-versions.ts';
import { isJsonObject } from '../json/strict-json.ts';

export type Preset = 'private_chat' | 'trusted_private_chat' | 'public_chat';

/** What somebody asks a room to be. */
export interface RoomWish {
  readonly creator: UserId;
  /** Of the creator's own join: `displayname` and `avatar_url`. */
  readonly profile: JsonObject;
  readonly preset: Preset;
  readonly creationContent: JsonObject;
  readonly powerLevelOverride: JsonObject;
  readonly initialState: readonly { readonly type: string; readonly stateKey: string; readonly content: JsonObject }[];
  readonly name: string | undefined;
  readonly topic: string | undefined;
  /** The room's canonical alias. */
  readonly alias: RoomAlias | undefined;
  readonly invite: readonly UserId[];
  readonly isDirect: boolean;
  /** Whom it keeps out from the beginning. */
  readonly bans?: readonly UserId[];
  /** State that is said last, when the creator needs his power no more. */
  readonly lastState?: RoomWish['initialState'];
}

const PRESETS = {
  private_chat: { joinRule: 'invite', guests: 'can_join' },
  trusted_private_chat: { joinRule: 'invite', guests: 'can_join' },
  public_chat: { joinRule: 'public', guests: 'forbidden' },
} as const satisfies Record<Preset, unknown>;

/** The level of an administrator, which is the creator's before version 12, and that of a tombstone since. */
const ADMINISTRATOR = 100;
const MODERATOR = 50;
const ABOVE_ADMINISTRATORS = 150;

/** The events in their order, each over the one before. */
export function firstEvents(wish: RoomWish, rules: RoomVersionRules): Draft[] {
  const { creator, preset, initialState, name, topic, alias, bans = [], lastState = [] } = wish;
  const state = (type: string, content: JsonObject, stateKey = ''): Draft => {
    return { sender: creator, type, stateKey, content };
  };
  const { joinRule, guests } = PRESETS[preset];
  const ofPreset: Draft[] = [
    state('m.room.join_rules', { join_rule: joinRule }),
    state('m.room.history_visibility', { history_visibility: 'shared' }),
    state('m.room.guest_access', { guest_access: guests }),
  ];
  const given = initialState.map(({ type, content, stateKey }) => state(type, content, stateKey));
  const isGiven = ({ type, stateKey }: Draft): boolean =>
    given.some((other) => other.type === type && other.stateKey === stateKey);
  return [
    state('m.room.create', createContent(wish, rules)),
    state('m.room.member', { ...wish.profile, membership: 'join' }, creator),
    state('m.room.power_levels', powerLevels(wish, rules)),
    ...(alias === undefined ? [] : [state('m.room.canonical_alias', { alias })]),
    // What is asked for in so many words is not said otherwise before.
    ...ofPreset.filter((event) => !isGiven(event)),
    ...given,
    ...(name === undefined ? [] : [state('m.room.name', { name })]),
    ...(topic === undefined ? [] : [state('m.room.topic', topicContent(topic))]),
    ...bans.map((userId) => state('m.room.member', { membership: 'ban' }, userId)),
    ...wish.invite.map((userId) => state('m.room.member', inviteContent(wish), userId)),
    ...lastState.map(({ type, content, stateKey }) => state(type, content, stateKey)),
  ];
}

function createContent({ creator, creationContent, preset, invite }: RoomWish, rules: RoomVersionRules): JsonObject {
  const content: Record<string, Json> = { ...creationContent, room_version: rules.version };
  if (!rules.creatorIsSender) content['creator'] = creator;
  if (rules.privilegedCreators && preset === 'trusted_private_chat' && invite.length > 0) {
    const { additional_creators: asked } = creationContent;
    content['additional_creators'] = [...new Set([...(Array.isArray(asked) ? (asked as Json[]) : []), ...invite])];
  }
  return content;
}

function powerLevels({ creator, preset, invite, powerLevelOverride }: RoomWish, rules: RoomVersionRules): JsonObject {
  const isTrusted = preset === 'trusted_private_chat';
  // In version 12 creators stand above all levels, and may not be named among them.
  const powerful = rules.privilegedCreators ? [] : [creator, ...(isTrusted ? invite : [])];
  return {
    ban: MODERATOR,
    events: {
      'm.room.avatar': MODERATOR,
      'm.room.canonical_alias': MODERATOR,
      'm.room.encryption': ADMINISTRATOR,
      'm.room.history_visibility': ADMINISTRATOR,
      'm.room.name': MODERATOR,
      'm.room.power_levels': ADMINISTRATOR,
      'm.room.server_acl': ADMINISTRATOR,
      'm.room.tombstone': rules.privilegedCreators ? ABOVE_ADMINISTRATORS : ADMINISTRATOR,
    },
    events_default: 0,
    invite: preset === 'public_chat' ? MODERATOR : 0,
    kick: MODERATOR,
    redact: MODERATOR,
    state_default: MODERATOR,
    users: Object.fromEntries(powerful.map((userId) => [userId, ADMINISTRATOR])),
    users_default: 0,
    // Whole members of it are replaced.
    ...powerLevelOverride,
  };
}

/** As text, and in the form that text beside other forms has: https://spec.matrix.org/v1.16/client-server-api/#mroomtopic */
function topicContent(topic: string): JsonObject {
  return { topic, 'm.topic': { 'm.text': [{ body: topic }] } };
}

function inviteContent({ isDirect }: RoomWish): JsonObject {
  return { membership: 'invite', ...(isDirect ? { is_direct: true } : {}) };
}

/** Why creation content, an override of the power levels or first state makes no room; `undefined`: it may. */
export function objectionTo(
  wish: Pick<RoomWish, 'creationContent' | 'powerLevelOverride' | 'initialState'>,
): string | undefined {
  const { users } = wish.powerLevelOverride;
  if (users !== undefined && !isJsonObject(users)) return 'power_level_content_override.users is not an object';
  const { additional_creators: creators, 'm.federate': isFederated = true } = wish.creationContent;
  if (typeof isFederated !== 'boolean') return 'creation_content.m.federate is neither true nor false';
  if (creators !== undefined && !Array.isArray(creators)) return 'creation_content.additional_creators is not a list';
  if (wish.initialState.some(({ type }) => type === 'm.room.member')) {
    return 'initial_state says no memberships: invite does';
  }
  return undefined;
}
