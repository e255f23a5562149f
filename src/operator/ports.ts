/** What the operator API needs of the rooms; `src/rooms` implements it, and tests do so with a few lines. */
import { type JoinRequest, type JoinedRoom, type JournalReads, type RoomReads } from '../rooms/contract.ts';

/** Failures are thrown as `RoomError`. */
export interface OperatorPorts extends RoomReads {
  joinRoom(request: JoinRequest): Promise<JoinedRoom>;
  readonly journal: JournalReads;
}
