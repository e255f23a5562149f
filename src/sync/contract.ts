/** What a sync is asked and what it gives, in shapes; no code. Throws `SyncError`. */
import { type Cancellation } from '../cancellation.ts';
import { type EventId, type RoomId, type UserId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type ResyncState } from '../resync/state.ts';
import { type Presence } from '../store/tables/presence.ts';

export interface SyncRequest {
  readonly userId: UserId;
  readonly deviceId: string;
  /** As it was given with the last response; `undefined`: the client knows nothing. */
  readonly since: string | undefined;
  /** As clients write it. */
  readonly filter: JsonObject;
  /** All state of the rooms, as if it were the first sync; the timelines go on from `since`. */
  readonly isFullState: boolean;
  /** The state is given as it is after the timeline, and not before it. */
  readonly isStateAfter: boolean;
  /** How long to wait for something to tell. */
  readonly timeoutMs: number;
  /** Aborted when the client goes away. */
  readonly signal: Cancellation;
}

/** A room that the user is in, or has left. Events are in the form of clients. */
export interface RoomPart {
  readonly timeline: readonly JsonObject[];
  /** There are events before the timeline's that were not given. */
  readonly isLimited: boolean;
  /** Where these are to be looked for; `null`: the timeline is empty. */
  readonly prevBatch: string | null;
  /** What the client has to know besides the timeline: before it, or after it as the request says. */
  readonly state: readonly JsonObject[];
  /** Places that the client knows an event of, and that are empty now. */
  readonly removed: readonly { readonly type: string; readonly stateKey: string }[];
  readonly accountData: readonly JsonObject[];
  /** Who types, and what was read; of a room that he has left nothing. */
  readonly ephemeral: readonly JsonObject[];
  readonly summary: RoomCounts | null;
  /** `null`: he is not in the room. */
  readonly unread: RoomUnread | null;
  /** How far it is, or what it lacks; `null`: the room is whole. */
  readonly resync: ResyncState | null;
}

/** Events that the user is notified of, and has not read. */
export interface UnreadCounts {
  readonly notified: number;
  readonly highlighted: number;
}

/** The same of a room: of all in it, or of what is in no thread where threads are counted apart. */
export interface RoomUnread extends UnreadCounts {
  /** By the first event of each thread in which there are any; `null`: they are not counted apart. */
  readonly threads: ReadonlyMap<EventId, UnreadCounts> | null;
}

export interface RoomCounts {
  /** `null`: the room has a name or an alias. */
  readonly heroes: readonly UserId[] | null;
  /** `null`: not known. */
  readonly joined: number | null;
  readonly invited: number | null;
}

/** Users whose devices a client is to look at anew, and those of whose devices it is told no more. */
export interface DeviceLists {
  readonly changed: readonly UserId[];
  readonly left: readonly UserId[];
}

export interface SyncAnswer {
  readonly nextBatch: string;
  readonly joined: ReadonlyMap<RoomId, RoomPart>;
  readonly left: ReadonlyMap<RoomId, RoomPart>;
  /** Stripped state. */
  readonly invited: ReadonlyMap<RoomId, readonly JsonObject[]>;
  readonly knocked: ReadonlyMap<RoomId, readonly JsonObject[]>;
  readonly accountData: readonly JsonObject[];
  /** Who is there of those who share a room with him, and is not what he was. */
  readonly presence: readonly Presence[];
  /** What devices have sent to this one, the oldest first. */
  readonly toDevice: readonly JsonObject[];
  /** `null`: the client begins, and knows of nobody's devices. */
  readonly deviceLists: DeviceLists | null;
  /** One-time keys of the device that are left, by algorithm. */
  readonly oneTimeKeys: Readonly<Record<string, number>>;
  readonly unusedFallbackKeys: readonly string[];
  /**
   * What the states of rooms lack yet, to be read while the answer is sent: in the order of the rooms in `joined`, and then in `left`;
   * `null`: nothing. It may be read once.
   */
  readonly restOfStates: AsyncIterable<StatePage> | null;
}

/** Further events of the state of one room. */
export interface StatePage {
  readonly roomId: RoomId;
  readonly events: readonly JsonObject[];
}

export interface Sync {
  sync(request: SyncRequest): Promise<SyncAnswer>;
  /** What a client that has slept since a token has missed of others' devices. */
  deviceLists(userId: UserId, from: string): Promise<DeviceLists>;
  /** Up to where all was given with a token, for who asks for a room as it was then. */
  positionOf(token: string): number;
}
