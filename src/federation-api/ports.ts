/** What the federation server asks of the rest; no code. */
import { type DeviceAnswers } from '../devices/contract.ts';
import { type EventId, type RoomId, type ServerName, type UserId } from '../matrix/identifiers.ts';
import { type Directory, type RemoteProfile } from '../rooms/directory-contract.ts';
import { type ResidentAnswers, type ResidentMemberships } from '../rooms/resident-contract.ts';
import { type InviteReceiver } from '../rooms/invites/contract.ts';
import { type ReceivedTransaction, type RoomStatus, type TransactionAnswer } from '../rooms/contract.ts';

export interface FederationServerPorts {
  /** Stores what another server pushed, and answers; the same transaction again gets the same answer. */
  receiveTransaction(origin: ServerName, txnId: string, transaction: ReceivedTransaction): Promise<TransactionAnswer>;
  /** `asking`: the server whose question it is. */
  roomStatus(roomId: RoomId, asking: ServerName): Promise<RoomStatus>;
  /** Absent: nothing is handed out. */
  readonly resident?: ResidentAnswers;
  /** Absent: nobody of ours is invited. */
  readonly invites?: InviteReceiver;
  /** Absent: nobody is let in or out. */
  readonly memberships?: ResidentMemberships;
  /** What our users have published of their devices. Absent: nothing is handed out. */
  readonly devices?: DeviceAnswers;
  /** Absent: nothing is known of aliases and lists of rooms. */
  readonly directory?: Pick<Directory, 'ownAlias' | 'publicRooms'> & Partial<Pick<Directory, 'hierarchyFor'>>;
  /** What a user of ours calls himself; `undefined`: there is none. Absent: nothing is told of users. */
  readonly profileOf?: (userId: UserId) => Promise<RemoteProfile | undefined>;
  /** The status of the room that an event belongs to. */
  statusOfEventsRoom(eventId: EventId, asking: ServerName): Promise<RoomStatus>;
}
