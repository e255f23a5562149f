/**
 * Checks events off the main thread: parsing, hashing and signatures of tens of thousands of events are the cost of a
 * join. A call goes through five steps:
 *
 *   admitted (bounded in bytes) → prepared in threads, in chunks → `isHeld` says what need not be verified →
 *   `resolveKeys` finds the keys of the rest → verified by the threads that hold the prepared chunks
 *
 * Rooms take turns at the threads; a thread verifies what it has prepared before it prepares more. A signal that aborts
 * drops what is queued and lets go of what is prepared.
 */
import { type Worker } from 'node:worker_threads';
import { invariant } from '../invariant.ts';
import { type EventId, type RoomId } from '../matrix/identifiers.ts';
import { Admission } from './admission.ts';
import { chunkStarts, eventAt, packEvents } from './batch.ts';
import { type CheckOutcome, type KeyRequest, type KeyResolver, type VerifyKey } from './contract.ts';
import { FairQueue } from './fair-queue.ts';
import {
  type PrepareRequest,
  type PreparedReply,
  type ThreadOutcome,
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

export interface VerificationPool {
  /**
   * One outcome for each event, in order. Rejects with the signal's reason on abort, with what `isHeld` or `resolveKeys`
   * threw, or with `VerificationThreadError` (trying again is safe).
   */
  check(input: CheckInput): Promise<readonly CheckOutcome[]>;
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
  #nextChunk = 0;
  #closed = false;

  constructor(threads: number, startThread: () => Worker) {
    const indices = Array.from({ length: threads }, (_, i) => i);
    this.#slots = indices.map(() => new ThreadSlot(startThread, () => this.#feed()));
    this.#toVerify = indices.map(() => new FairQueue());
  }

  async check(input: CheckInput): Promise<readonly CheckOutcome[]> {
    const bytes = input.events.reduce((sum, event) => sum + event.length, 0);
    await this.#admission.enter(input.roomId, bytes, input.signal);
    try {
      return await this.#checkAdmitted(input);
    } finally {
      this.#admission.leave(bytes);
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    this.#drop(() => true, new VerificationThreadError(CLOSED));
    await Promise.all(this.#slots.map((slot) => slot.close()));
  }

  async #checkAdmitted(input: CheckInput): Promise<readonly CheckOutcome[]> {
    const { signal } = input;
    const dropQueued = (): void => this.#drop((task) => task.signal === signal, signal.reason as Error);
    signal.addEventListener('abort', dropQueued, { once: true });
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
      signal.removeEventListener('abort', dropQueued);
      for (const { slot, life, reply } of chunks) {
        const thread = this.#slots[slot];
        if (thread?.life === life) thread.forget(reply.chunk);
      }
    }
  }

  #prepare(input: CheckInput, from: number, to: number): Promise<PreparedChunk> {
    return new Promise((resolve, reject) => {
      if (this.#closed) {
        reject(new VerificationThreadError(CLOSED));
        return;
      }
      if (input.signal.aborted) {
        reject(input.signal.reason as Error);
        return;
      }
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
      this.#toPrepare.push(input.roomId, {
        request,
        transfer: [raw.bytes.buffer, raw.offsets.buffer],
        signal: input.signal,
        takenBy: (index) => {
          slot = index;
          life = this.#slots[index]?.life ?? 0;
        },
        settle: (reply) => {
          if (reply instanceof Error) {
            reject(reply);
            return;
          }
          invariant(reply.type === 'prepared', 'a chunk is answered as it was asked');
          resolve({ firstEvent: from, slot, life, reply });
        },
      });
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
