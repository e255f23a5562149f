/** Reading rooms as one of our users may see them. */
import { readJoinedRooms } from '../../store/journal/rooms.ts';
import { type ClientReads } from '../client-contract.ts';
import { type RoomsContext } from '../context.ts';

/** Puts the reads of clients together. */
export function clientReads({ store }: Pick<RoomsContext, 'store'>): ClientReads {
  return { joinedRooms: (userId) => readJoinedRooms(store, userId) };
}
