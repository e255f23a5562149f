/** A caller's abort signal beside an overall time, or beside work shared with others; no listener or timer stays behind. */

/** The overall time of a request is used up. */
export class DeadlineError extends Error {
  override readonly name = 'TimeoutError';
}

export interface Deadline {
  /** Aborts when the caller's signal does (with its reason) or when the time is used up (with a `DeadlineError`). */
  readonly signal: AbortSignal;
  /** Must be called when the request is over, however it ended. */
  dispose(): void;
}

export function createDeadline(caller: AbortSignal, timeoutMs: number): Deadline {
  const controller = new AbortController();
  const onAbort = (): void => controller.abort(caller.reason);
  const timer = setTimeout(() => controller.abort(new DeadlineError(`not done within ${timeoutMs} ms`)), timeoutMs);
  timer.unref();
  if (caller.aborted) onAbort();
  else caller.addEventListener('abort', onAbort, { once: true });
  return {
    signal: controller.signal,
    dispose() {
      clearTimeout(timer);
      caller.removeEventListener('abort', onAbort);
    },
  };
}

/** Waits for shared work no longer than the caller wants to; the work goes on for the others. */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let onAbort = (): void => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    onAbort = () => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
