/**
 * The part of the fold that tells how long a resync waits, and for what: a round that failed, a server that is back, parking, and what
 * ends each of these.
 */
import { type ServerName } from '../matrix/identifiers.ts';
import { type AttemptOutcome } from './attempts.ts';
import { chooseCandidates } from './candidates.ts';
import { departedAlso } from './choice.ts';
import { notBanned } from './control.ts';
import { orphanedBy } from './degraded.ts';
import { type ResyncEvent } from './events.ts';
import { sayingOf } from './outcomes.ts';
import {
  type ResyncState,
  type RoundTally,
  type RoundsApart,
  freshRound,
  isCancelled,
  isPaused,
  isRoundSpent,
  isSeeking,
} from './state.ts';

/** Servers that are back and are asked before the next round. */
const BACK_MAX = 5;
/** A round counts when it is so long after the one before: whoever had lost the room may have it again, or be in it. */
const ROUNDS_APART_MS = 24 * 3_600_000;
/** Of why a room is parked. */
const PARKED_CHARS_MAX = 300;

type Of<Type extends ResyncEvent['type']> = Extract<ResyncEvent, { readonly type: Type }>;

/** There is something new to go by: a resync that waits, or is parked, asks everybody anew. */
export function woken(state: ResyncState, at: number): Partial<ResyncState> {
  if (isCancelled(state)) return {};
  if (state.phase === 'parked') return { ...resumed(state, at), ...freshRound };
  // Whoever is new is to be asked beside the one that is back.
  if (state.phase === 'fetching' && state.askingOnly !== null) return { askingOnly: null };
  if (state.phase !== 'waiting') return {};
  // The round that was waited for starts now, under its number of before: being woken makes no pause longer.
  return { phase: 'fetching', round: Math.max(1, state.round - 1), nextWakeAt: at };
}

/** Nothing that was against the room counts any more. */
function resumed({ fetchAt }: Pick<ResyncState, 'fetchAt'>, at: number) {
  const fresh = { round: 1, refusals: { rounds: 0, at: 0 }, failingSince: at, parked: null };
  const phase = fetchAt.length > 0 ? ('fetching' as const) : ('walking' as const);
  return { ...fresh, phase, nextWakeAt: at };
}

/** Residents are asked no more. Only a room whose state is wanted can be parked; cancelled can be also one that is walked. */
export function resyncParked(state: ResyncState, { because, leaves, reason, at }: Of<'ResyncParked'>): ResyncState {
  const isWalked = state.phase === 'walking' && because === 'cancelled';
  if (state.phase !== 'fetching' && !isWalked && !isPaused(state)) return state;
  const parked = { because, reason: reason.slice(0, PARKED_CHARS_MAX), isLeaving: leaves === true, at };
  return { ...state, ...freshRound, phase: 'parked', attempt: null, parked, nextWakeAt: leaves === true ? at : null };
}

/** A further join of ours: there is somebody new to ask, and what an operator had stopped is wanted again. */
export function joinedAnew(state: ResyncState, at: number): Partial<ResyncState> {
  return isCancelled(state) ? { ...resumed(state, at), ...freshRound } : woken(state, at);
}

/** Everybody is asked anew, whatever was waited for. */
export function resyncResumed(state: ResyncState, { at }: Of<'ResyncResumed'>): ResyncState {
  if (state.phase === 'complete' && isSeeking(state)) return { ...state, nextWakeAt: at };
  if (!isPaused(state)) return state;
  return { ...state, ...freshRound, ...resumed(state, at), notBefore: {} };
}

/** What was said in a round, with what one more attempt ended as. */
export function tallied(said: RoundTally, outcome: AttemptOutcome): RoundTally {
  const saying = sayingOf(outcome);
  return saying === undefined ? said : { ...said, [saying]: said[saying] + 1 };
}

