/** What the protocol core passes around: JSON as it was read, and an event that passed the format check. */
import { type EventId, type RoomId, type UserId } from './identifiers.ts';

/** A JSON value as `JSON.parse` gives it. Objects have own keys only; `__proto__` is an ordinary key. */
export type Json = null | boolean | number | string | readonly Json[] | JsonObject;
export interface JsonObject {
  readonly [key: string]: Json;
}

/**
 * An event as servers exchange it, after the format check of its room version: every field here has its type and is
 * within its limit. `content` is unvalidated beyond being an object.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v11/#event-format-1
 */
export interface Pdu {
  readonly eventId: EventId;
  readonly roomId: RoomId;
  readonly type: string;
  /** Absent: a message event. Present, even when empty: a state event. */
  readonly stateKey: string | undefined;
  readonly sender: UserId;
  readonly content: JsonObject;
  readonly prevEvents: readonly EventId[];
  readonly authEvents: readonly EventId[];
  /** The sender's claim of how far the event is from the room's beginning; at most the room version's `depthMax`. */
  readonly depth: bigint;
  /** Milliseconds since the Unix epoch, by the sender's clock. */
  readonly originServerTs: number;
  /** The event as it stands on the wire; what is hashed, signed and stored. */
  readonly json: JsonObject;
}

/** Names a place in the room state. */
export interface StateKey {
  readonly type: string;
  readonly stateKey: string;
}
