/**
 * The left fold of a room's control events into the state of its resync. The workflow, the `resyncs` projection and the CLI all
 * run this same `evolve`.
 */
import { type EventId } from '../matrix/identifiers.ts';
import { chooseCandidates, noCandidates } from './candidates.ts';
import { departures, latenciesOf } from './choice.ts';
import { controlled, noControl, notBanned } from './control.ts';
import { carried, degradedBy } from './degraded.ts';
import { type FailureClass, type ResyncEvent } from './events.ts';
import {
  joinedAnew,
  residentBack,
  resyncParked,
  resyncResumed,
  roomOrphaned,
  roundFailed,
  tallied,
  without,
  woken,
} from './evolve-waits.ts';
import { outcomeOf } from './outcomes.ts';
import { type ReplayPoint, type ResyncState, freshRound, initialResyncState, isCancelled, isSeeking } from './state.ts';

/** Events in `fetchAt`; and characters of them, since ids of the first room versions may be long. The rest are anchors. */
const FETCH_AT_MAX = 20;
const FETCH_AT_CHARS_MAX = 1_000;
/** Of why a state is too large: its figures come first. */
const TOO_LARGE_CHARS_MAX = 200;
/** Failures that say something of the event that was asked about, and nothing of what its server answers about others. */
const ABOUT_THE_EVENT: ReadonlySet<FailureClass> = new Set([
  'not-found',
  'forbidden',
  'refused',
  'incomplete',
  'keys-unobtainable',
  'contradictory',
]);
/** Of these, those by which a resident does not know the event, or does not show it to us. */
const UNKNOWN_THERE: ReadonlySet<FailureClass> = new Set(['not-found', 'forbidden']);

/** The wanted events that have a place in the state; further ones are found among the anchors when these are fetched. */
function wantedOf(eventIds: readonly EventId[]): EventId[] {
  let room = FETCH_AT_CHARS_MAX;
  return [...new Set(eventIds)].slice(0, FETCH_AT_MAX).filter((eventId) => (room -= eventId.length) >= 0);
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
        ...chooseCandidates(noCandidates, {
          answered: [event.joinedVia],
          via: event.via ?? [],
          hints: event.serversInRoom,
        }),
        fetchAt: wantedOf(event.fetchAt),
        control: event.control ?? noControl,
        degraded: carried(event.lacking),
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
        ...chooseCandidates(noCandidates, { answered: [event.joinedVia] }),
        members: event.members,
        control: event.control ?? noControl,
        degraded: carried(event.lacking),
        completedAt: event.at,
        // What is missing is looked for on.
        nextWakeAt: event.lacking === undefined ? null : event.at,
      };
    case 'RoomCreated':
      return {
        ...initialResyncState,
        phase: 'complete',
        joinEventId: event.createEventId,
        roomVersion: event.roomVersion,
        joinedAt: event.at,
        members: 1,
        completedAt: event.at,
      };
    case 'ResidentsLearned':
      return residentsLearned(state, event);
    case 'SpeakersLearned': {
      const chosen = chooseCandidates(state, { spoke: event.servers });
      // Nobody is woken for who is never asked.
      const isNews = chosen.ranks.spoke > state.ranks.spoke && notBanned(state.control, event.servers).length > 0;
      const departed = state.departed.filter((name) => !event.servers.includes(name));
      return { ...state, ...chosen, departed, ...(isNews ? woken(state, event.at) : {}) };
    }
    case 'StateFetchStarted': {
      const { attemptNo, resident, atEventId, atJoin } = event;
      const turned = atJoin === true && !state.atJoins ? { triedThisRound: [], atJoins: true, asked: [] } : {};
      return {
        ...state,
        ...turned,
        phase: 'fetching',
        attempts: attemptNo,
        attempt: { attemptNo, resident, atEventId, ...(atJoin === true ? { atJoin } : {}) },
        asking: resident,
        asked: resident === state.asking && !('asked' in turned) ? state.asked : [],
        nextWakeAt: event.at,
      };
    }
    case 'StateFetchFailed':
      return stateFetchFailed(state, event);
    case 'StateFetchHindered':
      return { ...state, hinderedAttempt: event.attemptNo };
    case 'StateFetched':
      return stateFetched(state, event);
    case 'ResidentBack':
      return residentBack(state, event);
    case 'RoundFailed':
      return roundFailed(state, event);
    case 'RoomOrphaned':
      return roomOrphaned(state, event);
    case 'ResyncParked':
      return resyncParked(state, event);
    case 'ResyncResumed':
      return resyncResumed(state, event);
    case 'EventsWalked':
      return {
        ...state,
        walked: state.walked + event.walked,
        corrected: state.corrected + event.corrected,
        replay: moved(state.replay, event.corrected),
        nextWakeAt: isCancelled(state) ? null : event.at,
      };
    case 'Check6Replayed': {
      const { position, stateVersion, begun, at } = event;
      return { ...state, replay: { position, stateVersion, begun }, nextWakeAt: isCancelled(state) ? null : at };
    }
    case 'ResyncCompleted':
      return {
        ...state,
        phase: 'complete',
        attempt: null,
        members: event.members,
        replay: null,
        closesAt: null,
        parked: null,
        closesLate: false,
        completedAt: event.at,
        // What is missing is looked for on.
        nextWakeAt: isSeeking(state) || state.silentLeaves > 0 ? event.at : null,
      };
    case 'JoinRejected':
      return { ...state, refusedJoin: `${event.userId}: ${event.reason}` };
    case 'JoinRestored':
      return state.refusedJoin?.startsWith(`${event.userId}: `) === true ? { ...state, refusedJoin: null } : state;
    case 'EverybodyLeft': {
      const { phase } = state;
      if (phase !== 'fetching' && phase !== 'waiting' && phase !== 'parked' && phase !== 'walking') return state;
      // Of what an operator has stopped nobody is asked for a last round either.
      if (isCancelled(state)) return { ...state, closesAt: event.at, nextWakeAt: event.at };
      return {
        ...state,
        ...woken(state, event.at),
        closesAt: event.until,
        closesLate: event.goesOn === true,
        purgeAt: event.purgeAt ?? null,
        nextWakeAt: event.at,
      };
    }
    case 'LeftSilently': {
      // Where nobody is asked any more it is made at once.
      const isDue = state.phase === 'complete' || state.phase === 'parked';
      return { ...state, silentLeaves: state.silentLeaves + 1, nextWakeAt: isDue ? event.at : state.nextWakeAt };
    }
    case 'SilentLeaveSettled':
      return { ...state, silentLeaves: Math.max(0, state.silentLeaves - 1) };
    case 'StayEnded':
      return stayEnded(state, event);
    case 'RoomPurged':
      return initialResyncState;
    case 'EventsCorrected':
      return eventsCorrected(state, event);
    case 'ResidentPinned':
    case 'PinLifted':
    case 'BanLifted':
    case 'RoomPolicySet':
    case 'CommandRefused':
      return { ...state, control: controlled(state.control, event) };
    case 'ResidentBanned':
      return residentBanned(state, event);
    case 'GapsAssumed':
    case 'ParentsLearned':
    case 'AnchorCorrected':
      return state;
    case 'GapOpened':
      return { ...state, gapsOpen: state.gapsOpen + event.eventIds.length };
    case 'GapFilled':
      return event.wasGivenUp === true ? state : { ...state, gapsOpen: Math.max(0, state.gapsOpen - 1) };
    case 'GapClosed':
      return gapClosed(state, event);
    case 'GapGivenUp':
      return { ...state, gapsOpen: Math.max(0, state.gapsOpen - 1) };
    case 'MissingSought':
      return missingSought(state, event);
  }
}

