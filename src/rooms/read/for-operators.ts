/**
 * Reading rooms: what needs no memberships is answered at once, the rest waits for full state, bounded and visibly, and
 * ends when the caller goes away (MSC3902).
 */
import { type EventId, type RoomAlias, type RoomId, type UserId, parseRoomId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { initialResyncState } from '../../resync/state.ts';
import { readResyncEvents } from '../../store/journal/journal.ts';
import { readOperatorEntries } from '../../store/journal/operator-entries.ts';
import { readBacklog, readDropped, readWaiting } from '../../store/tables/staged-reads.ts';
import { readEventStates } from '../../store/events/event-states.ts';
import { readGaps } from '../../store/events/gaps.ts';
import { readGivenUp } from '../../store/events/missing-events.ts';
import { readOpenIntents } from '../../store/tables/intents.ts';
import { streamMemberBodies, streamPduBodies, streamStateBodies } from '../../store/events/pdu-bodies.ts';
import { findRoomByAlias, summaryOf } from '../../store/journal/room-summaries.ts';
import { type RoomRow, listRooms, readRoom } from '../../store/journal/rooms.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { resolveAlias } from '../aliases.ts';
import { type RoomsContext } from '../context.ts';
import {
  type Member,
  type NotReady,
  type Ready,
  type RoomDescription,
  type RoomOverview,
  type RoomReads,
  type StateEvent,
  type WaitOptions,
} from '../contract.ts';
import { RoomError } from '../error.ts';
import { redactedPages } from './as-redacted.ts';
import { readCorrections, readCorrectionsOpen } from './corrections.ts';
import { explainEvent } from './explain-event.ts';
import { type FullStateWaits, fullStateWaits, notReady, requireRoom } from './full-state.ts';
import { readProgress } from '../resync/fetch-progress.ts';

/** Events that were given up, in a description. */
const DROPPED_SHOWN = 10;
/** Events that the state lacks, and open intents: what people read through. */
const MISSING_SHOWN = 100;
const INTENTS_SHOWN = 20;
const WAITING_SHOWN = 10;
/** Rows of one page of an answer, some 500 KB; 1,000 are no quicker and take 10 MB more of a process. */
const PAGE_ROWS = 500;

/** What the operator API reads of rooms. */
export function operatorReads(context: RoomsContext): RoomReads {
  const { store } = context;
  const waits = fullStateWaits(context);
  return {
    listRooms: async () => {
      const overviews: RoomOverview[] = [];
      for (const room of await listRooms(store)) if (room.epoch > 0) overviews.push(await overview(context, room));
      return overviews;
    },
    resolveRoom: (room, signal) => resolveRoom(context, room, signal),
    describeRoom: async (roomId) => {
      const openIntents = await readOpenIntents(store, roomId, INTENTS_SHOWN);
      const room = openIntents.length > 0 ? await readRoom(store, roomId) : await requireRoom(context, roomId);
      if (room === undefined || room.epoch === 0) return { ...nobodyIn(roomId), openIntents };
      const journal = await readResyncEvents(store, roomId, room.epoch, 0);
      return {
        ...(await overview(context, room)),
        operatorSaid: await readOperatorEntries(store, roomId),
        progress: await readProgress(context, room),
        gaps: await readGaps(store, roomId),
        backlog: await readBacklog(store, roomId),
        waiting: await readWaiting(store, roomId, WAITING_SHOWN),
        dropped: await readDropped(store, roomId, DROPPED_SHOWN),
        missing: await readGivenUp(store, roomId, MISSING_SHOWN),
        openIntents,
        corrections: await readCorrectionsOpen(context, roomId, journal),
        journal,
      };
    },
    corrections: async (roomId, query) => {
      await requireRoom(context, roomId);
      return readCorrections(context, roomId, query);
    },
    explainEvent: (eventId) => explainEvent(context, eventId),
    members: async (roomId, options) => {
      const full = await fullState(context, waits, roomId, options);
      if (!full.ready) return full;
      const { degraded, state } = full;
      return { ready: true, degraded, pages: memberPages(context, roomId, state, options.membership) };
    },
    state: async (roomId, options) => {
      if (options.at !== undefined) return stateAt(context, waits, roomId, options.at, options);
      if (options.members) {
        const full = await fullState(context, waits, roomId, options);
        if (!full.ready) return full;
        return { ready: true, degraded: full.degraded, pages: statePages(context, roomId, full.state, true) };
      }
      const { currentState } = await requireRoom(context, roomId);
      if (currentState === null) throw new RoomError('unknown-room', `${roomId} has no state here`);
      return { ready: true, pages: statePages(context, roomId, currentState, false) };
    },
  };
}

/** The state before an event. Who waits is woken when this very event has full state. */
async function stateAt(
  context: RoomsContext,
  waits: FullStateWaits,
  roomId: RoomId,
  eventId: EventId,
  options: WaitOptions & { readonly members: boolean },
): Promise<Ready<StateEvent> | NotReady> {
  const { members } = options;
  await requireRoom(context, roomId);
  const event = (await readEventStates(context.store, roomId, [eventId])).get(eventId);
  if (event === undefined) throw new RoomError('unknown-room', `${eventId} is not in the timeline of ${roomId} here`);
  const state =
    event.partial && members ? (await waits.event(roomId, eventId, options))?.stateBefore : event.stateBefore;
  if (state === undefined) return notReady(context, roomId);
  const { resync } = await requireRoom(context, roomId);
  return { ready: true, degraded: resync.degraded !== null, pages: statePages(context, roomId, state, members) };
}

/** A room that we know of by joins that are open alone. */
function nobodyIn(roomId: RoomId): Omit<RoomDescription, 'openIntents'> {
  return {
    ...{ roomId, epoch: 0, name: null, canonicalAlias: null, membersKnown: 0, resync: initialResyncState },
    ...{ operatorSaid: [], progress: null, gaps: [], waiting: [], dropped: [], missing: [], journal: [] },
    corrections: { changes: 0, events: 0, oldestSince: null, judged: 0, changed: 0 },
    backlog: { staged: 0, oldestStagedAt: null, gaps: 0, oldestGapAt: null },
  };
}

/** The current state once the room is whole; a definite word when it is not within the wait. */
async function fullState(
  context: RoomsContext,
  waits: FullStateWaits,
  roomId: RoomId,
  options: WaitOptions,
): Promise<{ readonly ready: true; readonly state: SnapshotId; readonly degraded: boolean } | NotReady> {
  const state = await waits.room(roomId, options);
  if (state === undefined) return notReady(context, roomId);
  const { resync } = await requireRoom(context, roomId);
  return { ready: true, state, degraded: resync.degraded !== null };
}

async function* memberPages(
  { store }: RoomsContext,
  roomId: RoomId,
  state: SnapshotId,
  membership: string | null,
): AsyncIterable<readonly Member[]> {
  const pages = streamMemberBodies(store, roomId, state, { membership }, PAGE_ROWS);
  for await (const bodies of redactedPages(store, roomId, pages)) {
    yield bodies.map(memberOf).filter((member) => member !== undefined);
  }
}

/** `undefined`: `membership` is not a string. */
function memberOf({ eventId, json }: StateEvent): Member | undefined {
  const { state_key: stateKey, content } = JSON.parse(json) as { state_key: string; content?: JsonObject };
  const { membership, displayname } = content ?? {};
  if (typeof membership !== 'string') return undefined;
  const displayName = typeof displayname === 'string' ? displayname : null;
  return { userId: stateKey as UserId, eventId, membership, displayName };
}

async function* statePages(
  { store }: RoomsContext,
  roomId: RoomId,
  state: SnapshotId,
  members: boolean,
): AsyncIterable<readonly StateEvent[]> {
  if (members) {
    yield* redactedPages(store, roomId, streamStateBodies(store, roomId, state, PAGE_ROWS));
    return;
  }
  const entries = await readSnapshot(store, roomId, state, { members });
  const ids = entries.map(({ eventId }) => eventId);
  yield* redactedPages(store, roomId, streamPduBodies(store, ids, PAGE_ROWS));
}

async function overview({ store }: RoomsContext, room: RoomRow): Promise<RoomOverview> {
  const { roomId, epoch, resync } = room;
  const { members: membersKnown, ...names } = await summaryOf(store, room);
  return { roomId, epoch, resync, membersKnown, ...names };
}

/** Looks among our rooms' canonical aliases, then asks the alias's server. */
async function resolveRoom(context: RoomsContext, room: RoomId | RoomAlias, signal: AbortSignal): Promise<RoomId> {
  const roomId = parseRoomId(room);
  if (roomId !== undefined) return roomId;
  const alias = room as RoomAlias;
  return (await findRoomByAlias(context.store, alias)) ?? (await resolveAlias(context, alias, signal)).roomId;
}
