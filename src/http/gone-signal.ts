/** Whether the caller still waits for an answer. */
import { type FastifyReply } from 'fastify';

/** Aborted when the connection closes before the answer is complete. */
export function goneSignal(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) controller.abort(new Error('the caller went away'));
  });
  return controller.signal;
}
