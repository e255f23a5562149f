/**
 * Server-sent events: an answer without end, of events that a reader can go on after when the connection is lost.
 *
 * Source: https://html.spec.whatwg.org/multipage/server-sent-events.html
 */
import { Readable } from 'node:stream';
import { type FastifyReply } from 'fastify';

/** A reader that takes nothing for this long loses its connection. What waits for it meanwhile is this much at the most. */
const READER_IDLE_MS = 60_000;
const BUFFER_BYTES = 64 * 1024;
/** When a reader that lost its connection comes back. */
const RETRY_MS = 2_000;

/** What a handler answers with to send events. */
export class EventStream {
  /** Each as `eventFrame` and `idFrame` write them; the next is asked for when there is room for it. */
  readonly frames: AsyncIterable<string>;
  /** Called when the reader loses its connection for taking nothing. */
  readonly onIdle: () => void;

  constructor(frames: AsyncIterable<string>, onIdle: () => void) {
    this.frames = frames;
    this.onIdle = onIdle;
  }
}

/** An event whose data is one JSON document; who has had it goes on after `id`. */
export function eventFrame(id: number, data: unknown): string {
  return `id: ${id}\ndata: ${JSON.stringify(data)}\n\n`;
}

/** No event: the connection lives, and who comes back later goes on after `id`. */
export function idFrame(id: number): string {
  return `id: ${id}\n\n`;
}

/** Sends events as they come. */
export function sendEventStream(
  reply: FastifyReply,
  { frames, onIdle }: EventStream,
  idleMs = READER_IDLE_MS,
): FastifyReply {
  reply.raw.setTimeout(idleMs, () => {
    onIdle();
    reply.raw.destroy();
  });
  return reply
    .headers({ 'content-type': 'text/event-stream; charset=utf-8', 'x-accel-buffering': 'no' })
    .send(Readable.from(withRetry(frames), { objectMode: false, highWaterMark: BUFFER_BYTES }));
}

/** Something is sent at once, so that the reader sees that it is connected. */
async function* withRetry(frames: AsyncIterable<string>): AsyncGenerator<string> {
  yield `retry: ${RETRY_MS}\n\n`;
  yield* frames;
}
