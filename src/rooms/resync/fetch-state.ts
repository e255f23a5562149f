/**
 * Fetches the full state before one event from one resident: `/state_ids` first, then whichever of `/state` and `/event`
 * costs less. The body is streamed: checked, verified and stored in batches in bounded memory. What is stored is never
 * verified or written again, so a kill costs at most one more `/state` body.
 */
import pLimit from 'p-limit';
import { FederationError } from '../../federation/error.ts';
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { stateDigest } from '../../matrix/state-digest.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type ResyncEvent, type SnapshotId, type StateFetchCounts } from '../../resync/events.ts';
import { append } from '../../store/journal/journal.ts';
import { withTransaction } from '../../store/open-store.ts';
import { heldEventIds } from '../../store/events/pdus.ts';
import { lockResync, readResync } from '../../store/journal/rooms.ts';
import { createSnapshot } from '../../store/snapshots/snapshots.ts';
import { type RoomsContext } from '../context.ts';
import { judgeOutliers } from '../judge/judge-outliers.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { type Progress, type StateIntake, createStateIntake } from './state-intake.ts';

/** Below this share of unknown events single `/event` requests move less than a whole `/state` body (Synapse's rule). */
const WHOLE_STATE_SHARE_MIN = 0.1;
/** And never more single requests than this. */
const SINGLE_EVENTS_MAX = 100;
const SINGLE_EVENTS_IN_FLIGHT = 8;
/** From this round on an event that is badly signed or malformed everywhere is dropped instead of failing the whole answer. */
const DROP_UNUSABLE_FROM_ROUND = 2;

export interface StateFetch {
  readonly roomId: RoomId;
  readonly epoch: number;
  readonly attemptNo: number;
  readonly resident: ServerName;
  readonly atEventId: EventId;
}

/**
 * Runs one attempt and journals its outcome, `StateFetched` or `StateFetchFailed`. Does nothing when the outcome is
 * journalled already or the epoch has changed. Throws only for faults of ours (database, cancellation), which are retried.
 */
export async function fetchState(context: RoomsContext, fetch: StateFetch, progress: Progress): Promise<void> {
  const round = await begin(context, fetch);
  if (round === null) return;
  let outcome: ResyncEvent;
  try {
    outcome = await run(context, fetch, round, progress);
  } catch (error) {
    if (!(error instanceof FederationError) || progress.signal.aborted) throw error;
    const at = context.clock.now();
    outcome = {
      type: 'StateFetchFailed',
      attemptNo: fetch.attemptNo,
      resident: fetch.resident,
      atEventId: fetch.atEventId,
      failure: error.kind,
      reason: error.message,
      ...(error.retryAfterMs === undefined ? {} : { retryAt: at + error.retryAfterMs }),
      at,
    };
  }
  await withTransaction(context.store, async (tx) => {
    const stay = await lockResync(tx, fetch.roomId, fetch.epoch);
    if (stay?.resync.attempt?.attemptNo === fetch.attemptNo) await append(tx, stay.room, [outcome]);
  });
}

/** Journals the start, once, and tells the round; `null` when there is nothing (left) to do. */
async function begin(context: RoomsContext, fetch: StateFetch): Promise<number | null> {
  return withTransaction(context.store, async (tx) => {
    const stay = await lockResync(tx, fetch.roomId, fetch.epoch);
    if (stay === undefined) return null;
    const { room, resync: state } = stay;
    if (state.attempt?.attemptNo === fetch.attemptNo) return state.round;
    if (state.attempts >= fetch.attemptNo || state.attempt !== null) return null;
    const { attemptNo, resident, atEventId } = fetch;
    await append(tx, room, [{ type: 'StateFetchStarted', attemptNo, resident, atEventId, at: context.clock.now() }]);
    return state.round;
  });
}

