/** What clients are offered of rooms, in shapes; no code. Throws `RoomError`. */
import { type RoomId, type UserId } from '../matrix/identifiers.ts';

/** Reading rooms as one of our users sees them. */
export interface ClientReads {
  /** Rooms that a user is joined to, partial ones too, in the order of their ids. */
  joinedRooms(userId: UserId): Promise<readonly RoomId[]>;
}
