/** Ringing a room's workflow from where nothing may fail for it: what is to be done is written down already. */
import { type RoomId } from '../matrix/identifiers.ts';
import { type RoomsContext } from './context.ts';

/** Never rejects: a ring that fails is logged, and the sweep finds the room. `why`: for the log, such as `for a gap`. */
export async function ringRoom(
  { ring, logger }: Pick<RoomsContext, 'ring' | 'logger'>,
  roomId: RoomId,
  why: string,
): Promise<void> {
  await ring(roomId).catch((error: unknown) => {
    logger.warn({ err: error, roomId }, `a room could not be rung ${why}; the sweep finds it`);
  });
}