/** One attempt: what is wanted of the resident, taken in, judged, and made a state. */
async function run(context: RoomsContext, fetch: StateFetch, round: number, progress: Progress): Promise<ResyncEvent> {
  const { store, federation } = context;
  const { roomId, resident, atEventId, attemptNo } = fetch;
  const { signal } = progress;
  const resync = await readResync(store, roomId);
  const rules = rulesOfJoined(resync?.state.roomVersion ?? '');

  const ids = await federation.stateIds(resident, roomId, atEventId, rules, { signal });
  const wanted = new Set([...ids.stateIds, ...ids.authChainIds, atEventId]);
  const held = await heldEventIds(store, [...wanted]);
  const alreadyHeld = held.size;
  const intake = createStateIntake(context, { roomId, resident, rules, wanted, held, progress });

  const missing = intake.missing().length;
  if (missing > SINGLE_EVENTS_MAX || missing > WHOLE_STATE_SHARE_MIN * wanted.size) {
    await intake.takeStream((whileTaking) => federation.state(resident, roomId, atEventId, { signal: whileTaking }));
  }
  await takeSingly(context, intake, intake.missing(), () => resident, signal);
  await takeSingly(context, intake, intake.badlySigned(), (eventId) => intake.signerOf(eventId), signal);
  if (round >= DROP_UNUSABLE_FROM_ROUND) intake.dropUnusable();
  const holes = intake.holes();
  // The room stays partial rather than wrong: an answer with holes is a failed attempt, and says which.
  if (holes !== undefined) throw new FederationError(resident, 'incomplete', holes);

  const state = await buildState(context, fetch, rules, ids.stateIds, intake, progress);
  const counts: StateFetchCounts = {
    state: ids.stateIds.length,
    authChain: ids.authChainIds.length,
    members: state.members,
    fetched: intake.fetched(),
    alreadyHeld,
    dropped: state.dropped,
  };
  const { snapshotId, digest } = state;
  return { type: 'StateFetched', attemptNo, resident, atEventId, snapshotId, counts, digest, at: context.clock.now() };
}

/** Fetches events one by one from the server named for each; one that cannot be had stays missing. */
async function takeSingly(
  context: RoomsContext,
  intake: StateIntake,
  eventIds: readonly EventId[],
  serverFor: (eventId: EventId) => ServerName | undefined,
  signal: AbortSignal,
): Promise<void> {
  if (eventIds.length === 0 || eventIds.length > SINGLE_EVENTS_MAX) return;
  const limit = pLimit(SINGLE_EVENTS_IN_FLIGHT);
  const fetchOne = async (eventId: EventId): Promise<Uint8Array | undefined> => {
    const server = serverFor(eventId);
    if (server === undefined || server === context.serverName) return undefined;
    try {
      return await context.federation.event(server, eventId, { signal });
    } catch (error) {
      if (error instanceof FederationError && !signal.aborted) return undefined;
      throw error;
    }
  };
  const bodies = await Promise.all(eventIds.map((eventId) => limit(() => fetchOne(eventId))));
  await intake.take(bodies.filter((body) => body !== undefined));
}

interface BuiltState {
  readonly snapshotId: SnapshotId;
  readonly digest: string;
  readonly members: number;
  /** Gone on without: not usable, refused, no state event, or a second one for its place. */
  readonly dropped: number;
}

/** Auth-checks everything wanted and folds what is accepted, one event a (type, state_key), into a snapshot. */
async function buildState(
  { store }: RoomsContext,
  { roomId, atEventId }: StateFetch,
  rules: RoomVersionRules,
  stateIds: readonly EventId[],
  intake: StateIntake,
  progress: Progress,
): Promise<BuiltState> {
  const judged = await judgeOutliers(store, roomId, rules, intake.wantedIds(), progress.heartbeat, intake.outliers());
  const byPlace = new Map<string, Pdu>();
  const dropped = new Set(intake.dropped());
  for (const eventId of stateIds) {
    const { event, verdict } = judged.get(eventId) ?? {};
    if (event?.stateKey === undefined || verdict !== 'accepted') {
      dropped.add(eventId);
      continue;
    }
    const place = stateMapKey(event.type, event.stateKey);
    if (byPlace.has(place)) dropped.add(eventId);
    else byPlace.set(place, event);
  }
  // The answer is the state before the event; the join comes after it.
  const at = judged.get(atEventId);
  if (at?.event.stateKey !== undefined && at.verdict === 'accepted') {
    byPlace.set(stateMapKey(at.event.type, at.event.stateKey), at.event);
  }

  const events = [...byPlace.values()];
  const members = events.filter(({ type, content }) => type === 'm.room.member' && content['membership'] === 'join');
  const eventIds = events.map(({ eventId }) => eventId);
  const snapshotId = await createSnapshot(store, roomId, eventIds);
  return { snapshotId, digest: stateDigest(eventIds), members: members.length, dropped: dropped.size };
}
