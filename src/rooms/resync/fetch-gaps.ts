/**
 * The states at a room's gaps: missing events that ours cite. Fetched as those of a join are, from residents; each attempt is
 * counted before anybody is asked, and what came of it is in the gap's row. Only what settles a gap is journalled.
 */
import { FederationError } from '../../federation/error.ts';
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { GAP_ATTEMPT_MS_MAX, GAP_RESIDENTS_AN_ATTEMPT, nextGapAttemptAt } from '../../resync/policy.ts';
import { type Gap, beginGap, readGaps, recordGapFailure, takeBackGapAttempt } from '../../store/events/gaps.ts';
import { append } from '../../store/journal/journal.ts';
import { type ResyncEvent } from '../../resync/events.ts';
import { lockResync, readResync } from '../../store/journal/rooms.ts';
import { withTransaction } from '../../store/open-store.ts';
import { readRoomServers } from '../../store/tables/room-servers.ts';
import { type RoomsContext } from '../context.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { askIfHealthy } from './destination-health.ts';
import { type FetchedState, type Settlement, fetchStateAt } from './state-at.ts';
import { type Progress } from './state-intake.ts';
import { type LackedEvent } from './wanted-events.ts';

/** From this attempt on events that are badly signed or malformed everywhere are dropped, as in a later round of a join. */
const DROP_UNUSABLE_FROM_ATTEMPT = 2;
/** And from this one on the state at a gap is taken without what nobody gives: few events, at the edge of the graph. */
const GO_ON_FROM_ATTEMPT = 4;
/** No further gap is begun in a pass after this; who asks is asked how things stand then. */
const PASS_MS_MAX = 60_000;
/** For the whole state from one resident, however slowly it sends: others may be waiting for the pass to end. */
const RESIDENT_MS_MAX = 5 * 60_000;

export interface Stay {
  readonly roomId: RoomId;
  readonly epoch: number;
}

/** Tries each gap of the stay that is due once. Throws only for faults of ours. */
export async function fetchGaps(context: RoomsContext, { roomId, epoch }: Stay, progress: Progress): Promise<void> {
  const { store, clock } = context;
  const now = clock.now();
  const due = (await readGaps(store, roomId)).filter(
    (gap) => gap.epoch === epoch && gap.wakeAt !== null && gap.wakeAt <= now,
  );
  for (const gap of due) {
    progress.signal.throwIfAborted();
    if (clock.now() > now + PASS_MS_MAX) return;
    progress.heartbeat();
    await tryGap(context, { roomId, epoch }, gap, progress);
  }
}

async function tryGap(context: RoomsContext, stay: Stay, gap: Gap, progress: Progress): Promise<void> {
  const { store, clock } = context;
  const { roomId } = stay;
  const { eventId } = gap;
  const now = clock.now();
  const attempts = await beginGap(store, { roomId, eventId, now, until: now + GAP_ATTEMPT_MS_MAX });
  if (attempts === undefined) return;
  let failure: FederationError | undefined;
  try {
    for (const resident of await residentsFor(context, stay, gap, attempts)) {
      const late = AbortSignal.timeout(RESIDENT_MS_MAX);
      try {
        const bounded = { ...progress, signal: AbortSignal.any([progress.signal, late]) };
        const state = await askIfHealthy(context, resident, () =>
          stateAtGap(context, stay, eventId, resident, attempts, bounded),
        );
        await close(context, stay, eventId, resident, state);
        return;
      } catch (error) {
        if (progress.signal.aborted) throw error;
        if (late.aborted) failure = new FederationError(resident, 'timeout', 'the state at the gap took too long');
        else if (error instanceof FederationError) failure = error;
        else throw error;
      }
    }
  } catch (error) {
    if (progress.signal.aborted && progress.isOrderly?.() !== false) {
      await takeBackGapAttempt(store, roomId, eventId, clock.now()).catch(() => undefined);
    }
    throw error;
  }
  await postpone(context, stay, eventId, attempts, failure);
}

async function stateAtGap(
  context: RoomsContext,
  { roomId }: Stay,
  atEventId: EventId,
  resident: ServerName,
  attempts: number,
  progress: Progress,
): Promise<FetchedState> {
  const resync = await readResync(context.store, roomId);
  const request = {
    roomId,
    rules: rulesOfJoined(resync?.state.roomVersion ?? ''),
    resident,
    atEventId,
    settle: (lacked: readonly LackedEvent[]) => Promise.resolve(settle(lacked, attempts)),
    onStored: () => Promise.resolve(),
  };
  return fetchStateAt(context, request, progress);
}

function settle(lacked: readonly LackedEvent[], attempts: number): Settlement {
  const isUnusable = ({ why }: LackedEvent): boolean => why === 'badly-signed' || why === 'malformed';
  const dropped = attempts >= DROP_UNUSABLE_FROM_ATTEMPT ? lacked.filter(isUnusable) : [];
  const others = attempts >= GO_ON_FROM_ATTEMPT ? lacked.filter((event) => !isUnusable(event)) : [];
  return { dropped: dropped.map(({ eventId }) => eventId), goneWithout: others.map(({ eventId }) => eventId) };
}

/** Whoever sent what builds on it knows it best, if it is in the room; then candidates, others at each attempt. */
async function residentsFor(
  { store, serverName }: RoomsContext,
  { roomId }: Stay,
  { origin }: Gap,
  attempts: number,
): Promise<ServerName[]> {
  const servers = await readRoomServers(store, roomId);
  const candidates = (await readResync(store, roomId))?.state.candidates ?? [];
  const known = servers.filter(({ source }) => source !== 'hint').map((server) => server.serverName);
  const isIn = known.includes(origin);
  const others = [...new Set([...candidates, ...known])].filter((name) => name !== origin && name !== serverName);
  const places = GAP_RESIDENTS_AN_ATTEMPT - (isIn ? 1 : 0);
  const start = others.length === 0 ? 0 : ((attempts - 1) * places) % others.length;
  const some = [...others.slice(start), ...others.slice(0, start)].slice(0, places);
  return isIn ? [origin, ...some] : some;
}

async function close(
  context: RoomsContext,
  stay: Stay,
  eventId: EventId,
  resident: ServerName,
  { snapshotId, counts, digest }: FetchedState,
): Promise<void> {
  const at = context.clock.now();
  await journalIfOpen(context, stay, eventId, { type: 'GapClosed', eventId, resident, snapshotId, counts, digest, at });
}

/** Notes the failure with when it is tried next, or gives the gap up. */
async function postpone(
  context: RoomsContext,
  stay: Stay,
  eventId: EventId,
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
  if (wakeAt === null) await journalIfOpen(context, stay, eventId, { type: 'GapGivenUp', eventId, reason, at });
}

/** Somebody may have settled the gap meanwhile: its event may have come. */
async function journalIfOpen(context: RoomsContext, stay: Stay, eventId: EventId, event: ResyncEvent): Promise<void> {
  const { roomId, epoch } = stay;
  await withTransaction(context.store, async (tx) => {
    const locked = await lockResync(tx, roomId, epoch);
    if (locked === undefined) return;
    const gaps = await readGaps(tx, roomId);
    const isOpen = gaps.some((gap) => gap.eventId === eventId && gap.epoch === epoch && gap.wakeAt !== null);
    if (isOpen) await append(tx, locked.room, [event]);
  });
}
