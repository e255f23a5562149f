/**
 * Checks events off the main thread: parsing, hashing and signatures of tens of thousands of events are the cost of a
 * join. A call goes through five steps:
 *
 *   admitted (bounded in bytes) → prepared in threads, in chunks → `isHeld` says what need not be verified →
 *   `resolveKeys` finds the keys of the rest → verified by the threads that hold the prepared chunks
 *
 * Beside it bodies of requests are read and pushed events looked at, which waits for no key and nobody's answer.
 *
 * Rooms, and servers that send bodies, take turns at the threads; a thread verifies what it has prepared before it prepares more. A signal that aborts
 * drops what is queued and lets go of what is prepared.
 */
import { type Worker } from 'node:worker_threads';
import { invariant } from '../invariant.ts';
import { onAbort } from '../on-abort.ts';
import { type EventId, type RoomId } from '../matrix/identifiers.ts';
import { Admission } from './admission.ts';
import { chunkStarts, eventAt, packEvents } from './batch.ts';
import { type RequestClaim } from '../matrix/signing/signed-request.ts';
import {
  type BodyReader,
  type CheckOutcome,
  type KeyRequest,
  type KeyResolver,
  type ReadBody,
  type ScreenedEvent,
  type VerifyKey,
} from './contract.ts';
import { FairQueue } from './fair-queue.ts';
import {
  type PrepareRequest,
  type PreparedReply,
  type ThreadOutcome,
  type ThreadReply,
  type VerifiedReply,
  type VerifyRequest,
} from './messages.ts';
import {
  IN_FLIGHT_MAX,
  type ThreadLife,
  ThreadSlot,
  type ThreadTask,
  VerificationThreadError,
  startVerificationThread,
} from './thread-slot.ts';

/** Raw bytes of all admitted calls. A prepared event takes several times its bytes while it waits for keys. */
const ADMITTED_BYTES_MAX = 32 * 1024 * 1024;
/** Of those that wait for no key: no silent server keeps them waiting. */
const PUSHED_BYTES_MAX = 32 * 1024 * 1024;

export interface CheckInput {
  readonly roomVersion: string;
  readonly roomId: RoomId;
  /** One JSON text each, as received. */
  readonly events: readonly Uint8Array[];
  readonly resolveKeys: KeyResolver;
  /** Which of these ids are held already, whole: they come back `skipped`, unverified. */
  readonly isHeld?: (ids: readonly EventId[]) => Promise<ReadonlySet<EventId>>;
  /** `false` for state and auth chains, which may hold events older than the limits on references. */
  readonly capReferences?: boolean;
  readonly signal: AbortSignal;
}

export interface ScreenInput {
  readonly roomVersion: string;
  readonly roomId: RoomId;
  /** One JSON text each, as received. */
  readonly events: readonly Uint8Array[];
  /** As of `CheckInput`. */
  readonly capReferences?: boolean;
  readonly signal: AbortSignal;
}

export interface VerificationPool extends BodyReader {
  /**
   * One outcome for each event, in order. Rejects with the signal's reason on abort, with what `isHeld` or `resolveKeys`
   * threw, or with `VerificationThreadError` (trying again is safe).
   */
  check(input: CheckInput): Promise<readonly CheckOutcome[]>;
  /** What is seen of each event, in order, without any key. Rejects as `check` does. */
  screen(input: ScreenInput): Promise<readonly ScreenedEvent[]>;
  /** Ends the threads; calls under way reject. */
  close(): Promise<void>;
}

export interface PoolOptions {
  /** Usually one a core. */
  readonly threads: number;
  /** How a thread is started; the tests start threads that die. */
  readonly startThread?: () => Worker;
}

/** Starts the threads; `close` ends them. */
export function createVerificationPool({ threads, startThread }: PoolOptions): VerificationPool {
  invariant(Number.isInteger(threads) && threads >= 1, 'a verification pool has at least one thread');
  return new Pool(threads, startThread ?? startVerificationThread);
}

/** A chunk that lies prepared in a thread. */
interface PreparedChunk {
  readonly firstEvent: number;
  readonly slot: number;
  readonly life: ThreadLife;
  readonly reply: PreparedReply;
}

interface QueuedTask extends ThreadTask {
  readonly signal: AbortSignal;
}

const DIED = 'the verification thread that held these events died';
const CLOSED = 'the verification pool was closed';

class Pool implements VerificationPool {
  readonly #slots: readonly ThreadSlot[];
  readonly #toPrepare = new FairQueue<QueuedTask & { readonly takenBy: (slot: number) => void }>();
  readonly #toVerify: readonly FairQueue<QueuedTask & { readonly life: ThreadLife }>[];
  readonly #admission = new Admission(ADMITTED_BYTES_MAX);
  readonly #pushed = new Admission(PUSHED_BYTES_MAX);
  #nextChunk = 0;
  #closed = false;

