/**
 * Room versions as data: one record of named properties for each of 1 to 12. Code asks `rules.knocking`, never
 * `version >= 7`; what a version changed is read off this file.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/#complete-list-of-room-versions
 */

/** What a redaction keeps beyond the keys that every version keeps. */
export interface RedactionRules {
  /** Versions 1 to 10 keep the top-level keys `origin`, `membership` and `prev_state`; 11 dropped them. */
  readonly keepsObsoleteTopLevelKeys: boolean;
  /** Versions 1 to 5 keep `content.aliases` of m.room.aliases. */
  readonly keepsAliases: boolean;
  /** Version 8: `content.allow` of m.room.join_rules. */
  readonly keepsJoinRuleAllow: boolean;
  /** Version 9: `content.join_authorised_via_users_server` of m.room.member. */
  readonly keepsJoinAuthorisedVia: boolean;
  /** Version 11: the whole content of m.room.create, not only `creator`. */
  readonly keepsWholeCreateContent: boolean;
  /** Version 11: `content.invite` of m.room.power_levels. */
  readonly keepsInvitePowerLevel: boolean;
  /** Version 11: `content.redacts` of m.room.redaction. */
  readonly keepsRedacts: boolean;
  /** Version 11: `content.third_party_invite.signed` of m.room.member. */
  readonly keepsThirdPartyInviteSigned: boolean;
  /** 12: `room_id` goes from any m.room.create event, since the event is what names the room. */
  readonly dropsRoomIdOfCreate: boolean;
}

/** Everything in which room versions differ. */
export interface RoomVersionRules {
  readonly version: string;

  /** `id-hash-pairs`: prev_events and auth_events hold `[event_id, {sha256}]` (1 and 2). `ids`: plain event ids. */
  readonly eventReferences: 'id-hash-pairs' | 'ids';
  /** `given`: the event carries its id (1 and 2). Otherwise `$` and the reference hash: base64 in 3, URL-safe from 4. */
  readonly eventIdFormat: 'given' | 'base64' | 'url-safe-base64';
  /** 12: the room id is `!` and the create event's reference hash; the create event carries none. */
  readonly roomIdIsCreateHash: boolean;
  /** 6: no floats, and integers within ±(2⁵³ − 1). */
  readonly strictCanonicalJson: boolean;
  /** The largest depth: 2⁶³ − 1; from 6 on what strict canonical JSON can hold, 2⁵³ − 1. An event beyond it is cut to it. */
  readonly depthMax: bigint;
  /** Where the limits of 255 on ids, types and state keys count bytes from the start: from 11 on in Synapse. */
  readonly strictByteLimits: boolean;
  /** 5: a signature counts only while its key is valid at the event's origin_server_ts. */
  readonly enforceKeyValidity: boolean;
  readonly redaction: RedactionRules;

  readonly stateResolution: 'v1' | 'v2' | 'v2.1';

  /** 1 to 5: m.room.aliases needs only that its state key is the sender's domain. */
  readonly aliasesSpecialCase: boolean;
  /** 1 and 2: the auth rules judge m.room.redaction, by power level or by the domain of the redacted event's id. */
  readonly redactionsJudgedByAuthRules: boolean;
  /** 6: changes inside `notifications` of m.room.power_levels need the power, as those of `users` and `events` do. */
  readonly notificationsPowerLevelsChecked: boolean;
  /** 10: power levels are integers, never strings that look like one. */
  readonly integerPowerLevels: boolean;
  /** 7: join rule `knock` and membership `knock`. */
  readonly knocking: boolean;
  /** 8: join rule `restricted`. */
  readonly restrictedJoins: boolean;
  /** 10: join rule `knock_restricted`. */
  readonly knockRestricted: boolean;
  /** 11: the creator is the sender of m.room.create; `content.creator` means nothing. */
  readonly creatorIsSender: boolean;
  /** 12: creators, with `additional_creators`, stand above every power level and may not appear in `users`. */
  readonly privilegedCreators: boolean;
}

