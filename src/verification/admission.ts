/** Bounds what the pool holds: callers beyond the bound wait their turn, or leave when their signal aborts. */
import { onAbort } from '../on-abort.ts';
import { FairQueue } from './fair-queue.ts';

interface Waiter {
  readonly bytes: number;
  readonly admit: () => void;
}

export class Admission {
  readonly #bytesMax: number;
  readonly #waiters = new FairQueue<Waiter>();
  #bytes = 0;

  constructor(bytesMax: number) {
    this.#bytesMax = bytesMax;
  }

  /** Resolves when `bytes` fit; a caller that alone exceeds the bound is let in when nobody else is. Rejects on abort. */
  async enter(room: string, bytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const waiter: Waiter = {
        bytes,
        admit: () => {
          stopListening();
          resolve();
        },
      };
      const leave = (): void => {
        this.#waiters.drop((other) => other === waiter);
        reject(signal.reason as Error);
        this.#admit();
      };
      const stopListening = onAbort(signal, leave);
      this.#waiters.push(room, waiter);
      this.#admit();
    });
  }

  leave(bytes: number): void {
    this.#bytes -= bytes;
    this.#admit();
  }

  #admit(): void {
    for (let next = this.#waiters.peek(); next !== undefined; next = this.#waiters.peek()) {
      if (this.#bytes > 0 && this.#bytes + next.bytes > this.#bytesMax) return;
      this.#waiters.shift();
      this.#bytes += next.bytes;
      next.admit();
    }
  }
}
