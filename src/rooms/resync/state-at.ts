/**
 * The full state after one event, from one resident: `/state_ids` first, then whichever of `/state` and `/event` costs less. The
 * event itself, which is in neither of the former, is asked for before `/state`. That body is streamed: checked, verified and
 * stored in batches in bounded memory. What is stored is never verified or written again, so a kill costs at most one more.
 */
import pLimit from 'p-limit';
import { FederationError } from '../../federation/error.ts';
import { authoriseAgainstState } from '../../matrix/auth/auth-rules.ts';
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { stateDigest } from '../../matrix/state-digest.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { MISSING_LISTED_MAX, type MissingWhy, type UnusableEvent } from '../../resync/degraded.ts';
import { type FailureClass, type SnapshotId, type StateFetchCounts } from '../../resync/events.ts';
import { readAuthChainIds } from '../../store/events/auth-events.ts';
import { addChangedSince } from '../../store/events/changed-since.ts';
import { type LackedEvent } from '../../store/events/missing-events.ts';
import { readHeldEvents } from '../../store/events/pdus.ts';
import { type Omissions } from '../../store/events/left-out.ts';
import { readHead } from '../../store/journal/journal.ts';
import { type NumberedEvent, createSnapshot } from '../../store/snapshots/snapshots.ts';
import { type RoomsContext } from '../context.ts';
import { type Outlier, awaitedBy, judgeOutliers } from '../judge/judge-outliers.ts';
import { type Place } from './fetch-places.ts';
import { type Progress, type StateIntake, createStateIntake } from './state-intake.ts';
import { fallenWith, lackedForVerdicts } from './unjudged.ts';
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
  /** Who else is asked, event by event, for what the resident names and does not give; absent: nobody. */
  readonly others?: readonly ServerName[];
  /** Servers that are asked nothing about the room; absent: none are. */
  readonly banned?: readonly ServerName[];
  /** Told what the answer lacks, and all events that are wanted of it; says what becomes of the former. */
  readonly settle: (lacked: readonly LackedEvent[], wanted: readonly EventId[]) => Promise<Settlement>;
  /** Something of the resident's answers came, so many bytes. */
  readonly onReceived: (bytes: number) => void;
  /** Its place among other attempts of the process (fetch-places.ts); absent: it has none to share with. */
  readonly place?: Place | undefined;
  /** Events were stored that had not been there. */
  readonly onStored: () => Promise<void>;
}

/** Servers named of whom a copy came that can never be used. */
const FROM_MAX = 3;

/** Of what an answer lacks. What is in neither is waited for: the answer is of no use. */
export interface Settlement {
  /** Every copy of them is bad. */
  readonly dropped: readonly UnusableEvent[];
  /** The state is taken without them, and is not whole. */
  readonly goneWithout: readonly EventId[];
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
  /** What may get a place in it later. */
  readonly omissions: Omissions;
  /** Position of the journal at which the attempt began: verdicts may have been read as they were then. */
  readonly since: number;
  /** Events that somebody else gave a first verdict while the attempt gave them its own. */
  readonly judgedByOthers: readonly EventId[];
}

