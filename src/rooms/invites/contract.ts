/** What other servers hand us of memberships in rooms that we may not be in, in shapes; no code. */
import { type EventId, type RoomId, type ServerName, type UserId } from '../../matrix/identifiers.ts';
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

/** An invite by a third-party identifier, whose owner is known by now. */
export interface ThirdPartyInvite {
  readonly roomId: RoomId;
  /** Who had invited the identifier. */
  readonly sender: UserId;
  /** Who has bound it. */
  readonly userId: UserId;
  /** What an identity server has signed: it is believed by the room's state only. */
  readonly signed: JsonObject;
  readonly signal: AbortSignal;
}

/** What an identity server, or whoever says to be one, tells of a user of ours. */
export interface BoundIdentifier {
  /** The address that it came from: nobody has signed it. */
  readonly sentFrom: string;
  readonly userId: UserId;
  readonly invites: readonly Pick<ThirdPartyInvite, 'roomId' | 'sender' | 'signed'>[];
  readonly signal: AbortSignal;
}

/** Throws `ResidentError`. */
export interface InviteReceiver {
  /** Makes the invite of who has bound the identifier that a user of ours had invited; throws `RoomError`, too. */
  exchangeInvite(invite: ThirdPartyInvite): Promise<void>;
  /** Has those invites made that are said to have waited for a user of ours. */
  boundIdentifier(bound: BoundIdentifier): Promise<void>;
  /** Checked, and kept for the user where he cannot learn of it otherwise; gives the event with our signature. */
  receiveInvite(invite: HandedInvite): Promise<JsonObject>;
}
