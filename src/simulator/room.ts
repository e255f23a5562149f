/**
 * A room of the simulated federation: its events, signed by their senders' servers, and what a resident is asked about
 * them. All residents share one, so a join through any of them is known to all.
 */
import { type Draft } from '../matrix/compose.ts';
import { type EventId, type RoomAlias, type RoomId, type ServerName, type UserId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';

/** An event of a simulated room. */
export interface SimulatedEvent {
  readonly eventId: EventId;
  readonly type: string;
  /** Absent: a message event. */
  readonly stateKey?: string;
  readonly sender: UserId;
  /** `content.membership` of m.room.member. */
  readonly membership?: string;
  readonly depth: bigint;
  readonly prevEvents: readonly EventId[];
  /** Those it cites; in version 12 without the create event. */
  readonly authEvents: readonly EventId[];
  /** The signed event as it is sent. */
  readonly json: Buffer;
}

/** Members whose events are made when they are asked for (crowd.ts), one after the other, in the order of `ids`. */
export interface Crowd extends Iterable<SimulatedEvent> {
  readonly length: number;
  /** Of all its events as they are sent, without what is between them. */
  readonly bytes: number;
  /** Worked out at the first call, some 50 µs each. */
  ids(): readonly EventId[];
  /** `undefined` also for an id of which nobody can have been told. */
  event(eventId: EventId): SimulatedEvent | undefined;
}

/** A draft with its place in the graph, where that is not to be what the room's true state gives it. */
export interface PlacedDraft extends Draft {
  /** All extremities when absent. They must be recent: the state after them is looked at. */
  readonly prevEvents?: readonly EventId[];
  /** Those that the rules choose from the current state when absent. */
  readonly authEvents?: readonly EventId[];
}

/** The answer of make_join. */
export interface JoinTemplateAnswer {
  readonly room_version: string;
  readonly event: JsonObject;
}

/**
 * A room and its history. Where the graph forks, later accepted events win: the generated forks never conflict, and
 * of what is appended or accepted later each change stands over the one before. State resolution is not run here.
 */
export interface SimulatedRoom {
  readonly roomId: RoomId;
  readonly roomVersion: string;
  readonly rules: RoomVersionRules;
  readonly alias: RoomAlias;
  /** The newest events that no other has for a parent. */
  readonly extremities: readonly EventId[];
  /** Further members, who stand in every state of it, and in no map of these. */
  readonly crowd: Crowd;
  /** An event of the room, whether generated, appended or accepted. */
  event(eventId: EventId): SimulatedEvent | undefined;
  /**
   * The state before an event, from `stateMapKey` to event id: a copy, which later events leave alone. `undefined` for
   * an unknown event, and for one of the older history, whose states are not kept.
   */
  stateBefore(eventId: EventId): ReadonlyMap<string, EventId> | undefined;
  /** The state after the extremities, a copy. */
  currentState(): ReadonlyMap<string, EventId>;
  /** The event that stands at a place of the current state. */
  currentEvent(type: string, stateKey: string): SimulatedEvent | undefined;
  /** Everything that the given events cite, directly or not; in version 12 the create event is cited by every other. */
  authChain(eventIds: Iterable<EventId>): Set<EventId>;
  /** Servers with a joined member. */
  serversInRoom(): ServerName[];
  /** Joined members. */
  joinedCount(): number;
  /**
   * Adds an event, signed by its sender's server. One that the auth rules refuse, by its auth events or by the state before
   * it, is what a hostile server would send, and held as rejected: it changes no state, and nothing builds on it of itself.
   */
  append(draft: PlacedDraft): SimulatedEvent;
  /** Whether an event was appended that the auth rules refuse. */
  isRejected(eventId: EventId): boolean;
  /**
   * Takes in an event made and signed elsewhere, such as a join by send_join, as it is. The caller has checked it, and
   * knows its parents and auth events to be here. One that is here already is given back.
   */
  accept(event: JsonObject): SimulatedEvent;
  /** What make_join gives a user; also for a user the auth rules refuse; the caller checks that. */
  joinTemplate(userId: UserId): JoinTemplateAnswer;
  /** Events that `latest` builds on and `earliest` does not name, the nearest `limit` of them, oldest first. */
  missingEvents(latest: readonly EventId[], earliest: readonly EventId[], limit: number): SimulatedEvent[];
  /** SHA-256, hex, of the sorted event ids of the current state joined by newlines: the digest of a fetched state. */
  digest(): string;
}
