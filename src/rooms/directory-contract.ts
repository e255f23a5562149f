/** What is offered of the directories of this server, to clients and to other servers, in shapes; no code. Throws `RoomError`. */
import { type RoomAlias, type RoomId, type ServerName, type UserId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';

export interface AliasAnswer {
  readonly roomId: RoomId;
  /** Servers that are in the room; of a partial one those that are believed to be. */
  readonly servers: readonly ServerName[];
}

export interface PublicRoomsQuery {
  readonly limit: number;
  /** As it was given with another answer; `null`: from the beginning. */
  readonly since: string | null;
  /** In its name, its canonical alias, or its topic; `null`: all. */
  readonly search: string | null;
  /** `null` among them: rooms without a type; `null`: all. */
  readonly roomTypes: readonly (string | null)[] | null;
}

/** Rooms in the form of the specification, the biggest first. */
export interface PublicRoomsPage {
  readonly chunk: readonly JsonObject[];
  readonly next: string | null;
  readonly prev: string | null;
  /** All that are listed. */
  readonly total: number;
}

export interface AllRoomsQuery {
  readonly offset: number;
  readonly limit: number;
  readonly order: 'name' | 'members' | 'version';
  readonly isBackwards: boolean;
  /** In its name or canonical alias, or its whole id; `null`: all. */
  readonly search: string | null;
}

export interface RemoteProfile {
  readonly displayName: string | null;
  readonly avatarUrl: string | null;
  /** What else he says of himself; absent: nothing. */
  readonly fields?: JsonObject;
}

export interface HierarchyQuery {
  readonly roomId: RoomId;
  readonly userId: UserId;
  /** Steps from the room; `null`: as many as there are. */
  readonly maxDepth: number | null;
  readonly suggestedOnly: boolean;
  readonly limit: number;
  /** As it was given with another page; `null`: from the beginning. */
  readonly from: string | null;
  readonly signal: AbortSignal;
}

/** Rooms in the form of the specification. */
export interface HierarchyPage {
  readonly rooms: readonly JsonObject[];
  /** `null`: there are no more. */
  readonly next: string | null;
}

export interface SummaryQuery {
  readonly room: RoomId | RoomAlias;
  readonly userId: UserId;
  /** Servers to ask. */
  readonly via: readonly ServerName[];
  readonly signal: AbortSignal;
}

/** Rooms as who is not in them may see them: because he may join, or anybody may read. Other servers are asked for ten seconds at the most. */
export interface Hierarchies {
  /** A space with what is in it. Throws `forbidden` where it is not for the user to see, `invalid` for a token that is none, `too-many`. */
  hierarchy(query: HierarchyQuery): Promise<HierarchyPage>;
  /** One room of ours with the rooms that it names, for another server; `undefined`: it is not for that to see. Throws `busy`. */
  hierarchyFor(server: ServerName, roomId: RoomId, suggestedOnly: boolean): Promise<JsonObject | undefined>;
  /** With the user's membership. Throws `unknown-room`, `unknown-alias`, `no-resident` and `too-many`. */
  summary(query: SummaryQuery): Promise<JsonObject>;
}

export interface UserSearch {
  readonly userId: UserId;
  readonly term: string;
  readonly limit: number;
}

export interface FoundUser {
  readonly userId: UserId;
  readonly displayName: string | null;
  readonly avatarUrl: string | null;
}

export interface Directory extends Hierarchies {
  /** Users who share a room with the one who asks, or are in one that anybody may find. `isLimited`: there are more. */
  searchUsers(search: UserSearch): Promise<{ readonly users: readonly FoundUser[]; readonly isLimited: boolean }>;
  /** What an alias means; its server is asked. Throws `unknown-alias`, or `no-resident` where it could not be asked. */
  alias(alias: RoomAlias, signal: AbortSignal): Promise<AliasAnswer>;
  /** One of ours. Throws `unknown-alias`. */
  ownAlias(alias: RoomAlias): Promise<AliasAnswer>;
  /** Throws `invalid` for an alias of another server, `alias-in-use`, and `forbidden` for who is not in the room. */
  setAlias(userId: UserId, alias: RoomAlias, roomId: RoomId): Promise<void>;
  /** By who made it, by who may say what the room is called, or by an administrator. Throws `unknown-alias` and `forbidden`. */
  deleteAlias(userId: UserId, alias: RoomAlias, isAdmin: boolean): Promise<void>;
  /** Ours. Throws `forbidden` for who may not read the room. */
  aliasesOf(userId: UserId, roomId: RoomId): Promise<readonly RoomAlias[]>;
  /** Throws `unknown-room`. */
  isListed(roomId: RoomId): Promise<boolean>;
  /** By who may say what the room is called, or an administrator. Throws `unknown-room` and `forbidden`. */
  setListed(userId: UserId, roomId: RoomId, isListed: boolean, isAdmin: boolean): Promise<void>;
  /** Throws `invalid` for a `since` that is none. */
  publicRooms(query: PublicRoomsQuery): Promise<PublicRoomsPage>;
  /** What another server lists. Throws `no-resident`. */
  publicRoomsOf(server: ServerName, query: PublicRoomsQuery, signal: AbortSignal): Promise<JsonObject>;
  /** All rooms that we are or were in, for administrators, in the form of Synapse's admin API. */
  allRooms(query: AllRoomsQuery): Promise<{ readonly rooms: readonly JsonObject[]; readonly total: number }>;
  /** Of a user of another server, which is asked; `undefined`: it knows of none. Throws `no-resident`. */
  profile(userId: UserId, signal: AbortSignal): Promise<RemoteProfile | undefined>;
}
