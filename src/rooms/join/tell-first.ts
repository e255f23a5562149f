/**
 * Before a resident is asked to let us in again, it is told what it is still owed of the room, the leave of an earlier stay above all. Its
 * template then stands on that. A leave that comes later is beside the join instead: here it is of the stay before, and no extremity,
 * while other servers resolve it with whatever followed the join.
 */
import { type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type RoomsContext } from '../context.ts';

/** A join waits so long for it; it is told in its turn in any case. */
const TELL_MS_MAX = 5_000;

/** Never rejects: a resident that does not take it may let us in all the same. */
export async function tellFirst(
  context: Pick<RoomsContext, 'tell' | 'logger'>,
  roomId: RoomId,
  resident: ServerName,
  signal: AbortSignal,
): Promise<void> {
  try {
    await context.tell?.(roomId, resident, AbortSignal.any([signal, AbortSignal.timeout(TELL_MS_MAX)]));
  } catch (error) {
    context.logger.debug({ err: error, roomId, resident }, 'a resident was not told first what it is owed of the room');
  }
}
