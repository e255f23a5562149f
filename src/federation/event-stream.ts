/**
 * A streamed answer as batches of raw events: bytes are taken from the connection only as fast as batches are taken
 * from here, and never more than one batch and one event are held. Ends with an error when the body is cut, malformed,
 * over its limit, or comes in a drip; the events that were whole before that are handed on first.
 */
import { type Readable } from 'node:stream';
import { type Clock } from '../clock.ts';
import { type EventBatch, type EventStream, type StreamSummary } from './contract.ts';
import { EventSplitter, type Split } from '../matrix/json/event-splitter.ts';
import { BodyTooLargeError, discardBody } from './read-body.ts';

/** A batch is handed on at this size: some 400 member events, enough work for a verification thread. */
const BATCH_BYTES = 262_144;
/** Beside its events an answer holds a list of servers: 20,000 names of 30 bytes are 600 KB. */
const REST_BYTES_MAX = 4 * 1024 * 1024;
/** A body slower than this, after the grace, is a drip. A 13,000-member state at this rate would take seven hours. */
const DRIP_BYTES_PER_SECOND = 1024;
const DRIP_GRACE_MS = 60_000;

/** The body comes so slowly that waiting for it makes no sense. */
export class DripError extends Error {
  override readonly name = 'TimeoutError';
}

export interface EventStreamOptions<Name extends string> {
  readonly body: Readable;
  readonly arrays: readonly Name[];
  /** `strings`: the arrays hold ids of events. */
  readonly members?: 'objects' | 'strings';
  /** Of the whole body. */
  readonly bytesMax: number;
  /** Once it is aborted nothing is handed on, and its reason is thrown. */
  readonly signal: AbortSignal;
  /** Told the bytes of each part of the body. */
  readonly onReceived: (bytes: number) => void;
  /** As in `RequestOptions`. */
  readonly beforeReading?: (() => Promise<void> | undefined) | undefined;
  readonly clock: Clock;
  /** Turns whatever went wrong into the error that the reader gets. */
  readonly translate: (error: unknown) => Error;
  /** Called once, when the iteration is over, however it ended. */
  readonly onEnd: () => void;
}

/** The events of a body as an iterable that can be read once. */
export function createEventStream<Name extends string>(options: EventStreamOptions<Name>): EventStream<Name> {
  let summary: StreamSummary | undefined;
  let isStarted = false;
  return {
    [Symbol.asyncIterator]() {
      if (isStarted) throw new Error('an answer can be read once');
      isStarted = true;
      return readBatches(options, (result) => (summary = result));
    },
    summary() {
      if (summary === undefined) throw new Error('the answer has not been read to its end');
      return summary;
    },
  };
}

async function* readBatches<Name extends string>(
  options: EventStreamOptions<Name>,
  onSummary: (summary: StreamSummary) => void,
): AsyncGenerator<EventBatch<Name>, void, undefined> {
  const splitter = new EventSplitter({
    arrays: options.arrays,
    members: options.members ?? 'objects',
    restBytesMax: REST_BYTES_MAX,
  });
  let bytes = 0;
  let pendingBytes = 0;
  let pending: { array: Name; events: Uint8Array[] }[] = [];
  const onEvent = (array: Name, event: Uint8Array): void => {
    const last = pending.at(-1);
    if (last?.array === array) last.events.push(event);
    else pending.push({ array, events: [event] });
    pendingBytes += event.length;
  };
  try {
    for await (const chunk of undripped(options.body, options.clock)) {
      bytes += chunk.length;
      options.onReceived(chunk.length);
      const turn = options.beforeReading?.();
      if (turn !== undefined) await turn;
      if (bytes > options.bytesMax) throw new BodyTooLargeError(`the answer is over ${options.bytesMax} bytes`);
      splitter.push(chunk, onEvent);
      if (pendingBytes < BATCH_BYTES) continue;
      const ready = pending;
      pending = [];
      pendingBytes = 0;
      yield* untilAborted(ready, options.signal);
    }
    const split: Split = splitter.end();
    yield* untilAborted(pending, options.signal);
    onSummary({ bytes, ...split });
  } catch (error) {
    // First: while the reader takes what is left, the time for the request may run out, and that was not the reason.
    const failure = options.translate(error);
    yield* untilAborted(pending, options.signal);
    options.signal.throwIfAborted();
    throw failure;
  } finally {
    discardBody(options.body);
    options.onEnd();
  }
}

function* untilAborted<Batch>(batches: readonly Batch[], signal: AbortSignal): Generator<Batch, void, undefined> {
  for (const batch of batches) {
    signal.throwIfAborted();
    yield batch;
  }
}

/** The chunks of a body; throws when the time spent waiting for them is out of proportion. Our own slowness is not counted. */
async function* undripped(body: AsyncIterable<Uint8Array>, clock: Clock): AsyncGenerator<Uint8Array, void, undefined> {
  let waitedMs = 0;
  let bytes = 0;
  let since = clock.now();
  for await (const chunk of body) {
    waitedMs += Math.max(0, clock.now() - since);
    bytes += chunk.length;
    if (waitedMs > DRIP_GRACE_MS && bytes * 1000 < waitedMs * DRIP_BYTES_PER_SECOND) {
      throw new DripError(`${bytes} bytes in ${Math.round(waitedMs / 1000)} s`);
    }
    yield chunk;
    since = clock.now();
  }
}
