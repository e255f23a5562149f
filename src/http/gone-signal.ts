/** Whether the caller still waits for an answer. */
import { type FastifyReply } from 'fastify';
import { type AbortListener, type Cancellation } from '../cancellation.ts';
import { MatrixError } from './matrix-error.ts';

/** Aborted when the connection closes before the answer is complete: no failure of ours, and nobody is told. */
export function goneSignal(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  onGone(reply, (error) => controller.abort(error));
  return controller.signal;
}

/**
 * The same for one who waits, and nothing else: an `AbortSignal` takes half a kilobyte, and thousands of requests may be held. It has one
 * listener at a time.
 */
export class GoneCaller implements Cancellation {
  aborted = false;
  reason: unknown;
  #listener: AbortListener | undefined;

  constructor(reply: FastifyReply) {
    onGone(reply, (error) => {
      this.aborted = true;
      this.reason = error;
      this.#listener?.handleEvent();
    });
  }

  addEventListener(_type: 'abort', listener: AbortListener): void {
    this.#listener = listener;
  }

  removeEventListener(_type: 'abort', listener: AbortListener): void {
    if (this.#listener === listener) this.#listener = undefined;
  }
}

function onGone({ raw }: FastifyReply, tell: (error: MatrixError) => void): void {
  const close = (): void => {
    if (!raw.writableFinished) tell(new MatrixError(400, 'M_UNKNOWN', 'the caller went away'));
  };
  // Who has gone already does not go again. It closes once.
  if (raw.closed) close();
  else raw.on('close', close);
}
