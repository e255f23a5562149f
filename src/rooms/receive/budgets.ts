/**
 * How much may be asked of other servers for what was pushed to us: of time and requests for one errand, of errands at once and of
 * requests a minute for the server that sent it and for its room. A stranger's events thus cost a bounded amount, and those of one
 * server never use up what there is for others. Bytes count against who sent them, and the room: whoever gives long answers is not
 * asked any more, and has used up nothing of what may be asked of others.
 *
 * Of a room's share each server has its part, however much others have used, and those that are not known to be in the room have a
 * small one together: whoever pushes to a room from outside takes nothing from its servers.
 *
 * Errands that find no place wait for one, one of a server in a room at a time, and places go by turns: to the room, and in it
 * to the server, that has had one longest ago. Who waits long comes first, before whoever has never had one: names are free.
 */
import { type Clock } from '../../clock.ts';
import { type ServerName } from '../../matrix/identifiers.ts';
import { type Errands, SHARE_AHEAD, SHARE_OF_OUTSIDERS, createShares } from './shares.ts';

/** An errand is over after so long; a server that has not answered by then would not be worth the wait. */
export const ERRAND_MS_MAX = 15_000;
/** One for each event of a turn, whose senders may all be unknown to us, and three rounds at two servers. */
const ERRAND_REQUESTS_MAX = 66;
/** One answer: a round of missing events is at most 20 × 64 KiB, an auth chain of some thousand events is shorter. */
export const ANSWER_BYTES_MAX = 4 * 1024 * 1024;
/** Of one server, for one errand: six rounds of missing events. Another may know, too. */
const ERRAND_BYTES_OF_SERVER_MAX = 8 * 1024 * 1024;
/** What all errands of this process hold or may be given by those they have asked; one that has nothing yet may always ask once. */
const BYTES_HELD_MAX = 256 * 1024 * 1024;
const ERRANDS_MAX = 32;
/** Of a big room's servers many send events of members whom a partial state lacks. */
const ERRANDS_OF_ROOM_MAX = 8;
const ERRANDS_OF_ORIGIN_MAX = 2;
/** Of each number, for servers for whose answers about their own events we waited in vain in this minute: another finds a place soon. */
const SHARE_OF_SILENT = 0.5;
/** Errands that wait for a place: as many as all places can take in the time that they may wait. */
const WAITING_MAX = 256;
const WAITING_OF_ROOM_MAX = 64;
/** Who has waited so long comes before all others. */
const LONG_WAIT_MS = 10_000;
/** And so long at most; what is asked for may have come by another way meanwhile. */
export const WAIT_MS_MAX = 40_000;
/** An errand that has begun may ask so often, though what there is for it has been used up meanwhile. */
const REQUESTS_OF_BEGUN_MIN = 4;

/** What one errand may still spend. */
export interface Spending {
  /** Aborts when its time is used up, or when we are closing. */
  readonly signal: AbortSignal;
  /** Asks for one more request to the server, whose answer is `received` in the end; false: there is none left, or no time or bytes. */
  mayAsk(server: ServerName): boolean;
  /** Counts the bytes that came of it. */
  received(server: ServerName, bytes: number): void;
  /** Notes that the server that was asked has not answered for as long as one request may take. */
  wasSilent(server: ServerName): void;
  /** Whether it was in this minute, when it was asked in this room. */
  isSilent(server: ServerName): boolean;
}

export interface Budgets {
  /**
   * Runs an errand, now or when there is a place for it; `giveUp` is called instead if there was none for `WAIT_MS_MAX`. `false`:
   * it may not even wait, or enough was asked in this minute, and it is to be asked for later.
   */
  tryRun(of: Errands, errand: (spending: Spending) => Promise<void>, giveUp: () => void): boolean;
  /** Resolves when no errand runs. */
  idle(): Promise<void>;
}

interface Waiting extends Errands {
  readonly since: number;
  readonly run: () => void;
  readonly leave: () => void;
}

