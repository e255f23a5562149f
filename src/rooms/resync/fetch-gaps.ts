/**
 * The states at a room's gaps: missing events that ours cite. Fetched as those of a join are, from residents; each attempt is
 * counted before anybody is asked, and what came of it is in the gap's row. Only what settles a gap is journalled.
 */
import { FederationError } from '../../federation/error.ts';
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type ResyncEvent } from '../../resync/events.ts';
import { gapsEndAt } from '../../resync/next-action.ts';
import { BEGINS_MAX, GAP_ATTEMPT_MS_MAX, nextGapAttemptAt } from '../../resync/policy.ts';
import {
  type BegunGap,
  type Gap,
  beginGap,
  forgetGapBegins,
  readGaps,
  recordGapFailure,
  takeBackGapAttempt,
} from '../../store/events/gaps.ts';
import { type LackedEvent } from '../../store/events/missing-events.ts';
import { append } from '../../store/journal/journal.ts';
import { lockResync, readResync } from '../../store/journal/rooms.ts';
import { type Transaction, withTransaction } from '../../store/open-store.ts';
import { type RoomsContext } from '../context.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { createLanes } from '../lanes.ts';
import { byTurns } from '../gap-places.ts';
import { askIfHealthy } from './destination-health.ts';
import { chooseGapResidents } from './gap-residents.ts';
import { lackingOf, recordFetched, settleAnswer } from './settle-answer.ts';
import { type FetchedState, fetchStateAt } from './state-at.ts';
import { type Progress } from './state-intake.ts';

/** No further gap is begun in a pass after this; who asks is asked how things stand then. */
const PASS_MS_MAX = 60_000;
/** Gaps that are tried side by side: those whose residents are slow keep no others waiting. */
const GAPS_AT_ONCE = 4;
/**
 * For the whole state from one resident, however slowly it sends: half a minute in the first attempt, and twice as long in
 * each that follows. What came is kept, so that a state that takes minutes goes on where it was.
 */
const RESIDENT_MS_MIN = 30_000;
const RESIDENT_MS_MAX = 5 * 60_000;
const ABANDONED = `the state at it was begun ${BEGINS_MAX} times, and each time nothing of it was stored before the work ended`;

export interface Stay {
  readonly roomId: RoomId;
  readonly epoch: number;
}

/**
 * Tries each gap of the stay that is due once, as long as nothing else of the room is due: a few side by side, the servers that
 * sent what builds on them by turns. Those that ended their worker are tried alone, after all others: what they do is no
 * attempt of another. Throws only for faults of ours.
 */
export async function fetchGaps(context: RoomsContext, { roomId, epoch }: Stay, progress: Progress): Promise<void> {
  const { store, clock } = context;
  const now = clock.now();
  const resync = await readResync(store, roomId);
  if (resync?.epoch !== epoch) return;
  const endAt = gapsEndAt(resync.state, now);
  const cutOff = endAt === null ? NEVER : AbortSignal.timeout(Math.max(0, endAt - now));
  const due = (await readGaps(store, roomId)).filter(
    (gap) => gap.epoch === epoch && gap.wakeAt !== null && gap.wakeAt <= now,
  );
  const isOver = (): boolean => cutOff.aborted || clock.now() > now + PASS_MS_MAX;
  const lanes = createLanes(GAPS_AT_ONCE, progress.signal);
  const stop = AbortSignal.any([cutOff, lanes.signal]);
  const tryIfTime = async (gap: Gap): Promise<void> => {
    if (isOver()) return;
    progress.heartbeat();
    await tryGap(context, { roomId, epoch }, gap, progress, stop);
  };
  for (const gap of byTurns(due.filter(({ begins }) => begins === 0))) await lanes.start(() => tryIfTime(gap));
  await lanes.drain();
  for (const gap of byTurns(due.filter(({ begins }) => begins > 0))) await tryIfTime(gap);
}

const NEVER = new AbortController().signal;

async function tryGap(
  context: RoomsContext,
  stay: Stay,
  gap: Gap,
  progress: Progress,
  cutOff: AbortSignal,
): Promise<void> {
  const { store, clock } = context;
  const { roomId } = stay;
  const { eventId } = gap;
  const now = clock.now();
  const begun = await beginGap(store, { roomId, eventId, now, until: now + GAP_ATTEMPT_MS_MAX });
  if (begun === undefined) return;
  if (begun.begins > BEGINS_MAX) return giveUp(context, stay, eventId, ABANDONED);
  const signal = AbortSignal.any([progress.signal, cutOff]);
  try {
    const outcome = await askResidents(context, stay, gap, begun, { ...progress, signal });
    if (outcome.type === 'fetched') await close(context, stay, eventId, outcome);
    else if (outcome.type === 'failed') await postpone(context, stay, gap, begun.attempts, outcome.failure);
    else await rest(context, stay, eventId, outcome.until);
  } catch (error) {
    const isOrderly = progress.signal.aborted && progress.isOrderly?.() !== false;
    const isCutOff = cutOff.aborted && !progress.signal.aborted;
    if (isOrderly || isCutOff) {
      await takeBackGapAttempt(store, { roomId, eventId, wakeAt: clock.now() }).catch(() => undefined);
    }
    if (!isCutOff) throw error;
  }
}

type Outcome =
  | { readonly type: 'fetched'; readonly resident: ServerName; readonly state: FetchedState }
  /** Absent: no server is known that could be asked. */
  | { readonly type: 'failed'; readonly failure: FederationError | undefined }
  /** Nobody could be asked: all that are known are out of reach, or want to be left alone. */
  | { readonly type: 'nobody-asked'; readonly until: number };

