/** Holds what Rejoinder knows of a room against what its resident, a real Synapse, tells a user of its own. */
import { z } from 'zod';
import { type SynapseUser } from '../../launch/synapse-user.ts';
import { type OperatorClient } from '../operator-client.ts';
import { type Comparison } from './stage.ts';
import { type ListedMember } from './timeline.ts';

const DIFFERENCES_SHOWN = 5;

const stateAnswer = z.object({ state: z.array(z.object({ event_id: z.string() })) });

/** Memberships by user, membership and event id, and state events by event id. */
export async function compareWithSynapse(
  client: OperatorClient,
  roomId: string,
  members: readonly ListedMember[],
  resident: SynapseUser,
): Promise<Comparison> {
  const { body } = await client.ask(`/rooms/${encodeURIComponent(roomId)}/state?members=true`);
  const ours = stateAnswer.parse(body).state.map(({ event_id: eventId }) => eventId);
  const theirState = await resident.state(roomId);
  const theirMembers = await resident.members(roomId);

  const memberLine = (userId: string, membership: string, eventId: string): string =>
    `${userId} ${membership} ${eventId}`;
  const byMember = differ(
    members.map((member) => memberLine(member.user_id, member.membership, member.event_id)),
    [...theirMembers].map(([userId, { membership, eventId }]) => memberLine(userId, membership, eventId)),
  );
  const byEvent = differ(
    ours,
    theirState.map(({ event_id: eventId }) => eventId),
  );
  const differences = [...byMember.differences, ...byEvent.differences].slice(0, DIFFERENCES_SHOWN);
  const alike = [
    'what Synapse tells its own user:',
    `  ${byMember.alike} memberships, by user and event id`,
    `  ${byEvent.alike} state events, by event id`,
  ];
  return { alike, differences };
}

function differ(ours: readonly string[], theirs: readonly string[]): { alike: number; differences: string[] } {
  const [left, right] = [new Set(ours), new Set(theirs)];
  const onlyOurs = [...left].filter((line) => !right.has(line)).map((line) => `only Rejoinder: ${line}`);
  const onlyTheirs = [...right].filter((line) => !left.has(line)).map((line) => `only Synapse: ${line}`);
  return { alike: left.size - onlyOurs.length, differences: [...onlyOurs, ...onlyTheirs] };
}
