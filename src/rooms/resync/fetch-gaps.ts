/**
 * The states at a room's gaps: missing events that ours cite. Fetched as those of a join are, from residents; each attempt is
 * counted before anybody is asked, and what came of it is in the gap's row. Only what settles a gap is journalled.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type FederationError } from '../../federation/error.ts';
import { type EventId, type ServerName } from '../../matrix/identifiers.ts';
import { type ResyncEvent } from '../../resync/events.ts';
import { gapsEndAt } from '../../resync/next-action.ts';
import { BEGINS_MAX, nextGapAttemptAt } from '../../resync/policy.ts';
import { type ResyncState } from '../../resync/state.ts';
import {
  type Gap,
  beginGap,
  prolongGaps,
  readGaps,
  recordGapFailure,
  takeBackGapAttempt,
} from '../../store/events/gaps.ts';
import { countCorrectionsDue } from '../../store/events/corrections.ts';
import { append } from '../../store/journal/journal.ts';
import { lockResync, readResync } from '../../store/journal/rooms.ts';
import { type Transaction, withTransaction } from '../../store/open-store.ts';
import { type RoomsContext } from '../context.ts';
import { type Lanes, createLanes } from '../lanes.ts';
import { byTurns } from '../gap-places.ts';
import { type GapPass, type Outcome, type Stay, askGapResidents } from './ask-gap-residents.ts';
import { type FetchPlaces, createFetchPlaces } from './fetch-places.ts';
import { lackingAtGap, recordFetched, sortLacking } from './settle-answer.ts';
import { type Progress } from './state-intake.ts';
import { whileStaying } from './while-staying.ts';

/**
 * A pass that others wait for (gaps that find no place in it, corrections, another stay) begins no further gap after this, and asks
 * no further resident; who asks is asked how things stand then. Otherwise it goes on, and takes up what is due anew.
 */
const PASS_MS_MAX = 20_000;
/** What is still running of such a pass is cut off after this: no state of which nothing was stored by then. */
const WAITED_FOR_MS_MAX = 60_000;
/** Others are taken to wait after this, whoever opens one gap after the other. */
const LONGEST_PASS_MS = 10 * 60_000;
/** How soon a gap that is due anew is seen beside those that are tried. */
const LOOK_AGAIN_MS = 1_000;
/** Gaps that are tried side by side: those whose residents are slow keep no others waiting; */
const GAPS_AT_ONCE = 6;
/** and of these, gaps that events of one server have opened. */
const GAPS_OF_ORIGIN_AT_ONCE = 2;
/** Of a pass that nobody else's shares places with. */
const PLACES_OF_PASS = { inAll: GAPS_AT_ONCE, ofServer: GAPS_AT_ONCE } as const;
/** An attempt of which its pass has said nothing for so long was cut off; states of big rooms take minutes. */
const LEASE_MS = 30_000;
const PROLONG_EVERY_MS = LEASE_MS / 3;
const ABANDONED = `the state at it was begun ${BEGINS_MAX} times, and each time nothing of it was stored before the work ended`;

/** Gaps that are tried in one go, and what else waits for it. */
interface Pass extends GapPass {
  readonly progress: Progress;
  readonly begunAt: number;
  /** When it was last said that all that is running is. */
  prolongedAt: number;
  readonly running: Map<EventId, { readonly origin: ServerName; readonly ended: Promise<unknown> }>;
}

/**
 * Tries the gaps of the stay that are due, those too that are due meanwhile, as long as nothing else of the room is: a few side by
 * side, the servers that sent what builds on them by turns. Those that ended their worker are tried alone, after all others: what
 * they do is no attempt of another. `places` are shared by the passes of a process. Throws only for faults of ours.
 */
export async function fetchGaps(
  context: RoomsContext,
  stay: Stay,
  progress: Progress,
  places: FetchPlaces = createFetchPlaces(PLACES_OF_PASS),
): Promise<void> {
  const { store, clock } = context;
  const begunAt = clock.now();
  const resync = await readResync(store, stay.roomId);
  if (resync?.epoch !== stay.epoch) return;
  const endAt = gapsEndAt(resync.state, begunAt);
  const cutOff = endAt === null ? NEVER : AbortSignal.timeout(Math.max(0, endAt - begunAt));
  const lanes = createLanes(GAPS_AT_ONCE, progress.signal);
  const late = new AbortController();
  const pass: Pass = {
    context,
    stay,
    progress,
    places,
    begunAt,
    prolongedAt: begunAt,
    running: new Map(),
    isEnding: false,
    late,
  };
  await whileStaying(context, { ...stay, until: 'last-round-begins' }, async (over) => {
    try {
      await tryByTurns(pass, resync.state.phase, lanes, AbortSignal.any([cutOff, over, lanes.signal]));
    } catch (error) {
      late.abort();
      await lanes.drain();
      throw error;
    }
    await lanes.drain();
  });
}

async function tryByTurns(pass: Pass, phase: ResyncState['phase'], lanes: Lanes, stop: AbortSignal): Promise<void> {
  const { running } = pass;
  while (!stop.aborted) {
    pass.progress.heartbeat();
    await prolong(pass);
    const due = await readDue(pass);
    await endIfWaitedFor(pass, phase, due);
    const next = pass.isEnding ? undefined : nextOf(pass, due);
    if (next === undefined && running.size === 0) return;
    if (next === undefined) {
      await lookAgain(pass, stop);
    } else {
      const { eventId, origin } = next;
      await lanes.start(() => {
        const run = tryGap(pass, next, stop).finally(() => running.delete(eventId));
        running.set(eventId, { origin, ended: run.catch(() => undefined) });
        return run;
      });
    }
  }
}

