/** What other servers hand us of invites, put together for one process. */
import { type InviteReceiver } from './contract.ts';
import { createBindings } from './bound-identifier.ts';
import { createExchanges } from './exchange-invite.ts';
import { type InviteContext, receiveInvite } from './receive-invite.ts';

/** What is under way is counted by it: one for a process. */
export function inviteReceiver(context: InviteContext): InviteReceiver {
  return {
    receiveInvite: (invite) => receiveInvite(context, invite),
    exchangeInvite: createExchanges(context),
    boundIdentifier: createBindings(context),
  };
}
