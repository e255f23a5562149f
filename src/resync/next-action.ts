/** What a resync does next, decided from the journal alone. Pure: the workflow calls it with its own deterministic clock. */
import { type EventId, type ServerName } from '../matrix/identifiers.ts';
import { inOrder } from './choice.ts';
import { type Attempt, type ResyncState, isCancelled, isRoundSpent, isSeeking, willingFrom } from './state.ts';

export type NextAction =
  /** Ask `resident` for the state before `atEventId`, or with `atJoin` for the one before the join that cites it. */
  | ({ readonly type: 'fetchState' } & Attempt)
  /** No candidate is left in this round: journal when the next one starts. */
  | { readonly type: 'endRound'; readonly round: number }
  | { readonly type: 'sleep'; readonly untilMs: number; readonly round: number }
  /** Wait until somebody rings, however long; `since`: when it was parked. */
  | { readonly type: 'park'; readonly since: number }
  /** Our users leave the room: it is given up, or their leaves were put off until now. */
  | { readonly type: 'leaveRoom' }
  /** Ask for the states at the gaps that are due. */
  | { readonly type: 'fetchGaps' }
  /** Look for what the state of a degraded room lacks, or one at a gap. */
  | { readonly type: 'seekMissing' }
  /** Look again at what builds on a verdict or a state that has changed. */
  | { readonly type: 'correct' }
  /** Judge the partial events again, and complete when none is left. */
  | { readonly type: 'walk' }
  /** Everybody has left, and the last round is over. */
  | { readonly type: 'endStay' }
  | { readonly type: 'close'; readonly because: 'complete' | 'absent' | 'ended' | 'cancelled' };

/** What is known of a room's gaps, which are rows of their own. */
export interface GapsDue {
  /** At which somebody is still to be asked. */
  readonly open: number;
  /** When the first of them is due, milliseconds; `null`: none is open. */
  readonly nextAt: number | null;
  /** Of these, those that nobody was asked about yet. */
  readonly untried: number;
  /** Attempts made at them: one that failed is no control event, and yet something was done. */
  readonly attempts: number;
}

export const noGaps: GapsDue = { open: 0, nextAt: null, untried: 0, attempts: 0 };

/** A room whose state has come is walked after this, whatever gaps are open, milliseconds. */
const GAPS_BEFORE_WALK_MS = 30_000;

/**
 * When trying gaps has to end, since other work of the room is due then, milliseconds since the Unix epoch; `null`: nothing
 * else is waited for. Before a walk all gaps together have half a minute; in the pauses between rounds at least as long.
 */
export function gapsEndAt(state: ResyncState, now: number): number | null {
  if (state.phase === 'walking') return (state.nextWakeAt ?? 0) + GAPS_BEFORE_WALK_MS;
  if (state.phase === 'waiting') return Math.max(state.nextWakeAt ?? now, now + GAPS_BEFORE_WALK_MS);
  return null;
}

/**
 * What a resync in this state does next. `now`: milliseconds since the Unix epoch.
 *
 * Gaps keep no room partial: while a state is to be fetched they are tried in the pauses, before a walk once each, since events
 * that build on them are judged better with their state, and in a whole room when they are due.
 *
 * When everybody of us has left, residents are asked for the states of joins alone: whom this round has not asked yet, or in further
 * rounds those that do not refuse, as long as the time for that lasts. A state that was had by then is walked.
 *
 * @param correctionsDue events, or the changes of events, that can be looked at now.
 * @param last what was done before. Where given, kinds of work that are due all the time take turns; it is advice, not memory.
 */
