/**
 * The end of a long-running process: what was started last is stopped first, each part within its time, and a part that
 * fails or hangs keeps no other from stopping.
 */
import { setTimeout as delay } from 'node:timers/promises';

/** A part that takes longer is left behind; the process ends with it. Whoever started us waits 15 s for all. */
const PART_STOP_MS_MAX = 8_000;

export interface ShutdownLogger {
  warn(fields: object, message: string): void;
}

export class Shutdown {
  readonly #partStopMsMax: number;
  readonly #steps: { readonly name: string; readonly stop: () => Promise<unknown> }[] = [];
  #running: Promise<void> | undefined;

  constructor(partStopMsMax = PART_STOP_MS_MAX) {
    this.#partStopMsMax = partStopMsMax;
  }

  /** Registers how the part just started is stopped. */
  add(name: string, stop: () => Promise<unknown>): void {
    this.#steps.push({ name, stop });
  }

  /** Stops everything, last first. Never rejects; a second call waits for the first. */
  run(logger: ShutdownLogger): Promise<void> {
    return (this.#running ??= this.#stopAll(logger));
  }

  async #stopAll(logger: ShutdownLogger): Promise<void> {
    for (let step = this.#steps.pop(); step !== undefined; step = this.#steps.pop()) {
      const { name, stop } = step;
      const late = new AbortController();
      try {
        const outcome = await Promise.race([
          stop().then(() => 'stopped' as const),
          delay(this.#partStopMsMax, 'late' as const, { signal: late.signal }),
        ]);
        if (outcome === 'late') {
          logger.warn({ part: name, afterMs: this.#partStopMsMax }, 'a part did not stop in time');
        }
      } catch (error) {
        logger.warn({ err: error, part: name }, 'a part failed while it stopped');
      } finally {
        late.abort();
      }
    }
  }
}

/** Resolves when the signal aborts; at once if it has. */
export function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }));
}