/** @throws FederationError for whatever the resident does wrong; else for faults of ours only. */
export async function fetchStateAt(
  context: RoomsContext,
  request: StateRequest,
  { heartbeat, ...alive }: Progress,
): Promise<FetchedState> {
  const { store, federation } = context;
  const { roomId, resident, rules, before, place } = request;
  const onReceived = (bytes: number): void => {
    place?.received(bytes);
    request.onReceived(bytes);
  };
  const beforeReading = place?.regained;
  const progress: Progress = {
    ...alive,
    heartbeat: (numbers) => {
      place?.worked();
      heartbeat(numbers);
    },
  };
  const { signal } = progress;
  const since = await readHead(store);
  const askedAt = before?.joinEventId ?? request.atEventId;

  const ids = await federation.stateIds(resident, roomId, askedAt, rules, { signal, onReceived, beforeReading });
  const stateIds = before === undefined ? ids.stateIds : beforeTheJoin(ids.stateIds, before);
  const all = new Set([...stateIds, ...ids.authChainIds, ...(before === undefined ? [request.atEventId] : [])]);
  const wanted = new WantedEvents(all, await readHeldEvents(store, roomId, [...all]));
  const alreadyHeld = wanted.heldBefore;
  const { onStored } = request;
  const intake = createStateIntake(context, { roomId, resident, rules, wanted, progress, onStored });

  const missing = wanted.missing().length;
  if (missing > SINGLE_EVENTS_MAX || missing > WHOLE_STATE_SHARE_MIN * wanted.count) {
    // First, since a body on its way comes to its end, but who sees us leave meanwhile gives no event any more.
    const at = wanted.missing().filter((eventId) => eventId === request.atEventId);
    await takeSingly(context, intake, wanted, at, () => resident, signal);
    await intake.takeStream((whileTaking) =>
      federation.state(resident, roomId, askedAt, { signal: whileTaking, onReceived, beforeReading }),
    );
    const left = wanted.missing();
    // Too many to be asked for one by one: a whole answer without them is an answer.
    if (left.length > SINGLE_EVENTS_MAX) wanted.deny(left, resident);
  }
  await takeFrom(context, request, intake, wanted, signal);
  await settleLacked(request, wanted);

  const judged = await judgeWithAuthEvents(context, request, { intake, wanted, stateIds, since }, progress);
  const built = await buildState(context, request, stateIds, judged, wanted);
  const counts: StateFetchCounts = {
    state: stateIds.length,
    authChain: ids.authChainIds.length,
    members: built.members,
    fetched: intake.fetched(),
    alreadyHeld,
    dropped: built.dropped,
    ...toldUnusable(wanted.neverUsable()),
  };
  const { snapshotId, digest, fell, leftOut } = built;
  const omissions = { leftOut, awaited: awaitedBy(judged, rules) };
  const judgedByOthers = [...intake.outliers().judgedByOthers];
  return { snapshotId, digest, counts, missing: wanted.goneWithout(), fell, omissions, since, judgedByOthers };
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
async function settleLacked(request: StateRequest, wanted: WantedEvents): Promise<void> {
  const lacked = wanted.lacked();
  if (lacked.length === 0) return;
  const { dropped, goneWithout } = await request.settle(lacked, wanted.ids());
  wanted.dropUnusable(dropped);
  wanted.goOnWithout(goneWithout);
  const holes = wanted.holes();
  if (holes !== undefined) {
    throw new FederationError(request.resident, wanted.lacksKeysAlone() ? 'keys-unobtainable' : 'incomplete', holes);
  }
}

/** Fetches what is missing one by one: from the resident and the others, and what is badly signed there from whoever signs it. */
async function takeFrom(
  context: RoomsContext,
  { resident, others = [], banned = [] }: StateRequest,
  intake: StateIntake,
  wanted: WantedEvents,
  signal: AbortSignal,
  eventIds: readonly EventId[] = wanted.missing(),
): Promise<void> {
  const asked = new Set(eventIds);
  for (const server of [resident, ...others]) {
    const absent = eventIds.filter((eventId) => !wanted.isAtHand(eventId));
    await takeSingly(context, intake, wanted, absent, () => server, signal);
  }
  const badlySigned = wanted.badlySigned().filter((eventId) => asked.has(eventId));
  const signerOf = (eventId: EventId): ServerName | undefined => {
    const signer = wanted.signerOf(eventId);
    return signer !== undefined && banned.includes(signer) ? undefined : signer;
  };
  await takeSingly(context, intake, wanted, badlySigned, signerOf, signal);
}

/** Kinds of failure by which a server says that it has no such event, or none for us. */
const DENIALS: ReadonlySet<FailureClass> = new Set(['not-found', 'forbidden']);

/** Fetches events one by one from the server named for each; one that cannot be had stays missing. */
async function takeSingly(
  context: RoomsContext,
  intake: StateIntake,
  wanted: WantedEvents,
  eventIds: readonly EventId[],
  serverFor: (eventId: EventId) => ServerName | undefined,
  signal: AbortSignal,
): Promise<void> {
  if (eventIds.length === 0 || eventIds.length > SINGLE_EVENTS_MAX) return;
  const limit = pLimit(SINGLE_EVENTS_IN_FLIGHT);
  const answered: { readonly eventId: EventId; readonly server: ServerName }[] = [];
  const fetchOne = async (eventId: EventId): Promise<Uint8Array | undefined> => {
    const server = serverFor(eventId);
    if (server === undefined || server === context.serverName) return undefined;
    try {
      const body = await context.federation.event(server, eventId, { signal });
      answered.push({ eventId, server });
      return body;
    } catch (error) {
      if (!(error instanceof FederationError) || signal.aborted) throw error;
      if (DENIALS.has(error.kind)) answered.push({ eventId, server });
      return undefined;
    }
  };
  const bodies = await Promise.all(eventIds.map((eventId) => limit(() => fetchOne(eventId))));
  await intake.take(bodies.filter((body) => body !== undefined));
  // What came may be another event than the one asked for, or none that has an id.
  for (const { eventId, server } of answered) if (!wanted.isAtHand(eventId)) wanted.deny([eventId], server);
}

interface AttemptSoFar {
  readonly intake: StateIntake;
  readonly wanted: WantedEvents;
  readonly stateIds: readonly EventId[];
  /** As in `FetchedState`. */
  readonly since: number;
}

/**
 * Judges everything wanted. Auth events that the answer's auth chain left out, as those of the event itself may be, are looked up
 * and asked for. Those without which an event of the state has no verdict are missing as any other.
 */
async function judgeWithAuthEvents(
  context: RoomsContext,
  request: StateRequest,
  { intake, wanted, stateIds, since }: AttemptSoFar,
  progress: Progress,
): Promise<ReadonlyMap<EventId, Outlier>> {
  const { store } = context;
  const { roomId, rules } = request;
  const outliers = intake.outliers();
  const sought = new Set<EventId>();
  for (let generation = 0; ; generation += 1) {
    const judged = await judgeOutliers(store, roomId, rules, wanted.ids(), progress.heartbeat, outliers);
    // Also for an attempt that fails: the verdicts are stored.
    await addChangedSince(store, roomId, since, { leftOut: [], awaited: [...outliers.judgedByOthers] });
    const absent = lackedForVerdicts(judged, [...stateIds, request.atEventId], rules).filter(
      (eventId) => !wanted.isGone(eventId) && !wanted.isAtHand(eventId),
    );
    const next = absent.filter((eventId) => !sought.has(eventId)).slice(0, SINGLE_EVENTS_MAX);
    if (next.length === 0 || generation >= AUTH_GENERATIONS_MAX) {
      // Whoever names no end of them is asked for no more, and his answer is as incomplete.
      wanted.want(absent, { held: new Set(), foreign: new Set() });
      await settleLacked(request, wanted);
      return judged;
    }
    for (const eventId of next) sought.add(eventId);
    // With what is held of their chains: whatever is here costs no generation.
    const { held, foreign } = await readHeldEvents(store, roomId, next);
    const chain = await readAuthChainIds(store, roomId, [...held]);
    wanted.want([...next, ...chain], { held: new Set([...held, ...chain]), foreign });
    const missing = next.filter((eventId) => !wanted.isIdle(eventId));
    await takeFrom(context, request, intake, wanted, progress.signal, missing);
    for (const outlier of judged.values()) if (outlier.verdict === 'unjudged') outlier.verdict = 'waiting';
  }
}

interface BuiltState {
  readonly snapshotId: SnapshotId;
  readonly digest: string;
  readonly members: number;
  /** Not usable, refused, no state event, or a second one for its place. */
  readonly dropped: number;
  readonly fell: number;
  /** State events, as far as they are had, that the answer names and this state does not hold. */
  readonly leftOut: readonly EventId[];
}

/** Folds what is accepted, one event a (type, state_key), into a snapshot. */
async function buildState(
  { store }: RoomsContext,
  { roomId, rules, atEventId, before }: StateRequest,
  stateIds: readonly EventId[],
  judged: ReadonlyMap<EventId, Outlier>,
  wanted: WantedEvents,
): Promise<BuiltState> {
  const byPlace = new Map<string, Pdu>();
  const missing = wanted.goneWithout();
  const fallen = fallenWith(judged, missing.keys(), rules);
  const fell = new Set<EventId>();
  const dropped = new Set(wanted.dropped());
  const leaveOut = (eventId: EventId): void => {
    if (fallen.has(eventId)) fell.add(eventId);
    else if (!missing.has(eventId)) dropped.add(eventId);
  };
  for (const eventId of stateIds) {
    const { event, verdict } = judged.get(eventId) ?? {};
    if (event?.stateKey === undefined || verdict !== 'accepted') {
      leaveOut(eventId);
      continue;
    }
    const place = stateMapKey(event.type, event.stateKey);
    if (byPlace.has(place)) dropped.add(eventId);
    else byPlace.set(place, event);
  }
  const named = [...stateIds];
  // The answer is the state before the event; what builds on it comes after it.
  const at = before === undefined ? judged.get(atEventId) : undefined;
  if (at?.event.stateKey !== undefined) {
    // Outside the timeline only check 4 is made of an event; of this one the state is here that check 5 asks for.
    const isRefused =
      missing.size === 0 &&
      !authoriseAgainstState(at.event, (type, key) => byPlace.get(stateMapKey(type, key)), rules).ok;
    if (at.verdict !== 'accepted' || !isRefused) named.push(atEventId);
    if (at.verdict !== 'accepted') leaveOut(atEventId);
    else if (isRefused) dropped.add(atEventId);
    else byPlace.set(stateMapKey(at.event.type, at.event.stateKey), at.event);
  }

  const events = [...byPlace.values()];
  const members = events.filter(({ type, content }) => type === 'm.room.member' && content['membership'] === 'join');
  const eventIds = events.map(({ eventId }) => eventId);
  const placed = new Set(eventIds);
  const isNoState = (eventId: EventId): boolean =>
    judged.get(eventId)?.event.stateKey === undefined && judged.has(eventId);
  const leftOut = [...new Set(named)].filter((eventId) => !placed.has(eventId) && !isNoState(eventId));
  const snapshotId = await createSnapshot(store, roomId, eventIds, (eventId) => numbersOf(judged.get(eventId)));
  const counts = { members: members.length, dropped: dropped.size, fell: fell.size };
  return { snapshotId, digest: stateDigest(eventIds), ...counts, leftOut };
}

/** As the journal has them. */
function toldUnusable(events: readonly UnusableEvent[]): Pick<StateFetchCounts, 'unusable'> {
  if (events.length === 0) return {};
  const listed = events
    .slice(0, MISSING_LISTED_MAX)
    .map(({ from, ...event }) => ({ ...event, from: from.slice(0, FROM_MAX) }));
  return { unusable: { listed, count: events.length } };
}

function numbersOf(outlier: Outlier | undefined): NumberedEvent | undefined {
  const { nid, stateKeyNid } = outlier ?? {};
  if (outlier === undefined || nid === undefined || stateKeyNid === undefined || stateKeyNid === null) return undefined;
  return { nid, stateKeyNid, type: outlier.event.type };
}
