/** One clock for all processes of the machine, as V8's profiles and a second process have it too. */

/** Microseconds of the monotonic clock: its differences are true whatever happens to the time of day. */
export function monotonicUs(): number {
  return Number(process.hrtime.bigint() / 1_000n);
}

/** A moment that a journal tells in milliseconds since the Unix epoch, on the monotonic clock. */
export function monotonicUsOf(epochMs: number): number {
  return monotonicUs() + (epochMs - Date.now()) * 1_000;
}
