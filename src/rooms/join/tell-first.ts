/**
 * Before a resident is asked to let us in again, it is told what it is still owed of the room, the leave of an earlier stay above all. Its
 * template then stands on that. A leave that comes later is beside the join instead: here it is of the stay before, and no extremity,
 * while other servers resolve it with whatever followed the join.
 */
import { randomUUID } from 'node:crypto';
import { type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { TRANSACTION_PDUS_MAX } from '../../matrix/transactions.ts';
import { readUntold } from '../../store/tables/deliveries.ts';
import { type RoomsContext } from '../context.ts';
import { outgoingTransaction } from '../send/outgoing-transaction.ts';

/** A join waits so long for it; the queue tells it in any case, and whoever gets it twice takes it once. */
const TELL_MS_MAX = 5_000;

/** Never rejects: a resident that does not take it may let us in all the same. One statement where nothing is owed. */
export async function tellFirst(
  context: Pick<RoomsContext, 'store' | 'clock' | 'serverName' | 'federation' | 'logger'>,
  roomId: RoomId,
  resident: ServerName,
  signal: AbortSignal,
): Promise<void> {
  try {
    const positions = await readUntold(context.store, roomId, resident, TRANSACTION_PDUS_MAX);
    if (positions.length === 0) return;
    const content = await outgoingTransaction(context, positions);
    const limit = AbortSignal.any([signal, AbortSignal.timeout(TELL_MS_MAX)]);
    await context.federation.sendTransaction(resident, randomUUID(), content, { signal: limit });
  } catch (error) {
    context.logger.debug({ err: error, roomId, resident }, 'a resident was not told first what it is owed of the room');
  }
}
