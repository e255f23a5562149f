/**
 * One attempt of a resync: the state after one wanted event, from one resident (state-at.ts), with what is journalled about it.
 * Whatever a resident does, the attempt ends: by an outcome, or, when its worker died of it again and again, as abandoned.
 */
import { FederationError, oneLine } from '../../federation/error.ts';
import { type EventId } from '../../matrix/identifiers.ts';
import { reasonFor } from '../../resync/choice.ts';
import { type ResyncEvent } from '../../resync/events.ts';
import { outcomeOf } from '../../resync/outcomes.ts';
import { BEGINS_MAX, policyFor } from '../../resync/policy.ts';
import { type Attempt, type ResyncState, isAttemptWanted } from '../../resync/state.ts';
import { readAnchorsToFetch } from '../../store/events/anchors.ts';
import { type LackedEvent, forgetMissingSoFar } from '../../store/events/missing-events.ts';
import { append } from '../../store/journal/journal.ts';
import { type Transaction, withTransaction } from '../../store/open-store.ts';
import { lockResync } from '../../store/journal/rooms.ts';
import { type FetchAttempt } from '../../store/tables/fetch-progress.ts';
import { countBegin, forgetBegins, takeBackBegin } from '../../store/tables/fetch-attempts.ts';
import { type RoomsContext } from '../context.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { compareStates } from './compare-states.ts';
import { askIfHealthy } from './destination-health.ts';
import { type Place } from './fetch-places.ts';
import { findJoinThatCites } from './join-that-cites.ts';
import { meterRequests } from './meter.ts';
import { lackingOf, recordFetched, settleAnswer } from './settle-answer.ts';
import { type FetchedState, fetchStateAt } from './state-at.ts';
import { type Progress } from './state-intake.ts';

export interface StateFetch extends FetchAttempt, Attempt {
  /** As in `StateRequest`. */
  readonly place?: Place;
}

const NEVER = new AbortController().signal;

/**
 * Runs one attempt and journals its outcome, `StateFetched` or `StateFetchFailed`. Does nothing when the outcome is
 * journalled already or the epoch has changed. Throws only for faults of ours (database, cancellation), which are retried.
 *
 * @param over aborted when our time in the room is over (while-staying.ts)
 */
export async function fetchState(
  context: RoomsContext,
  fetch: StateFetch,
  progress: Progress,
  over: AbortSignal = NEVER,
): Promise<void> {
  const begun = await begin(context, fetch);
  if (begun === null) return;
  const { resync, begins } = begun;
  const meter = meterRequests(context.federation, context.clock);
  const stored = { isNews: false };
  const onStored = (): Promise<void> => {
    stored.isNews = true;
    return forgetBegins(context.store, fetch);
  };
  let outcome: Outcome;
  let failure: unknown;
  try {
    if (begins > BEGINS_MAX) throw abandoned(fetch);
    const metered = { ...context, federation: meter.federation };
    outcome = await runUnlessOver(metered, { ...fetch, onStored }, resync, progress, over);
  } catch (error) {
    if (progress.signal.aborted) {
      if (progress.isOrderly?.() !== false) await takeBackBegin(context.store, fetch).catch(() => undefined);
      throw error;
    }
    if (!(error instanceof FederationError)) {
      await noteHindered(context, fetch, error);
      throw error;
    }
    failure = error;
    outcome = { event: failureOf(context, fetch, resync, error, stored.isNews ? 0 : (meter.cost().bytes ?? 0)) };
  }
  const { fetched } = outcome;
  const event = { ...outcome.event, ...meter.cost(failure) };
  await withTransaction(context.store, async (tx) => {
    const stay = await lockResync(tx, fetch.roomId, fetch.epoch);
    if (stay?.resync.attempt?.attemptNo !== fetch.attemptNo) return;
    if (event.type === 'StateFetched' && fetched !== undefined) {
      const { roomId, epoch, atEventId } = fetch;
      await recordFetched(tx, { roomId, epoch, anchorId: atEventId, at: event.at }, fetched);
      const further = await furtherAnchors(tx, fetch, stay.resync);
      // What other states lack is missing still, and since when it is.
      if (further.length === 0 && isLast(fetch, stay.resync)) await forgetMissingSoFar(tx, roomId);
      await append(tx, stay.room, [further.length === 0 ? event : { ...event, further }]);
    } else {
      await append(tx, stay.room, [event]);
    }
  });
}

interface BegunFetch extends StateFetch {
  /** Events were stored that had not been there. */
  readonly onStored: () => Promise<void>;
}

interface Outcome {
  readonly event: Extract<ResyncEvent, { type: 'StateFetched' | 'StateFetchFailed' }>;
  /** Absent: the attempt failed. */
  readonly fetched?: FetchedState;
}

/** @throws FederationError when our time in the room is over before its answer is whole */
async function runUnlessOver(
  context: RoomsContext,
  fetch: BegunFetch,
  resync: ResyncState,
  progress: Progress,
  over: AbortSignal,
): Promise<Outcome> {
  try {
    return await run(context, fetch, resync, { ...progress, signal: AbortSignal.any([progress.signal, over]) });
  } catch (error) {
    if (!over.aborted || progress.signal.aborted) throw error;
    const reason = 'everybody of us has left the room, and its answer did not come in time';
    throw new FederationError(fetch.resident, 'timeout', reason, { cause: error });
  }
}