  constructor(threads: number, startThread: () => Worker) {
    const indices = Array.from({ length: threads }, (_, i) => i);
    this.#slots = indices.map(() => new ThreadSlot(startThread, () => this.#feed()));
    this.#toVerify = indices.map(() => new FairQueue());
  }

  async check(input: CheckInput): Promise<readonly CheckOutcome[]> {
    const bytes = bytesOf(input.events);
    await this.#admission.enter(input.roomId, bytes, input.signal);
    try {
      return await this.#checkAdmitted(input);
    } finally {
      this.#admission.leave(bytes);
    }
  }

  async readBody(claim: RequestClaim, received: Uint8Array, signal: AbortSignal): Promise<ReadBody> {
    return this.#admitPushed(claim.origin, received.length, signal, async () => {
      const body = Uint8Array.from(received);
      const request = { type: 'read-body', chunk: this.#nextChunk++, claim, body } as const;
      const reply = await this.#ask(claim.origin, request, [body.buffer], signal);
      invariant(reply.type === 'body-read', 'a body is answered as it was asked');
      return reply.body;
    });
  }

  async screen({
    roomVersion,
    roomId,
    events,
    capReferences = true,
    signal,
  }: ScreenInput): Promise<readonly ScreenedEvent[]> {
    return this.#admitPushed(roomId, bytesOf(events), signal, async () => {
      const screened = new Array<ScreenedEvent>(events.length);
      await allSettledOrThrow(
        chunkStarts(events).map(async (start, i, starts) => {
          const raw = packEvents(events.slice(start, starts[i + 1] ?? events.length));
          const about = { roomVersion, roomId, capReferences };
          const request = { type: 'screen', chunk: this.#nextChunk++, ...about, ...raw } as const;
          const reply = await this.#ask(roomId, request, [raw.bytes.buffer, raw.offsets.buffer], signal);
          invariant(reply.type === 'screened', 'a chunk is answered as it was asked');
          reply.events.forEach((event, at) => {
            const kept = eventAt(reply.rewritten, at);
            const text = kept.length > 0 ? kept : (events[start + at] ?? kept);
            screened[start + at] = event.outcome === 'sound' ? { ...event, raw: text } : event;
          });
        }),
      );
      return screened;
    });
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#drop(() => true, new VerificationThreadError(CLOSED));
    await Promise.all(this.#slots.map((slot) => slot.close()));
  }

  /** What waits for no key: queued until its turn, and given up with its signal. */
  async #admitPushed<T>(of: string, bytes: number, signal: AbortSignal, work: () => Promise<T>): Promise<T> {
    await this.#pushed.enter(of, bytes, signal);
    const dropQueued = (): void => this.#drop((task) => task.signal === signal, signal.reason as Error);
    const leave = onAbort(signal, dropQueued);
    try {
      return await work();
    } finally {
      leave();
      this.#pushed.leave(bytes);
    }
  }

  async #checkAdmitted(input: CheckInput): Promise<readonly CheckOutcome[]> {
    const { signal } = input;
    const dropQueued = (): void => this.#drop((task) => task.signal === signal, signal.reason as Error);
    const leave = onAbort(signal, dropQueued);
    const chunks = new Set<PreparedChunk>();
    try {
      await allSettledOrThrow(
        chunkStarts(input.events).map(async (start, i, starts) => {
          chunks.add(await this.#prepare(input, start, starts[i + 1] ?? input.events.length));
        }),
      );
      signal.throwIfAborted();
      const ids = new Set<EventId>();
      for (const { reply } of chunks) for (const id of reply.eventIds) if (id !== null) ids.add(id);
      const held = input.isHeld === undefined ? new Set<EventId>() : await input.isHeld([...ids]);
      signal.throwIfAborted();
      const requests = keyRequests(chunks, held);
      const keys = requests.length === 0 ? [] : await input.resolveKeys(requests, signal);
      signal.throwIfAborted();
      const outcomes = new Array<CheckOutcome>(input.events.length);
      await allSettledOrThrow(
        [...chunks].map(async (chunk) => {
          const verified = await this.#verify(input, chunk, held, keys);
          chunks.delete(chunk);
          verified.outcomes.forEach((outcome, i) => {
            const at = chunk.firstEvent + i;
            outcomes[at] = withJson(outcome, eventAt(verified.rewritten, i), input.events[at]);
          });
        }),
      );
      return outcomes;
    } finally {
      leave();
      for (const { slot, life, reply } of chunks) {
        const thread = this.#slots[slot];
        if (thread?.life === life) thread.forget(reply.chunk);
      }
    }
  }

  async #prepare(input: CheckInput, from: number, to: number): Promise<PreparedChunk> {
    const raw = packEvents(input.events.slice(from, to));
    const request: PrepareRequest = {
      type: 'prepare',
      chunk: this.#nextChunk++,
      roomVersion: input.roomVersion,
      roomId: input.roomId,
      capReferences: input.capReferences ?? true,
      ...raw,
    };
    let slot = 0;
    let life = 0;
    const reply = await this.#ask(
      input.roomId,
      request,
      [raw.bytes.buffer, raw.offsets.buffer],
      input.signal,
      (index) => {
        slot = index;
        life = this.#slots[index]?.life ?? 0;
      },
    );
    invariant(reply.type === 'prepared', 'a chunk is answered as it was asked');
    return { firstEvent: from, slot, life, reply };
  }

  /** Queues what any thread may work at; `takenBy` is told which one does. */
  #ask(
    of: string,
    request: ThreadTask['request'],
    transfer: readonly ArrayBuffer[],
    signal: AbortSignal,
    takenBy: (slot: number) => void = () => undefined,
  ): Promise<ThreadReply> {
    return new Promise((resolve, reject) => {
      if (this.#closed) {
        reject(new VerificationThreadError(CLOSED));
        return;
      }
      if (signal.aborted) {
        reject(signal.reason as Error);
        return;
      }
      const settle = (reply: ThreadReply | Error): void => (reply instanceof Error ? reject(reply) : resolve(reply));
      this.#toPrepare.push(of, { request, transfer, signal, takenBy, settle });
      this.#feed();
    });
  }

  #verify(
    { roomId, signal }: CheckInput,
    { reply: prepared, slot, life }: PreparedChunk,
    heldIds: ReadonlySet<EventId>,
    keys: readonly VerifyKey[],
  ): Promise<VerifiedReply> {
    return new Promise((resolve, reject) => {
      if (this.#closed || this.#slots[slot]?.life !== life) {
        reject(new VerificationThreadError(this.#closed ? CLOSED : DIED));
        return;
      }
      const named = new Set(prepared.keys.map((key) => `${key.serverName} ${key.keyId}`));
      const request: VerifyRequest = {
        type: 'verify',
        chunk: prepared.chunk,
        held: Uint8Array.from(prepared.eventIds, (id) => (id !== null && heldIds.has(id) ? 1 : 0)),
        keys: keys.filter((key) => named.has(`${key.serverName} ${key.keyId}`)),
      };
      this.#toVerify[slot]?.push(roomId, {
        request,
        transfer: [],
        signal,
        life,
        settle: (reply) => {
          if (reply instanceof Error) {
            reject(reply);
            return;
          }
          invariant(reply.type === 'verified', 'a chunk is answered as it was asked');
          resolve(reply);
        },
      });
      this.#feed();
    });
  }

  /** Hands out work, to idle threads first. */
  #feed(): void {
    for (let load = 0; load < IN_FLIGHT_MAX && !this.#closed; load++) {
      this.#slots.forEach((slot, index) => {
        if (slot.load === load) this.#feedSlot(slot, index);
      });
    }
  }

  #feedSlot(slot: ThreadSlot, index: number): void {
    for (let verify = this.#toVerify[index]?.shift(); verify !== undefined; verify = this.#toVerify[index]?.shift()) {
      if (verify.life === slot.life) {
        slot.send(verify);
        return;
      }
      verify.settle(new VerificationThreadError(DIED));
    }
    const prepare = this.#toPrepare.shift();
    if (prepare === undefined) return;
    prepare.takenBy(index);
    slot.send(prepare);
  }

  #drop(unwanted: (task: QueuedTask) => boolean, reason: Error): void {
    const dropped: QueuedTask[] = [];
    for (const queue of [this.#toPrepare, ...this.#toVerify]) {
      queue.drop((task: QueuedTask) => unwanted(task) && dropped.push(task) > 0);
    }
    for (const task of dropped) task.settle(reason);
  }
}

