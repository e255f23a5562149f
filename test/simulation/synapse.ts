/**
 * Resolutions of a simulated room, made once more by Synapse's code in its own process: the oracle shares the resolution with
 * the product, and this is what holds both to another implementation.
 */
import { type EventId } from '../../src/matrix/identifiers.ts';
import { oraclePython, startOracle } from '../differential/oracle.ts';
import { type ResolveRequest } from '../differential/rules-answers.ts';
import { type ResolvedStates } from './oracle.ts';
import { type World } from './world.ts';

/** Of one run: each names all events of the room. */
const RESOLUTIONS_MAX = 40;

export interface ResolvedBySynapse {
  readonly compared: number;
  /** In words, each. */
  readonly differences: readonly string[];
}

/** `undefined`: there is no Synapse here. */
export async function resolveBySynapse(
  world: World,
  resolutions: readonly ResolvedStates[],
): Promise<ResolvedBySynapse | undefined> {
  const python = oraclePython();
  if (python === undefined) return undefined;
  const every = Math.max(1, Math.ceil(resolutions.length / RESOLUTIONS_MAX));
  const chosen = resolutions.filter((_, i) => i % every === 0);
  const synapse = startOracle(python);
  try {
    const answers = await synapse.ask(chosen.map((resolution) => JSON.stringify(requestOf(world, resolution))));
    const differences = chosen.flatMap(({ resolved }, i) => {
      const [ours, theirs] = [[...resolved.values()].sort().join(), JSON.stringify(answers[i])];
      const state = answers[i]?.['state'];
      return Array.isArray(state) && state.join() === ours
        ? []
        : [`Synapse resolves ${theirs.slice(0, 500)}, where we have ${ours.slice(0, 500)}`];
    });
    return { compared: chosen.length, differences };
  } finally {
    synapse.close();
  }
}

function requestOf(world: World, { stateSets, rejected }: ResolvedStates): ResolveRequest {
  const ids = (states: Iterable<EventId>): EventId[] => [...states];
  return {
    op: 'resolve',
    room_version: world.rules.version,
    room_id: world.roomId,
    events: [...world.events.values()].map(({ json }) => json),
    state_sets: stateSets.map((state) => ids(state.values())),
    rejected: ids(rejected),
    unpersisted: false,
  };
}
