/**
 * The full state after one event, from one resident: `/state_ids` first, then whichever of `/state` and `/event` costs less. The
 * body is streamed: checked, verified and stored in batches in bounded memory. What is stored is never verified or written
 * again, so a kill costs at most one more `/state` body.
 */
import pLimit from 'p-limit';
import { FederationError } from '../../federation/error.ts';
import { authEventIdsOf } from '../../matrix/auth/auth-events.ts';
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { stateDigest } from '../../matrix/state-digest.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type MissingWhy, type SnapshotId, type StateFetchCounts } from '../../resync/events.ts';
import { readHeldEvents } from '../../store/events/pdus.ts';
import { createSnapshot } from '../../store/snapshots/snapshots.ts';
import { type RoomsContext } from '../context.ts';
import { type Outlier, judgeOutliers } from '../judge/judge-outliers.ts';
import { type Progress, type StateIntake, createStateIntake } from './state-intake.ts';
import { WantedEvents } from './wanted-events.ts';

/** Below this share of unknown events single `/event` requests move less than a whole `/state` body (Synapse's rule). */
const WHOLE_STATE_SHARE_MIN = 0.1;
/** And never more single requests than this. */
const SINGLE_EVENTS_MAX = 100;
const SINGLE_EVENTS_IN_FLIGHT = 8;
/** How often auth events are asked for that an answer's own auth chain left out, a generation each time. */
const AUTH_GENERATIONS_MAX = 10;

export interface StateRequest {
  readonly roomId: RoomId;
  readonly rules: RoomVersionRules;
  readonly resident: ServerName;
  /** The state after it is wanted. */
  readonly atEventId: EventId;
  /** Nobody knows `atEventId`: the state before this join, which cites it, stands for the state after it. */
  readonly before?: JoinThatCites | undefined;
  /** Events that are badly signed or malformed everywhere are dropped, instead of failing the whole answer. */
  readonly dropsUnusable: boolean;
  /** Told what the answer lacks, and which events of the state there are; says whether the room goes on without. */
  readonly goesOnWithout: (missing: ReadonlyMap<EventId, MissingWhy>, wanted: readonly EventId[]) => Promise<boolean>;
  /** Events were stored that had not been there. */
  readonly onStored: () => Promise<void>;
}

export interface JoinThatCites {
  readonly joinEventId: EventId;
  /** The joiner's membership before it, of what send_join returned; `undefined`: there was none. */
  readonly membershipBefore: EventId | undefined;
}

export interface FetchedState {
  /** The state before `atEventId`, with the event itself added where it is an accepted state event. */
  readonly snapshotId: SnapshotId;
  readonly digest: string;
  readonly counts: StateFetchCounts;
  /** Empty: the state is whole. */
  readonly missing: ReadonlyMap<EventId, MissingWhy>;
  /** Events of the state that were had and are not in it, because they cite what is missing. */
  readonly fell: number;
}

/** @throws FederationError for whatever the resident does wrong; else for faults of ours only. */
export async function fetchStateAt(
  context: RoomsContext,
  request: StateRequest,
  progress: Progress,
): Promise<FetchedState> {
  const { store, federation } = context;
  const { roomId, resident, rules, before } = request;
  const { signal } = progress;
  const askedAt = before?.joinEventId ?? request.atEventId;

  const ids = await federation.stateIds(resident, roomId, askedAt, rules, { signal });
  const stateIds = before === undefined ? ids.stateIds : beforeTheJoin(ids.stateIds, before);
  const all = new Set([...stateIds, ...ids.authChainIds, ...(before === undefined ? [request.atEventId] : [])]);
  const wanted = new WantedEvents(all, await readHeldEvents(store, roomId, [...all]));
  const alreadyHeld = wanted.heldBefore;
  const { onStored } = request;
  const intake = createStateIntake(context, { roomId, resident, rules, wanted, progress, onStored });

  const missing = wanted.missing().length;
  if (missing > SINGLE_EVENTS_MAX || missing > WHOLE_STATE_SHARE_MIN * wanted.count) {
    await intake.takeStream((whileTaking) => federation.state(resident, roomId, askedAt, { signal: whileTaking }));
  }
  await takeSingly(context, intake, wanted.missing(), () => resident, signal);
  await takeSingly(context, intake, wanted.badlySigned(), (eventId) => wanted.signerOf(eventId), signal);
  await settleMissing(request, wanted);

  const judged = await judgeWithAuthEvents(context, request, intake, wanted, progress);
  const built = await buildState(context, request, stateIds, judged, wanted);
  const counts: StateFetchCounts = {
    state: stateIds.length,
    authChain: ids.authChainIds.length,
    members: built.members,
    fetched: intake.fetched(),
    alreadyHeld,
    dropped: built.dropped,
  };
  const { snapshotId, digest, fell } = built;
  return { snapshotId, digest, counts, missing: wanted.goneWithout(), fell };
}

