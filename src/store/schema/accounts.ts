/** Plain tables of users, their devices and what opens our door to them. Times are milliseconds since the Unix epoch. */
import { boolean, index, json, pgTable, primaryKey, text, unique } from 'drizzle-orm/pg-core';
import { type EventId, type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../../matrix/pdu.ts';
import { bytea, int8 } from './columns.ts';

/** Users of this server who have an account. A row is never deleted: nobody may become who somebody else was. */
export const users = pgTable('users', {
  userId: text('user_id').$type<UserId>().primaryKey(),
  /** As src/accounts/passwords.ts writes it; null: nobody can log in with a password. */
  passwordHash: text(),
  isAdmin: boolean().notNull(),
  createdAt: int8().notNull(),
  deactivatedAt: int8(),
  /** As `storable` writes it, like all names that people choose. */
  displayName: text(),
  avatarUrl: text(),
});

/** Users of whose profiles their rooms are still to be told. */
export const untoldProfiles = pgTable('untold_profiles', {
  userId: text('user_id').$type<UserId>().primaryKey(),
  /** Another one with each change. */
  version: int8().notNull().default(1),
  /** Somebody is at it until then. */
  leasedUntil: int8().notNull().default(0),
});

/** What users say of themselves besides names and avatars. */
export const profileFields = pgTable(
  'profile_fields',
  {
    userId: text('user_id').$type<UserId>().notNull(),
    name: text().notNull(),
    value: json().notNull(),
  },
  (table) => [primaryKey({ columns: [table.userId, table.name] })],
);

/** Where users are logged in. A session without its device opens nothing. */
export const devices = pgTable(
  'devices',
  {
    userId: text('user_id').$type<UserId>().notNull(),
    deviceId: text('device_id').notNull(),
    displayName: text(),
    createdAt: int8().notNull(),
    /** To the minute. */
    lastSeenAt: int8().notNull(),
    lastSeenAddress: text(),
  },
  (table) => [primaryKey({ columns: [table.userId, table.deviceId] })],
);

/** Access tokens, each with the refresh token that was given with it. SHA-256 of both: who reads this table cannot log in. */
export const sessions = pgTable(
  'sessions',
  {
    accessHash: bytea().primaryKey(),
    refreshHash: bytea(),
    userId: text('user_id').$type<UserId>().notNull(),
    deviceId: text('device_id').notNull(),
    createdAt: int8().notNull(),
    /** Null: it lasts until somebody logs out. */
    expiresAt: int8(),
    /** The session that this one was made of by its refresh token. It ends when this one is used for the first time. */
    follows: bytea(),
  },
  (table) => [
    unique('sessions_by_refresh_token').on(table.refreshHash),
    index('sessions_by_device').on(table.userId, table.deviceId),
    index('sessions_by_follows').on(table.follows),
  ],
);

/** What a client says it wants of a sync, under a name that is made of what it says. */
export const filters = pgTable(
  'filters',
  {
    userId: text('user_id').$type<UserId>().notNull(),
    filterId: text('filter_id').notNull(),
    /** Canonical JSON. */
    filter: json().$type<JsonObject>().notNull(),
    createdAt: int8().notNull(),
  },
  (table) => [primaryKey({ columns: [table.userId, table.filterId] })],
);

/** Tokens by which a user who is logged in logs another device in, each once. SHA-256, as of access tokens. */
export const loginTokens = pgTable(
  'login_tokens',
  {
    tokenHash: bytea().primaryKey(),
    userId: text('user_id').$type<UserId>().notNull(),
    expiresAt: int8().notNull(),
  },
  (table) => [index('login_tokens_by_user').on(table.userId)],
);

/** Identity keys of devices, as their clients signed them. */
export const deviceKeys = pgTable(
  'device_keys',
  {
    userId: text('user_id').$type<UserId>().notNull(),
    deviceId: text('device_id').notNull(),
    /** Canonical JSON. */
    keys: json().$type<JsonObject>().notNull(),
  },
  (table) => [primaryKey({ columns: [table.userId, table.deviceId] })],
);

/** Keys of devices that are each given out once; algorithm and key id as `storable` writes them. */
export const oneTimeKeys = pgTable(
  'one_time_keys',
  {
    userId: text('user_id').$type<UserId>().notNull(),
    deviceId: text('device_id').notNull(),
    algorithm: text().notNull(),
    keyId: text('key_id').notNull(),
    /** Canonical JSON: a string or an object. */
    key: json().$type<Json>().notNull(),
    uploadedAt: int8().notNull(),
  },
  (table) => [primaryKey({ columns: [table.userId, table.deviceId, table.algorithm, table.keyId] })],
);

/** What is given out where no one-time key is left, one for each algorithm. */
export const fallbackKeys = pgTable(
  'fallback_keys',
  {
    userId: text('user_id').$type<UserId>().notNull(),
    deviceId: text('device_id').notNull(),
    algorithm: text().notNull(),
    keyId: text('key_id').notNull(),
    /** Canonical JSON: a string or an object. */
    key: json().$type<Json>().notNull(),
    /** It has been given out. */
    used: boolean().notNull().default(false),
  },
  (table) => [primaryKey({ columns: [table.userId, table.deviceId, table.algorithm] })],
);

/** What clients keep for themselves, of their user, or of a room for him. */
export const accountData = pgTable(
  'account_data',
  {
    userId: text('user_id').$type<UserId>().notNull(),
    /** Empty: of no room. */
    roomId: text('room_id').$type<RoomId | ''>().notNull(),
    /** As `storable` writes it. */
    type: text().notNull(),
    /** Of `m.push_rules` what differs from the rules that everybody has. */
    content: json().$type<JsonObject>().notNull(),
    /** Since when it is so. */
    position: int8().notNull(),
  },
  (table) => [
    primaryKey({ columns: [table.userId, table.roomId, table.type] }),
    index('account_data_by_position').on(table.userId, table.position),
  ],
);

/** Rooms that users want to see no more, by which event they were out of them (tables/forgotten-rooms.ts); empty: none is known. */
export const forgottenRooms = pgTable(
  'forgotten_rooms',
  {
    userId: text('user_id').$type<UserId>().notNull(),
    roomId: text('room_id').$type<RoomId>().notNull(),
    eventId: text('event_id').notNull(),
  },
  (table) => [primaryKey({ columns: [table.userId, table.roomId] })],
);

/** Up to which event of a room a user has read, by what his clients said; of our own users. */
export const readReceipts = pgTable(
  'read_receipts',
  {
    userId: text('user_id').$type<UserId>().notNull(),
    roomId: text('room_id').$type<RoomId>().notNull(),
    /** `m.read`, which others may be told, or `m.read.private`. */
    type: text().notNull(),
    eventId: text('event_id').$type<EventId>().notNull(),
    /** From which position on the event is shown: what is shown later is unread. */
    upTo: int8().notNull(),
    /** Since when it is so. */
    position: int8().notNull(),
  },
  (table) => [primaryKey({ columns: [table.userId, table.roomId, table.type] })],
);
