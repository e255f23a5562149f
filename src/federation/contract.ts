/**
 * What the federation client offers its callers; no code, so that use cases and activities depend on shapes only.
 *
 * Every call takes a `signal` and ends by itself: an overall time, an idle time and a size limit bound each of them.
 * Every failure is a `FederationError`, but for an aborted `signal`, whose reason is thrown as it is. Events are handed
 * on as the bytes that were received, never parsed and written again.
 */
import {
  type EventId,
  type KeyId,
  type RoomAlias,
  type RoomId,
  type ServerName,
  type UserId,
} from '../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';

export interface RequestOptions {
  readonly signal: AbortSignal;
  /** Of the answer, where less than is configured is enough; longer ones are `too-large`. */
  readonly bytesMax?: number;
  /** Called with 0 as soon as an answer begins, whatever its status, and then with the bytes of each part of it that was read. */
  readonly onReceived?: (bytes: number) => void;
  /** Awaited with each part of a streamed answer that has come, before it is handed on and more is read. */
  readonly beforeReading?: (() => Promise<void> | undefined) | undefined;
}

/** Some of the raw events of one array of an answer, in the order received. */
export interface EventBatch<Name extends string = string> {
  readonly array: Name;
  /** Each is one JSON object, exactly the bytes received, valid UTF-8, at most 1 MiB: as canonical JSON it may be too large. */
  readonly events: readonly Uint8Array[];
}

/** What is known once every batch has been taken. */
export interface StreamSummary {
  /** Bytes of the body. */
  readonly bytes: number;
  /** Events handed out, by array; an array that was absent is absent here. */
  readonly events: Readonly<Record<string, number>>;
  /** Array members that were no event: larger than any event may be, not an object, or not UTF-8. */
  readonly dropped: number;
  /** Every other member of the top-level object, as bytes of JSON; the last of duplicate names counts. */
  readonly rest: ReadonlyMap<string, Uint8Array>;
}

/**
 * An answer being received. Iterate it once, to its end; leaving the loop early closes the connection. Bytes are taken
 * from the network only as fast as batches are taken from here. An answer that fails hands on the events that were whole
 * before it throws; an aborted one nothing more.
 */
export interface EventStream<Name extends string = string> extends AsyncIterable<EventBatch<Name>> {
  /** Valid after the iteration ended; throws before. */
  summary(): StreamSummary;
}

/** `PUT /send_join`: everything of the answer but its events, of any type that the stranger chose to send. */
export interface SendJoinHeader {
  readonly membersOmitted: Json | undefined;
  readonly serversInRoom: Json | undefined;
  /** The join event as the resident signed it, raw; present at restricted joins. */
  readonly event: Uint8Array | undefined;
}

export interface SendJoinStream extends EventStream<'state' | 'auth_chain'> {
  /** Valid after the iteration ended; throws a `FederationError` (malformed) for members that are not JSON. */
  header(): SendJoinHeader;
}

export interface DirectoryAnswer {
  readonly roomId: RoomId;
  /** Well-formed server names, without duplicates, in the order given. */
  readonly servers: readonly ServerName[];
}

/** What make_join and make_leave answer. */
export interface TemplateAnswer {
  readonly roomVersion: string;
  /** A stranger's template: its place in the graph is read of it (`readJoinTemplate`), it is never signed. */
  readonly event: JsonObject;
}

/** An invite as it is handed to the invited user's server. */
export interface Invite {
  readonly roomVersion: string;
  /** Signed and complete. */
  readonly event: JsonObject;
  /** Stripped state events, by which the user knows which room it is. */
  readonly inviteRoomState: readonly JsonObject[];
}

export interface StateIdsAnswer {
  /** Without duplicates. */
  readonly stateIds: Iterable<EventId>;
  /** Without duplicates. */
  readonly authChainIds: Iterable<EventId>;
}

export interface MissingEventsQuery {
  readonly earliestEvents: readonly EventId[];
  readonly latestEvents: readonly EventId[];
  /** At most this many are wanted; more than this many are never returned. */
  readonly limit: number;
}

/** One key asked of a notary. `keyId` absent: every key of the server. */
export interface NotaryRequest {
  readonly serverName: ServerName;
  readonly keyId?: KeyId;
  /** Milliseconds since the Unix epoch. */
  readonly minimumValidUntilTs: number;
}

/** What a server says of the keys of one of its users; nothing of it is verified. */
export interface UserKeys {
  /** Of the newest change; `null`: not said. */
  readonly streamId: number | null;
  /** Signed keys by device id. */
  readonly devices: JsonObject;
  readonly masterKey: JsonObject | undefined;
  readonly selfSigningKey: JsonObject | undefined;
}

/** A request to a web server that is no homeserver, as identity servers are. */
export interface IdentityAsk {
  readonly method: 'GET' | 'POST';
  /** Whatever somebody wrote: what is not https, or has a name and password in it, is refused. */
  readonly url: string;
  readonly content?: JsonObject;
  /** Sent as `Authorization: Bearer …`. */
  readonly token?: string;
}

