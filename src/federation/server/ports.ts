/** What the federation server asks of the rest; no code. */
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';

/** `absent`: we are not in the room, or know nothing of it. */
export type RoomStatus = 'absent' | 'partial' | 'full';

export interface ReceivedTransaction {
  /** Each the bytes received; at most 50. */
  readonly pdus: readonly Uint8Array[];
  /** At most 100. */
  readonly edus: readonly JsonObject[];
}

/** By event id. Without `error`: taken in, whatever was decided about it; with it: it can't be processed at all. */
export type PduResults = Readonly<Record<EventId, { readonly error?: string }>>;

export interface FederationServerPorts {
  /** Takes in what another server pushed. Called once for each transaction, unless it throws; `signal`: we are closing. */
  receiveTransaction(
    origin: ServerName,
    txnId: string,
    transaction: ReceivedTransaction,
    signal: AbortSignal,
  ): Promise<PduResults>;
  /** The answer this transaction was given before. */
  readTransactionResponse(origin: ServerName, txnId: string): Promise<JsonObject | undefined>;
  recordTransactionResponse(answer: {
    readonly origin: ServerName;
    readonly txnId: string;
    readonly response: JsonObject;
    /** Milliseconds since the Unix epoch. */
    readonly receivedAt: number;
  }): Promise<void>;
  roomStatus(roomId: RoomId): Promise<RoomStatus>;
  /** The status of the room that an event belongs to. */
  statusOfEventsRoom(eventId: EventId): Promise<RoomStatus>;
}