/** Asks one resident after the other. Rejects when `progress` is aborted, and for faults of ours. */
async function askResidents(
  context: RoomsContext,
  stay: Stay,
  gap: Gap,
  begun: BegunGap,
  progress: Progress,
): Promise<Outcome> {
  const { residents, known, restingUntil } = await chooseGapResidents(context, stay.roomId, gap, begun);
  let failure: FederationError | undefined;
  let until = restingUntil;
  const asked: ServerName[] = [];
  for (const resident of residents) {
    const late = AbortSignal.timeout(residentMs(begun.attempts));
    const bounded = { ...progress, signal: AbortSignal.any([progress.signal, late]) };
    try {
      const state = await askIfHealthy(context, resident, () => {
        asked.push(resident);
        // Nobody else may know the gap's event, and yet what its state names: asked once an attempt, whoever gives it in part.
        const others = failure?.kind === 'incomplete' ? [] : residents.filter((other) => other !== resident);
        const request = { eventId: gap.eventId, resident, others, attempts: begun.attempts, known };
        return stateAtGap(context, stay, request, bounded);
      });
      return { type: 'fetched', resident, state };
    } catch (error) {
      if (progress.signal.aborted) throw error;
      const told = late.aborted ? tookTooLong(resident) : error;
      if (!(told instanceof FederationError)) throw error;
      // Who gave most of the state says more of the gap than who was out of reach.
      if (failure?.kind !== 'incomplete') failure = told;
      // Another room has asked it since the others were chosen.
      if (asked.length === 0) until = Math.min(until ?? Infinity, context.clock.now() + (told.retryAfterMs ?? 0));
    }
  }
  return asked.length > 0 || until === null ? { type: 'failed', failure } : { type: 'nobody-asked', until };
}

function residentMs(attempts: number): number {
  return Math.min(RESIDENT_MS_MIN * 2 ** Math.max(0, attempts - 1), RESIDENT_MS_MAX);
}

function tookTooLong(resident: ServerName): FederationError {
  return new FederationError(resident, 'timeout', 'the state at the gap took too long');
}

interface GapRequest {
  readonly eventId: EventId;
  readonly resident: ServerName;
  readonly others: readonly ServerName[];
  readonly attempts: number;
  readonly known: number;
}

async function stateAtGap(
  context: RoomsContext,
  { roomId, epoch }: Stay,
  { eventId, resident, others, attempts, known }: GapRequest,
  progress: Progress,
): Promise<FetchedState> {
  const resync = await readResync(context.store, roomId);
  const request = {
    roomId,
    rules: rulesOfJoined(resync?.state.roomVersion ?? ''),
    ...{ resident, others, atEventId: eventId },
    settle: (lacked: readonly LackedEvent[], wanted: readonly EventId[]) =>
      settleAnswer(context, { roomId, epoch, gap: { attempts, known } }, lacked, wanted),
    onStored: () => forgetGapBegins(context.store, roomId, eventId),
  };
  return fetchStateAt(context, request, progress);
}

async function close(
  context: RoomsContext,
  stay: Stay,
  eventId: EventId,
  { resident, state }: Extract<Outcome, { readonly type: 'fetched' }>,
): Promise<void> {
  const { snapshotId, counts, digest } = state;
  const at = context.clock.now();
  const outcome = { eventId, resident, snapshotId, counts, digest, ...lackingOf(state), at };
  await journalIfOpen(context, stay, eventId, { type: 'GapClosed', ...outcome }, (tx) =>
    recordFetched(tx, { ...stay, anchorId: eventId, at }, state),
  );
}

/** Notes the failure with when it is tried next, or gives the gap up. */
async function postpone(
  context: RoomsContext,
  stay: Stay,
  { eventId }: Gap,
  attempts: number,
  failure: FederationError | undefined,
): Promise<void> {
  const { store, clock, policy, random } = context;
  const { roomId } = stay;
  const at = clock.now();
  const reason = failure?.message ?? 'no server is known that could be asked';
  const wakeAt = nextGapAttemptAt(attempts, policy, at, random());
  const resident = failure?.serverName ?? null;
  await recordGapFailure(store, {
    ...{ roomId, eventId, resident, reason },
    failure: failure?.kind ?? null,
    wakeAt: wakeAt ?? at,
  });
  if (wakeAt === null) await giveUp(context, stay, eventId, reason);
}

/** Nobody could be asked: that is no attempt, and the gap is tried when the first of those known may be. */
async function rest(context: RoomsContext, { roomId }: Stay, eventId: EventId, until: number): Promise<void> {
  const { store, clock, policy } = context;
  const reason = 'all servers that are known in the room are out of reach, or want to be left alone';
  const wakeAt = Math.max(until, clock.now() + policy.firstRetryMs);
  await takeBackGapAttempt(store, { roomId, eventId, wakeAt, reason });
}

async function giveUp(context: RoomsContext, stay: Stay, eventId: EventId, reason: string): Promise<void> {
  await journalIfOpen(context, stay, eventId, { type: 'GapGivenUp', eventId, reason, at: context.clock.now() });
}

/** Somebody may have settled the gap meanwhile: its event may have come. */
async function journalIfOpen(
  context: RoomsContext,
  stay: Stay,
  eventId: EventId,
  event: ResyncEvent,
  before: (tx: Transaction) => Promise<void> = () => Promise.resolve(),
): Promise<void> {
  const { roomId, epoch } = stay;
  await withTransaction(context.store, async (tx) => {
    const locked = await lockResync(tx, roomId, epoch);
    if (locked === undefined) return;
    const gaps = await readGaps(tx, roomId);
    const isOpen = gaps.some((gap) => gap.eventId === eventId && gap.epoch === epoch && gap.wakeAt !== null);
    if (!isOpen) return;
    await before(tx);
    await append(tx, locked.room, [event]);
  });
}