const V1: RoomVersionRules = {
  version: '1',
  eventReferences: 'id-hash-pairs',
  eventIdFormat: 'given',
  roomIdIsCreateHash: false,
  strictCanonicalJson: false,
  depthMax: 2n ** 63n - 1n,
  strictByteLimits: false,
  enforceKeyValidity: false,
  redaction: {
    keepsObsoleteTopLevelKeys: true,
    keepsAliases: true,
    keepsJoinRuleAllow: false,
    keepsJoinAuthorisedVia: false,
    keepsWholeCreateContent: false,
    keepsInvitePowerLevel: false,
    keepsRedacts: false,
    keepsThirdPartyInviteSigned: false,
    dropsRoomIdOfCreate: false,
  },
  stateResolution: 'v1',
  aliasesSpecialCase: true,
  redactionsJudgedByAuthRules: true,
  notificationsPowerLevelsChecked: false,
  integerPowerLevels: false,
  knocking: false,
  restrictedJoins: false,
  knockRestricted: false,
  creatorIsSender: false,
  privilegedCreators: false,
};

/** https://spec.matrix.org/v1.16/rooms/v2/ : state resolution v2. */
const V2: RoomVersionRules = { ...V1, version: '2', stateResolution: 'v2' };

/** https://spec.matrix.org/v1.16/rooms/v3/ : event ids are hashes; redactions leave the auth rules. */
const V3: RoomVersionRules = {
  ...V2,
  version: '3',
  eventReferences: 'ids',
  eventIdFormat: 'base64',
  redactionsJudgedByAuthRules: false,
};

/** https://spec.matrix.org/v1.16/rooms/v4/ : URL-safe event ids. */
const V4: RoomVersionRules = { ...V3, version: '4', eventIdFormat: 'url-safe-base64' };

/** https://spec.matrix.org/v1.16/rooms/v5/ : key validity. */
const V5: RoomVersionRules = { ...V4, version: '5', enforceKeyValidity: true };

/** https://spec.matrix.org/v1.16/rooms/v6/ : strict canonical JSON; aliases lose their privileges. */
const V6: RoomVersionRules = {
  ...V5,
  version: '6',
  strictCanonicalJson: true,
  depthMax: BigInt(Number.MAX_SAFE_INTEGER),
  aliasesSpecialCase: false,
  notificationsPowerLevelsChecked: true,
  redaction: { ...V5.redaction, keepsAliases: false },
};

/** https://spec.matrix.org/v1.16/rooms/v7/ : knocking. */
const V7: RoomVersionRules = { ...V6, version: '7', knocking: true };

/** https://spec.matrix.org/v1.16/rooms/v8/ : restricted joins. */
const V8: RoomVersionRules = {
  ...V7,
  version: '8',
  restrictedJoins: true,
  redaction: { ...V7.redaction, keepsJoinRuleAllow: true },
};

/** https://spec.matrix.org/v1.16/rooms/v9/ : redaction keeps what a restricted join needs. */
const V9: RoomVersionRules = { ...V8, version: '9', redaction: { ...V8.redaction, keepsJoinAuthorisedVia: true } };

/** https://spec.matrix.org/v1.16/rooms/v10/ : integer power levels; knock_restricted. */
const V10: RoomVersionRules = { ...V9, version: '10', integerPowerLevels: true, knockRestricted: true };

/** https://spec.matrix.org/v1.16/rooms/v11/ : redaction rules cleaned up; no `content.creator`. */
const V11: RoomVersionRules = {
  ...V10,
  version: '11',
  strictByteLimits: true,
  creatorIsSender: true,
  redaction: {
    ...V10.redaction,
    keepsObsoleteTopLevelKeys: false,
    keepsWholeCreateContent: true,
    keepsInvitePowerLevel: true,
    keepsRedacts: true,
    keepsThirdPartyInviteSigned: true,
  },
};

/** https://spec.matrix.org/v1.16/rooms/v12/ : room ids as hashes, privileged creators, state resolution v2.1. */
const V12: RoomVersionRules = {
  ...V11,
  version: '12',
  roomIdIsCreateHash: true,
  stateResolution: 'v2.1',
  redaction: { ...V11.redaction, dropsRoomIdOfCreate: true },
  privilegedCreators: true,
};

const BY_VERSION: ReadonlyMap<string, RoomVersionRules> = new Map(
  [V1, V2, V3, V4, V5, V6, V7, V8, V9, V10, V11, V12].map((rules) => [rules.version, rules]),
);

/** The versions this server understands, oldest first; what make_join offers in `ver`. */
export const ROOM_VERSIONS: readonly string[] = [...BY_VERSION.keys()];

/** The rules of a room version; `undefined` for one this server does not understand. */
export function roomVersionRules(version: string): RoomVersionRules | undefined {
  return BY_VERSION.get(version);
}