function abandoned({ resident }: StateFetch): FederationError {
  return new FederationError(
    resident,
    'abandoned',
    `its answer was begun ${BEGINS_MAX} times, and each time nothing of it was stored before the work ended`,
  );
}

function failureOf(
  context: RoomsContext,
  fetch: StateFetch,
  resync: ResyncState,
  error: FederationError,
  oldBytes: number,
): Outcome['event'] {
  const { attemptNo, resident, atEventId } = fetch;
  const at = context.clock.now();
  const hasAnswered = resync.candidates.slice(0, resync.ranks.answered).includes(resident);
  return {
    type: 'StateFetchFailed',
    ...{ attemptNo, resident, atEventId },
    failure: error.kind,
    outcome: outcomeOf(error.kind, { hasAnswered, sinceJoinMs: at - (resync.joinedAt ?? 0), oldBytes }),
    reason: error.message,
    ...(error.retryAfterMs === undefined ? {} : { retryAt: at + error.retryAfterMs }),
    at,
  };
}

/**
 * Says in the journal that trouble of ours keeps an attempt from its end, once for an attempt however often it is tried. Where the
 * trouble is the database's there is nothing to write to: it is in the log, and with the activity in Temporal.
 */
async function noteHindered({ store, clock, logger }: RoomsContext, fetch: StateFetch, error: unknown): Promise<void> {
  const { roomId, epoch, attemptNo, resident } = fetch;
  const reason = oneLine(error instanceof Error ? `${error.name}: ${error.message}` : String(error));
  try {
    await withTransaction(store, async (tx) => {
      const stay = await lockResync(tx, roomId, epoch);
      const isUnderWay = stay?.resync.attempt?.attemptNo === attemptNo;
      if (!isUnderWay || stay.resync.hinderedAttempt === attemptNo) return;
      await append(tx, stay.room, [{ type: 'StateFetchHindered', attemptNo, resident, reason, at: clock.now() }]);
    });
  } catch (failure) {
    logger.debug({ err: failure, roomId }, 'trouble of ours could not be journalled');
  }
}

/** Journals the start, once, and counts each begin; `null` when there is nothing (left) to do. */
async function begin(
  context: RoomsContext,
  fetch: StateFetch,
): Promise<{ readonly resync: ResyncState; readonly begins: number } | null> {
  return withTransaction(context.store, async (tx) => {
    const stay = await lockResync(tx, fetch.roomId, fetch.epoch);
    if (stay === undefined) return null;
    const { room, resync } = stay;
    if (resync.attempt?.attemptNo !== fetch.attemptNo) {
      if (!isAttemptWanted(resync, fetch)) return null;
      const { attemptNo, resident, atEventId, atJoin } = fetch;
      const started = { attemptNo, resident, atEventId, ...(atJoin === true ? { atJoin } : {}) };
      const because = reasonFor(resync, resident);
      await append(tx, room, [{ type: 'StateFetchStarted', ...started, because, at: context.clock.now() }]);
    }
    return { resync, begins: await countBegin(tx, fetch) };
  });
}

/** One attempt: what is wanted of the resident, taken in, judged, and made a state. */
async function run(
  context: RoomsContext,
  fetch: BegunFetch,
  resync: ResyncState,
  progress: Progress,
): Promise<Outcome> {
  const { roomId, epoch, resident, atEventId, attemptNo } = fetch;
  const before = fetch.atJoin === true ? await findJoinThatCites(context.store, roomId, epoch, atEventId) : undefined;
  const request = {
    roomId,
    rules: rulesOfJoined(resync.roomVersion ?? ''),
    resident,
    atEventId,
    before,
    banned: resync.control.banned,
    settle: (lacked: readonly LackedEvent[], wanted: Iterable<EventId>) =>
      settleAnswer(context, { roomId, epoch, resident }, lacked, wanted),
    onStored: fetch.onStored,
    place: fetch.place,
  };
  const given = await askIfHealthy(context, resident, (onReceived) =>
    fetchStateAt(context, { ...request, onReceived }, progress),
  );
  const { stateQuorum = 1 } = policyFor(context.policy, resync.control.policy);
  const comparison =
    stateQuorum > 1 && given.missing.size === 0
      ? await compareStates(context, request, resync, given, stateQuorum, progress)
      : undefined;
  const state = comparison?.state ?? given;
  const { snapshotId, counts, digest } = state;
  const outcome = { attemptNo, resident, atEventId, snapshotId, counts, digest };
  const compared = comparison === undefined ? {} : { compared: comparison.compared };
  return {
    event: { type: 'StateFetched', ...outcome, ...compared, ...lackingOf(state), at: context.clock.now() },
    fetched: state,
  };
}

/** Nothing else is wanted that the state of the resync has a place for. */
function isLast({ atEventId }: StateFetch, { fetchAt }: ResyncState): boolean {
  return fetchAt.every((eventId) => eventId === atEventId);
}

/** When what the state of the resync has places for is fetched: the anchors beyond. */
async function furtherAnchors(tx: Transaction, fetch: StateFetch, resync: ResyncState): Promise<readonly EventId[]> {
  if (!isLast(fetch, resync)) return [];
  return (await readAnchorsToFetch(tx, fetch.roomId)).filter((eventId) => eventId !== fetch.atEventId);
}
