/**
 * Time does not pass by itself in a simulation: what `start` begins looks at nothing again after some time of the real clock. When
 * simulated time has passed it is begun anew.
 */
export function withoutPolls<T>(start: () => T): T {
  const { setInterval } = globalThis;
  globalThis.setInterval = (() => undefined) as never;
  try {
    return start();
  } finally {
    globalThis.setInterval = setInterval;
  }
}
