/** What other servers are told of rooms, in shapes; no code. Events are given as JSON texts, as they are stored. */
import { type EventId, type RoomId, type ServerName } from '../matrix/identifiers.ts';

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
}
