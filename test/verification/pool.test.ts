import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type EventId, type RoomId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { CHUNK_EVENTS_MAX } from '../../src/verification/batch.ts';
import { type CheckOutcome, type KeyRequest } from '../../src/verification/contract.ts';
import { type CheckInput, type VerificationPool, createVerificationPool } from '../../src/verification/pool.ts';
import { startVerificationThread } from '../../src/verification/thread-slot.ts';
import { warmUp } from '../../src/verification/warm-up.ts';
import { ROOM, bytesOf, keyOfServer, resolverOf, serverName, signedMember } from './signed-room.ts';

const NEVER = new AbortController().signal;

function input(events: readonly JsonObject[], changes: Partial<CheckInput> = {}): CheckInput {
  return {
    roomVersion: '11',
    roomId: ROOM,
    events: events.map(bytesOf),
    resolveKeys: resolverOf(),
    signal: NEVER,
    ...changes,
  };
}

function members(count: number, from = 0): JsonObject[] {
  return Array.from({ length: count }, (_, i) => signedMember('11', from + i));
}

function idsOf(outcomes: readonly CheckOutcome[]): EventId[] {
  return outcomes.map((outcome) => (outcome.outcome === 'passed' ? outcome.pdu.eventId : outcome.eventId!));
}

/** A promise and its key, for tests that hold a step open. */
function latch(): { opened: Promise<void>; open: () => void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}