/** Verdicts that a walk reverses are on events that a replay has not come to. */
function moved(replay: ReplayPoint | null, corrected: number): ReplayPoint | null {
  return replay === null ? null : { ...replay, stateVersion: replay.stateVersion + corrected };
}

type Of<Type extends ResyncEvent['type']> = Extract<ResyncEvent, { readonly type: Type }>;

function residentsLearned(state: ResyncState, event: Of<'ResidentsLearned'>): ResyncState {
  const fetchAt = wantedOf([...state.fetchAt, ...event.fetchAt]);
  const { joinedVia, via = [], serversInRoom } = event;
  // It has just answered: whatever it said before, it may be asked.
  const triedThisRound = state.triedThisRound.filter((name) => name !== joinedVia);
  const walksOn = state.phase === 'walking' && fetchAt.length === 0;
  return {
    ...state,
    ...chooseCandidates(state, { answered: [joinedVia], via, hints: serversInRoom }),
    fetchAt,
    triedThisRound,
    departed: state.departed.filter((name) => name !== joinedVia),
    notBefore: without(state.notBefore, joinedVia),
    ...(state.phase === 'walking' && !walksOn ? { phase: 'fetching' as const } : {}),
    ...joinedAnew({ ...state, fetchAt }, event.at),
  };
}

/** An attempt at the server that is under way is none: whatever comes of it is of no use any more. */
function residentBanned(state: ResyncState, event: Of<'ResidentBanned'>): ResyncState {
  const after = { ...state, control: controlled(state.control, event) };
  return state.attempt?.resident === event.resident ? { ...after, attempt: null, nextWakeAt: event.at } : after;
}

