/** Bodies of requests as tests need them: read in this thread, and cut into what a transaction hands on. */
import { type RoomId } from '../../src/matrix/identifiers.ts';
import { type ReceivedTransaction } from '../../src/rooms/contract.ts';
import { type BodyReader } from '../../src/verification/contract.ts';
import { readBody } from '../../src/verification/read-body.ts';

export const bodiesReadHere: BodyReader = { readBody: (claim, body) => Promise.resolve(readBody(claim, body)) };

/** PDUs with the rooms that they name; those that name none are left out. */
export function transactionWith(raws: readonly Uint8Array[]): ReceivedTransaction {
  return {
    pdus: raws.flatMap((raw) => {
      const { room_id: roomId } = JSON.parse(Buffer.from(raw).toString('utf8')) as { room_id?: RoomId };
      return roomId === undefined ? [] : [{ raw, roomId }];
    }),
  };
}

/** The PDUs of transactions as they were received. */
export function rawPdus(transactions: readonly ReceivedTransaction[]): Uint8Array[] {
  return transactions.flatMap(({ pdus }) => pdus.map(({ raw }) => raw));
}
