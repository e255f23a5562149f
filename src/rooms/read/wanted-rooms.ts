/** Tells other processes which rooms somebody waits for here: their states are fetched before those of others. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { markWanted } from '../../store/journal/rooms.ts';
import { type RoomsContext } from '../context.ts';

/** Whoever waits for less is answered before it could matter. */
const FIRST_MS = 500;
/** Said again as long as somebody waits. */
export const WANTED_EVERY_MS = 30_000;

interface Wanted {
  waiters: number;
  timer: NodeJS.Timeout;
  /** One of them waits no longer. */
  readonly left: () => void;
}

export interface WantedRooms {
  /** Runs a wait for the room, which does not throw but rejects. However many wait for one, it is said once in a while. */
  during<Result>(roomId: RoomId, wait: () => Promise<Result>): Promise<Result>;
}

/** One for a process: whoever waits for the same is counted together. */
export function createWantedRooms({ store, clock }: Pick<RoomsContext, 'store' | 'clock'>): WantedRooms {
  const rooms = new Map<RoomId, Wanted>();
  const sayIn = (roomId: RoomId, ms: number): NodeJS.Timeout => setTimeout(() => say(roomId), ms).unref();
  const say = (roomId: RoomId): void => {
    // Nobody waits in vain for it: it is said again, and the room is made whole in its turn.
    markWanted(store, roomId, clock.now()).catch(() => undefined);
    const wanted = rooms.get(roomId);
    if (wanted !== undefined) wanted.timer = sayIn(roomId, WANTED_EVERY_MS);
  };
  const begin = (roomId: RoomId): Wanted => {
    const wanted = {
      waiters: 0,
      timer: sayIn(roomId, FIRST_MS),
      left: () => {
        wanted.waiters -= 1;
        if (wanted.waiters > 0) return;
        clearTimeout(wanted.timer);
        rooms.delete(roomId);
      },
    };
    rooms.set(roomId, wanted);
    return wanted;
  };
  return {
    during: (roomId, wait) => {
      const wanted = rooms.get(roomId) ?? begin(roomId);
      wanted.waiters += 1;
      const waiting = wait();
      void waiting.then(wanted.left, wanted.left);
      return waiting;
    },
  };
}
