/** What clients are offered of rooms, in shapes; no code. Throws `RoomError`. */
import { type EventFilter } from '../matrix/client/filter.ts';
import { type RoomWish } from '../matrix/client/first-events.ts';
import { type RoomPoint } from '../matrix/client/tokens.ts';
import { type EventId, type RoomAlias, type RoomId, type ServerName, type UserId } from '../matrix/identifiers.ts';
import { type JsonObject, type StateKey } from '../matrix/pdu.ts';
import { type NotReady, type StateEvent, type WaitOptions } from './contract.ts';

/** A user who reads a room, and how long he waits for its memberships. */
export interface ClientQuery extends WaitOptions {
  readonly roomId: RoomId;
  readonly userId: UserId;
}

export interface MembersQuery extends ClientQuery {
  /** Only these; `null`: all. */
  readonly membership: string | null;
  /** All but these; `null`: all. */
  readonly notMembership: string | null;
  /** As it was at this position; `null`: as it is. */
  readonly at: number | null;
}

/** Events of a state, to be read. */
export interface ClientRows {
  readonly ready: true;
  /** Of what is read: where two have one name they have the same rows. */
  readonly name: string;
  /** Begins to read. `size`: rows at the most. */
  readonly open: () => Promise<{ readonly size: number; readonly pages: AsyncIterable<readonly StateEvent[]> }>;
}

/** A user and his device, who reads events of a room's timeline. */
interface EventsQuery extends ClientQuery {
  readonly deviceId: string;
  readonly limit: number;
  readonly filter: EventFilter;
  /** He wants the memberships of those who sent them. */
  readonly isLazy: boolean;
}

export interface MessagesQuery extends EventsQuery {
  readonly direction: 'backwards' | 'forwards';
  /** `null`: the newest point, or going forwards the first one. */
  readonly from: RoomPoint | null;
  /** `null`: as far as there is something. */
  readonly to: RoomPoint | null;
}

/** Events in the form of clients, in the order in which they were read. */
export interface EventsPage {
  readonly events: readonly JsonObject[];
  readonly start: RoomPoint;
  /** `null`: nothing more is there to be seen. */
  readonly end: RoomPoint | null;
  readonly state: readonly JsonObject[];
}

export interface ContextQuery extends EventsQuery {
  readonly eventId: EventId;
}

/** What of an event's relations is summed up beside it. */
export interface SummedUp {
  /** `m.relations`; absent: nothing relates to it. */
  readonly relations?: JsonObject;
}

export interface RelationsQuery extends Omit<EventsQuery, 'isLazy'> {
  readonly eventId: EventId;
  /** `null`: of whatever kind. */
  readonly relType: string | null;
  readonly direction: 'backwards' | 'forwards';
  /** `null`: from the newest on, or going forwards the oldest. */
  readonly from: RoomPoint | null;
  readonly to: RoomPoint | null;
  /** What relates to such an event counts, too. */
  readonly recurse: boolean;
}

/** Events in the form of clients. What was taken back is left out: there may be fewer than were read, or none. */
export interface RelationsPage {
  readonly events: readonly JsonObject[];
  /** `null`: it began at the end of what is held. */
  readonly start: RoomPoint | null;
  /** `null`: nothing more is held. */
  readonly end: RoomPoint | null;
}

export interface ThreadsQuery extends ClientQuery {
  readonly deviceId: string;
  readonly limit: number;
  /** Only those in which the user has spoken, or that he began. */
  readonly participated: boolean;
  /** A number that a page before ended with; `null`: none. */
  readonly before: number | null;
}

/** The events that threads began with, in the form of clients. */
export interface ThreadsPage {
  readonly events: readonly JsonObject[];
  /** `null`: there are no more. */
  readonly next: number | null;
}

export interface TimeQuery extends ClientQuery {
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
  readonly direction: 'backwards' | 'forwards';
}

/** An event and what was said around it, `before` it the newest first. */
export interface EventContext {
  readonly before: readonly JsonObject[];
  readonly event: JsonObject;
  readonly after: readonly JsonObject[];
  readonly start: RoomPoint | null;
  readonly end: RoomPoint;
  /** As it is after the last of the events, to be read; for a lazy client without memberships but of those who sent them. */
  readonly state: AsyncIterable<readonly JsonObject[]>;
}

/**
 * Reading rooms as one of our users sees them: as they are while he is joined or anybody may read, as he left them otherwise. What
 * needs memberships of other servers' users waits for full state. Throws `forbidden` where he may read nothing, and at once.
 */