export interface FederationClient {
  /** What it answers, of any shape. No redirect is followed. */
  askIdentityServer(ask: IdentityAsk, options: RequestOptions): Promise<JsonObject>;
  /** Hands a resident an invite by a third-party identifier that is bound by now; done when it has made the invite. */
  exchangeThirdPartyInvite(
    destination: ServerName,
    roomId: RoomId,
    content: JsonObject,
    options: RequestOptions,
  ): Promise<void>;
  /** What it says of a user of its own, of any shape. */
  queryProfile(destination: ServerName, userId: UserId, options: RequestOptions): Promise<JsonObject>;
  /** What it lists, of any shape; `content`: which rooms, as the specification has it. */
  publicRooms(destination: ServerName, content: JsonObject, options: RequestOptions): Promise<JsonObject>;
  /** What it says of a room and the rooms that it names, of any shape. */
  hierarchy(
    destination: ServerName,
    roomId: RoomId,
    suggestedOnly: boolean,
    options: RequestOptions,
  ): Promise<JsonObject>;
  queryDirectory(destination: ServerName, alias: RoomAlias, options: RequestOptions): Promise<DirectoryAnswer>;
  /** `versions`: what is offered as `ver`; the answer's version is checked by `readJoinTemplate`. */
  makeJoin(
    destination: ServerName,
    roomId: RoomId,
    userId: UserId,
    versions: readonly string[],
    options: RequestOptions,
  ): Promise<TemplateAnswer>;
  /** `event` is signed and complete. Resolves at the first bytes of a 200 answer. */
  sendJoin(
    destination: ServerName,
    roomId: RoomId,
    eventId: EventId,
    event: JsonObject,
    options: RequestOptions & { readonly omitMembers: boolean },
  ): Promise<SendJoinStream>;
  /** The answer's version is what the server says; that of a room we were in is known better. */
  makeLeave(destination: ServerName, roomId: RoomId, userId: UserId, options: RequestOptions): Promise<TemplateAnswer>;
  /** As `makeJoin`. */
  makeKnock(
    destination: ServerName,
    roomId: RoomId,
    userId: UserId,
    versions: readonly string[],
    options: RequestOptions,
  ): Promise<TemplateAnswer>;
  /** `event` is signed and complete. Gives what the server tells of the room, of any type that it chose to send. */
  sendKnock(
    destination: ServerName,
    roomId: RoomId,
    eventId: EventId,
    event: JsonObject,
    options: RequestOptions,
  ): Promise<Json | undefined>;
  /**
   * Hands an invite of ours to the invited user's server, which signs it, too: the event as it gives it back. A server without v2 is asked
   * by v1 where the room's version is one of those that v1 knows.
   */
  sendInvite(
    destination: ServerName,
    roomId: RoomId,
    eventId: EventId,
    invite: Invite,
    options: RequestOptions,
  ): Promise<JsonObject>;
  /** `event` is signed and complete. Resolves once the server has taken it; a server without v2 is asked by v1. */
  sendLeave(
    destination: ServerName,
    roomId: RoomId,
    eventId: EventId,
    event: JsonObject,
    options: RequestOptions,
  ): Promise<void>;
  /** Ids as `rules` have them. Over two million of them are `too-large`; they are read as they come, never as a whole. */
  stateIds(
    destination: ServerName,
    roomId: RoomId,
    eventId: EventId,
    rules: RoomVersionRules,
    options: RequestOptions,
  ): Promise<StateIdsAnswer>;
  state(
    destination: ServerName,
    roomId: RoomId,
    eventId: EventId,
    options: RequestOptions,
  ): Promise<EventStream<'pdus' | 'auth_chain'>>;
  /** The raw event; whether it is the one asked for shows its id, once computed. */
  event(destination: ServerName, eventId: EventId, options: RequestOptions): Promise<Uint8Array>;
  /** The raw events of an event's auth chain, itself left out; an answer of over 10,000 is `too-large`. */
  eventAuth(
    destination: ServerName,
    roomId: RoomId,
    eventId: EventId,
    options: RequestOptions,
  ): Promise<readonly Uint8Array[]>;
  /** All that one user has published. */
  userDevices(destination: ServerName, userId: UserId, options: RequestOptions): Promise<UserKeys>;
  /** The same of some users; whom the server does not know has no devices. */
  queryKeys(
    destination: ServerName,
    userIds: readonly UserId[],
    options: RequestOptions,
  ): Promise<ReadonlyMap<UserId, UserKeys>>;
  /** One key of each device, by algorithm: `{user: {device: algorithm}}`. Gives `{user: {device: {key id: key}}}`, as the server says it. */
  claimKeys(destination: ServerName, claims: JsonObject, options: RequestOptions): Promise<JsonObject>;
  /** What is ours to tell, at most 50 PDUs and 100 EDUs in `content`. Resolves once the server has taken it. The same id again is the same transaction. */
  sendTransaction(destination: ServerName, txnId: string, content: JsonObject, options: RequestOptions): Promise<void>;
  /** Raw events, at most `query.limit`. */
  getMissingEvents(
    destination: ServerName,
    roomId: RoomId,
    query: MissingEventsQuery,
    options: RequestOptions,
  ): Promise<readonly Uint8Array[]>;
  /** Raw events: `eventIds` and what comes before them, at most `limit`. */
  backfill(
    destination: ServerName,
    roomId: RoomId,
    eventIds: readonly EventId[],
    limit: number,
    options: RequestOptions,
  ): Promise<readonly Uint8Array[]>;
  /** Which event of a room the server says is the nearest to a time: its id, and when it was made; unverified. */
  timestampToEvent(
    destination: ServerName,
    roomId: RoomId,
    query: { readonly at: number; readonly direction: 'b' | 'f' },
    options: RequestOptions,
  ): Promise<{ readonly eventId: EventId; readonly at: number }>;
  /** The server's own signed key object, unverified. */
  serverKeys(destination: ServerName, options: RequestOptions): Promise<JsonObject>;
  /** Signed key objects, unverified, in no particular order; servers the notary knows nothing of are absent. */
  notaryQuery(
    notary: ServerName,
    requests: readonly NotaryRequest[],
    options: RequestOptions,
  ): Promise<readonly JsonObject[]>;
  version(
    destination: ServerName,
    options: RequestOptions,
  ): Promise<{ readonly name: string; readonly version: string }>;
  /** Closes every connection; calls still running fail. */
  close(): Promise<void>;
}
