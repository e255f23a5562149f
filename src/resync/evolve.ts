/**
 * The left fold of a room's control events into the state of its resync. The workflow, the `resyncs` projection and the CLI all
 * run this same `evolve`.
 */
import { type EventId, type ServerName } from '../matrix/identifiers.ts';
import { chooseCandidates, noCandidates } from './candidates.ts';
import { carried, degradedBy } from './degraded.ts';
import { type AttemptOutcome, type FailureClass, type ResyncEvent } from './events.ts';
import { outcomeOf, sayingOf } from './outcomes.ts';
import {
  type ReplayPoint,
  type ResyncState,
  type RoundTally,
  freshRound,
  initialResyncState,
  isRoundSpent,
  isSeeking,
} from './state.ts';

/** Events in `fetchAt`; and characters of them, since ids of the first room versions may be long. The rest are anchors. */
const FETCH_AT_MAX = 20;
const FETCH_AT_CHARS_MAX = 1_000;
/** Servers in `departed`, and characters of their names: of more than that the oldest have their old places again. */
const DEPARTED_MAX = 20;
const DEPARTED_CHARS_MAX = 600;
/** Of why a room is parked. */
const PARKED_CHARS_MAX = 300;
/** Of why a state is too large: its figures come first. */
const TOO_LARGE_CHARS_MAX = 200;
/** Servers that are back and are asked before the next round. */
const BACK_MAX = 5;
/** A round of refusals counts when it is so long after the one before: whoever had lost the room may have it again. */
const REFUSALS_APART_MS = 24 * 3_600_000;
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

/** There is something new to go by: a resync that waits, or is parked, asks everybody anew. */
function woken(state: ResyncState, at: number): Partial<ResyncState> {
  if (state.phase === 'parked') return { ...resumed(at), ...freshRound };
  // Whoever is new is to be asked beside the one that is back.
  if (state.phase === 'fetching' && state.askingOnly !== null) return { askingOnly: null };
  if (state.phase !== 'waiting') return {};
  // The round that was waited for starts now, under its number of before: being woken makes no pause longer.
  return { phase: 'fetching', round: Math.max(1, state.round - 1), nextWakeAt: at };
}

/** Nothing that was against the room counts any more. */
function resumed(at: number) {
  const fresh = { round: 1, refusals: { rounds: 0, at: 0 }, failingSince: at, parked: null };
  return { ...fresh, phase: 'fetching' as const, nextWakeAt: at };
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
      const isNews = chosen.ranks.spoke > state.ranks.spoke;
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
    case 'ResyncParked': {
      if (state.phase !== 'fetching' && state.phase !== 'waiting' && state.phase !== 'parked') return state;
      const { because, leaves, at } = event;
      const reason = event.reason.slice(0, PARKED_CHARS_MAX);
      const parked = { because, reason, isLeaving: leaves === true, at };
      return {
        ...state,
        ...freshRound,
        phase: 'parked',
        attempt: null,
        parked,
        nextWakeAt: leaves === true ? at : null,
      };
    }
    case 'ResyncResumed':
      if (state.phase !== 'waiting' && state.phase !== 'parked') return state;
      return { ...state, ...freshRound, ...resumed(event.at), notBefore: {} };
    case 'EventsWalked':
      return {
        ...state,
        walked: state.walked + event.walked,
        corrected: state.corrected + event.corrected,
        replay: moved(state.replay, event.corrected),
        nextWakeAt: event.at,
      };
    case 'Check6Replayed': {
      const { position, stateVersion, begun, at } = event;
      return { ...state, replay: { position, stateVersion, begun }, nextWakeAt: at };
    }
    case 'ResyncCompleted':
      return {
        ...state,
        phase: 'complete',
        attempt: null,
        members: event.members,
        replay: null,
        closesAt: null,
        completedAt: event.at,
        // What is missing is looked for on.
        nextWakeAt: isSeeking(state) ? event.at : null,
      };
    case 'JoinRejected':
      return { ...state, refusedJoin: `${event.userId}: ${event.reason}` };
    case 'JoinRestored':
      return state.refusedJoin?.startsWith(`${event.userId}: `) === true ? { ...state, refusedJoin: null } : state;
    case 'EverybodyLeft': {
      const { phase } = state;
      if (phase !== 'fetching' && phase !== 'waiting' && phase !== 'parked' && phase !== 'walking') return state;
      return { ...state, ...woken(state, event.at), closesAt: event.until, nextWakeAt: event.at };
    }
    case 'StayEnded':
      return stayEnded(state, event);
    case 'EventsCorrected':
      return eventsCorrected(state, event);
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
    ...woken(state, event.at),
  };
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

