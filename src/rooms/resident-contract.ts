/** What other servers are told of rooms, in shapes; no code. Events are given as JSON texts, as they are stored. */
import { type EventId, type RoomId, type ServerName, type UserId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';

/** `unknown`: we do not have it. `not-in-room`: the server that asks is not. `partial`: the state is not known whole here. */
export type Denied = 'unknown' | 'not-in-room' | 'partial';

export interface MissingQuery {
  readonly earliest: readonly EventId[];
  readonly latest: readonly EventId[];
  readonly limit: number;
  readonly minDepth: number;
}

/** Read while they are sent: a state may be hundreds of megabytes. */
export type EventPages = AsyncIterable<readonly string[]>;

/** `server`: the one that asks. */
export interface ResidentAnswers {
  /** The event alone. */
  event(eventId: EventId, server: ServerName): Promise<Denied | readonly string[]>;
  /** Before the event. */
  stateIds(
    roomId: RoomId,
    eventId: EventId,
    server: ServerName,
  ): Promise<Denied | { readonly state: readonly EventId[]; readonly authChain: readonly EventId[] }>;
  state(
    roomId: RoomId,
    eventId: EventId,
    server: ServerName,
  ): Promise<Denied | { readonly pdus: EventPages; readonly authChain: EventPages }>;
  eventAuth(roomId: RoomId, eventId: EventId, server: ServerName): Promise<Denied | EventPages>;
  /** Oldest first. */
  missingEvents(roomId: RoomId, query: MissingQuery, server: ServerName): Promise<Denied | readonly string[]>;
  /** Newest first, those asked about among them. */
  backfill(
    roomId: RoomId,
    from: readonly EventId[],
    limit: number,
    server: ServerName,
  ): Promise<Denied | readonly string[]>;
  /** The nearest event of the timeline to a time, and when it was made; `unknown`: nothing lies there. */
  eventAtTime(
    roomId: RoomId,
    query: { readonly at: number; readonly direction: 'backwards' | 'forwards' },
    server: ServerName,
  ): Promise<Denied | { readonly eventId: EventId; readonly at: number }>;
}

/** What a user of another server does with his own membership through us. */
export type OwnChange = 'join' | 'leave' | 'knock';

export interface TemplateRequest {
  readonly change: OwnChange;
  readonly roomId: RoomId;
  readonly userId: UserId;
  /** The one that asks. */
  readonly server: ServerName;
  /** Room versions that it speaks; `null`: it did not say. */
  readonly versions: readonly string[] | null;
}

export interface MembershipTemplate {
  readonly roomVersion: string;
  /** Neither hashed nor signed. */
  readonly event: JsonObject;
}

/** A membership event that another server's user sends through us. */
export interface SentMembership {
  readonly change: OwnChange;
  readonly roomId: RoomId;
  /** As the path names it. */
  readonly eventId: EventId;
  readonly server: ServerName;
  /** The event as it came. */
  readonly raw: Uint8Array;
  readonly signal: AbortSignal;
}

export interface JoinAnswer {
  /** The join as it is stored, with our signature where it needs it. */
  readonly event: string;
  /** Before the join; without memberships where `serversInRoom` is not `null`, but for those that a client needs at once. */
  readonly state: EventPages;
  /** Of the join and of the state; without what is in the state where `serversInRoom` is not `null`. */
  readonly authChain: EventPages;
  /** Of those who were joined before; `null`: no memberships are left out. */
  readonly serversInRoom: readonly ServerName[] | null;
}

/** How users of other servers get into rooms and out of them through us. Throws `ResidentError` and `RoomError`. */
export interface ResidentMemberships {
  template(request: TemplateRequest): Promise<MembershipTemplate>;
  /** Taken in and on its way to the other servers of the room; the same again is answered the same. */
  sendJoin(sent: SentMembership & { readonly omitMembers: boolean }): Promise<JoinAnswer>;
  sendLeave(sent: SentMembership): Promise<void>;
  /** Gives what tells the one who knocks which room it is: stripped state events. */
  sendKnock(sent: SentMembership): Promise<readonly JsonObject[]>;
}
