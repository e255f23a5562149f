/**
 * What other servers of a room are told of it: its events, and its state where we know it whole. Events that were taken back are given
 * as the redaction leaves them, under the same ids: an event's id and signatures are of what is left of it
 * (https://spec.matrix.org/v1.16/server-server-api/#signing-events).
 */
import { type EventId, type RoomId, type ServerName, domainOf } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { readAuthChainIds } from '../../store/events/auth-events.ts';
import { type TimePlace, type TimedEvents, readEventsByTime } from '../../store/events/events-by-time.ts';
import { streamStateBodies } from '../../store/events/pdu-bodies.ts';
import { readRoomOfEvent } from '../../store/events/pdus.ts';
import { type ServedEvent, readEventsBefore, readServedEvent } from '../../store/events/served-events.ts';
import { readStanding } from '../../store/journal/rooms.ts';
import { JoinedServers } from '../../store/snapshots/joined-servers.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { type RoomsContext } from '../context.ts';
import { type Denied, type ResidentAnswers } from '../resident-contract.ts';
import { EVENTS_A_PAGE, pages, redacted } from './join-answer.ts';
import { asVisible, isInRoom } from './may-see.ts';

/** As the reference implementation has them. */
const MISSING_MAX = 20;
const BACKFILL_MAX = 100;
/** Pages of a room's events by time: what is in no timeline is passed over. */
const TIME_LOOKS_MAX = 25;

/** Puts the answers of one process together. */
export function residentAnswers({ store }: Pick<RoomsContext, 'store'>): ResidentAnswers {
  const joined = new JoinedServers();

  /** The room, if we may tell this server of it. */
  const open = async (roomId: RoomId, server: ServerName) => {
    const room = await readStanding(store, roomId);
    if (room === undefined) return 'unknown';
    return (await isInRoom(store, joined, room, server)) ? room : 'not-in-room';
  };

  /** The state before an event of the timeline, by ids, with its auth chain. */
  const stateBefore = async (
    roomId: RoomId,
    eventId: EventId,
    server: ServerName,
  ): Promise<Denied | { readonly at: SnapshotId; readonly state: EventId[]; readonly authChain: EventId[] }> => {
    const room = await open(roomId, server);
    if (typeof room === 'string') return room;
    if (room.partial) return 'partial';
    const event = await readServedEvent(store, roomId, eventId);
    if (event === undefined) return 'unknown';
    if (event.partial) return 'partial';
    const entries = await readSnapshot(store, roomId, event.stateBefore);
    const state = entries.map((entry) => entry.eventId);
    return { at: event.stateBefore, state, authChain: [...(await readAuthChainIds(store, roomId, state))] };
  };

  return {
    event: async (eventId, server) => {
      const roomId = await readRoomOfEvent(store, eventId);
      if (roomId === undefined) return 'unknown';
      const room = await open(roomId, server);
      if (typeof room === 'string') return room;
      const event = await readServedEvent(store, roomId, eventId);
      if (event === undefined) return room.partial ? 'partial' : 'unknown';
      if (room.partial && domainOf(event.sender) !== store.serverName) return 'partial';
      return asVisible(store, joined, room, [event], server);
    },
    stateIds: stateBefore,
    state: async (roomId, eventId, server) => {
      const ids = await stateBefore(roomId, eventId, server);
      if (typeof ids === 'string') return ids;
      const pdus = redacted(store, roomId, streamStateBodies(store, roomId, ids.at, EVENTS_A_PAGE));
      return { pdus, authChain: pages(store, roomId, ids.authChain) };
    },
    eventAuth: async (roomId, eventId, server) => {
      const room = await open(roomId, server);
      if (typeof room === 'string') return room;
      const event = await readServedEvent(store, roomId, eventId);
      const isOurs = event !== undefined && domainOf(event.sender) === store.serverName;
      if (room.partial && !isOurs) return 'partial';
      if (event === undefined) return 'unknown';
      return pages(store, roomId, await authChainOf(event, roomId));
    },
    missingEvents: async (roomId, query, server) => {
      const room = await open(roomId, server);
      if (typeof room === 'string') return room;
      const { earliest: until, latest: from, minDepth } = query;
      const limit = Math.min(query.limit, MISSING_MAX);
      const events = await readEventsBefore(store, roomId, { from, until, minDepth, limit, inclusive: false });
      return asVisible(store, joined, room, events, server);
    },
    backfill: async (roomId, from, limit, server) => {
      const room = await open(roomId, server);
      if (typeof room === 'string') return room;
      const query = { from, until: [], minDepth: 0, limit: Math.min(limit, BACKFILL_MAX), inclusive: true };
      return asVisible(store, joined, room, (await readEventsBefore(store, roomId, query)).reverse(), server);
    },
    eventAtTime: async (roomId, { at, direction }, server) => {
      const room = await open(roomId, server);
      if (typeof room === 'string') return room;
      if (room.partial) return 'partial';
      let from: TimePlace | null = { at, nid: null };
      for (let look = 0; look < TIME_LOOKS_MAX && from !== null; look += 1) {
        const { events, next }: TimedEvents = await readEventsByTime(store, roomId, direction, from, 1);
        const [found] = events;
        if (found !== undefined) return { eventId: found.eventId, at: found.at };
        from = next;
      }
      return 'unknown';
    },
  };

  async function authChainOf({ eventId }: ServedEvent, roomId: RoomId): Promise<EventId[]> {
    return [...(await readAuthChainIds(store, roomId, [eventId]))].filter((id) => id !== eventId);
  }
}