/** A server that says we are not in the room is asked last; one that says anything else of it has its place. */
function departures(
  { departed, candidates }: ResyncState,
  { resident, outcome }: Of<'StateFetchFailed'>,
): Pick<ResyncState, 'departed'> {
  const others = departed.filter((name) => name !== resident && candidates.includes(name));
  const isSilent = outcome === 'transient' || outcome === 'ours' || outcome === undefined;
  if (outcome !== 'not-in-room') return { departed: isSilent ? departed : others };
  const some: ServerName[] = [];
  let chars = DEPARTED_CHARS_MAX;
  for (const name of [resident, ...others.reverse()]) {
    chars -= name.length;
    if (chars < 0 || some.length >= DEPARTED_MAX) break;
    some.push(name);
  }
  return { departed: some.reverse() };
}

/** What is known of how quickly those answer who have answered; a journal from before it was kept says nothing of it. */
function latenciesOf(
  { latencies, candidates, ranks }: Pick<ResyncState, 'latencies' | 'candidates' | 'ranks'>,
  { resident, latencyMs }: Of<'StateFetched' | 'StateFetchFailed'>,
): ResyncState['latencies'] {
  if (latencyMs === undefined) return latencies;
  const answered = candidates.slice(0, ranks.answered);
  const known = { ...latencies, [resident]: latencyMs };
  return Object.fromEntries(Object.entries(known).filter(([name]) => answered.includes(name as ServerName)));
}

function stayEnded(state: ResyncState, { because, at }: Of<'StayEnded'>): ResyncState {
  return {
    ...state,
    ...{ phase: 'ended', attempt: null, replay: null, closesAt: null, parked: null, nextWakeAt: null },
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
    state.phase === 'complete' && remaining === 0 && degraded !== null && degraded.found >= degraded.count;
  return {
    ...state,
    corrected: state.corrected + changed,
    members: members ?? state.members,
    degraded: isWhole ? null : degraded,
    nextWakeAt: isWhole && state.soughtAtGaps === null ? null : state.nextWakeAt,
  };
}

function tallied(said: RoundTally, outcome: AttemptOutcome): RoundTally {
  const saying = sayingOf(outcome);
  return saying === undefined ? said : { ...said, [saying]: said[saying] + 1 };
}

/** A room that waits asks one that is back, and nobody else for it; more of them, while it does, have their turn too. */
function residentBack(state: ResyncState, { resident, because, at }: Of<'ResidentBack'>): ResyncState {
  // One more answer makes a state no smaller.
  const isFinal = state.parked?.because === 'too-large' || state.parked?.isLeaving === true;
  const isWaiting = (state.phase === 'waiting' || state.phase === 'parked') && !isFinal;
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
  const isDue = refusals.rounds === 0 || at - refusals.at >= REFUSALS_APART_MS;
  return said.refused > 0 && isDue ? { rounds: refusals.rounds + 1, at } : refusals;
}

function roundFailed(state: ResyncState, event: Of<'RoundFailed'>): ResyncState {
  const chosen =
    event.hints === undefined ? state : chooseCandidates(state, { hints: event.hints, replaceHints: true });
  // Those whom a spent round did not reach come first in the next one.
  const unreached = state.candidates.find((name) => !state.triedThisRound.includes(name));
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
    nextWakeAt: event.wakeAt,
  };
}

function without(record: Readonly<Record<string, number>>, name: ServerName): Readonly<Record<string, number>> {
  return Object.fromEntries(Object.entries(record).filter(([key]) => key !== name));
}
