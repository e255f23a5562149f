/** What the federation server asks of the rest; no code. */
import { type EventId, type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type PduResults, type ReceivedTransaction, type RoomStatus } from '../rooms/contract.ts';

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
