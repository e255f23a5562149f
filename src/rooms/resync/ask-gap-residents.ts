/** One attempt at the state at a gap: a few residents, one after the other, each for as long as it may take. */
import { FederationError } from '../../federation/error.ts';
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { isInPart } from '../../resync/outcomes.ts';
import { type BegunGap, type Gap, forgetGapBegins } from '../../store/events/gaps.ts';
import { type LackedEvent } from '../../store/events/missing-events.ts';
import { readResync } from '../../store/journal/rooms.ts';
import { type RoomsContext } from '../context.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { askIfHealthy } from './destination-health.ts';
import { type FetchPlaces, NoPlaceError, type Place } from './fetch-places.ts';
import { chooseGapResidents } from './gap-residents.ts';
import { settleAnswer } from './settle-answer.ts';
import { type FetchedState, fetchStateAt } from './state-at.ts';
import { type Progress } from './state-intake.ts';

/**
 * For the whole state from one resident, however slowly it sends: half a minute in the first attempt, and twice as long in
 * each that follows. What came is kept, so that a state that takes minutes goes on where it was.
 */
const RESIDENT_MS_MIN = 30_000;
const RESIDENT_MS_MAX = 5 * 60_000;
/** How long a gap waits while a resident is asked for as many states of other rooms as one may be; then another is asked, or later. */
const PLACE_MS_MAX = 10_000;

export interface Stay {
  readonly roomId: RoomId;
  readonly epoch: number;
}

/** What the attempts of one pass over the gaps of a room share. */
export interface GapPass {
  readonly context: RoomsContext;
  readonly stay: Stay;
  readonly places: FetchPlaces;
  /** It does not begin anything any more, since others wait. */
  isEnding: boolean;
  /** Aborted when others have waited for long enough. */
  readonly late: AbortController;
}

/** What came of an attempt. */
export type Outcome =
  /** `known`: how many servers are known that might have been asked. */
  | {
      readonly type: 'fetched';
      readonly resident: ServerName;
      readonly state: FetchedState;
      readonly known: number;
    }
  /** Absent: no server is known that could be asked. */
  | { readonly type: 'failed'; readonly failure: FederationError | undefined }
  /** It is no attempt, for nobody could be asked, or it had stored something when others could not wait for it any longer. */
  | { readonly type: 'put-off'; readonly until: number; readonly reason: string };

const NOBODY_ASKED = 'all servers that are known in the room are out of reach, or want to be left alone';
const ASKED_ENOUGH = 'those who may know it are asked for as many states at a time as a server may be';
const GOES_ON = 'the state at it comes in parts, and other work of the room had its turn';

/** Asks one resident after the other. Rejects when `progress` is aborted, and for faults of ours. */
export async function askGapResidents(pass: GapPass, gap: Gap, begun: BegunGap, progress: Progress): Promise<Outcome> {
  const { context, stay } = pass;
  const { residents, known, restingUntil } = await chooseGapResidents(context, stay.roomId, gap, begun);
  let failure: FederationError | undefined;
  let until = restingUntil;
  let isBusy = false;
  const asked: ServerName[] = [];
  const stored = { something: false };
  const onStored = (): Promise<void> => {
    stored.something = true;
    return forgetGapBegins(context.store, stay.roomId, gap.eventId);
  };
  for (const resident of residents) {
    if (asked.length > 0 && pass.isEnding) break;
    const waiting = { signal: progress.signal, waitMs: PLACE_MS_MAX };
    try {
      const ask = (place: Place) =>
        askIfHealthy(context, resident, (onReceived) => {
          asked.push(resident);
          // Nobody else may know the gap's event, and yet what its state names: asked once an attempt, whoever gives it in part.
          const others = isInPart(failure?.kind) ? [] : residents.filter((other) => other !== resident);
          const request = {
            eventId: gap.eventId,
            resident,
            others,
            attempts: begun.attempts,
            known,
            onStored,
            onReceived,
            place,
          };
          return inTime(pass, progress, request, (bounded) => stateAtGap(context, stay, request, bounded));
        });
      return { type: 'fetched', resident, known, state: await pass.places.run(resident, waiting, ask) };
    } catch (told) {
      if (progress.signal.aborted) throw told;
      if (told instanceof NoPlaceError) {
        isBusy = true;
        continue;
      }
      if (!(told instanceof FederationError)) throw told;
      // Who gave most of the state says more of the gap than who was out of reach.
      if (!isInPart(failure?.kind)) failure = told;
      // Another room has asked it since the others were chosen.
      if (asked.length === 0) until = Math.min(until ?? Infinity, context.clock.now() + (told.retryAfterMs ?? 0));
    }
  }
  if (stored.something && pass.late.signal.aborted) {
    return { type: 'put-off', until: context.clock.now(), reason: GOES_ON };
  }
  if (asked.length > 0 || (until === null && !isBusy)) return { type: 'failed', failure };
  return { type: 'put-off', until: until ?? 0, reason: isBusy ? ASKED_ENOUGH : NOBODY_ASKED };
}

/** Ends with a request that lasts too long: the resident's whole time is up, or others have waited for long enough. */
async function inTime(
  pass: GapPass,
  progress: Progress,
  { attempts, resident }: Pick<GapRequest, 'attempts' | 'resident'>,
  work: (bounded: Progress) => Promise<FetchedState>,
): Promise<FetchedState> {
  const timeUp = AbortSignal.timeout(residentMs(attempts));
  const late = AbortSignal.any([timeUp, pass.late.signal]);
  try {
    return await work({ ...progress, signal: AbortSignal.any([progress.signal, late]) });
  } catch (error) {
    if (progress.signal.aborted || !late.aborted) throw error;
    const isSilence = timeUp.aborted;
    throw new FederationError(resident, 'timeout', 'the state at the gap took too long', { isSilence });
  }
}

function residentMs(attempts: number): number {
  return Math.min(RESIDENT_MS_MIN * 2 ** Math.max(0, attempts - 1), RESIDENT_MS_MAX);
}

interface GapRequest {
  readonly eventId: EventId;
  readonly resident: ServerName;
  readonly others: readonly ServerName[];
  readonly attempts: number;
  readonly known: number;
  readonly onStored: () => Promise<void>;
  readonly onReceived: () => void;
  readonly place: Place;
}

async function stateAtGap(
  context: RoomsContext,
  { roomId, epoch }: Stay,
  asked: GapRequest,
  progress: Progress,
): Promise<FetchedState> {
  const { eventId, resident, others, attempts, known, onStored, onReceived, place } = asked;
  const resync = await readResync(context.store, roomId);
  const request = {
    roomId,
    rules: rulesOfJoined(resync?.state.roomVersion ?? ''),
    ...{ resident, others, atEventId: eventId, banned: resync?.state.control.banned ?? [] },
    settle: (lacked: readonly LackedEvent[], wanted: Iterable<EventId>) =>
      settleAnswer(context, { roomId, epoch, resident, gap: { attempts, known } }, lacked, wanted),
    onReceived,
    onStored,
    place,
  };
  return fetchStateAt(context, request, progress);
}
