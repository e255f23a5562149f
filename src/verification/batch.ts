/** Raw events on their way to a thread: one buffer, transferred and never copied by the thread, and where each begins. */

/** A thread works through about this much at a time: long enough to pay for the messages, short enough to share fairly. */
export const CHUNK_EVENTS_MAX = 256;
export const CHUNK_BYTES_MAX = 512 * 1024;

export interface RawEvents {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** One more than there are events; event i is `bytes[offsets[i] .. offsets[i + 1]]`. */
  readonly offsets: Uint32Array<ArrayBuffer>;
}

/** Copies events into one buffer. */
export function packEvents(events: readonly Uint8Array[]): RawEvents {
  const offsets = new Uint32Array(events.length + 1);
  let end = 0;
  events.forEach((event, i) => {
    end += event.length;
    offsets[i + 1] = end;
  });
  const bytes = new Uint8Array(end);
  events.forEach((event, i) => bytes.set(event, offsets[i]));
  return { bytes, offsets };
}

/** The bytes of one event, without a copy. */
export function eventAt({ bytes, offsets }: RawEvents, index: number): Uint8Array {
  return bytes.subarray(offsets[index], offsets[index + 1]);
}

/** Where to cut a list of events into chunks: the first index of each. */
export function chunkStarts(events: readonly Uint8Array[]): number[] {
  const starts: number[] = [];
  let bytes = 0;
  let count = 0;
  events.forEach((event, i) => {
    if (i === 0 || count >= CHUNK_EVENTS_MAX || bytes + event.length > CHUNK_BYTES_MAX) {
      starts.push(i);
      bytes = 0;
      count = 0;
    }
    bytes += event.length;
    count++;
  });
  return starts;
}
