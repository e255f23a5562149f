/** What other servers hand us of memberships in rooms that we may not be in, in shapes; no code. */
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../../matrix/pdu.ts';

export interface HandedInvite {
  readonly roomId: RoomId;
  /** As the path names it. */
  readonly eventId: EventId;
  readonly server: ServerName;
  readonly roomVersion: string;
  readonly event: JsonObject;
  /** What the server says the user is to be told of the room. */
  readonly told: Json | undefined;
  readonly signal: AbortSignal;
}

/** Throws `ResidentError`. */
export interface InviteReceiver {
  /** Checked, and kept for the user where he cannot learn of it otherwise; gives the event with our signature. */
  receiveInvite(invite: HandedInvite): Promise<JsonObject>;
}
