/** What the operator API needs of rooms and users; `src/rooms` and `src/accounts` implement it, and tests do so with a few lines. */
import { type Accounts } from '../accounts/contract.ts';
import { type ServiceSteering } from '../app-services/contract.ts';
import { type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { type RoomCommand } from '../resync/commands.ts';
import { type Directed } from '../resync/operator-events.ts';
import {
  type CommandOutcome,
  type JoinRequest,
  type JoinedRoom,
  type JournalReads,
  type RetriedRooms,
  type RoomReads,
} from '../rooms/contract.ts';
import { type Purges } from '../rooms/purge/contract.ts';

/** Failures are thrown as `RoomError`. */
export interface OperatorPorts extends RoomReads {
  joinRoom(request: JoinRequest): Promise<JoinedRoom>;
  /** Throws `unknown-room`, or `inapplicable` with what is in the way; then nothing is changed. */
  commandRoom(roomId: RoomId, command: RoomCommand, said: Omit<Directed, 'at'>): Promise<CommandOutcome>;
  /** Retries rooms that wait or are parked and that the server is in, a page of them, those after `from`. */
  retryRooms(resident: ServerName, from: string, said: Omit<Directed, 'at'>): Promise<RetriedRooms>;
  readonly journal: JournalReads;
  readonly purges: Pick<Purges, 'plan' | 'request' | 'status'>;
  /** Failures are thrown as `AccountError`. */
  readonly users: Pick<Accounts, 'list' | 'createUser' | 'setPassword' | 'deactivate'>;
  readonly services: ServiceSteering;
}
