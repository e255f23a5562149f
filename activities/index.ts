/**
 * The activities a worker registers: thin. Each looks at the journal first, does its work through a use case, and answers
 * with every control event journalled since the workflow last looked.
 */
import { activityInfo, cancellationSignal, heartbeat } from '@temporalio/activity';
import { type RoomsContext } from '../src/rooms/context.ts';
import { type FetchNumbers } from '../src/rooms/resync/fetch-progress.ts';
import { correctEvents } from '../src/rooms/resync/correct-events.ts';
import { endRound } from '../src/rooms/resync/end-round.ts';
import { endStay } from '../src/rooms/resync/end-stay.ts';
import { fetchGaps } from '../src/rooms/resync/fetch-gaps.ts';
import { WANTED, urgencyOf } from '../src/rooms/resync/fetch-order.ts';
import { type Place, createFetchPlaces } from '../src/rooms/resync/fetch-places.ts';
import { fetchState } from '../src/rooms/resync/fetch-state.ts';
import { inStay } from '../src/rooms/in-stay.ts';
import { finishStaleJoins } from '../src/rooms/join/finish-joins.ts';
import { obey } from '../src/rooms/operate/obey.ts';
import { leaveGivenUp } from '../src/rooms/resync/parked.ts';
import { makeSilentLeaves } from '../src/rooms/send/make-silent-leaves.ts';
import { seekMissing } from '../src/rooms/resync/seek-missing.ts';
import { waitersOf } from '../src/rooms/read/wanted-rooms.ts';
import { type GapsDue } from '../src/resync/next-action.ts';
import { countCorrectionsDue } from '../src/store/events/corrections.ts';
import { readGapsDue } from '../src/store/events/gaps.ts';
import { type RoomId } from '../src/matrix/identifiers.ts';
import { type Progress } from '../src/rooms/resync/state-intake.ts';
import { walkPartialEvents } from '../src/rooms/resync/walk.ts';
import { whileStaying } from '../src/rooms/resync/while-staying.ts';
import { initialResyncState } from '../src/resync/state.ts';
import { StayOverError } from '../src/store/fence.ts';
import { readResyncEvents } from '../src/store/journal/journal.ts';
import { type ResyncRow, readResync } from '../src/store/journal/rooms.ts';
import { type Activities, type ControlEvents, type RoomCursor } from '../src/temporal/contract.ts';
import { trimForTransport } from '../src/resync/transport.ts';
import { createProgressWriter } from './fetch-progress.ts';
import { maintain } from './maintain.ts';
import { type AttemptObserver, watchAttempts } from './watch-attempts.ts';
import { type SweepDependencies, ringOverdue } from './ring-overdue.ts';
import { wakeRecovered } from './wake-recovered.ts';

/** States of joins: each holds a response stream and a few verification batches, and then what judging a whole state takes. */
const FETCH_PLACES = { inAll: 8, ofServer: 4 } as const;
/** And states at gaps, apart from those: whoever pushes events has a say in how many there are. */
const GAP_PLACES = { inAll: 16, ofServer: 4 } as const;

export interface ActivityDependencies extends SweepDependencies {
  readonly rooms: RoomsContext;
  /** Told of each attempt as it begins; absent: nobody counts. */
  readonly onAttempt?: AttemptObserver;
}

