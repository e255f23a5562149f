/** What our users do about rooms that nobody of ours is in, and with users of other servers: other servers are asked. */
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { type ClientJoin, type IdentifierInvite } from '../client-contract.ts';
import { type RoomsContext } from '../context.ts';
import { decline } from './decline.ts';
import { inviteByIdentifier } from './invite-by-identifier.ts';
import { knock } from './knock.ts';
import { type Invitation, sendInvite } from './send-invite.ts';

export interface OutsideActs {
  /** Throws `RoomError`. */
  invite(invitation: Invitation): Promise<void>;
  /** Whoever has bound the identifier, who is to be invited; `undefined`: nobody has, and the room is told. Throws `RoomError`. */
  inviteByIdentifier(invite: IdentifierInvite): Promise<UserId | undefined>;
  /** `false`: there is no invite and no knock. */
  decline(roomId: RoomId, userId: UserId): Promise<boolean>;
  /** Throws `RoomError`. */
  knock(request: ClientJoin): Promise<RoomId>;
}

/** Put together for one process. */
export function outsideActs(context: RoomsContext): OutsideActs {
  return {
    invite: (invitation) => sendInvite(context, invitation),
    inviteByIdentifier: (invite) => inviteByIdentifier(context, invite),
    decline: (roomId, userId) => decline(context, roomId, userId),
    knock: (request) => knock(context, request),
  };
}
