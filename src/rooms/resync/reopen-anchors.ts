/**
 * Whole rooms with an anchor whose full state was never had, as code of before could complete them: nobody would ask for that state
 * any more. A gap is opened at each, and what was taken for its state stands until a resident tells the true one; what that
 * changes is carried on as a correction. The room stays whole.
 */
import { type ResyncEvent } from '../../resync/events.ts';
import { type StrandedRoom, findStrandedRoom, readStrandedAnchors } from '../../store/events/stranded-anchors.ts';
import { append } from '../../store/journal/journal.ts';
import { lockResync } from '../../store/journal/rooms.ts';
import { withTransaction } from '../../store/open-store.ts';
import { type RoomsContext } from '../context.ts';

/** Of one room in one pass: each is asked for at residents, and the next pass takes more. */
const REOPENED_AT_ONCE = 20;

type Reopening = Pick<RoomsContext, 'store' | 'clock'>;

/** Goes through all rooms, until `isOver`. Gives how many anchors have a gap now; the sweep rings their rooms. */
export async function reopenAnchors(context: Reopening, isOver: () => boolean): Promise<number> {
  let reopened = 0;
  for (let after: StrandedRoom['roomId'] | '' = ''; !isOver();) {
    const room: StrandedRoom | undefined = await findStrandedRoom(context.store, after);
    if (room === undefined) break;
    reopened += await reopenIn(context, room);
    after = room.roomId;
  }
  return reopened;
}

async function reopenIn({ store, clock }: Reopening, { roomId, epoch }: StrandedRoom): Promise<number> {
  return withTransaction(store, async (tx) => {
    const stay = await lockResync(tx, roomId, epoch);
    // Whom the room was joined by is the first to be asked.
    const origin = stay?.resync.joinedVia ?? null;
    if (stay === undefined || origin === null) return 0;
    const anchors = await readStrandedAnchors(tx, roomId, REOPENED_AT_ONCE);
    if (anchors.length === 0) return 0;
    const at = clock.now();
    const eventIds = anchors.map(({ eventId }) => eventId);
    const states = [...new Set(anchors.map(({ stateAfter }) => stateAfter))];
    const assumed = states.map((assumedState): ResyncEvent => {
      const some = anchors.filter(({ stateAfter }) => stateAfter === assumedState);
      return { type: 'GapsAssumed', eventIds: some.map(({ eventId }) => eventId), assumedState, at };
    });
    await append(tx, stay.room, [{ type: 'GapOpened', eventIds, origin, assumedState: null, at }, ...assumed]);
    return anchors.length;
  });
}
