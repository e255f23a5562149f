/** A caller's abort signal beside an overall time, or beside work shared with others; no listener or timer stays behind. */
import { onAbort } from '../on-abort.ts';

/** The overall time of a request is used up. */
class DeadlineError extends Error {
  override readonly name = 'TimeoutError';
}

export interface Deadline {
  /** Aborts when the caller's signal does (with its reason) or when the time is used up (with a `DeadlineError`). */
  readonly signal: AbortSignal;
  /** Must be called when the request is over, however it ended. */
  dispose(): void;
}

/** `caller`: absent for work that is shared by callers, which no single one of them may end. */
export function createDeadline(caller: AbortSignal | undefined, timeoutMs: number): Deadline {
  const controller = new AbortController();
  const endEarly = (): void => controller.abort(caller?.reason);
  const timer = setTimeout(() => controller.abort(new DeadlineError(`not done within ${timeoutMs} ms`)), timeoutMs);
  timer.unref();
  let leave = (): void => undefined;
  if (caller?.aborted === true) endEarly();
  else if (caller !== undefined) leave = onAbort(caller, endEarly);
  return {
    signal: controller.signal,
    dispose() {
      clearTimeout(timer);
      leave();
    },
  };
}

/** Waits for shared work no longer than the caller wants to; the work goes on for the others. */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let leave = (): void => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    leave = onAbort(signal, () => reject(signal.reason as Error));
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    leave();
  }
}
