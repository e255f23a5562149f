/** Holds the state that Rejoinder has against that of a simulated federation, by a digest over the ids of all its events. */
import { type EventId } from '../../matrix/identifiers.ts';
import { stateDigest } from '../../matrix/state-digest.ts';
import { type StateDigest } from '../../simulator/contract.ts';
import { stateAnswer } from '../../operator/answer-forms.ts';
import { type OperatorClient } from '../operator-client.ts';
import { humanCount } from '../output.ts';
import { type Comparison } from './stage.ts';
import { type WatchedJoin } from './timeline.ts';

/** Of the event ids of the room's current state, as Rejoinder has it and as it is. */
export interface DigestComparison extends Comparison {
  readonly ours: string;
  readonly truth: StateDigest;
}

/** Compares our state with the federation's own, by the digest of the event ids. */
export async function compareDigests(
  client: Pick<OperatorClient, 'ask'>,
  join: Pick<WatchedJoin, 'roomId' | 'members'>,
  truth: StateDigest,
): Promise<DigestComparison> {
  const ours = await digestOfOurs(client, join);
  const counted = `${humanCount(truth.events)} state events, ${humanCount(truth.joined)} joined members`;
  const alike = [`the federation's own state: ${counted}`, `  SHA-256 of the event ids: ${ours}`];
  const different = `the state's event ids have the SHA-256 ${ours} here and ${truth.digest} in the federation`;
  return {
    ours,
    truth,
    ...(ours === truth.digest ? { alike, differences: [] } : { alike: [], differences: [different] }),
  };
}

/** Over memberships as `/members` gave them, and the rest of the state: all of it in one answer would be its whole bodies. */
async function digestOfOurs(
  client: Pick<OperatorClient, 'ask'>,
  { roomId, members }: Pick<WatchedJoin, 'roomId' | 'members'>,
): Promise<string> {
  const { body } = await client.ask(`/rooms/${encodeURIComponent(roomId)}/state`);
  const others = stateAnswer
    .pick({ state: true })
    .parse(body)
    .state.map(({ event_id: eventId }) => eventId);
  return stateDigest(new Set([...members.map(({ event_id: eventId }) => eventId), ...others] as EventId[]));
}