describe('a verification pool', () => {
  let pool: VerificationPool;
  beforeAll(() => void (pool = createVerificationPool({ threads: 2 })));
  afterAll(() => pool.close());

  test('is warmed up with events that pass, rewritten ones among them', async () => {
    const outcomes = await warmUp(pool, 2, NEVER);
    expect(outcomes.map(({ outcome }) => outcome)).toEqual(outcomes.map(() => 'passed'));
    expect(outcomes.length).toBeGreaterThan(0);
    const bodies = outcomes.map((outcome) => outcome.outcome === 'passed' && Buffer.from(outcome.pdu.json).toString());
    expect(bodies.filter((body) => body !== false && body.includes('unsigned'))).toEqual([]);
  });

  test('answers in the order it was asked, over more events than one chunk holds', async () => {
    const events = members(CHUNK_EVENTS_MAX * 3 + 7);
    const outcomes = await pool.check(input(events));
    expect(outcomes.map((outcome) => outcome.outcome === 'passed' && outcome.pdu.stateKey)).toEqual(
      events.map((event) => event['state_key']),
    );
  });

  test('gives the text as it was received', async () => {
    const [event] = members(1);
    const text = JSON.stringify(event, null, 1);
    const [outcome] = await pool.check({ ...input([]), events: [Buffer.from(text)] });
    expect(outcome?.outcome === 'passed' && Buffer.from(outcome.pdu.json).toString()).toBe(text);
  });

  test('leaves the bytes it was given alone', async () => {
    const backing = Buffer.concat([Buffer.from('xx'), bytesOf(signedMember('11', 1)), Buffer.from('xx')]);
    const view = backing.subarray(2, -2);
    const [first] = await pool.check({ ...input([]), events: [view, view] });
    const [again] = await pool.check({ ...input([]), events: [view] });
    expect(first).toEqual(again);
    expect(first?.outcome).toBe('passed');
  });

  test('answers nothing for nothing, and asks for no keys', async () => {
    const asked: KeyRequest[] = [];
    expect(await pool.check(input([], { resolveKeys: resolverOf(asked) }))).toEqual([]);
    expect(asked).toEqual([]);
  });

  test('asks for each key once in a call, at the latest time it must be valid', async () => {
    const asked: KeyRequest[] = [];
    const events = [3, 9, 5].map((ts, i) => signedMember('11', i * 5, { origin_server_ts: ts }));
    await pool.check(input(events, { resolveKeys: resolverOf(asked) }));
    expect(asked).toEqual([{ serverName: 's0.example.org', keyId: 'ed25519:a', validAtTs: 9 }]);
    const old: KeyRequest[] = [];
    await pool.check(input([signedMember('4', 1)], { roomVersion: '4', resolveKeys: resolverOf(old) }));
    expect(old).toEqual([{ serverName: 's1.example.org', keyId: 'ed25519:a', validAtTs: 0 }]);
  });

  test('skips what is held: neither verified, nor a key asked for', async () => {
    const events = members(4);
    const ids = idsOf(await pool.check(input(events)));
    const asked: KeyRequest[] = [];
    const tampered = events.map((event) => ({ ...event, signatures: { ...(event['signatures'] as object) } }));
    (tampered[1]!.signatures as Record<string, unknown>)['s1.example.org'] = { 'ed25519:a': 'A'.repeat(86) };
    const seen: EventId[] = [];
    const outcomes = await pool.check(
      input(tampered, {
        resolveKeys: resolverOf(asked),
        isHeld: (candidates) => {
          seen.push(...candidates);
          return Promise.resolve(new Set([ids[1]!, ids[3]!]));
        },
      }),
    );
    expect(outcomes.map((outcome) => outcome.outcome)).toEqual(['passed', 'skipped', 'passed', 'skipped']);
    expect(idsOf(outcomes)).toEqual(ids);
    expect(seen.sort()).toEqual([...ids].sort());
    expect(asked.map((request) => request.serverName)).toEqual(['s0.example.org', 's2.example.org']);
  });

  test('takes the same event twice in a batch, and asks about it once', async () => {
    const [event] = members(1);
    const seen: (readonly EventId[])[] = [];
    const isHeld = (ids: readonly EventId[]): Promise<Set<EventId>> => {
      seen.push(ids);
      return Promise.resolve(new Set());
    };
    const outcomes = await pool.check(input([event!, event!], { isHeld }));
    expect(outcomes[0]).toEqual(outcomes[1]);
    expect(seen.map((ids) => ids.length)).toEqual([1]);
  });

  test('mixes every kind of outcome in one batch', async () => {
    const [good, unsigned, foreign, keyless, tampered] = members(5);
    const events = [
      bytesOf(good!),
      bytesOf({ ...unsigned!, signatures: {} }),
      bytesOf({ ...foreign!, room_id: '!other:example.org' }),
      bytesOf(keyless!),
      bytesOf({ ...tampered!, content: { membership: 'ban' } }),
      Buffer.from('{"a":1,"a":2}'),
      Buffer.from('['.repeat(1_000_000)),
      Buffer.from([0xff, 0xfe]),
      new Uint8Array(0),
    ];
    const outcomes = await pool.check({
      ...input([]),
      events,
      resolveKeys: (requests) =>
        Promise.resolve(requests.filter((r) => r.serverName !== serverName(3)).map((r) => keyOfServer(r.serverName))),
    });
    expect(outcomes.map((outcome) => outcome.outcome)).toEqual([
      'passed',
      'bad-signature',
      'malformed',
      'key-missing',
      'bad-signature',
      'malformed',
      'malformed',
      'malformed',
      'malformed',
    ]);
  });

  test('caps references unless the events may be older than the limits', async () => {
    const old = signedMember('11', 1, { prev_events: Array.from({ length: 25 }, (_, i) => `$${i}`) });
    expect((await pool.check(input([old])))[0]).toMatchObject({ outcome: 'malformed', rule: 'event.prev_events' });
    expect((await pool.check(input([old], { capReferences: false })))[0]?.outcome).toBe('passed');
  });

  test('passes on what the key resolver or the store threw, and goes on working', async () => {
    const down = (): Promise<never> => Promise.reject(new Error('the store is down'));
    await expect(pool.check(input(members(3), { isHeld: down }))).rejects.toThrow('the store is down');
    await expect(pool.check(input(members(3), { resolveKeys: down }))).rejects.toThrow('the store is down');
    expect((await pool.check(input(members(3)))).every((outcome) => outcome.outcome === 'passed')).toBe(true);
  });

  test('rejects with the reason of the abort, before, between and during its steps', async () => {
    await expect(pool.check(input(members(1), { signal: AbortSignal.abort(new Error('gone')) }))).rejects.toThrow(
      'gone',
    );
    for (const step of ['isHeld', 'resolveKeys'] as const) {
      const controller = new AbortController();
      const aborting = (): Promise<never> => {
        controller.abort(new Error(`gone in ${step}`));
        return Promise.resolve([] as never);
      };
      await expect(
        pool.check(input(members(CHUNK_EVENTS_MAX * 2), { [step]: aborting, signal: controller.signal })),
      ).rejects.toThrow(`gone in ${step}`);
    }
    const queued = new AbortController();
    const many = pool.check(input(members(CHUNK_EVENTS_MAX * 8), { signal: queued.signal }));
    queued.abort(new Error('gone while queued'));
    await expect(many).rejects.toThrow('gone while queued');
    expect((await pool.check(input(members(1))))[0]?.outcome).toBe('passed');
  });

  test('lets a small room pass while a large one waits for keys or for threads', async () => {
    const { opened, open } = latch();
    const waiting = pool.check(
      input(members(CHUNK_EVENTS_MAX * 2), {
        resolveKeys: async (requests, signal) => {
          await opened;
          return await resolverOf()(requests, signal);
        },
      }),
    );
    const finished: string[] = [];
    const large = pool.check(input(members(CHUNK_EVENTS_MAX * 12))).then(() => finished.push('large'));
    const small = signedMember('11', 1, { room_id: '!small:example.org' });
    await pool.check(input([small], { roomId: '!small:example.org' as RoomId })).then(() => finished.push('small'));
    open();
    await Promise.all([large, waiting]);
    expect(finished).toEqual(['small', 'large']);
  });

  test('refuses a room version it does not know as a fault of the caller', async () => {
    await expect(pool.check(input(members(1), { roomVersion: '99' }))).rejects.toThrow('room version 99');
  });
});

