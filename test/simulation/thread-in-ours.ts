/**
 * A verification thread that is none: what it is asked is worked on in the thread that asks, a turn of the event loop later. A run
 * asks for a few events at a time, and to wake a thread for them takes longer than to verify them.
 */
import { EventEmitter } from 'node:events';
import { type Worker } from 'node:worker_threads';
import { Answers } from '../../src/verification/answer.ts';
import { type ThreadRequest } from '../../src/verification/messages.ts';

class ThreadInOurs extends EventEmitter implements Pick<Worker, 'postMessage' | 'ref' | 'unref' | 'terminate'> {
  readonly #answers = new Answers();

  postMessage(request: ThreadRequest): void {
    if (request.type === 'forget') this.#answers.forget(request.chunk);
    else setImmediate(() => this.emit('message', this.#answers.to(request)));
  }

  ref(): void {
    // Whoever asked keeps the process alive.
  }

  unref(): void {
    // As ref.
  }

  terminate(): Promise<number> {
    return Promise.resolve(0);
  }
}

export function threadInOurs(): Worker {
  const thread: unknown = new ThreadInOurs();
  return thread as Worker;
}
