/**
 * Takes in what other servers push: checks 1 to 3, parents and auth events where they are missing, checks 4 to 6, and one
 * short transaction an event. Nothing here waits for full state; in a partial room the verdict is provisional
 * (MSC3902, https://github.com/matrix-org/matrix-spec-proposals/pull/3902).
 */
import pLimit, { type LimitFunction } from 'p-limit';
import { FederationError } from '../../federation/error.ts';
import { type PduResults, type ReceivedTransaction, type RoomStatus } from '../contract.ts';
import { compareDepths } from '../../matrix/depth.ts';
import { eventIdOf } from '../../matrix/signing/hashes.ts';
import { type EventId, type RoomId, type ServerName, parseEventId, parseRoomId } from '../../matrix/identifiers.ts';
import { parseJsonObject } from '../../matrix/json/strict-json.ts';
import { type RoomVersionRules, roomVersionRules } from '../../matrix/room-versions.ts';
import { readParents } from '../../store/events/anchors.ts';
import { hasJoinIntent } from '../../store/tables/intents.ts';
import { withTransaction } from '../../store/open-store.ts';
import { insertPdus, readPdus, readRoomOfEvent } from '../../store/events/pdus.ts';
import { isAnybodyIn, lockRoom, readRoom } from '../../store/journal/rooms.ts';
import { type CheckOutcome, type CheckedPdu } from '../../verification/contract.ts';
import { admitEvents } from '../judge/admit.ts';
import { type RoomsContext } from '../context.ts';
import { checkEvents, passed } from '../judge/check-events.ts';
import { judgeOutliers } from '../judge/judge-outliers.ts';

/** Events asked for to close a gap before a pushed event; a wider gap fails the push of that event. */
const MISSING_EVENTS_MAX = 10;
/** Auth events fetched one by one for a pushed event: the ten it cites, and what their chains lack. */
const AUTH_EVENTS_MAX = 50;
/** How long a push waits for a join of ours that is under way in its room. */
const JOIN_WAIT_MS = 30_000;
const JOIN_POLL_MS = 500;
/** Rooms taken in at once from one transaction. */
const ROOMS_AT_ONCE = 4;

export interface Receiver {
  receiveTransaction(
    origin: ServerName,
    txnId: string,
    transaction: ReceivedTransaction,
    signal: AbortSignal,
  ): Promise<PduResults>;
  roomStatus(roomId: RoomId): Promise<RoomStatus>;
  statusOfEventsRoom(eventId: EventId): Promise<RoomStatus>;
}

/** Events of one room are taken in one after the other; rooms do not wait for each other. */
export function createReceiver(context: RoomsContext): Receiver {
  const turns = new Map<RoomId, LimitFunction>();
  return {
    receiveTransaction: (origin, _txnId, { pdus }, signal) => receive(context, turns, origin, pdus, signal),
    roomStatus: (roomId) => roomStatus(context, roomId),
    statusOfEventsRoom: async (eventId) => {
      const roomId = await readRoomOfEvent(context.store, eventId);
      return roomId === undefined ? 'absent' : roomStatus(context, roomId);
    },
  };
}

async function roomStatus({ store }: RoomsContext, roomId: RoomId): Promise<RoomStatus> {
  const room = await readRoom(store, roomId);
  if (room === undefined) return 'absent';
  if (!(await isAnybodyIn(store, roomId))) return 'absent';
  return room.partial ? 'partial' : 'full';
}

async function receive(
  context: RoomsContext,
  turns: Map<RoomId, LimitFunction>,
  origin: ServerName,
  pdus: readonly Uint8Array[],
  signal: AbortSignal,
): Promise<PduResults> {
  const byRoom = new Map<RoomId, Uint8Array[]>();
  for (const raw of pdus) {
    // What names no room has no event id either: there is nothing to answer it by.
    const roomId = roomOf(raw);
    if (roomId !== undefined) byRoom.set(roomId, [...(byRoom.get(roomId) ?? []), raw]);
  }
  const rooms = pLimit(ROOMS_AT_ONCE);
  const answers = [...byRoom].map(([roomId, events]) =>
    rooms(() => inTurn(turns, roomId, () => receiveInRoom(context, origin, roomId, events, signal))),
  );
  return Object.assign({}, ...(await Promise.all(answers))) as PduResults;
}

