/**
 * What the journal says of one room's resync: a left fold of its control events, small enough to travel through Temporal.
 * The workflow, the `resyncs` projection and the CLI all run this same `evolve`.
 */
import { type EventId, type ServerName } from '../matrix/identifiers.ts';
import { type FailureClass, type ResyncEvent, type StateFetchCounts } from './events.ts';

/** Candidates kept in the state. */
export const CANDIDATES_MAX = 60;
/**
 * And characters of their names together, 40 a name: each may stand in the state three times (candidate, tried, asked
 * for patience), and the whole state stays below the 16 KiB that a workflow carries.
 */
const CANDIDATE_NAMES_CHARS_MAX = 2_400;

/**
 * - `absent`: nothing journalled for this epoch;
 * - `fetching`: some state is still wanted from a resident;
 * - `waiting`: every candidate failed; `nextWakeAt` says when the next round starts;
 * - `walking`: all state is here, partial events are judged again in order;
 * - `complete`: the room has full state;
 * - `ended`: nobody of us is in the room any more.
 */
export type ResyncPhase = 'absent' | 'fetching' | 'waiting' | 'walking' | 'complete' | 'ended';

export interface ResyncState {
  readonly phase: ResyncPhase;
  readonly joinEventId: EventId | null;
  readonly joinedVia: ServerName | null;
  readonly roomVersion: string | null;
  readonly joinedAt: number | null;
  /** Servers that may be asked, best first. */
  readonly candidates: readonly ServerName[];
  /** Events whose prior state is still to be fetched; the first is asked for next. */
  readonly fetchAt: readonly EventId[];
  /** Attempts started so far: the number of the newest one. */
  readonly attempts: number;
  /** The attempt that has started and has no outcome yet. */
  readonly attempt: { readonly attemptNo: number; readonly resident: ServerName; readonly atEventId: EventId } | null;
  /** Counts from 1; a round asks each candidate once. */
  readonly round: number;
  readonly triedThisRound: readonly ServerName[];
  /** Residents that said when they want to be asked again. */
  readonly notBefore: Readonly<Record<string, number>>;
  readonly lastFailure: {
    readonly resident: ServerName;
    readonly failure: FailureClass;
    readonly reason: string;
    readonly at: number;
  } | null;
  readonly lastFetch: StateFetchCounts | null;
  /** Hex SHA-256 of the sorted event ids of the newest fetched state. */
  readonly digest: string | null;
  readonly walked: number;
  readonly corrected: number;
  /** A user of ours that the full state does not let in, and why; of several the last. */
  readonly refusedJoin: string | null;
  readonly members: number | null;
  readonly completedAt: number | null;
  /** Missing events at which the state is still looked for; they are rows of their own, and a whole room stays whole. */
  readonly gapsOpen: number;
  /** When somebody must act at the latest; `null` when there is nothing to do. The sweep reads it. */
  readonly nextWakeAt: number | null;
}

export const initialResyncState: ResyncState = {
  phase: 'absent',
  joinEventId: null,
  joinedVia: null,
  roomVersion: null,
  joinedAt: null,
  candidates: [],
  fetchAt: [],
  attempts: 0,
  attempt: null,
  round: 1,
  triedThisRound: [],
  notBefore: {},
  lastFailure: null,
  lastFetch: null,
  digest: null,
  walked: 0,
  corrected: 0,
  refusedJoin: null,
  members: null,
  completedAt: null,
  gapsOpen: 0,
  nextWakeAt: null,
};

/** From when on `resident` wants to be asked, milliseconds since the Unix epoch; 0 when it did not say. */
export function willingFrom(state: ResyncState, resident: ServerName): number {
  // `constructor` is a valid server name, and a stranger's list may hold it.
  return Object.hasOwn(state.notBefore, resident) ? (state.notBefore[resident] ?? 0) : 0;
}