/** A room that waits asks one that is back, and nobody else for it; more of them, while it does, have their turn too. */
export function residentBack(state: ResyncState, { resident, because, at }: Of<'ResidentBack'>): ResyncState {
  if (state.control.banned.includes(resident)) return state;
  // One more answer makes a state no smaller.
  const isFinal = state.parked?.because === 'too-large' || state.parked?.isLeaving === true || isCancelled(state);
  const isWaiting = isPaused(state) && !isFinal;
  const only = state.askingOnly;
  if (!isWaiting && (state.phase !== 'fetching' || only === null)) return state;
  const residents = [...new Set([...(only?.residents ?? []), resident])].slice(0, BACK_MAX);
  return {
    ...state,
    ...(state.candidates.includes(resident) ? {} : chooseCandidates(state, { hints: [resident] })),
    ...(isWaiting ? { ...freshRound, round: Math.max(1, state.round - 1), nextWakeAt: at } : {}),
    phase: 'fetching',
    askingOnly: { residents, pausedUntil: isWaiting ? state.nextWakeAt : (only?.pausedUntil ?? null) },
    departed: because === 'sent' ? state.departed.filter((name) => name !== resident) : state.departed,
    notBefore: without(state.notBefore, resident),
    heardAt: because === 'sent' ? at : state.heardAt,
    parked: null,
  };
}

/** Rounds in which whoever answered refused for good, if they are days apart; anything else that is said begins the count anew. */
function refusalsAfter({ said, refusals, askingOnly }: ResyncState, at: number): ResyncState['refusals'] {
  if (askingOnly !== null) return refusals;
  if (said.open > 0 || said.tooLarge > 0) return { rounds: 0, at: 0 };
  return said.refused > 0 ? oneMore(refusals, at) : refusals;
}

function orphanedAfter({ orphaned }: ResyncState, { isOrphaned, at }: Of<'RoundFailed'>): ResyncState['orphaned'] {
  if (isOrphaned !== true) return { rounds: 0, at: 0 };
  return oneMore(orphaned, at);
}

/** A round counts that is long enough after the newest one that did. */
function oneMore(counted: RoundsApart, at: number): RoundsApart {
  return counted.rounds === 0 || at - counted.at >= ROUNDS_APART_MS ? { rounds: counted.rounds + 1, at } : counted;
}

/** What is known of the state stands for the wanted ones: a room that wants no other is walked. */
export function roomOrphaned(state: ResyncState, { eventIds, at }: Of<'RoomOrphaned'>): ResyncState {
  if (state.phase !== 'fetching' && !isPaused(state)) return state;
  const fetchAt = state.fetchAt.filter((eventId) => !eventIds.includes(eventId));
  const isAllThere = fetchAt.length === 0;
  return {
    ...state,
    ...freshRound,
    phase: isAllThere ? 'walking' : 'fetching',
    attempt: null,
    parked: null,
    fetchAt,
    round: 1,
    failedRounds: isAllThere ? 0 : state.failedRounds,
    failingSince: isAllThere ? null : state.failingSince,
    degraded: orphanedBy(state.degraded, at),
    nextWakeAt: at,
  };
}

/** The room waits, with what the round has said of it counted, until the next one is due. */
export function roundFailed(state: ResyncState, event: Of<'RoundFailed'>): ResyncState {
  const chosen =
    event.hints === undefined ? state : chooseCandidates(state, { hints: event.hints, replaceHints: true });
  // Those whom a spent round did not reach come first in the next one.
  const unreached = notBanned(state.control, state.candidates).find((name) => !state.triedThisRound.includes(name));
  const startAt = isRoundSpent(state) && unreached !== undefined ? chosen.candidates.indexOf(unreached) : 0;
  return {
    ...state,
    candidates: chosen.candidates,
    ranks: chosen.ranks,
    ...freshRound,
    startAt: Math.max(0, startAt),
    phase: 'waiting',
    attempt: null,
    round: event.round + 1,
    // Not all were asked in a round of those that are back.
    failedRounds: state.failedRounds + (state.askingOnly === null ? 1 : 0),
    failingSince: state.failingSince ?? event.at,
    refusals: refusalsAfter(state, event.at),
    orphaned: orphanedAfter(state, event),
    departed: departedAlso(state, event.left ?? []),
    nextWakeAt: event.wakeAt,
  };
}

/** The same times but for that of a server. */
export function without(record: Readonly<Record<string, number>>, name: ServerName): Readonly<Record<string, number>> {
  return Object.fromEntries(Object.entries(record).filter(([key]) => key !== name));
}
