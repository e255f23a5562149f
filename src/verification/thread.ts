/** The entry of a verification thread (answer.ts says what it does). Started by pool.ts only. */
import { parentPort } from 'node:worker_threads';
import { invariant } from '../invariant.ts';
import { Answers } from './answer.ts';
import { type ThreadRequest } from './messages.ts';

invariant(parentPort !== null, 'thread.ts runs in a worker thread');
const port = parentPort;
const answers = new Answers();
port.on('message', (request: ThreadRequest) => {
  if (request.type === 'forget') {
    answers.forget(request.chunk);
  } else {
    const reply = answers.to(request);
    const isRewritten = reply.type === 'verified' || reply.type === 'screened';
    port.postMessage(reply, isRewritten ? [reply.rewritten.bytes.buffer, reply.rewritten.offsets.buffer] : []);
  }
});