function withCandidates(known: readonly ServerName[], first: ServerName, more: readonly ServerName[]): ServerName[] {
  // Only the head of a stranger's list counts, so that an event trimmed for transport folds to the same state.
  const names = [...new Set([...known, first, ...more.slice(0, CANDIDATES_MAX)])].slice(0, CANDIDATES_MAX);
  let room = CANDIDATE_NAMES_CHARS_MAX;
  return names.filter((name) => (room -= name.length) >= 0);
}

/** Folds one control event into the state. Pure and total: an event that does not fit the state changes nothing else. */
export function evolve(state: ResyncState, event: ResyncEvent): ResyncState {
  switch (event.type) {
    case 'PartialStateJoined':
      return {
        ...initialResyncState,
        phase: event.fetchAt.length > 0 ? 'fetching' : 'walking',
        joinEventId: event.joinEventId,
        joinedVia: event.joinedVia,
        roomVersion: event.roomVersion,
        joinedAt: event.at,
        candidates: withCandidates([], event.joinedVia, event.serversInRoom),
        fetchAt: event.fetchAt,
        nextWakeAt: event.at,
      };
    case 'FullStateJoined':
      return {
        ...initialResyncState,
        phase: 'complete',
        joinEventId: event.joinEventId,
        joinedVia: event.joinedVia,
        roomVersion: event.roomVersion,
        joinedAt: event.at,
        candidates: [event.joinedVia],
        members: event.members,
        completedAt: event.at,
      };
    case 'ResidentsLearned': {
      const fetchAt = [...new Set([...state.fetchAt, ...event.fetchAt])];
      const candidates = withCandidates(state.candidates, event.joinedVia, event.serversInRoom);
      return {
        ...state,
        candidates,
        fetchAt,
        phase: state.phase === 'walking' && fetchAt.length > 0 ? 'fetching' : state.phase,
      };
    }
    case 'StateFetchStarted':
      return {
        ...state,
        phase: 'fetching',
        attempts: event.attemptNo,
        attempt: { attemptNo: event.attemptNo, resident: event.resident, atEventId: event.atEventId },
        nextWakeAt: event.at,
      };
    case 'StateFetchFailed': {
      const others = Object.fromEntries(Object.entries(state.notBefore).filter(([name]) => name !== event.resident));
      return {
        ...state,
        attempt: null,
        triedThisRound: [...new Set([...state.triedThisRound, event.resident])],
        notBefore: event.retryAt === undefined ? others : { ...others, [event.resident]: event.retryAt },
        lastFailure: { resident: event.resident, failure: event.failure, reason: event.reason, at: event.at },
        nextWakeAt: event.at,
      };
    }
    case 'StateFetched': {
      const fetchAt = state.fetchAt.filter((eventId) => eventId !== event.atEventId);
      return {
        ...state,
        phase: fetchAt.length > 0 ? 'fetching' : 'walking',
        attempt: null,
        fetchAt,
        round: 1,
        triedThisRound: [],
        lastFetch: event.counts,
        digest: event.digest,
        nextWakeAt: event.at,
      };
    }
    case 'RoundFailed':
      return {
        ...state,
        phase: 'waiting',
        attempt: null,
        round: event.round + 1,
        triedThisRound: [],
        nextWakeAt: event.wakeAt,
      };
    case 'EventsWalked':
      return {
        ...state,
        walked: state.walked + event.walked,
        corrected: state.corrected + event.corrected,
        nextWakeAt: event.at,
      };
    case 'ResyncCompleted':
      return {
        ...state,
        phase: 'complete',
        attempt: null,
        members: event.members,
        completedAt: event.at,
        nextWakeAt: null,
      };
    case 'JoinRejected':
      return { ...state, refusedJoin: `${event.userId}: ${event.reason}` };
    case 'StayEnded':
      return { ...state, phase: 'ended', attempt: null, completedAt: event.at, nextWakeAt: null };
    case 'GapsAssumed':
      return state;
    case 'GapOpened':
      return { ...state, gapsOpen: state.gapsOpen + event.eventIds.length };
    case 'GapClosed':
    case 'GapFilled':
    case 'GapGivenUp':
      return { ...state, gapsOpen: Math.max(0, state.gapsOpen - 1) };
  }
}
