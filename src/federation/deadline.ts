/** A caller's abort signal with an overall time beside it, which leaves no listener or timer behind. */

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
