/**
 * Has all rooms of one server ask again. The rooms are found in the database and not by search attributes at Temporal: there the
 * server that was asked last is known, here every room that the server is in; a run that was lost there is found; and each retry is
 * journalled with whose it is. Temporal's own batches send the same command as a signal.
 */
import { type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type Directed } from '../../resync/operator-events.ts';
import { waitingPage } from '../../store/journal/rooms.ts';
import { type RoomsContext } from '../context.ts';
import { type RetriedRooms } from '../contract.ts';
import { RoomError } from '../error.ts';
import { commandRoom } from './command-room.ts';

/** A page: a transaction and a ring each. */
const ROOMS_MAX = 50;

/** Retries rooms that wait or are parked and that the server is in, in the order of their ids, from the one after `from` on. */
export async function retryRoomsOf(
  context: Pick<RoomsContext, 'store' | 'clock' | 'ring' | 'logger'>,
  resident: ServerName,
  from: string,
  said: Omit<Directed, 'at'>,
): Promise<RetriedRooms> {
  const page = await waitingPage(context.store, resident, from, ROOMS_MAX);
  const retried: RoomId[] = [];
  for (const { roomId } of page) {
    try {
      const { isChanged } = await commandRoom(context, roomId, { type: 'retry' }, said);
      if (isChanged) retried.push(roomId);
    } catch (error) {
      // It has gone on, or has been cancelled, in this moment.
      if (!(error instanceof RoomError)) throw error;
    }
  }
  return { retried, next: page.length < ROOMS_MAX ? null : (page.at(-1)?.roomId ?? null) };
}