export function nextAction(
  state: ResyncState,
  now: number,
  gaps: GapsDue = noGaps,
  correctionsDue = 0,
  last?: NextAction['type'],
): NextAction {
  const gapsAreDue = gaps.nextAt !== null && gaps.nextAt <= now;
  switch (state.phase) {
    case 'absent':
      return { type: 'close', because: 'absent' };
    case 'ended':
      return { type: 'close', because: 'ended' };
    case 'complete': {
      if (state.silentLeaves > 0) return { type: 'leaveRoom' };
      const isSeekingDue = isSeeking(state) && isDue(state, now);
      const type = inTurn({ correct: correctionsDue > 0, fetchGaps: gapsAreDue, seekMissing: isSeekingDue }, last);
      if (type !== undefined) return { type };
      if (gaps.nextAt !== null) return { type: 'sleep', untilMs: gaps.nextAt, round: state.round };
      return { type: 'close', because: 'complete' };
    }
    case 'walking': {
      // The walk corrects between its batches, too.
      if (correctionsDue > 0 && last !== 'correct') return { type: 'correct' };
      // Who can open a gap can open the next one: a walk waits for them once, and not for long.
      const mayWait = state.closesAt === null && state.walked === 0 && now < (gapsEndAt(state, now) ?? 0);
      return gapsAreDue && gaps.untried > 0 && mayWait ? { type: 'fetchGaps' } : { type: 'walk' };
    }
    case 'parked':
      if (isCancelled(state)) {
        return state.closesAt === null ? { type: 'close', because: 'cancelled' } : { type: 'endStay' };
      }
      if (state.closesAt !== null) return { type: 'endStay' };
      if (state.parked?.isLeaving === true || state.silentLeaves > 0) return { type: 'leaveRoom' };
      if (gapsAreDue) return { type: 'fetchGaps' };
      if (gaps.nextAt !== null) return { type: 'sleep', untilMs: gaps.nextAt, round: state.round };
      return { type: 'park', since: state.parked?.at ?? 0 };
    case 'waiting':
      if (state.closesAt !== null) return lastRound(state, state.closesAt, now);
      if (state.nextWakeAt !== null && state.nextWakeAt > now) {
        if (gapsAreDue) return { type: 'fetchGaps' };
        const untilMs = Math.min(state.nextWakeAt, gaps.nextAt ?? state.nextWakeAt);
        return { type: 'sleep', untilMs, round: state.round };
      }
      return nextFetch(state, now);
    case 'fetching':
      return state.closesAt === null ? nextFetch(state, now) : lastRound(state, state.closesAt, now);
  }
}

function lastRound(state: ResyncState, closesAt: number, now: number): NextAction {
  if (now >= closesAt) return { type: 'endStay' };
  if (!state.closesLate) {
    const next = nextFetch(state, now);
    return next.type === 'endRound' ? { type: 'endStay' } : next;
  }
  if (state.phase === 'waiting' && state.nextWakeAt !== null && state.nextWakeAt > now) {
    return { type: 'sleep', untilMs: Math.min(state.nextWakeAt, closesAt), round: state.round };
  }
  // Whoever says that we are not in the room has nothing for us any more.
  const willing = state.candidates.filter((name) => !state.departed.includes(name));
  return willing.length === 0 && state.attempt === null ? { type: 'endStay' } : nextFetch(state, now, willing);
}

/** What a whole room may have to do, in the order of their turns. */
const BY_TURNS = ['correct', 'fetchGaps', 'seekMissing'] as const;
type OfAWholeRoom = (typeof BY_TURNS)[number];

function inTurn(
  due: Readonly<Record<OfAWholeRoom, boolean>>,
  last: NextAction['type'] | undefined,
): OfAWholeRoom | undefined {
  const next = BY_TURNS.findIndex((type) => type === last) + 1;
  return [...BY_TURNS.slice(next), ...BY_TURNS.slice(0, next)].find((type) => due[type]);
}

function isDue({ nextWakeAt }: ResyncState, now: number): boolean {
  return nextWakeAt !== null && nextWakeAt <= now;
}

/** @param among those that may be asked */
function nextFetch(state: ResyncState, now: number, among: readonly ServerName[] = state.candidates): NextAction {
  // An attempt without an outcome was cut off (worker killed, run reset): it goes on under its own number.
  if (state.attempt !== null) return { type: 'fetchState', ...state.attempt };
  if (state.fetchAt.length === 0) return { type: 'walk' };
  const next = isRoundSpent(state) ? undefined : nextRequest(state, now, among);
  if (next === undefined) return { type: 'endRound', round: state.round };
  return { type: 'fetchState', attemptNo: state.attempts + 1, ...next };
}

/**
 * A resident is asked for all that is wanted before the next one is: one event that cannot be had keeps no other waiting.
 * When everybody was asked and an event is one that nobody knows, they are asked for the state before the join that cites it.
 */
function nextRequest(
  state: ResyncState,
  now: number,
  among: readonly ServerName[],
): Omit<Attempt, 'attemptNo'> | undefined {
  const ordered = inOrder(state).filter((name) => among.includes(name));
  const isWilling = (name: ServerName): boolean => willingFrom(state, name) <= now;
  const firstOf = (wanted: readonly EventId[], tried: readonly ServerName[], asked: readonly EventId[]) => {
    for (const resident of ordered) {
      if (tried.includes(resident) || !isWilling(resident)) continue;
      const had = resident === state.asking ? asked : [];
      const atEventId = wanted.find((eventId) => !had.includes(eventId));
      if (atEventId !== undefined) return { resident, atEventId };
    }
    return undefined;
  };
  const unknown = state.unknown.filter((eventId) => state.fetchAt.includes(eventId));
  if (!state.atJoins) {
    const next = firstOf(state.fetchAt, state.triedThisRound, state.asked);
    if (next !== undefined) return next;
  }
  const [tried, asked] = state.atJoins ? [state.triedThisRound, state.asked] : [[], []];
  const next = firstOf(unknown, tried, asked);
  return next && { ...next, atJoin: true };
}