/** `closing` ends all errands. Those never reject. */
export function createBudgets(clock: Clock, closing: AbortSignal): Budgets {
  const shares = createShares(clock);
  const running = new Map<Promise<void>, Errands>();
  /** By all errands, with what they may still be given. */
  let held = 0;
  /** By room and server, in the order they came. */
  const waiting = new Map<string, Waiting>();
  closing.addEventListener('abort', () => waiting.clear(), { once: true });

  /** Others come before it: its server was silent, or is not in the room. */
  const isSecond = ({ origin, isOutside }: Errands): boolean => isOutside || shares.isSilent(origin);
  const hasPlace = (of: Errands): boolean => {
    const part = of.isAhead ? SHARE_AHEAD : 1;
    const areFew = (errands: readonly Errands[], places: number): boolean =>
      errands.length < ERRANDS_MAX * places &&
      errands.filter((other) => other.roomId === of.roomId).length < ERRANDS_OF_ROOM_MAX * places &&
      errands.filter((other) => other.origin === of.origin).length < ERRANDS_OF_ORIGIN_MAX * places;
    const all = [...running.values()];
    if (!areFew(all, part)) return false;
    const outside = all.filter((other) => other.isOutside);
    if (of.isOutside && !areFew(outside, part * SHARE_OF_OUTSIDERS)) return false;
    // One of its own at a time, and half of the places of all together.
    return (
      !shares.isSilent(of.origin) ||
      areFew(
        all.filter((other) => shares.isSilent(other.origin)),
        part * SHARE_OF_SILENT,
      )
    );
  };

  const begin = (of: Errands, errand: (spending: Spending) => Promise<void>): void => {
    const signal = AbortSignal.any([closing, AbortSignal.timeout(ERRAND_MS_MAX)]);
    let requests = 0;
    let bytes = 0;
    let underWay = 0;
    let isOver = false;
    const bytesOf = new Map<ServerName, number>();
    const isFull = (): boolean => bytes + underWay > 0 && held + ANSWER_BYTES_MAX > BYTES_HELD_MAX;
    const isLongWinded = (server: ServerName): boolean => (bytesOf.get(server) ?? 0) >= ERRAND_BYTES_OF_SERVER_MAX;
    const spending: Spending = {
      signal,
      mayAsk: (server) => {
        if (signal.aborted || requests >= ERRAND_REQUESTS_MAX || isFull()) return false;
        if (isLongWinded(server) || !shares.maySend(of, server)) return false;
        if (requests >= REQUESTS_OF_BEGUN_MIN && !shares.mayAsk(of)) return false;
        requests += 1;
        underWay += 1;
        held += ANSWER_BYTES_MAX;
        shares.countRequest(of);
        return true;
      },
      received: (server, came) => {
        bytes += came;
        bytesOf.set(server, (bytesOf.get(server) ?? 0) + came);
        underWay -= 1;
        held += (isOver ? 0 : came) - ANSWER_BYTES_MAX;
        shares.countBytes(of, server, came);
      },
      wasSilent: (server) => shares.wasSilent(of, server),
      isSilent: (server) => shares.isSilentIn(of, server),
    };
    shares.begun(of);
    const run = errand(spending).finally(() => {
      shares.ended(of);
      isOver = true;
      held -= bytes;
      running.delete(run);
      beginNext();
    });
    running.set(run, of);
  };

  /** Gives places to those that wait, by turns. */
  const beginNext = (): void => {
    for (;;) {
      const next = [...waiting.values()].filter(hasPlace).toSorted(byTurns)[0];
      if (next === undefined) return;
      next.run();
    }
  };
  const byTurns = (a: Waiting, b: Waiting): number => {
    const isLong = ({ since }: Waiting): boolean => clock.now() - since >= LONG_WAIT_MS;
    if (isLong(a) || isLong(b)) return Number(isLong(b)) - Number(isLong(a)) || a.since - b.since;
    return (
      Number(isSecond(a)) - Number(isSecond(b)) ||
      shares.ofRoom(a).begunAt - shares.ofRoom(b).begunAt ||
      shares.ofOrigin(a).running - shares.ofOrigin(b).running ||
      shares.ofOrigin(a).begunAt - shares.ofOrigin(b).begunAt ||
      a.since - b.since
    );
  };
  /** Whether one more may wait; one that others come before makes way for one of these. */
  const hasRoom = (of: Errands): boolean => {
    const ofRoom = [...waiting.values()].filter((other) => other.roomId === of.roomId);
    const full = ofRoom.length >= WAITING_OF_ROOM_MAX ? ofRoom : [...waiting.values()];
    if (full !== ofRoom && full.length < WAITING_MAX) return true;
    const victim = isSecond(of) ? undefined : full.find(isSecond);
    victim?.leave();
    return victim !== undefined;
  };

  return {
    tryRun(of, errand, giveUp) {
      shares.forgetIdle();
      if (closing.aborted || !shares.mayAsk(of)) return false;
      const key = JSON.stringify([of.roomId, of.origin]);
      if (of.isAhead) {
        if (waiting.size > 0 || !hasPlace(of)) return false;
        begin(of, errand);
        return true;
      }
      if (waiting.has(key) || !hasRoom(of)) return false;
      const leave = (): void => {
        clearTimeout(timer);
        if (waiting.delete(key)) giveUp();
      };
      const timer = setTimeout(leave, WAIT_MS_MAX).unref();
      const run = (): void => {
        clearTimeout(timer);
        waiting.delete(key);
        begin(of, errand);
      };
      waiting.set(key, { ...of, since: clock.now(), run, leave });
      beginNext();
      return true;
    },
    idle: async () => {
      await Promise.all(running.keys());
    },
  };
}
