/** Whether the caller still waits for an answer. */
import { type FastifyReply } from 'fastify';
import { MatrixError } from './matrix-error.ts';

/** Aborted when the connection closes before the answer is complete: no failure of ours, and nobody is told. */
export function goneSignal(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) controller.abort(new MatrixError(400, 'M_UNKNOWN', 'the caller went away'));
  });
  return controller.signal;
}