/**
 * `/state_ids` gives the state before an event, which is what is wanted here
 * (https://spec.matrix.org/v1.16/server-server-api/#get_matrixfederationv1state_idsroomid). Some servers give the one after it:
 * then the join is in it, and the joiner's earlier membership, which the join replaced, is put back.
 */
function beforeTheJoin(
  stateIds: readonly EventId[],
  { joinEventId, membershipBefore }: JoinThatCites,
): readonly EventId[] {
  if (!stateIds.includes(joinEventId)) return stateIds;
  const others = stateIds.filter((eventId) => eventId !== joinEventId);
  return membershipBefore === undefined ? others : [...others, membershipBefore];
}

/** Goes on without what is missing, where that is allowed. The room stays partial rather than wrong. */
async function settleMissing(request: StateRequest, wanted: WantedEvents): Promise<void> {
  if (request.dropsUnusable) wanted.dropUnusable();
  const holes = wanted.holes();
  if (holes === undefined) return;
  const missing = wanted.missing();
  const reasons = new Map(missing.map((eventId) => [eventId, wanted.why(eventId)]));
  if (!(await request.goesOnWithout(reasons, wanted.ids()))) {
    throw new FederationError(request.resident, 'incomplete', holes);
  }
  wanted.goOnWithout(missing);
}

/** Fetches events one by one from the server named for each; one that cannot be had stays missing. */
export async function takeSingly(
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

/**
 * Judges everything wanted. Auth events that the answer's auth chain left out, as those of the event itself may be, are looked up
 * and asked for; what still lacks one is unjudged.
 */
async function judgeWithAuthEvents(
  context: RoomsContext,
  { roomId, rules, resident }: StateRequest,
  intake: StateIntake,
  wanted: WantedEvents,
  progress: Progress,
): Promise<ReadonlyMap<EventId, Outlier>> {
  const { store } = context;
  const outliers = intake.outliers();
  const sought = new Set<EventId>();
  for (let generation = 0; ; generation += 1) {
    const judged = await judgeOutliers(store, roomId, rules, wanted.ids(), progress.heartbeat, outliers);
    const unjudged = [...judged.values()].filter(({ verdict }) => verdict === 'unjudged');
    const absent = new Set(unjudged.flatMap(({ event }) => authEventIdsOf(event, rules)));
    const next = [...absent].filter((id) => !judged.has(id) && !sought.has(id) && !wanted.isGone(id));
    if (next.length === 0 || next.length > SINGLE_EVENTS_MAX || generation >= AUTH_GENERATIONS_MAX) return judged;
    for (const eventId of next) sought.add(eventId);
    wanted.want(next, await readHeldEvents(store, roomId, next));
    await takeSingly(context, intake, wanted.missing(), () => resident, progress.signal);
    // What cannot be had is no event of the state: nothing is missing of it but what cites it.
    wanted.leave(wanted.missing());
    for (const outlier of unjudged) outlier.verdict = 'waiting';
  }
}

interface BuiltState {
  readonly snapshotId: SnapshotId;
  readonly digest: string;
  readonly members: number;
  /** Gone on without: not usable, refused, no state event, or a second one for its place. */
  readonly dropped: number;
  readonly fell: number;
}

/** Folds what is accepted, one event a (type, state_key), into a snapshot. */
async function buildState(
  { store }: RoomsContext,
  { roomId, atEventId, before }: StateRequest,
  stateIds: readonly EventId[],
  judged: ReadonlyMap<EventId, Outlier>,
  wanted: WantedEvents,
): Promise<BuiltState> {
  const byPlace = new Map<string, Pdu>();
  const dropped = new Set(wanted.dropped());
  let fell = 0;
  for (const eventId of stateIds) {
    const { event, verdict } = judged.get(eventId) ?? {};
    if (event?.stateKey === undefined || verdict !== 'accepted') {
      if (verdict === 'unjudged' && wanted.goneWithout().size > 0) fell += 1;
      if (!wanted.goneWithout().has(eventId)) dropped.add(eventId);
      continue;
    }
    const place = stateMapKey(event.type, event.stateKey);
    if (byPlace.has(place)) dropped.add(eventId);
    else byPlace.set(place, event);
  }
  // The answer is the state before the event; what builds on it comes after it.
  const at = before === undefined ? judged.get(atEventId) : undefined;
  if (at?.event.stateKey !== undefined) {
    if (at.verdict === 'accepted') byPlace.set(stateMapKey(at.event.type, at.event.stateKey), at.event);
    else dropped.add(atEventId);
  }

  const events = [...byPlace.values()];
  const members = events.filter(({ type, content }) => type === 'm.room.member' && content['membership'] === 'join');
  const eventIds = events.map(({ eventId }) => eventId);
  const snapshotId = await createSnapshot(store, roomId, eventIds);
  return { snapshotId, digest: stateDigest(eventIds), members: members.length, dropped: dropped.size, fell };
}
