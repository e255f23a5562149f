/** How users of other servers get into rooms and out of them through us, put together for the edge. */
import { type ServerName } from '../../matrix/identifiers.ts';
import { JoinedServers } from '../../store/snapshots/joined-servers.ts';
import { UnderWay } from '../../under-way.ts';
import { type RoomsContext } from '../context.ts';
import { ResidentError } from '../resident-error.ts';
import { type ResidentMemberships } from '../resident-contract.ts';
import { readStateForServer } from '../read/stripped-state.ts';
import { joinAnswer } from './join-answer.ts';
import { membershipTemplate } from './membership-template.ts';
import { takeMembership } from './take-membership.ts';

/** Of one server at a time: each is judged under its room's lock, and of a join the state is read. */
const UNDER_WAY_PER_SERVER_MAX = 8;

/** Of one process. */
export function residentMemberships(context: RoomsContext): ResidentMemberships {
  const { store } = context;
  const joined = new JoinedServers();
  const underWay = new UnderWay(UNDER_WAY_PER_SERVER_MAX);
  const limited = <Result>(server: ServerName, task: () => Promise<Result>): Promise<Result> =>
    underWay.run(server, task, () => new ResidentError('busy', 'too many memberships of that server at a time'));
  return {
    template: (request) => membershipTemplate(context, request),
    sendJoin: ({ omitMembers, ...sent }) =>
      limited(sent.server, async () =>
        joinAnswer(store, joined, sent.roomId, await takeMembership(context, sent), omitMembers),
      ),
    sendLeave: (sent) =>
      limited(sent.server, async () => {
        await takeMembership(context, sent);
      }),
    sendKnock: (sent) =>
      limited(sent.server, async () => {
        const { stateBefore, roomVersion } = await takeMembership(context, sent);
        return readStateForServer(store, { roomId: sent.roomId, roomVersion }, stateBefore);
      }),
  };
}
