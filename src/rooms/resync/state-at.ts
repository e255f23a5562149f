/**
 * The full state after one event, from one resident: `/state_ids` first, then whichever of `/state` and `/event` costs less. The
 * event itself, which is in neither of the former, is asked for before `/state`. That body is streamed: checked, verified and
 * stored in batches in bounded memory. What is stored is never verified or written again, so a kill costs at most one more.
 */
import pLimit from 'p-limit';
import { type RequestOptions } from '../../federation/contract.ts';
import { FederationError } from '../../federation/error.ts';
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { MISSING_LISTED_MAX, type MissingWhy, type UnusableEvent } from '../../resync/degraded.ts';
import { type FailureClass, type SnapshotId, type StateFetchCounts } from '../../resync/events.ts';
import { readAuthChainIds } from '../../store/events/auth-events.ts';
import { addChangedSince } from '../../store/events/changed-since.ts';
import { type LackedEvent } from '../../store/events/missing-events.ts';
import { readHeldEvents } from '../../store/events/pdus.ts';
import { type Omissions } from '../../store/events/left-out.ts';
import { readHead } from '../../store/journal/journal.ts';
import { type Sql } from '../../store/open-store.ts';
import { inPages } from '../../store/pages.ts';
import { type RoomsContext } from '../context.ts';
import { awaitedBy, judgeOutliers } from '../judge/judge-outliers.ts';
import { type OutlierTable } from '../judge/outlier-table.ts';
import { type NamedState, buildState } from './build-state.ts';
import { type Place } from './fetch-places.ts';
import { type Progress, type StateIntake, createStateIntake } from './state-intake.ts';
import { lackedForVerdicts } from './unjudged.ts';
import { WantedEvents } from './wanted-events.ts';

/** Below this share of unknown events single `/event` requests move less than a whole `/state` body (Synapse's rule). */
const WHOLE_STATE_SHARE_MIN = 0.1;
/** And never more single requests than this. */
const SINGLE_EVENTS_MAX = 100;
const SINGLE_EVENTS_IN_FLIGHT = 8;
/** Ids looked up at a time. */
const HELD_READ = 20_000;
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
  readonly settle: (lacked: readonly LackedEvent[], wanted: Iterable<EventId>) => Promise<Settlement>;
  /** Something of the resident's answers came, so many bytes. */
  readonly onReceived: (bytes: number) => void;
  /** Its place among other attempts of the process (fetch-places.ts); absent: it has none to share with. */
  readonly place?: Place | undefined;
  /** Events were stored that had not been there. */
  readonly onStored: () => Promise<void>;
}

/** More than this a room never goes on without: such an answer is no state of it. */
const LACKING_MAX = 10_000;
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

  const asking = { signal, onReceived, beforeReading };
  const { wanted, rows, named } = await wantState(context, request, askedAt, asking);
  await knowHeld(store, roomId, wanted);
  const alreadyHeld = wanted.heldBefore;
  const { onStored } = request;
  const intake = createStateIntake(context, { roomId, resident, rules, wanted, progress, onStored });

  const missing = wanted.lackingCount;
  if (missing > SINGLE_EVENTS_MAX || missing > WHOLE_STATE_SHARE_MIN * wanted.count) {
    // First, since a body on its way comes to its end, but who sees us leave meanwhile gives no event any more.
    const at = wanted.missing().filter((eventId) => eventId === request.atEventId);
    await takeSingly(context, intake, wanted, at, () => resident, signal);
    await intake.takeStream((whileTaking) =>
      federation.state(resident, roomId, askedAt, { ...asking, signal: whileTaking }),
    );
    // Too many to be asked for one by one: a whole answer without them is an answer. Without more it is none.
    const left = wanted.lackingCount;
    if (left > SINGLE_EVENTS_MAX && left <= LACKING_MAX) wanted.deny(wanted.missing(), resident);
  }
  await takeFrom(context, request, intake, wanted, signal);
  await settleLacked(request, wanted);

  const state = { rows, atEventId: before === undefined ? request.atEventId : undefined };
  const judged = await judgeWithAuthEvents(context, request, { intake, wanted, state, since }, progress);
  const built = await buildState(store, state, judged, wanted);
  const counts: StateFetchCounts = {
    ...named,
    members: built.members,
    fetched: intake.fetched(),
    alreadyHeld,
    dropped: built.dropped,
    ...toldUnusable(wanted.neverUsable()),
  };
  const { snapshotId, digest, fell, leftOut } = built;
  const omissions = { leftOut, awaited: awaitedBy(judged) };
  const judgedByOthers = [...judged.judgedByOthers];
  return { snapshotId, digest, counts, missing: wanted.goneWithout(), fell, omissions, since, judgedByOthers };
}

