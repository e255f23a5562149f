/** Tells other processes which rooms somebody waits for here: their states are fetched before those of others. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type ResyncRow, markWanted } from '../../store/journal/rooms.ts';
import { type RoomsContext } from '../context.ts';

/** Whoever waits for less is answered before it could matter. */
const FIRST_MS = 500;
/** Said again as long as somebody waits. */
export const WANTED_EVERY_MS = 30_000;

/** How long a room counts as wanted after somebody was last said to wait for it. */
export const WANTED_MS = 2 * WANTED_EVERY_MS;

/** How many wait for a room, as far as was said, at `now`. */
export function waitersOf(room: Pick<ResyncRow, 'wantedAt' | 'waiters'> | undefined, now: number): number {
  const isWanted = room !== undefined && room.wantedAt !== null && now - room.wantedAt < WANTED_MS;
  return isWanted ? room.waiters : 0;
}

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
    const wanted = rooms.get(roomId);
    markWanted(store, roomId, clock.now(), wanted?.waiters ?? 0).catch(() => undefined);
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