function stateFetchFailed(state: ResyncState, event: Of<'StateFetchFailed'>): ResyncState {
  const { resident, atEventId, failure, outcome = outcomeOf(failure), reason, at } = event;
  const asked = wantedOf([...(resident === state.asking ? state.asked : []), atEventId]);
  const wanted = state.atJoins ? state.unknown : state.fetchAt;
  const isDone = !ABOUT_THE_EVENT.has(failure) || wanted.every((eventId) => asked.includes(eventId));
  const notBefore = without(state.notBefore, resident);
  return {
    ...state,
    attempt: null,
    triedThisRound: isDone ? [...new Set([...state.triedThisRound, resident])] : state.triedThisRound,
    asking: resident,
    asked,
    unknown: UNKNOWN_THERE.has(failure) && !state.atJoins ? wantedOf([...state.unknown, atEventId]) : state.unknown,
    failuresThisRound: state.failuresThisRound + 1,
    said: tallied(state.said, outcome),
    tooLarge: outcome === 'too-large' ? reason.slice(0, TOO_LARGE_CHARS_MAX) : state.tooLarge,
    notBefore: event.retryAt === undefined ? notBefore : { ...notBefore, [resident]: event.retryAt },
    lastFailure: { resident, failure, outcome, reason, at },
    ...departures(state, event),
    latencies: latenciesOf(state, event),
    nextWakeAt: at,
  };
}

function stateFetched(state: ResyncState, event: Of<'StateFetched'>): ResyncState {
  const { resident, atEventId, missing, at } = event;
  const fetchAt = wantedOf([...state.fetchAt.filter((eventId) => eventId !== atEventId), ...(event.further ?? [])]);
  const isAllThere = fetchAt.length === 0;
  // Whoever gave one state is asked for the next one first.
  const chosen = chooseCandidates(state, { answered: [resident] });
  return {
    ...state,
    ...chosen,
    latencies: latenciesOf({ ...state, ...chosen }, event),
    departed: state.departed.filter((name) => name !== resident),
    ...freshRound,
    asking: resident,
    asked: resident === state.asking && !state.atJoins ? state.asked : [],
    phase: isAllThere ? 'walking' : 'fetching',
    attempt: null,
    fetchAt,
    round: 1,
    failedRounds: isAllThere ? 0 : state.failedRounds,
    failingSince: isAllThere ? null : state.failingSince,
    refusals: { rounds: 0, at: 0 },
    lastFetch: event.counts,
    digest: event.digest,
    degraded: missing === undefined ? state.degraded : degradedBy(state.degraded, missing, at),
    nextWakeAt: at,
  };
}

function stayEnded(state: ResyncState, { because, at }: Of<'StayEnded'>): ResyncState {
  return {
    ...state,
    ...{ phase: 'ended', attempt: null, replay: null, parked: null, nextWakeAt: null },
    ...{ closesAt: null, closesLate: false, silentLeaves: 0 },
    refusedJoin: because === 'left' ? null : state.refusedJoin,
    completedAt: state.completedAt ?? at,
  };
}

function gapClosed(state: ResyncState, { missing, lackedHere, at }: Of<'GapClosed'>): ResyncState {
  const closed = { ...state, gapsOpen: Math.max(0, state.gapsOpen - 1) };
  if (missing === undefined && lackedHere === undefined) return closed;
  return {
    ...closed,
    degraded: missing === undefined ? state.degraded : degradedBy(state.degraded, missing, at),
    soughtAtGaps: lackedHere === undefined ? state.soughtAtGaps : (state.soughtAtGaps ?? 0),
    // What is missing is looked for on, as what the state of a join lacks. What one server names hurries no search that goes on.
    nextWakeAt: state.phase !== 'complete' || (missing === undefined && isSeeking(state)) ? state.nextWakeAt : at,
  };
}

function missingSought(state: ResyncState, { left, leftAtGaps = 0, wakeAt }: Of<'MissingSought'>): ResyncState {
  if (!isSeeking(state)) return state;
  const { degraded, soughtAtGaps } = state;
  // What several states lack is counted as the most that one of them does, until it is looked for.
  const count = Math.max(degraded?.count ?? 0, left);
  return {
    ...state,
    degraded: degraded && { ...degraded, count, found: count - left, sought: degraded.sought + 1 },
    soughtAtGaps: soughtAtGaps === null || leftAtGaps === 0 || wakeAt === null ? null : soughtAtGaps + 1,
    nextWakeAt: state.phase === 'complete' ? wakeAt : state.nextWakeAt,
  };
}

/** What was found is in its places once nothing is to be corrected any more: a room that lacks nothing then is whole. */
function eventsCorrected(state: ResyncState, { changed, remaining, members }: Of<'EventsCorrected'>): ResyncState {
  const { degraded } = state;
  const isWhole =
    state.phase === 'complete' &&
    remaining === 0 &&
    degraded !== null &&
    degraded.isOrphaned !== true &&
    degraded.found >= degraded.count;
  return {
    ...state,
    corrected: state.corrected + changed,
    members: members ?? state.members,
    degraded: isWhole ? null : degraded,
    nextWakeAt: isWhole && state.soughtAtGaps === null ? null : state.nextWakeAt,
  };
}
