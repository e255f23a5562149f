/**
 * How much may be asked of other servers for what was pushed to us: of time, requests and bytes for one errand, of errands
 * at once and requests a minute for the server that sent it and for its room. A stranger's events thus cost a bounded
 * amount, and those of one server never use up what there is for others.
 */
import { type Clock } from '../../clock.ts';
import { type RoomId, type ServerName } from '../../matrix/identifiers.ts';

/** An errand is over after so long; a server that has not answered by then would not be worth the wait. */
const ERRAND_MS_MAX = 15_000;
/** One for each event of a turn, whose senders may all be unknown to us, and three rounds at two servers. */
const ERRAND_REQUESTS_MAX = 66;
/** A round of missing events is at most 20 × 64 KiB; an auth chain of 10,000 events some 10 MB. */
const ERRAND_BYTES_MAX = 16 * 1024 * 1024;
const ERRANDS_MAX = 32;
/** Of a big room's servers many send events of members whom a partial state lacks. */
const ERRANDS_OF_ROOM_MAX = 8;
const ERRANDS_OF_ORIGIN_MAX = 2;
/** Of a share, for what no event's turn waits for yet: what an event lacks now finds a place beside it. */
const SHARE_AHEAD = 0.5;
const WINDOW_MS = 60_000;
/** A member who speaks for the first time in a partial room costs one: a big room has hundreds of them at its liveliest. */
const REQUESTS_OF_ORIGIN_MAX = 600;
const REQUESTS_OF_ROOM_MAX = 1_200;

/** What one errand may still spend. */
export interface Spending {
  /** Aborts when its time is used up, or when we are closing. */
  readonly signal: AbortSignal;
  /** Asks for one more request; false: there is none left, or no time or bytes. */
  mayAsk(): boolean;
  /** Counts what came. */
  received(raws: readonly Uint8Array[]): void;
}

/** Whose shares an errand is counted to. */
export interface Errands {
  readonly roomId: RoomId;
  readonly origin: ServerName;
  /** Its events wait for others anyway, and would need it only when these are judged. */
  readonly isAhead: boolean;
}

export interface Budgets {
  /** Runs an errand now; `false`: the room, its sender or everybody has enough under way, and it is to be asked for later. */
  tryRun(of: Errands, errand: (spending: Spending) => Promise<void>): boolean;
  /** Resolves when no errand runs. */
  idle(): Promise<void>;
}

interface Share {
  running: number;
  /** Of the window that began at `since`. */
  requests: number;
  since: number;
}

/** `closing` ends all errands. Those never reject. */
export function createBudgets(clock: Clock, closing: AbortSignal): Budgets {
  const origins = new Map<ServerName, Share>();
  const rooms = new Map<RoomId, Share>();
  const running = new Set<Promise<void>>();

  const share = <Key>(shares: Map<Key, Share>, key: Key): Share => {
    const now = clock.now();
    const known = shares.get(key) ?? { running: 0, requests: 0, since: now };
    if (Math.abs(now - known.since) >= WINDOW_MS) Object.assign(known, { requests: 0, since: now });
    shares.set(key, known);
    return known;
  };
  const forgetIdle = <Key>(shares: Map<Key, Share>): void => {
    const now = clock.now();
    for (const [key, { running: errands, since }] of shares) {
      if (errands === 0 && Math.abs(now - since) >= WINDOW_MS) shares.delete(key);
    }
  };

  return {
    tryRun({ roomId, origin, isAhead }, errand) {
      forgetIdle(origins);
      forgetIdle(rooms);
      const ofOrigin = share(origins, origin);
      const ofRoom = share(rooms, roomId);
      const part = isAhead ? SHARE_AHEAD : 1;
      const isEnough =
        running.size >= ERRANDS_MAX * part ||
        ofRoom.running >= ERRANDS_OF_ROOM_MAX * part ||
        ofOrigin.running >= ERRANDS_OF_ORIGIN_MAX * part ||
        ofRoom.requests >= REQUESTS_OF_ROOM_MAX * part ||
        ofOrigin.requests >= REQUESTS_OF_ORIGIN_MAX * part;
      if (isEnough || closing.aborted) return false;

      const signal = AbortSignal.any([closing, AbortSignal.timeout(ERRAND_MS_MAX)]);
      let requests = 0;
      let bytes = 0;
      const spending: Spending = {
        signal,
        mayAsk: () => {
          if (signal.aborted || requests >= ERRAND_REQUESTS_MAX || bytes >= ERRAND_BYTES_MAX) return false;
          requests += 1;
          share(origins, origin).requests += 1;
          share(rooms, roomId).requests += 1;
          return true;
        },
        received: (raws) => {
          for (const raw of raws) bytes += raw.length;
        },
      };
      ofOrigin.running += 1;
      ofRoom.running += 1;
      const run = errand(spending).finally(() => {
        ofOrigin.running -= 1;
        ofRoom.running -= 1;
        running.delete(run);
      });
      running.add(run);
      return true;
    },
    idle: async () => {
      await Promise.all(running);
    },
  };
}