async function inTurn<T>(turns: Map<RoomId, LimitFunction>, roomId: RoomId, work: () => Promise<T>): Promise<T> {
  const turn = turns.get(roomId) ?? pLimit(1);
  turns.set(roomId, turn);
  try {
    return await turn(work);
  } finally {
    if (turn.activeCount + turn.pendingCount === 0) turns.delete(roomId);
  }
}

function roomOf(raw: Uint8Array): RoomId | undefined {
  const parsed = parseJsonObject(raw);
  return parsed.ok ? parseRoomId(parsed.value['room_id']) : undefined;
}

async function receiveInRoom(
  context: RoomsContext,
  origin: ServerName,
  roomId: RoomId,
  raws: readonly Uint8Array[],
  signal: AbortSignal,
): Promise<Record<EventId, { error?: string }>> {
  const rules = await rulesOfJoinedRoom(context, roomId, signal);
  const results: Record<EventId, { error?: string }> = {};
  // Not in the room: dropped quietly. The id is worked out for the answer where the version is known.
  if (rules === undefined) return results;

  for (const [i, outcome] of (await checkEvents(context, { roomId, rules, events: raws, signal })).entries()) {
    const id = idOf(outcome, raws[i], rules);
    if (id === undefined) continue;
    if (outcome.outcome !== 'passed') {
      results[id] = { error: `the event failed its checks: ${outcome.outcome}` };
      continue;
    }
    try {
      await takeIn(context, rules, origin, outcome.pdu, signal);
      results[id] = {};
    } catch (error) {
      if (signal.aborted) throw error;
      if (!(error instanceof UnplaceableError)) {
        context.logger.error({ err: error, roomId, eventId: id, origin }, 'a pushed event could not be taken in');
      }
      results[id] = { error: error instanceof UnplaceableError ? error.message : 'the event could not be processed' };
    }
  }
  return results;
}

function idOf(outcome: CheckOutcome, raw: Uint8Array | undefined, rules: RoomVersionRules): EventId | undefined {
  if (outcome.outcome === 'passed') return outcome.pdu.eventId;
  if (outcome.eventId !== null) return outcome.eventId;
  const parsed = raw === undefined ? undefined : parseJsonObject(raw);
  if (parsed?.ok !== true) return undefined;
  return parseEventId(rules.eventIdFormat === 'given' ? parsed.value['event_id'] : eventIdOf(parsed.value, rules));
}

/** Rules of a room in which a local user is joined; waits for a join that is under way. */
async function rulesOfJoinedRoom(
  context: RoomsContext,
  roomId: RoomId,
  signal: AbortSignal,
): Promise<RoomVersionRules | undefined> {
  const { store, notifier } = context;
  const settled = async (): Promise<RoomStatus | undefined> => {
    const status = await roomStatus(context, roomId);
    return status === 'absent' && (await hasJoinIntent(store, roomId)) ? undefined : status;
  };
  const status = await notifier.waitFor(roomId, settled, { signal, timeoutMs: JOIN_WAIT_MS, pollMs: JOIN_POLL_MS });
  if (status === undefined || status === 'absent') return undefined;
  const room = await readRoom(store, roomId);
  return room === undefined ? undefined : roomVersionRules(room.roomVersion);
}

/** The event has no place: its parents are not held and cannot be had. */
class UnplaceableError extends Error {}

async function takeIn(
  context: RoomsContext,
  rules: RoomVersionRules,
  origin: ServerName,
  pdu: CheckedPdu,
  signal: AbortSignal,
): Promise<void> {
  const { store } = context;
  if ((await readParents(store, pdu.roomId, [pdu.eventId])).size > 0) return;
  if ((await missingParents(context, pdu)).length > 0) await closeGap(context, rules, origin, pdu, signal);
  const missing = await missingParents(context, pdu);
  if (missing.length > 0) {
    throw new UnplaceableError(`${missing.length} of its prev_events are not held, ${missing[0] ?? ''} first`);
  }
  await takeInPlaced(context, rules, origin, pdu, signal);
}

