/**
 * Takes in what other servers push. A transaction is looked at, stored raw and answered, which takes milliseconds whatever
 * its rooms do (screen.ts); checking and judging follow from the table (work-off.ts). Nothing here waits for full state: in a
 * partial room a verdict is provisional (MSC3902, https://github.com/matrix-org/matrix-spec-proposals/pull/3902).
 */
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { readRoomOfEvent } from '../../store/events/pdus.ts';
import { isAnybodyIn, readRoom } from '../../store/journal/rooms.ts';
import { stageTransaction } from '../../store/tables/staged-pdus.ts';
import { readTransactionResponse } from '../../store/tables/transactions.ts';
import { type RoomsContext } from '../context.ts';
import { type ReceivedTransaction, type RoomStatus, type TransactionAnswer } from '../contract.ts';
import { endInvites } from '../invites/end-invites.ts';
import { type Screen, createScreen } from './screen.ts';
import { startWorkingOff } from './work-off.ts';

/** A turn of a full room, and then some. */
const LIMITED_RETRY_AFTER_MS = 10_000;

export interface Receiver {
  /** Stores and answers; the same transaction again, here or in another process, gets the same answer. */
  receiveTransaction(origin: ServerName, txnId: string, transaction: ReceivedTransaction): Promise<TransactionAnswer>;
  roomStatus(roomId: RoomId, asking: ServerName): Promise<RoomStatus>;
  statusOfEventsRoom(eventId: EventId, asking: ServerName): Promise<RoomStatus>;
  /** Ends the work at what is staged; it stays staged. */
  close(): Promise<void>;
}

/** Starts working at what is staged, whoever staged it. */
export function startReceiver(context: RoomsContext): Receiver {
  const { store } = context;
  const screen = createScreen(context);
  const workOff = startWorkingOff(context);
  const closing = new AbortController();
  return {
    receiveTransaction: async (origin, txnId, { pdus }) => {
      const before = await readTransactionResponse(store, origin, txnId);
      if (before !== undefined) return { outcome: 'answered', response: before };
      const screening = await screen.screen(origin, pdus, AbortSignal.any([closing.signal]));
      if (screening.outcome === 'limited') return { outcome: 'limited', retryAfterMs: LIMITED_RETRY_AFTER_MS };
      const { elsewhere } = screening;
      const strays = elsewhere.size === 0 ? [] : pdus.filter(({ roomId }) => elsewhere.has(roomId));
      const ended = strays.length === 0 ? [] : await endInvites(context, origin, strays, closing.signal);
      const response = { pdus: { ...screening.results, ...Object.fromEntries(ended.map((id) => [id, {}])) } };
      // Most of all transactions hold no PDUs: the answer to these is always the same.
      if (pdus.length === 0) return { outcome: 'answered', response };
      const answer = await stageTransaction(store, { origin, txnId, response }, screening.pdus);
      for (const { roomId, waitsFor } of screening.pdus) {
        if (waitsFor.length === 0) workOff.poke(roomId);
        else workOff.watch(roomId);
      }
      return { outcome: 'answered', response: answer };
    },
    roomStatus: (roomId, asking) => roomStatus(context, screen, roomId, asking),
    statusOfEventsRoom: async (eventId, asking) => {
      const roomId = await readRoomOfEvent(store, eventId);
      return roomId === undefined ? 'absent' : roomStatus(context, screen, roomId, asking);
    },
    close: () => {
      closing.abort(new Error('the server is closing'));
      return workOff.close();
    },
  };
}

async function roomStatus(
  { store }: RoomsContext,
  screen: Screen,
  roomId: RoomId,
  asking: ServerName,
): Promise<RoomStatus> {
  const room = await readRoom(store, roomId);
  if (room === undefined || !(await isAnybodyIn(store, roomId))) return 'absent';
  if (!(await screen.isAllowed(room, asking))) return 'denied';
  return room.partial ? 'partial' : 'full';
}