const NEVER = new AbortController().signal;

async function readDue({ context: { store, clock }, stay, running }: Pass): Promise<Gap[]> {
  const now = clock.now();
  return (await readGaps(store, stay.roomId)).filter(
    ({ eventId, epoch, wakeAt, isBegun }) =>
      epoch === stay.epoch && wakeAt !== null && wakeAt <= now && !isBegun && !running.has(eventId),
  );
}

/** The gap that is begun next; `undefined`: none is due that has a place. */
function nextOf({ running }: Pass, due: readonly Gap[]): Gap | undefined {
  const isAlone = running.size === 0;
  const ordinary = due.filter(({ begins }) => begins === 0);
  if (ordinary.length === 0) return isAlone ? byTurns(due)[0] : undefined;
  if (running.size >= GAPS_AT_ONCE) return undefined;
  const runningOf = (origin: ServerName): number =>
    [...running.values()].filter((other) => other.origin === origin).length;
  return byTurns(ordinary).find(({ origin }) => runningOf(origin) < GAPS_OF_ORIGIN_AT_ONCE);
}

async function endIfWaitedFor(pass: Pass, phase: ResyncState['phase'], due: readonly Gap[]): Promise<void> {
  const { context, stay, begunAt } = pass;
  const lastedMs = context.clock.now() - begunAt;
  if (lastedMs <= PASS_MS_MAX) return;
  pass.isEnding ||= lastedMs > LONGEST_PASS_MS || (due.length > 0 && nextOf(pass, due) === undefined);
  pass.isEnding ||= await isOtherwiseWaitedFor(context, stay, phase);
  if (pass.isEnding && lastedMs > WAITED_FOR_MS_MAX) pass.late.abort();
}

async function isOtherwiseWaitedFor(
  { store }: RoomsContext,
  { roomId, epoch }: Stay,
  phase: ResyncState['phase'],
): Promise<boolean> {
  const resync = await readResync(store, roomId);
  if (resync?.epoch !== epoch || resync.state.phase !== phase) return true;
  return phase === 'complete' && (await countCorrectionsDue(store, roomId)) > 0;
}

/** What is under way is begun by nobody else. */
async function prolong(pass: Pass): Promise<void> {
  const { context, stay, running } = pass;
  const now = context.clock.now();
  if (running.size === 0 || now - pass.prolongedAt < PROLONG_EVERY_MS) return;
  await prolongGaps(context.store, stay.roomId, [...running.keys()], LEASE_MS);
  pass.prolongedAt = now;
}

/** Waits until a gap was tried, or for a moment. */
async function lookAgain({ running }: Pass, stop: AbortSignal): Promise<void> {
  const woken = new AbortController();
  const signal = AbortSignal.any([woken.signal, stop]);
  const pause = delay(LOOK_AGAIN_MS, undefined, { signal }).catch(() => undefined);
  await Promise.race([pause, ...[...running.values()].map(({ ended }) => ended)]);
  woken.abort();
}

async function tryGap(pass: Pass, gap: Gap, cutOff: AbortSignal): Promise<void> {
  const { context, stay, progress } = pass;
  const { store, clock } = context;
  const { roomId } = stay;
  const { eventId } = gap;
  const begun = await beginGap(store, { roomId, eventId, now: clock.now(), leaseMs: LEASE_MS });
  if (begun === undefined) return;
  if (begun.begins > BEGINS_MAX) return giveUp(context, stay, eventId, ABANDONED);
  const signal = AbortSignal.any([progress.signal, cutOff]);
  try {
    const outcome = await askGapResidents(pass, gap, begun, { ...progress, signal });
    if (outcome.type === 'fetched') await close(context, stay, eventId, outcome);
    else if (outcome.type === 'failed') await postpone(context, stay, gap, begun.attempts, outcome.failure);
    else await rest(context, stay, eventId, outcome);
  } catch (error) {
    const isOrderly = progress.signal.aborted && progress.isOrderly?.() !== false;
    const isCutOff = cutOff.aborted && !progress.signal.aborted;
    if (isOrderly || isCutOff) {
      await takeBackGapAttempt(store, { roomId, eventId, wakeAt: clock.now() }).catch(() => undefined);
    }
    if (!isCutOff) throw error;
  }
}

async function close(
  context: RoomsContext,
  stay: Stay,
  eventId: EventId,
  { resident, state, known }: Extract<Outcome, { readonly type: 'fetched' }>,
): Promise<void> {
  const { snapshotId, counts, digest, fell } = state;
  const at = context.clock.now();
  const lacking = await sortLacking(context, stay.roomId, state, known);
  const outcome = { eventId, resident, snapshotId, counts, digest, ...lackingAtGap(lacking, fell), at };
  await journalIfOpen(context, stay, eventId, { type: 'GapClosed', ...outcome }, (tx) =>
    recordFetched(tx, { ...stay, anchorId: eventId, at }, state, lacking),
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

/** That is no attempt; the gap is tried on in a while, and not before `until`. */
async function rest(
  context: RoomsContext,
  { roomId }: Stay,
  eventId: EventId,
  { until, reason }: Extract<Outcome, { readonly type: 'put-off' }>,
): Promise<void> {
  const { store, clock, policy } = context;
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
