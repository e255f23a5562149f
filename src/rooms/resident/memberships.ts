/** How users of other servers get into rooms and out of them through us, put together for the edge. */
import { JoinedServers } from '../../store/snapshots/joined-servers.ts';
import { type RoomsContext } from '../context.ts';
import { type ResidentMemberships } from '../resident-contract.ts';
import { readStrippedState } from '../read/stripped-state.ts';
import { joinAnswer } from './join-answer.ts';
import { membershipTemplate } from './membership-template.ts';
import { takeMembership } from './take-membership.ts';

/** Of one process. */
export function residentMemberships(context: RoomsContext): ResidentMemberships {
  const { store } = context;
  const joined = new JoinedServers();
  return {
    template: (request) => membershipTemplate(context, request),
    sendJoin: async ({ omitMembers, ...sent }) =>
      joinAnswer(store, joined, sent.roomId, await takeMembership(context, sent), omitMembers),
    sendLeave: async (sent) => {
      await takeMembership(context, sent);
    },
    sendKnock: async (sent) => {
      const { stateBefore } = await takeMembership(context, sent);
      return readStrippedState(store, sent.roomId, stateBefore);
    },
  };
}
