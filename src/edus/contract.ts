/** What clients may say and ask of what passes in rooms, in shapes; no code. Throws `RoomError`. */
import { type RoomId, type UserId } from '../matrix/identifiers.ts';
import { type Presence, type PresenceState } from '../store/tables/presence.ts';

export type { Presence, PresenceState };

export interface Passing {
  /** Whether a user types, and for how long he is taken to if he does not say so again; null: he does not. Throws `forbidden`. */
  setTyping(userId: UserId, roomId: RoomId, forMs: number | null): Promise<void>;
  setPresence(userId: UserId, presence: PresenceState, statusMsg: string | null): Promise<void>;
  /** What is known of a user. Throws `forbidden` where the one who asks shares no room with him. */
  presenceOf(viewer: UserId, userId: UserId): Promise<Presence>;
}
