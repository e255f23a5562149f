/**
 * Asks other servers of a room which of its events is the nearest to a time, where we hold nothing near it: a few of them, one after the
 * other, within a few seconds. What they say is a hint.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#get_matrixfederationv1timestamp_to_eventroomid
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { isAnybodyIn, readRoom } from '../../store/journal/rooms.ts';
import { type TimeDirection } from '../../store/events/events-by-time.ts';
import { type RoomsContext } from '../context.ts';
import { beginAsking } from '../receive/ask.ts';
import { whomToAsk } from '../receive/whom-to-ask.ts';
import { spendingOf } from './spending.ts';

/** All that one reader waits for, milliseconds. */
const WAIT_MS_MAX = 10_000;
const REQUESTS_MAX = 3;
const BYTES_MAX = 1024 * 1024;

/** An event, and when it was made, as its server says. */
export interface DatedEvent {
  readonly eventId: EventId;
  /** Milliseconds since the Unix epoch. */
  readonly at: number;
}

/** The first answer that may be true; `undefined`: none is. Throws for faults of ours only. */
export type TimeSearch = (
  roomId: RoomId,
  wanted: { readonly at: number; readonly direction: TimeDirection },
  signal: AbortSignal,
) => Promise<DatedEvent | undefined>;

/** One for a process. */
export function createTimeSearch(context: RoomsContext): TimeSearch {
  const { store, federation, serverName } = context;
  return async (roomId, { at, direction }, caller) => {
    const room = await readRoom(store, roomId);
    if (room === undefined || !(await isAnybodyIn(store, roomId))) return undefined;
    const signal = AbortSignal.any([caller, AbortSignal.timeout(WAIT_MS_MAX)]);
    const asking = beginAsking(context, spendingOf(signal, { requestsMax: REQUESTS_MAX, bytesMax: BYTES_MAX }));
    const origin = { name: room.joinedVia ?? serverName, isIn: room.joinedVia !== null };
    for (const server of await whomToAsk(context, room, origin, asking)) {
      const query = { at, direction: direction === 'forwards' ? 'f' : 'b' } as const;
      const found = await asking.ask(server, (options) => federation.timestampToEvent(server, roomId, query, options));
      if (found !== undefined && (direction === 'forwards' ? found.at >= at : found.at <= at)) return found;
    }
    return undefined;
  };
}
