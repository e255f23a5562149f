/** Drives a room's resync as its workflow does, without Temporal: what is decided, done and told to the next decision is the same. */
import { type RoomId } from '../../src/matrix/identifiers.ts';
import { type NextAction, nextAction } from '../../src/resync/next-action.ts';
import { type ResyncState } from '../../src/resync/state.ts';
import { type RoomsContext } from '../../src/rooms/context.ts';
import { correctEvents } from '../../src/rooms/resync/correct-events.ts';
import { endRound } from '../../src/rooms/resync/end-round.ts';
import { endStay } from '../../src/rooms/resync/end-stay.ts';
import { fetchGaps } from '../../src/rooms/resync/fetch-gaps.ts';
import { fetchState } from '../../src/rooms/resync/fetch-state.ts';
import { leaveGivenUp } from '../../src/rooms/resync/parked.ts';
import { seekMissing } from '../../src/rooms/resync/seek-missing.ts';
import { walkPartialEvents } from '../../src/rooms/resync/walk.ts';
import { countCorrectionsDue } from '../../src/store/events/corrections.ts';
import { readGapsDue } from '../../src/store/events/gaps.ts';
import { readResync } from '../../src/store/journal/rooms.ts';

/** Until it closes or has to wait; gives the state it is in then, `undefined`: there is no such room. */
export async function driveResync(context: RoomsContext, roomId: RoomId): Promise<ResyncState | undefined> {
  const { store, clock } = context;
  const progress = { signal: new AbortController().signal, heartbeat: () => undefined };
  for (let last: NextAction['type'] | undefined; ;) {
    const loaded = await readResync(store, roomId);
    if (loaded === undefined) return undefined;
    const { epoch, state } = loaded;
    const gaps = await readGapsDue(store, roomId, epoch);
    const action = nextAction(state, clock.now(), gaps, await countCorrectionsDue(store, roomId), last);
    last = action.type;
    switch (action.type) {
      case 'close':
      case 'sleep':
      case 'park':
        return state;
      case 'fetchState':
        await fetchState(context, { roomId, epoch, ...action }, progress);
        break;
      case 'endRound':
        await endRound(context, { roomId, epoch, round: action.round });
        break;
      case 'endStay':
        await endStay(context, { roomId, epoch });
        break;
      case 'leaveRoom':
        await leaveGivenUp(context, { roomId, epoch });
        break;
      case 'fetchGaps':
        await fetchGaps(context, { roomId, epoch }, progress);
        break;
      case 'seekMissing':
        await seekMissing(context, { roomId, epoch }, progress);
        break;
      case 'correct':
        await correctEvents(context, { roomId, epoch }, progress);
        break;
      case 'walk':
        await walkPartialEvents(context, roomId, epoch, progress);
    }
  }
}