export interface ClientReads {
  /** Rooms that a user is joined to, partial ones too, in the order of their ids. */
  joinedRooms(userId: UserId): Promise<readonly RoomId[]>;
  /** Whether he is in; who was, or may look in from outside, is not. Throws `forbidden` for who may read nothing. */
  isJoined(query: Pick<ClientQuery, 'roomId' | 'userId'>): Promise<boolean>;
  /** The whole state. */
  state(query: ClientQuery): Promise<ClientRows | NotReady>;
  /** What stands in one place of the state. Throws `unknown-event` where nothing does. */
  stateEvent(query: ClientQuery, place: StateKey): Promise<({ readonly ready: true } & StateEvent) | NotReady>;
  members(query: MembersQuery): Promise<ClientRows | NotReady>;
  /** Those who are joined now; of users who are themselves. */
  joinedMembers(query: ClientQuery): Promise<ClientRows | NotReady>;
  /** Throws `unknown-event` for one that is not held, that counts for nothing, or that the user may not see. */
  event(query: ClientQuery, eventId: EventId): Promise<({ readonly ready: true } & StateEvent & SummedUp) | NotReady>;
  /** Waits only where a membership that is not known decides what he may see. Throws `invalid` for a point that is still to come. */
  messages(query: MessagesQuery): Promise<({ readonly ready: true } & EventsPage) | NotReady>;
  /** As `event`, with what stands beside it; but for a lazy client it waits for the state there. */
  context(query: ContextQuery): Promise<({ readonly ready: true } & EventContext) | NotReady>;
  /** As `event`: what relates to it. */
  relations(query: RelationsQuery): Promise<({ readonly ready: true } & RelationsPage) | NotReady>;
  threads(query: ThreadsQuery): Promise<ThreadsPage>;
  /** The nearest event that the user may see; throws `unknown-event` where there is none. What is not known whether he may is passed over. */
  eventAtTime(query: TimeQuery): Promise<{ readonly eventId: EventId; readonly at: number }>;
}

/** By which of a user's devices, and under which transaction id, something is sent: again it is the same event. */
export interface ClientSender {
  readonly userId: UserId;
  readonly deviceId: string;
  readonly txnId: string;
}

/** When something is said to have been sent, milliseconds since the Unix epoch; absent: now. */
export interface SaidAt {
  readonly originServerTs?: number | undefined;
}

export interface MembershipChange {
  readonly roomId: RoomId;
  readonly sender: UserId;
  readonly act: 'leave' | 'kick' | 'ban' | 'unban' | 'invite';
  /** Of a leave: also where the room is not to be left yet (`forbid_last_leave`). */
  readonly isForced?: boolean;
  /** The leave that was put off when he left silently: it is made now. */
  readonly isDue?: boolean;
  /** Whose membership it is; of a leave the sender's own, whatever stands here. */
  readonly userId: UserId;
  readonly reason?: string | undefined;
  /** Of an invite: to a conversation of two. */
  readonly isDirect?: boolean | undefined;
}

/** An invite of whoever has a third-party identifier. */
export interface IdentifierInvite {
  readonly roomId: RoomId;
  readonly sender: UserId;
  /** The identity server that knows whose it is. */
  readonly idServer: ServerName;
  readonly idAccessToken: string;
  /** Such as `email` with `alice@example.org`. */
  readonly medium: string;
  readonly address: string;
  readonly reason?: string | undefined;
  readonly signal: AbortSignal;
}

export interface ClientJoin {
  readonly room: RoomId | RoomAlias;
  readonly userId: UserId;
  /** Servers to ask, the best first. */
  readonly via: readonly ServerName[];
  /** What the join says besides: `displayname`, `avatar_url`, and a `reason`. */
  readonly profile: JsonObject;
  readonly signal: AbortSignal;
}

/** `invite`: users of other servers are invited once the room is made, as far as their servers can be reached. */
export interface ClientRoomWish extends RoomWish {
  readonly roomVersion: string;
  /** It is in the list of rooms that anybody may look for. */
  readonly isListed?: boolean;
}

/** A room is to be replaced by one of another version. */
export interface ClientUpgrade {
  readonly roomId: RoomId;
  readonly userId: UserId;
  /** What the user's join says besides. */
  readonly profile: JsonObject;
  readonly roomVersion: string;
  /** Of version 12; nothing in older ones. */
  readonly additionalCreators: readonly UserId[];
}

/** What a client may say of an event: read, as others may be told or not; and read up to there, which is account data. */
export type ReadMark = 'm.read' | 'm.read.private' | 'm.fully_read';

/** What our users do in rooms. Nothing but a join waits for anybody, and that only where a resident has to be asked. */
export interface ClientActs {
  sendMessage(from: ClientSender & SaidAt, roomId: RoomId, type: string, content: JsonObject): Promise<EventId>;
  sendState(
    sender: UserId,
    roomId: RoomId,
    place: SaidAt & { readonly type: string; readonly stateKey: string },
    content: JsonObject,
  ): Promise<EventId>;
  redact(from: ClientSender, roomId: RoomId, redacts: EventId, content: JsonObject): Promise<EventId>;
  createRoom(wish: ClientRoomWish): Promise<RoomId>;
  /** Gives the room that takes the place of the other. Throws `forbidden` for who may not say so. */
  upgradeRoom(wish: ClientUpgrade): Promise<RoomId>;
  join(request: ClientJoin): Promise<RoomId>;
  /** Of an invite of another server's user his server is waited for. */
  changeMembership(change: MembershipChange): Promise<void>;
  /** The identity server is waited for, and the server of whom it names. */
  inviteByIdentifier(invite: IdentifierInvite): Promise<void>;
  /** He sees no more of a room that he is out of, until he is in again; `false`: he is in, or about to be. Throws `forbidden` for who never was. */
  forget(userId: UserId, roomId: RoomId): Promise<boolean>;
  /** Waits for a resident where nobody of this server is in the room. */
  knock(request: ClientJoin): Promise<RoomId>;
  /**
   * Of events that are not here nothing is kept. `threadId`: of this thread, which is named by its first event, or `main`; null: of the room.
   * Throws `forbidden` for who is not joined.
   */
  markRead(
    userId: UserId,
    roomId: RoomId,
    marks: ReadonlyMap<ReadMark, EventId>,
    threadId: string | null,
  ): Promise<void>;
  /** Has the rooms of those whose profiles changed told of it soon; they are told in any case. */
  profileChanged(): void;
}