describe('a verification thread that dies', () => {
  /** Answers nothing and dies at the first message; later threads are real ones. */
  function dyingFirst(): () => Worker {
    let started = 0;
    return () =>
      started++ === 0
        ? new Worker(`require('node:worker_threads').parentPort.on('message', () => { throw new Error('boom'); })`, {
            eval: true,
          })
        : startVerificationThread();
  }

  test('fails what it worked on with a clear error, and is replaced', async () => {
    const pool = createVerificationPool({ threads: 1, startThread: dyingFirst() });
    await expect(pool.check(input(members(2)))).rejects.toThrow(
      expect.objectContaining({ name: 'VerificationThreadError', message: 'a verification thread died: boom' }),
    );
    expect((await pool.check(input(members(2)))).map((outcome) => outcome.outcome)).toEqual(['passed', 'passed']);
    await pool.close();
  });

  test('does not take the other rooms with it', async () => {
    const pool = createVerificationPool({ threads: 2, startThread: dyingFirst() });
    const results = await Promise.allSettled([1, 2, 3, 4].map(() => pool.check(input(members(3)))));
    expect(results.filter((result) => result.status === 'rejected').length).toBeLessThanOrEqual(2);
    expect(results.some((result) => result.status === 'fulfilled')).toBe(true);
    await pool.close();
  });

  test('loses the chunks that waited in it for keys, and says so', async () => {
    let worker: Worker | undefined;
    const pool = createVerificationPool({ threads: 1, startThread: () => (worker = startVerificationThread()) });
    const killed = pool.check(
      input(members(2), {
        resolveKeys: async (requests, signal) => {
          await worker?.terminate();
          return await resolverOf()(requests, signal);
        },
      }),
    );
    await expect(killed).rejects.toThrow('held these events died');
    expect((await pool.check(input(members(1))))[0]?.outcome).toBe('passed');
    await pool.close();
  });
});

describe('the end of a verification pool', () => {
  test('rejects what is under way and what comes later', async () => {
    const pool = createVerificationPool({ threads: 1 });
    const { opened, open } = latch();
    const underWay = pool.check(
      input(members(2), {
        resolveKeys: async (requests, signal) => {
          open();
          await new Promise((resolve) => {
            setImmediate(resolve);
          });
          return await resolverOf()(requests, signal);
        },
      }),
    );
    const rejected = expect(underWay).rejects.toThrow('closed');
    await opened;
    await Promise.all([pool.close(), rejected]);
    await expect(pool.check(input(members(1)))).rejects.toThrow('closed');
  });
});
