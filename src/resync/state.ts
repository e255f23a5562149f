/** What the journal says of one room's resync, small enough to travel through Temporal: what `evolve` (evolve.ts) folds. */
import { type EventId, type ServerName } from '../matrix/identifiers.ts';
import { type CandidateRanks, noCandidates } from './candidates.ts';
import { type RoomControl, noControl } from './control.ts';
import { type Degraded } from './degraded.ts';
import { type AttemptOutcome, type ParkedBecause } from './attempts.ts';
import { type FailureClass, type StateFetchCounts } from './events.ts';
import { outcomeOf } from './outcomes.ts';

/** Failures a round: so many events of so many servers may be wanted that a round would not end. */
const FAILURES_A_ROUND_MAX = 200;

/**
 * - `absent`: nothing journalled for this epoch;
 * - `fetching`: some state is still wanted from a resident;
 * - `waiting`: every candidate failed; `nextWakeAt` says when the next round starts;
 * - `parked`: nobody is asked any more until somebody resumes it, or there is something new to go by;
 * - `walking`: all state is here, partial events are judged again in order;
 * - `complete`: the room has full state;
 * - `ended`: nobody of us is in the room any more.
 */
export type ResyncPhase = 'absent' | 'fetching' | 'waiting' | 'parked' | 'walking' | 'complete' | 'ended';

export interface ResyncState {
  readonly phase: ResyncPhase;
  readonly joinEventId: EventId | null;
  readonly joinedVia: ServerName | null;
  readonly roomVersion: string | null;
  readonly joinedAt: number | null;
  /** Servers that may be asked, best first. */
  readonly candidates: readonly ServerName[];
  readonly ranks: CandidateRanks;
  /** Of those that have answered: how long it took until their newest answer began, milliseconds. */
  readonly latencies: Readonly<Record<string, number>>;
  /** What operators have said of the room. */
  readonly control: RoomControl;
  /** Candidates that say we are not in the room, the newest last. */
  readonly departed: readonly ServerName[];
  /** Events whose prior state is still to be fetched. */
  readonly fetchAt: readonly EventId[];
  /** Attempts started so far: the number of the newest one. */
  readonly attempts: number;
  /** The attempt that has started and has no outcome yet. */
  readonly attempt: Attempt | null;
  /** The newest attempt that trouble of ours kept from its end; 0: none was. */
  readonly hinderedAttempt: number;
  /** Counts from 1; a round asks each candidate for each wanted event once. */
  readonly round: number;
  /** Candidates of which nothing more is wanted in this round. */
  readonly triedThisRound: readonly ServerName[];
  /** The candidate that is being asked for one event after the other, and those it could not give. */
  readonly asking: ServerName | null;
  readonly asked: readonly EventId[];
  /** Wanted events that a resident did not know, or did not show us, in this round. */
  readonly unknown: readonly EventId[];
  /** Everybody was asked for these events; now everybody is asked for the states before the joins that cite the unknown ones. */
  readonly atJoins: boolean;
  readonly failuresThisRound: number;
  /** The candidate that this round begins with, by its place. */
  readonly startAt: number;
  /** What those who were asked in this round have said of the room. */
  readonly said: RoundTally;
  /** The last of those who had more than we take, in words with its figures; `null`: none. */
  readonly tooLarge: string | null;
  /** A server that is back ended the wait, and it alone is asked; `null`: all are. */
  readonly askingOnly: AskingOnly | null;
  /** How many rounds failed since `fetchAt` was last empty. */
  readonly failedRounds: number;
  /** When the first of these did, or was resumed after; `null`: none failed. */
  readonly failingSince: number | null;
  /** Rounds, days apart, in which whoever answered refused for good, and when the newest of them ended. */
  readonly refusals: RoundsApart;
  /** Rounds, days apart, at whose end every server had left the room, and when the newest of them ended. */
  readonly orphaned: RoundsApart;
  /** When a server last ended a wait by sending something for the room; 0: none did. */
  readonly heardAt: number;
  /** `null`: it is not parked. */
  readonly parked: Parked | null;
  /** Residents that said when they want to be asked again. */
  readonly notBefore: Readonly<Record<string, number>>;
  readonly lastFailure: LastFailure | null;
  readonly lastFetch: StateFetchCounts | null;
  /** Hex SHA-256 of the sorted event ids of the newest fetched state. */
  readonly digest: string | null;
  readonly walked: number;
  readonly corrected: number;
  /** How far check 6 was made again; `null`: it was not begun, or it is over. */
  readonly replay: ReplayPoint | null;
  /** A user of ours that the full state does not let in, and why; of several the last. */
  readonly refusedJoin: string | null;
  readonly members: number | null;
  /** Everybody of us has left: when the last round ends; `null`: somebody is in the room, or the stay is over. */
  readonly closesAt: number | null;
  /** Then those are asked in further rounds that do not refuse; else for one more round. */
  readonly closesLate: boolean;
  /** Users of ours whose leave is made when the resync is done. */
  readonly silentLeaves: number;
  /** When the room is purged, since everybody of us has left it; `null`: it is not. */
  readonly purgeAt: number | null;
  /** Present when the state could not be had whole: then the room is never called so. */
  readonly degraded: Degraded | null;
  /** How often it was looked for what states at gaps lack by the word of one server or two; `null`: they lack nothing, or no longer. */
  readonly soughtAtGaps: number | null;
  readonly completedAt: number | null;
  /** Missing events at which the state is still looked for; they are rows of their own, and a whole room stays whole. */
  readonly gapsOpen: number;
  /** When somebody must act at the latest; `null` when there is nothing to do. The sweep reads it. */
  readonly nextWakeAt: number | null;
}

/** Rounds that counted, and when the newest of them ended. */
export interface RoundsApart {
  readonly rounds: number;
  readonly at: number;
}

