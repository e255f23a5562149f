/**
 * How many joins a process works on at a time. All at once, a hundred joins are answered together after seconds; a few at a
 * time, the first are answered after 0.3 s and the last no later. The others wait in the order they came.
 *
 * A turn ends with its join, or after a while without it: a join that takes long waits for its resident and not for us, and
 * a silent resident must not keep the joins of others from beginning.
 */
import { RoomError } from '../error.ts';

/** Longer than the work of a join takes that is answered. */
const TURN_MS = 10_000;
/** Joins of a process, waiting or under way: each holds a request, and what its resident sends. */
const JOINS_MAX = 500;
const RETRY_MS = 10_000;

export interface JoinGateOptions {
  /** Turns given at a time. */
  readonly slots: number;
  readonly turnMs?: number;
  readonly joinsMax?: number;
}

export interface JoinGate {
  /** Runs a join when its turn comes. @throws RoomError `too-many`; the reason of `signal` when it is aborted before its turn */
  run<Result>(signal: AbortSignal, join: () => Promise<Result>): Promise<Result>;
  /** Joins that have begun and not ended. */
  readonly underWay: number;
  readonly waiting: number;
}

/** A gate with no join in it. What is told of joins is what this process has, not what others have. */
export function createJoinGate({ slots, turnMs = TURN_MS, joinsMax = JOINS_MAX }: JoinGateOptions): JoinGate {
  /** In the order they came; each begins a join. */
  const queue = new Set<() => void>();
  let turns = 0;
  let joins = 0;

  const turn = (signal: AbortSignal): Promise<void> =>
    new Promise((resolve, reject) => {
      const begin = (): void => {
        signal.removeEventListener('abort', leave);
        turns += 1;
        resolve();
      };
      const leave = (): void => {
        queue.delete(begin);
        reject(signal.reason as Error);
      };
      if (turns < slots) {
        begin();
        return;
      }
      queue.add(begin);
      signal.addEventListener('abort', leave, { once: true });
    });
  const endTurn = (): void => {
    turns -= 1;
    const [next] = queue;
    if (next === undefined) return;
    queue.delete(next);
    next();
  };

  const inTurn = async <Result>(join: () => Promise<Result>): Promise<Result> => {
    let ended = false;
    const endOnce = (): void => {
      if (!ended) endTurn();
      ended = true;
    };
    const timer = setTimeout(endOnce, turnMs);
    try {
      return await join();
    } finally {
      clearTimeout(timer);
      endOnce();
    }
  };

  return {
    async run(signal, join) {
      signal.throwIfAborted();
      if (joins >= joinsMax) {
        const options = { retryAfterMs: RETRY_MS };
        throw new RoomError('too-many', `${joinsMax} joins are under way or waiting; try again later`, options);
      }
      joins += 1;
      try {
        await turn(signal);
        return await inTurn(join);
      } finally {
        joins -= 1;
      }
    },
    get underWay() {
      return joins - queue.size;
    },
    get waiting() {
      return queue.size;
    },
  };
}
