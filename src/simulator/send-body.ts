/** Puts a body that faults may have got at onto the wire: as fast as the client takes it, and to whatever end it comes. */
import { once } from 'node:events';
import { type ServerResponse } from 'node:http';
import { HangUp } from './faults.ts';

type Body = AsyncIterable<Buffer> | Iterable<Buffer>;

/** Ends the response. Throws what the body throws, or the signal's reason when the client goes away. */
export async function sendBody(
  response: ServerResponse,
  body: Body,
  gone: AbortSignal,
  onSent: (bytes: number) => void,
): Promise<void> {
  for await (const chunk of body) {
    gone.throwIfAborted();
    onSent(chunk.length);
    if (!response.write(chunk)) await once(response, 'drain', { signal: gone });
  }
  response.end();
}

/** Ends the connection after a failure of `sendBody`. */
export async function cutOff(response: ServerResponse, error: unknown, gone: AbortSignal): Promise<void> {
  // What came before the fault is to arrive: it may be what the test is about.
  if (error instanceof HangUp && !gone.aborted) await new Promise((resolve) => response.write('', resolve));
  response.destroy();
}