/** What the resident names as the state and its auth chain. */
interface NamedEvents {
  readonly wanted: WantedEvents;
  /** Of the state, by the rows of `wanted`, each once. */
  readonly rows: Uint32Array;
  readonly named: Pick<StateFetchCounts, 'state' | 'authChain'>;
}

async function wantState(
  { federation }: RoomsContext,
  { resident, roomId, rules, before, atEventId }: StateRequest,
  askedAt: EventId,
  asking: RequestOptions,
): Promise<NamedEvents> {
  const ids = await federation.stateIds(resident, roomId, askedAt, rules, asking);
  const stateIds = before === undefined ? ids.stateIds : beforeTheJoin(ids.stateIds, before);
  const wanted = new WantedEvents(stateIds);
  // Each got the next row.
  const rows = Uint32Array.from({ length: wanted.count }, (_, row) => row);
  let authChain = 0;
  for (const eventId of ids.authChainIds) {
    wanted.want([eventId]);
    authChain += 1;
  }
  if (before === undefined) wanted.want([atEventId]);
  return { wanted, rows, named: { state: rows.length, authChain } };
}

/** Finds out what is stored of what is wanted. */
async function knowHeld(sql: Sql, roomId: RoomId, wanted: WantedEvents): Promise<void> {
  for (const page of inPages(wanted.all(), HELD_READ)) wanted.know(await readHeldEvents(sql, roomId, page));
}

/**
 * `/state_ids` gives the state before an event, which is what is wanted here
 * (https://spec.matrix.org/v1.16/server-server-api/#get_matrixfederationv1state_idsroomid). Some servers give the one after it:
 * then the join is in it, and the joiner's earlier membership, which the join replaced, is put back.
 */
function* beforeTheJoin(
  stateIds: Iterable<EventId>,
  { joinEventId, membershipBefore }: JoinThatCites,
): Generator<EventId, void, undefined> {
  let isAfter = false;
  for (const eventId of stateIds) {
    if (eventId === joinEventId) isAfter = true;
    else yield eventId;
  }
  if (isAfter && membershipBefore !== undefined) yield membershipBefore;
}

/** Goes on without what is missing, where that is allowed. The room stays partial rather than wrong. */
async function settleLacked(request: StateRequest, wanted: WantedEvents): Promise<void> {
  if (wanted.lackingCount === 0) return;
  if (wanted.lackingCount <= LACKING_MAX) {
    const { dropped, goneWithout } = await request.settle(wanted.lacked(), wanted.all());
    wanted.dropUnusable(dropped);
    wanted.goOnWithout(goneWithout);
  }
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
  readonly state: NamedState;
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
  { intake, wanted, state, since }: AttemptSoFar,
  progress: Progress,
): Promise<OutlierTable> {
  const { store } = context;
  const { roomId, rules } = request;
  const { outliers } = intake;
  function* roots(): Generator<EventId, void, undefined> {
    for (const row of state.rows) if (outliers.verdictAt(row) === 'unjudged') yield outliers.ids.idOf(row);
    yield request.atEventId;
  }
  const sought = new Set<EventId>();
  for (let generation = 0; ; generation += 1) {
    await judgeOutliers(store, roomId, rules, wanted.all(), progress.heartbeat, { outliers });
    // Also for an attempt that fails: the verdicts are stored.
    await addChangedSince(store, roomId, since, { leftOut: [], awaited: [...outliers.judgedByOthers] });
    const absent = lackedForVerdicts(outliers, roots()).filter(
      (eventId) => !wanted.isGone(eventId) && !wanted.isAtHand(eventId),
    );
    const next = absent.filter((eventId) => !sought.has(eventId)).slice(0, SINGLE_EVENTS_MAX);
    if (next.length === 0 || generation >= AUTH_GENERATIONS_MAX) {
      // Whoever names no end of them is asked for no more, and his answer is as incomplete.
      wanted.want(absent);
      await settleLacked(request, wanted);
      return outliers;
    }
    for (const eventId of next) sought.add(eventId);
    // With what is held of their chains: whatever is here costs no generation.
    const { held, foreign } = await readHeldEvents(store, roomId, next);
    const chain = await readAuthChainIds(store, roomId, [...held]);
    wanted.want([...next, ...chain], { held: new Set([...held, ...chain]), foreign });
    const missing = next.filter((eventId) => !wanted.isIdle(eventId));
    await takeFrom(context, request, intake, wanted, progress.signal, missing);
    for (const row of outliers.rowsWith('unjudged')) outliers.judge(row, 'waiting', null);
  }
}

/** As the journal has them. */
function toldUnusable(events: readonly UnusableEvent[]): Pick<StateFetchCounts, 'unusable'> {
  if (events.length === 0) return {};
  const listed = events
    .slice(0, MISSING_LISTED_MAX)
    .map(({ from, ...event }) => ({ ...event, from: from.slice(0, FROM_MAX) }));
  return { unusable: { listed, count: events.length } };
}
