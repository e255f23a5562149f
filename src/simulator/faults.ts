/**
 * What a hostile, broken or slow resident does to the answers it gives: each fault is a transformation of a body on its
 * way to the client. Faults compose: latency, then a rewritten body, then a narrow line.
 */
import { randomFillSync } from 'node:crypto';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

export type Fault =
  /** Waits before the request goes on. */
  | { readonly kind: 'latency'; readonly ms: number }
  /** Passes the body at this rate; a few bytes a second is a drip. */
  | { readonly kind: 'bandwidth'; readonly bytesPerSecond: number }
  /** Answers this in the server's place, which never sees the request. */
  | {
      readonly kind: 'status';
      readonly status: number;
      readonly body: string;
      readonly headers?: Readonly<Record<string, string>>;
    }
  /** Cuts the connection after so many bytes of the body; the client sees an error. */
  | { readonly kind: 'hang-up'; readonly afterBytes: number }
  /** Ends the body after so many bytes as if it were whole; the client sees a success. */
  | { readonly kind: 'truncate'; readonly afterBytes: number }
  /** Replaces the body by a prefix and then a filler repeated until the client goes away. */
  | { readonly kind: 'endless'; readonly prefix: string; readonly filler: string }
  /** Replaces the body, or what follows so many bytes of it, by so many random bytes. */
  | { readonly kind: 'rubbish'; readonly bytes: number; readonly afterBytes?: number }
  /** Parses the whole body as JSON and passes what this returns for it. */
  | { readonly kind: 'rewrite'; rewrite(body: unknown): unknown }
  /** Passes so many bytes of the body and then nothing until the fault is released. */
  | { readonly kind: 'hold'; readonly afterBytes: number };

/** Thrown out of a body that is to end with the connection. */
export class HangUp extends Error {
  override readonly name = 'HangUp';
}

/** What a fault needs to know about its place. */
export interface FaultContext {
  /** Aborted when the client goes away or the proxy stops. */
  readonly signal: AbortSignal;
  /** Announces that a body is held. */
  onHeld(): void;
  /** Resolves when the fault is released. */
  readonly released: Promise<void>;
}

/** A slow line passes this often, so that a drip is a drip and not one lump a second. */
const BANDWIDTH_TICK_MS = 50;
/** Timers are late by about this; a line that is ahead of its rate by less goes on. */
const TIMER_GRAIN_MS = 2;
/** Enough to fill a socket's buffer in few writes. */
const FILLER_CHUNK_BYTES = 65_536;

/** The bytes of an answer on their way. */
export type Body = AsyncIterable<Buffer>;

/** By the clock and not by the number of waits: each of those takes longer than it was asked to. */
export async function* throttled(body: Body, bytesPerSecond: number, signal: AbortSignal): Body {
  const sliceBytes = Math.max(1, Math.floor((bytesPerSecond * BANDWIDTH_TICK_MS) / 1_000));
  const startedAt = performance.now();
  let sentBytes = 0;
  for await (const chunk of body) {
    for (let at = 0; at < chunk.length; at += sliceBytes) {
      const slice = chunk.subarray(at, at + sliceBytes);
      sentBytes += slice.length;
      const aheadMs = startedAt + (sentBytes / bytesPerSecond) * 1_000 - performance.now();
      if (aheadMs > TIMER_GRAIN_MS) await delay(aheadMs, undefined, { signal });
      yield slice;
    }
  }
}

/** Passes `bytes` bytes, calls `then` once, and passes the rest. */
async function* interrupted(body: Body, bytes: number, then: () => Promise<void>): Body {
  let left = bytes;
  let isDone = false;
  for await (const chunk of body) {
    if (!isDone && chunk.length >= left) {
      if (left > 0) yield chunk.subarray(0, left);
      isDone = true;
      await then();
      if (chunk.length > left) yield chunk.subarray(left);
    } else {
      left -= chunk.length;
      yield chunk;
    }
  }
  // A body shorter than that is interrupted at its end.
  if (!isDone) await then();
}

async function* truncated(body: Body, bytes: number): Body {
  let left = bytes;
  for await (const chunk of body) {
    yield chunk.subarray(0, left);
    left -= chunk.length;
    if (left <= 0) return;
  }
}

function* endless(prefix: string, filler: string): Iterable<Buffer> {
  yield Buffer.from(prefix);
  const chunk = Buffer.from(filler.repeat(Math.ceil(FILLER_CHUNK_BYTES / filler.length)));
  for (;;) yield chunk;
}

async function* rubbish(body: Body, bytes: number, afterBytes: number): Body {
  if (afterBytes > 0) yield* truncated(body, afterBytes);
  for (let left = bytes; left > 0; left -= FILLER_CHUNK_BYTES) {
    yield randomFillSync(Buffer.alloc(Math.min(left, FILLER_CHUNK_BYTES)));
  }
}

async function* rewritten(body: Body, rewrite: (body: unknown) => unknown): Body {
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk);
  yield Buffer.from(JSON.stringify(rewrite(JSON.parse(Buffer.concat(chunks).toString('utf8')))));
}

async function untilReleased(context: FaultContext): Promise<void> {
  const { released, signal } = context;
  context.onHeld();
  if (signal.aborted) throw new HangUp('the client went away');
  await new Promise<void>((resolve, reject) => {
    signal.addEventListener('abort', () => reject(new HangUp('the client went away')), { once: true });
    void released.then(resolve);
  });
}

async function* hungUp(body: Body, afterBytes: number): Body {
  yield* interrupted(body, afterBytes, () => Promise.reject(new HangUp('fault')));
}

/** What becomes of a body under one fault. */
export function applyToBody(fault: Fault, body: Body, context: FaultContext): Body {
  switch (fault.kind) {
    case 'latency':
    case 'status':
      return body;
    case 'bandwidth':
      return throttled(body, fault.bytesPerSecond, context.signal);
    case 'hang-up':
      return hungUp(body, fault.afterBytes);
    case 'truncate':
      return truncated(body, fault.afterBytes);
    case 'endless':
      return Readable.from(endless(fault.prefix, fault.filler));
    case 'rubbish':
      return rubbish(body, fault.bytes, fault.afterBytes ?? 0);
    case 'rewrite':
      return rewritten(body, (json) => fault.rewrite(json));
    case 'hold':
      return interrupted(body, fault.afterBytes, () => untilReleased(context));
  }
}