export function createActivities(dependencies: ActivityDependencies): Activities {
  const { rooms, onAttempt = () => undefined } = dependencies;
  const { store } = rooms;
  const fetchPlaces = createFetchPlaces(FETCH_PLACES);
  const gapPlaces = createFetchPlaces(GAP_PLACES);

  /** What is rows of its own, as far as there is any. */
  const dueOf = async (
    roomId: RoomId,
    epoch: number,
    resync: ResyncRow | undefined,
  ): Promise<{ readonly gaps?: GapsDue; readonly corrections?: number; readonly waiters?: number }> => {
    const waiters = waitersOf(resync, rooms.clock.now());
    const gaps = await readGapsDue(store, roomId, epoch);
    const corrections = await countCorrectionsDue(store, roomId);
    return {
      ...(gaps.open === 0 ? {} : { gaps }),
      ...(corrections === 0 ? {} : { corrections }),
      ...(waiters === 0 ? {} : { waiters }),
    };
  };
  const eventsSince = async ({ roomId, epoch, sinceSeq }: RoomCursor): Promise<ControlEvents> => {
    const resync = await readResync(store, roomId);
    const events = await readResyncEvents(store, roomId, epoch, sinceSeq);
    return {
      epoch: resync?.epoch ?? 0,
      events: events.map(({ seq, event }) => ({ seq, event: trimForTransport(event) })),
      ...(await dueOf(roomId, epoch, resync)),
    };
  };
  /** Does something in a stay, which is refused once that is over, and tells what was journalled. */
  const staying = async (
    cursor: RoomCursor,
    work: (rooms: RoomsContext, beat: Beat) => Promise<unknown>,
  ): Promise<ControlEvents> => {
    try {
      await whileAlive((beat) => work(inStay(rooms, cursor), beat));
    } catch (error) {
      if (!(error instanceof StayOverError)) throw error;
    }
    return eventsSince(cursor);
  };
  const activities: Activities = {
    loadResync: ({ roomId }) =>
      whileAlive(async () => {
        const resync = await readResync(store, roomId);
        return {
          roomId,
          epoch: resync?.epoch ?? 0,
          seq: resync?.seq ?? 0,
          state: resync?.state ?? initialResyncState,
          ...(await dueOf(roomId, resync?.epoch ?? 0, resync)),
        };
      }),
    fetchState: (input) =>
      staying(input, async (rooms, beat) => {
        const writer = createProgressWriter(rooms, input);
        try {
          await whileStaying(rooms, { ...input, attempt: input, until: 'last-round-ends' }, async (over, isWanted) => {
            const unwanted = await urgencyOf(rooms, input.roomId);
            const urgency = (): number => (isWanted() ? WANTED : unwanted);
            const signal = AbortSignal.any([cancellationSignal(), over]);
            const work = (place: Place): Promise<void> =>
              fetchState(rooms, { ...input, place }, progress(beat, writer.report), over);
            await fetchPlaces.run(input.resident, { signal, urgency }, work).catch((error: unknown) => {
              // It had no place in time: the workflow sees that the round is over.
              if (!over.aborted || cancellationSignal().aborted || error !== signal.reason) throw error;
            });
          });
        } finally {
          await writer.close();
        }
      }),
    endRound: (input) => staying(input, (rooms) => endRound(rooms, input)),
    endStay: (input) => staying(input, (rooms) => endStay(rooms, input)),
    commandRoom: (input) => whileAlive(() => obey(rooms, input)),
    resumeResync: (input) =>
      staying(input, (rooms) =>
        obey(rooms, { roomId: input.roomId, name: 'resume', body: undefined, isSignal: false }),
      ),
    leaveRoom: (input) =>
      staying(input, async (rooms) => {
        await makeSilentLeaves(rooms, input);
        await leaveGivenUp(rooms, input);
      }),
    walkEvents: (input) =>
      staying(input, (rooms, beat) => walkPartialEvents(rooms, input.roomId, input.epoch, progress(beat))),
    correctEvents: (input) => staying(input, (rooms, beat) => correctEvents(rooms, input, progress(beat))),
    fetchGaps: (input) => staying(input, (rooms, beat) => fetchGaps(rooms, input, progress(beat), gapPlaces)),
    seekMissing: (input) => staying(input, (rooms, beat) => seekMissing(rooms, input, progress(beat))),
    sweep: (input) =>
      whileAlive(async (beat) => {
        const woken = await wakeRecovered(rooms, progress(beat));
        return { ...(await ringOverdue(dependencies, input, progress(beat))), woken };
      }),
    maintain: (input) => whileAlive((beat) => maintain(dependencies, input, progress(beat))),
    finishJoins: () => whileAlive(async () => ({ finished: await finishStaleJoins(rooms, cancellationSignal()) })),
  };
  return watchAttempts(activities, rooms.logger, onAttempt);
}

/** A sign of life; with numbers, they are what the Temporal UI shows of the running activity. */
type Beat = (numbers?: FetchNumbers) => void;

/** What a use case is given to be cancelled by and to report to. */
function progress(beat: Beat, report: (numbers: FetchNumbers) => void = () => undefined): Progress {
  const signal = cancellationSignal();
  return {
    signal,
    // A run that did not heartbeat in time has died of something; all other ends are somebody's will.
    isOrderly: () => signal.reason instanceof Error && signal.reason.message !== 'TIMED_OUT',
    heartbeat: (numbers) => {
      beat(numbers);
      if (numbers !== undefined) report(numbers);
    },
  };
}

/**
 * Heartbeats on a timer too: a resident that is silent for a while is no reason to believe that this worker is dead. A
 * beat without numbers repeats the last ones, or it would wipe them.
 */
async function whileAlive<T>(work: (beat: Beat) => Promise<T>): Promise<T> {
  const everyMs = (activityInfo().heartbeatTimeoutMs ?? 30_000) / 3;
  let last: FetchNumbers | undefined;
  const beat: Beat = (numbers = last) => {
    last = numbers;
    if (numbers === undefined) heartbeat();
    else heartbeat(numbers);
  };
  const timer = setInterval(beat, everyMs);
  try {
    return await work(beat);
  } finally {
    clearInterval(timer);
  }
}