function bytesOf(events: readonly Uint8Array[]): number {
  return events.reduce((sum, event) => sum + event.length, 0);
}

/** The keys that events not held need, each once, at the latest time that any of them needs it. */
function keyRequests(chunks: Iterable<PreparedChunk>, held: ReadonlySet<EventId>): KeyRequest[] {
  const requests = new Map<string, KeyRequest>();
  for (const { reply } of chunks) {
    reply.needs.forEach((needed, event) => {
      const id = reply.eventIds[event];
      if (id == null || held.has(id)) return;
      const validAtTs = reply.validAtTs[event] ?? 0;
      for (const index of needed) {
        const key = reply.keys[index];
        if (key === undefined) continue;
        const name = `${key.serverName} ${key.keyId}`;
        const known = requests.get(name);
        if (known === undefined || known.validAtTs < validAtTs) requests.set(name, { ...key, validAtTs });
      }
    });
  }
  return [...requests.values()];
}

function withJson(outcome: ThreadOutcome, rewritten: Uint8Array, raw: Uint8Array | undefined): CheckOutcome {
  if (outcome.outcome !== 'passed') return outcome;
  const json = rewritten.length > 0 ? rewritten : (raw ?? rewritten);
  return { outcome: 'passed', pdu: { ...outcome.pdu, json } };
}

/** Waits for all, so that nothing of the call is left running, then throws the first failure. */
async function allSettledOrThrow(promises: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(promises)) if (result.status === 'rejected') throw result.reason;
}
