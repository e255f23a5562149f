/** What the operator API needs of rooms and users; `src/rooms` and `src/accounts` implement it, and tests do so with a few lines. */
import { type Accounts } from '../accounts/contract.ts';
import { type JoinRequest, type JoinedRoom, type JournalReads, type RoomReads } from '../rooms/contract.ts';

/** Failures are thrown as `RoomError`. */
export interface OperatorPorts extends RoomReads {
  joinRoom(request: JoinRequest): Promise<JoinedRoom>;
  readonly journal: JournalReads;
  /** Failures are thrown as `AccountError`. */
  readonly users: Pick<Accounts, 'list' | 'createUser' | 'setPassword' | 'deactivate'>;
}