/** Takes in an event whose parents are all in the timeline. */
async function takeInPlaced(
  context: RoomsContext,
  rules: RoomVersionRules,
  origin: ServerName,
  pdu: CheckedPdu,
  signal: AbortSignal,
): Promise<void> {
  await fetchAuthEvents(context, rules, origin, pdu, signal);
  await insertPdus(context.store, [pdu]);
  await place(context, pdu);
}

async function missingParents({ store }: RoomsContext, { roomId, prevEvents }: CheckedPdu): Promise<EventId[]> {
  const known = await readParents(store, roomId, prevEvents);
  return prevEvents.filter((eventId) => !known.has(eventId));
}

/** Asks the sender of an event for what lies between it and our newest events, and takes that in first, oldest first. */
async function closeGap(
  context: RoomsContext,
  rules: RoomVersionRules,
  origin: ServerName,
  pdu: CheckedPdu,
  signal: AbortSignal,
): Promise<void> {
  const { roomId } = pdu;
  const extremities = await withTransaction(context.store, async (tx) => (await lockRoom(tx, roomId))?.extremities);
  const query = {
    earliestEvents: extremities ?? [],
    latestEvents: [pdu.eventId],
    limit: MISSING_EVENTS_MAX,
    minDepth: 0,
  };
  let raws: readonly Uint8Array[];
  try {
    raws = await context.federation.getMissingEvents(origin, roomId, query, { signal });
  } catch (error) {
    if (!(error instanceof FederationError)) throw error;
    context.logger.info(
      { err: error, roomId, eventId: pdu.eventId },
      'the gap before a pushed event could not be closed',
    );
    return;
  }
  const outcomes = await checkEvents(context, { roomId, rules, events: raws, signal });
  const events = passed(outcomes);
  for (const event of events.sort(compareDepths)) {
    if ((await missingParents(context, event)).length > 0) continue;
    if ((await readParents(context.store, roomId, [event.eventId])).size > 0) continue;
    await takeInPlaced(context, rules, origin, event, signal);
  }
}

/**
 * Judges the auth events of a pushed event as outliers, together with what their auth chains lack; what is not held is fetched.
 * What cannot be had stays missing, and what is not judged proves nothing.
 */
async function fetchAuthEvents(
  context: RoomsContext,
  rules: RoomVersionRules,
  origin: ServerName,
  { roomId, authEvents }: CheckedPdu,
  signal: AbortSignal,
): Promise<void> {
  const seen = new Set<EventId>();
  let requests = 0;
  for (let wanted = authEvents; wanted.length > 0;) {
    wanted.forEach((eventId) => seen.add(eventId));
    const held = await readPdus(context.store, roomId, wanted);
    const heldIds = new Set(held.map(({ eventId }) => eventId));
    const missing = wanted.filter((eventId) => !heldIds.has(eventId)).slice(0, AUTH_EVENTS_MAX - requests);
    requests += missing.length;
    const fetched = await fetchEvents(context, rules, origin, roomId, missing, signal);
    const unjudged = [...held.filter(({ verdict }) => verdict === 'unjudged'), ...fetched];
    wanted = unjudged.flatMap((event) => event.authEvents).filter((eventId) => !seen.has(eventId));
    wanted = [...new Set(wanted)];
  }
  await judgeOutliers(context.store, roomId, rules, [...seen], () => undefined);
}

async function fetchEvents(
  context: RoomsContext,
  rules: RoomVersionRules,
  origin: ServerName,
  roomId: RoomId,
  eventIds: readonly EventId[],
  signal: AbortSignal,
): Promise<readonly CheckedPdu[]> {
  const raws: Uint8Array[] = [];
  for (const eventId of eventIds) {
    try {
      raws.push(await context.federation.event(origin, eventId, { signal }));
    } catch (error) {
      if (!(error instanceof FederationError)) throw error;
    }
  }
  const wanted = new Set(eventIds);
  const outcomes = await checkEvents(context, { roomId, rules, events: raws, signal });
  const fetched = passed(outcomes).filter(({ eventId }) => wanted.has(eventId));
  await insertPdus(context.store, fetched);
  return fetched;
}

async function place(context: RoomsContext, { roomId, eventId }: CheckedPdu): Promise<void> {
  const admission = (await admitEvents(context, roomId, [eventId])).get(eventId);
  if (admission !== undefined && 'reason' in admission) throw new UnplaceableError(admission.reason);
}