/** What the servers of one round said. One that was silent has said nothing. */
export interface RoundTally {
  /** That we are not in the room, or that they do not know it or the event. */
  readonly refused: number;
  readonly tooLarge: number;
  /** What may be otherwise in the next round. */
  readonly open: number;
}

export interface AskingOnly {
  readonly residents: readonly ServerName[];
  /** When the round that was waited for begins all the same; `null`: none was. */
  readonly pausedUntil: number | null;
}

export interface Parked {
  readonly because: ParkedBecause;
  readonly reason: string;
  /** Our users are to leave the room. */
  readonly isLeaving: boolean;
  readonly at: number;
}

export interface LastFailure {
  readonly resident: ServerName;
  readonly failure: FailureClass;
  readonly outcome: AttemptOutcome;
  readonly reason: string;
  readonly at: number;
}

/** One request for a state that is under way, or was cut off. */
export interface Attempt {
  readonly attemptNo: number;
  readonly resident: ServerName;
  readonly atEventId: EventId;
  /** The state is asked for before the join that cites `atEventId`. */
  readonly atJoin?: boolean;
}

/** Where check 6 goes on, after a crash, too. */
export interface ReplayPoint {
  readonly position: number;
  /** For which it holds. */
  readonly stateVersion: number;
  readonly begun: number;
}

/** What a new round starts with. */
export const freshRound = {
  triedThisRound: [],
  asking: null,
  asked: [],
  unknown: [],
  atJoins: false,
  failuresThisRound: 0,
  startAt: 0,
  said: { refused: 0, tooLarge: 0, open: 0 },
  tooLarge: null,
  askingOnly: null,
} as const;

export const initialResyncState: ResyncState = {
  phase: 'absent',
  joinEventId: null,
  joinedVia: null,
  roomVersion: null,
  joinedAt: null,
  ...noCandidates,
  latencies: {},
  control: noControl,
  departed: [],
  fetchAt: [],
  attempts: 0,
  attempt: null,
  hinderedAttempt: 0,
  round: 1,
  ...freshRound,
  failedRounds: 0,
  failingSince: null,
  refusals: { rounds: 0, at: 0 },
  orphaned: { rounds: 0, at: 0 },
  heardAt: 0,
  parked: null,
  notBefore: {},
  lastFailure: null,
  lastFetch: null,
  digest: null,
  walked: 0,
  corrected: 0,
  replay: null,
  refusedJoin: null,
  members: null,
  closesAt: null,
  closesLate: false,
  silentLeaves: 0,
  purgeAt: null,
  degraded: null,
  soughtAtGaps: null,
  completedAt: null,
  gapsOpen: 0,
  nextWakeAt: null,
};

/** From when on `resident` wants to be asked, milliseconds since the Unix epoch; 0 when it did not say. */
export function willingFrom(state: ResyncState, resident: ServerName): number {
  // `constructor` is a valid server name, and a stranger's list may hold it.
  return Object.hasOwn(state.notBefore, resident) ? (state.notBefore[resident] ?? 0) : 0;
}

/**
 * What people are told a resync is at: a room that is complete and lacks events is `degraded`, one word wherever rooms are
 * shown, and never `complete`.
 */
export function shownPhase({ phase, degraded }: Pick<ResyncState, 'phase' | 'degraded'>): ResyncPhase | 'degraded' {
  return phase === 'complete' && degraded !== null ? 'degraded' : phase;
}

/** An operator has stopped it: nobody drives it, and nothing wakes it by itself. */
export function isCancelled({ phase, parked }: Pick<ResyncState, 'phase' | 'parked'>): boolean {
  return phase === 'parked' && parked?.because === 'cancelled';
}

/** Whether an attempt is to be made, or goes on: nobody has ended it, cancelled the resync or banned its server. */
export function isAttemptWanted(
  { phase, attempts, attempt, control }: Pick<ResyncState, 'phase' | 'attempts' | 'attempt' | 'control'>,
  { attemptNo, resident }: Pick<Attempt, 'attemptNo' | 'resident'>,
): boolean {
  if (attempts >= attemptNo) return attempt?.attemptNo === attemptNo;
  return (phase === 'fetching' || phase === 'waiting') && attempt === null && !control.banned.includes(resident);
}

/** A state as an earlier version wrote it, with what has been added since. */
export function asResyncState(stored: Partial<ResyncState> | null): ResyncState {
  const state = { ...initialResyncState, ...stored };
  const { lastFailure } = state;
  return lastFailure === null ? state : { ...state, lastFailure: withOutcome(lastFailure) };
}

function withOutcome({ outcome, ...failed }: Omit<LastFailure, 'outcome'> & Partial<LastFailure>): LastFailure {
  return { ...failed, outcome: outcome ?? outcomeOf(failed.failure) };
}

/** Nobody is asked now: until the next round, or until somebody resumes it. */
export function isPaused({ phase }: Pick<ResyncState, 'phase'>): boolean {
  return phase === 'waiting' || phase === 'parked';
}

/** Whether the round is over, whoever is left: it had all the failures that a round may have. */
export function isRoundSpent(state: ResyncState): boolean {
  return state.failuresThisRound >= FAILURES_A_ROUND_MAX;
}

/** Whether something is looked for that states lack. */
export function isSeeking({ degraded, soughtAtGaps }: Pick<ResyncState, 'degraded' | 'soughtAtGaps'>): boolean {
  return degraded !== null || soughtAtGaps !== null;
}

/** How often it was looked for so far. */
export function timesSought({ degraded, soughtAtGaps }: Pick<ResyncState, 'degraded' | 'soughtAtGaps'>): number {
  return degraded?.sought ?? soughtAtGaps ?? 0;
}
