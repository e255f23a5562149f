/**
 * The state after one wanted event by the word of several servers (`resync.state_quorum`). Honest ones may differ by events that one
 * of them has soft-failed or rejected, so nobody is outvoted: what differs is fetched and checked as all else is, and the states are
 * resolved. Who cannot be had in time is gone on without, and the journal says so.
 */
import { FederationError } from '../../federation/error.ts';
import { type ServerName } from '../../matrix/identifiers.ts';
import { stateDigest } from '../../matrix/state-digest.ts';
import { mayBeAsked } from '../../resync/choice.ts';
import { type StateComparison } from '../../resync/attempts.ts';
import { type ResyncState } from '../../resync/state.ts';
import { countMembers, diffSnapshots, readSnapshot } from '../../store/snapshots/snapshots.ts';
import { type RoomsContext } from '../context.ts';
import { ResolutionTooLarge, resolveSnapshots } from '../judge/resolve.ts';
import { askIfHealthy } from './destination-health.ts';
import { type FetchedState, type StateRequest, fetchStateAt } from './state-at.ts';
import { type Progress } from './state-intake.ts';

/** Others asked for their word: who is silent must not make a join wait for all of sixty. */
const OTHERS_MAX = 6;
/** For all of them together; what they have is mostly held, so that most of it are ids. */
const COMPARING_MS = 5 * 60_000;

export interface ComparedState {
  readonly state: FetchedState;
  readonly compared: StateComparison;
}

type Request = Omit<StateRequest, 'settle' | 'onReceived' | 'others'>;

/**
 * @param first what the resident of the request gave, whole
 * @param wanted servers whose word is wanted, the first one's included
 * @throws FederationError `contradictory` where the states are too far apart to be resolved
 */
export async function compareStates(
  context: RoomsContext,
  request: Request,
  resync: ResyncState,
  first: FetchedState,
  wanted: number,
  progress: Progress,
): Promise<ComparedState> {
  const given = new Map<ServerName, FetchedState>([[request.resident, first]]);
  const timeUp = AbortSignal.timeout(COMPARING_MS);
  const signal = AbortSignal.any([progress.signal, timeUp]);
  const others = mayBeAsked(resync).filter((name) => name !== request.resident);
  for (const resident of others.filter((name) => !resync.departed.includes(name)).slice(0, OTHERS_MAX)) {
    if (given.size >= wanted || timeUp.aborted) break;
    const state = await stateOf(context, { ...request, resident }, { ...progress, signal }).catch((error: unknown) => {
      const isTheirs = error instanceof FederationError || error === timeUp.reason;
      if (progress.signal.aborted || !isTheirs) throw error;
      return undefined;
    });
    // One that lacks events cannot tell what it would say of them.
    if (state?.missing.size === 0) given.set(resident, state);
  }
  const state = await resolveAll(context, request, [...given.values()]);
  const differing = await placesThatDiffer(context, request, [...given.values()]);
  return { state, compared: { wanted, residents: [...given.keys()], differing } };
}

function stateOf(context: RoomsContext, request: Request, progress: Progress): Promise<FetchedState> {
  const settle = () => Promise.resolve({ dropped: [], goneWithout: [] });
  return askIfHealthy(context, request.resident, (onReceived) =>
    fetchStateAt(context, { ...request, settle, onReceived }, progress),
  );
}

async function resolveAll(
  { store }: RoomsContext,
  { roomId, rules, resident }: Request,
  states: readonly FetchedState[],
): Promise<FetchedState> {
  const [first, ...others] = states as readonly [FetchedState, ...FetchedState[]];
  if (others.every(({ snapshotId }) => snapshotId === first.snapshotId)) return first;
  const ids = states.map(({ snapshotId }) => snapshotId);
  const snapshotId = await resolveSnapshots(store, roomId, rules, ids).catch((error: unknown) => {
    if (!(error instanceof ResolutionTooLarge)) throw error;
    const reason = `the states that ${states.length} servers gave cannot be made one: ${error.message}`;
    throw new FederationError(resident, 'contradictory', reason, { cause: error });
  });
  const entries = await readSnapshot(store, roomId, snapshotId);
  return {
    ...first,
    snapshotId,
    digest: stateDigest(entries.map(({ eventId }) => eventId)),
    counts: { ...first.counts, members: await countMembers(store, roomId, snapshotId) },
    omissions: {
      leftOut: [...new Set(states.flatMap(({ omissions }) => omissions.leftOut))],
      awaited: [...new Set(states.flatMap(({ omissions }) => omissions.awaited))],
    },
    since: Math.min(...states.map(({ since }) => since)),
    judgedByOthers: [...new Set(states.flatMap(({ judgedByOthers }) => judgedByOthers))],
  };
}

/** In how many places another one is otherwise than the first, of the one that differs most. */
async function placesThatDiffer(
  { store }: RoomsContext,
  { roomId }: Request,
  states: readonly FetchedState[],
): Promise<number> {
  const [first, ...others] = states;
  let most = 0;
  for (const { snapshotId } of others) {
    if (first === undefined || snapshotId === first.snapshotId) continue;
    most = Math.max(most, (await diffSnapshots(store, roomId, first.snapshotId, snapshotId)).length);
  }
  return most;
}
