import { describe, expect, onTestFinished, test } from 'vitest';
import { type EventId, type ServerName } from '../../src/matrix/identifiers.ts';
import { createVerificationPool } from '../../src/verification/pool.ts';
import { type SimulatorFaultRule } from '../../src/simulator/contract.ts';
import { NAMED_FAULTS } from '../../src/simulator/named-faults.ts';
import { FederationError } from '../../src/federation/error.ts';
import { signal } from '../federation/tls-server.ts';
import { type TestJoiner, type TestSimulator, startTestJoiner, startTestSimulator } from '../support/simulator.ts';
import { rulesOf } from '../matrix/sample-event.ts';

const options = { signal };

interface Joined {
  readonly simulator: TestSimulator;
  readonly joiner: TestJoiner;
  readonly resident: ServerName;
  readonly joinId: EventId;
}

async function joined(members = 30, idleMs = 5_000): Promise<Joined> {
  const simulator = await startTestSimulator({ members });
  const joiner = await startTestJoiner(simulator, ['11'], { idleMs, stateMs: Math.max(idleMs, 2_000) });
  const [resident] = simulator.residents as [ServerName];
  const { eventId } = await joiner.join(resident, simulator.room.roomId);
  await simulator.resetCounts();
  return { simulator, joiner, resident, joinId: eventId };
}

interface Taken {
  readonly events: Uint8Array[];
  /** `whole`, or what kind of failure ended it. */
  readonly end: string;
  readonly tookMs: number;
}

/** Asks for the state before the join, and takes what comes of it. */
async function takeState({ simulator, joiner, joinId }: Joined, from: ServerName): Promise<Taken> {
  const events: Uint8Array[] = [];
  const startedAt = performance.now();
  const taken = (end: string): Taken => ({ events, end, tookMs: performance.now() - startedAt });
  try {
    const answer = await joiner.client.state(from, simulator.room.roomId, joinId, options);
    for await (const batch of answer) for (const event of batch.events) if (batch.array === 'pdus') events.push(event);
    return taken('whole');
  } catch (error) {
    if (!(error instanceof FederationError)) throw error;
    return taken(error.kind);
  }
}

/** How the checks 1 to 3 end, counted by outcome. */
async function outcomes({ simulator, joiner }: Joined, events: readonly Uint8Array[]): Promise<Record<string, number>> {
  const pool = createVerificationPool({ threads: 1 });
  onTestFinished(() => pool.close());
  const { roomId, roomVersion } = simulator.room;
  const resolveKeys = joiner.keyRing.resolve;
  const counted: Record<string, number> = {};
  for (const checked of await pool.check({ roomId, roomVersion, events, resolveKeys, capReferences: false, signal })) {
    const name = checked.outcome === 'passed' && checked.pdu.hollow ? 'hollow' : checked.outcome;
    counted[name] = (counted[name] ?? 0) + 1;
  }
  return counted;
}

describe('every fault that has a name does what it says', () => {
  const expected: Record<string, { end: string; events?: 'some' | 'fewer' | 'none' }> = {
    latency: { end: 'whole' },
    bandwidth: { end: 'whole' },
    drip: { end: 'timeout' },
    status: { end: 'server-error', events: 'none' },
    forbidden: { end: 'forbidden', events: 'none' },
    'not-found': { end: 'not-found', events: 'none' },
    'partial-there': { end: 'partial-state-there', events: 'none' },
    'rate-limited': { end: 'rate-limited', events: 'none' },
    'hang-up': { end: 'unreachable' },
    truncate: { end: 'malformed' },
    hold: { end: 'timeout' },
    rubbish: { end: 'malformed' },
    endless: { end: 'too-large' },
    crumbs: { end: 'too-large' },
    'wrong-hash': { end: 'whole' },
    'wrong-signature': { end: 'whole' },
    'missing-events': { end: 'whole', events: 'fewer' },
    down: { end: 'unreachable', events: 'none' },
  };

  test('and none is left out of this table', () => {
    expect(Object.keys(expected).sort()).toEqual(Object.keys(NAMED_FAULTS).sort());
  });

  test.each(Object.entries(NAMED_FAULTS))('%s', async (name, { fault, endpoint }) => {
    const here = await joined(30, name === 'hold' || name === 'drip' ? 500 : 5_000);
    const { simulator, resident } = here;
    const rule: SimulatorFaultRule = { fault, server: resident, ...(endpoint === undefined ? {} : { endpoint }) };
    const active = await simulator.inject(rule);
    const { end, events, tookMs } = await takeState(here, resident);
    expect(end).toBe(expected[name]?.end);
    const { stateEvents } = simulator.room;
    const wanted = expected[name]?.events;
    if (wanted === 'none') expect(events).toEqual([]);
    if (wanted === 'fewer') expect(events).toHaveLength(stateEvents - Math.ceil(0.05 * (stateEvents - 1)));
    if (end === 'whole' && wanted === undefined) expect(events).toHaveLength(stateEvents);
    if (name === 'latency') expect(tookMs).toBeGreaterThan(1_990);
    // A connection that was there already was cut, and not struck.
    expect(await active.hits()).toBeGreaterThanOrEqual(name === 'down' ? 0 : 1);

    // Others are not struck, and neither is this one once the fault is gone.
    expect((await takeState(here, simulator.residents[1]!)).end).toBe('whole');
    await active.remove();
    expect((await takeState(here, resident)).end).toBe('whole');
  });
});

describe('a fault of events', () => {
  test('wrong-hash alters content and neither ids nor signatures', async () => {
    const here = await joined();
    const { stateEvents } = here.simulator.room;
    await here.simulator.inject({ fault: { kind: 'wrong-hash', events: { share: 0.5 } }, endpoint: 'state' });
    const { events } = await takeState(here, here.resident);
    const hollow = Math.ceil(0.5 * (stateEvents - 1));
    expect(await outcomes(here, events)).toEqual({ passed: stateEvents - hollow, hollow });
  });

  test('wrong-signature spoils as many as were asked for', async () => {
    const here = await joined();
    await here.simulator.inject({ fault: { kind: 'wrong-signature', events: { count: 7 } }, endpoint: 'state' });
    const { events } = await takeState(here, here.resident);
    expect(await outcomes(here, events)).toMatchObject({ 'bad-signature': 7 });
  });
});

describe('a fault of a body', () => {
  test('cuts at the byte that was asked for', async () => {
    const here = await joined(300);
    const { simulator, resident } = here;
    await simulator.inject({ fault: { kind: 'hang-up', at: { bytes: 100_000 } }, endpoint: 'state' });
    expect((await takeState(here, resident)).end).toBe('unreachable');
    expect(await simulator.counts()).toEqual([
      expect.objectContaining({ server: resident, endpoint: 'state', requests: 1, bodyBytes: 100_000, failed: 1 }),
    ]);
  });

  test('holds until it is released, and then goes on', async () => {
    const here = await joined(300);
    const { simulator, resident } = here;
    const hold = await simulator.inject({ fault: { kind: 'hold', at: { share: 0.5 } }, endpoint: 'state', times: 1 });
    const taking = takeState(here, resident);
    await hold.held();
    const { bodyBytes } = (await simulator.counts())[0]!;
    await hold.release();
    const { end, events } = await taking;
    expect(end).toBe('whole');
    expect(events).toHaveLength(simulator.room.stateEvents);
    const after = (await simulator.counts())[0]!;
    expect(bodyBytes).toBe(Math.floor(after.bodyBytes / 2));
  });

  test('slows a line to its rate', async () => {
    const here = await joined(300);
    const { simulator, resident } = here;
    await simulator.inject({ fault: { kind: 'bandwidth', bytesPerSecond: 1_000_000 }, endpoint: 'state' });
    const { end, tookMs } = await takeState(here, resident);
    const { bodyBytes } = (await simulator.counts())[0]!;
    expect(end).toBe('whole');
    expect(tookMs).toBeGreaterThan((bodyBytes / 1_000_000) * 1_000 - 60);
  });
});

describe('a rule', () => {
  test('strikes as often as it says, at its endpoint only', async () => {
    const here = await joined();
    const { simulator, resident } = here;
    const fault = { kind: 'status', status: 502, errcode: 'M_UNKNOWN' } as const;
    const active = await simulator.inject({ fault, endpoint: 'state', times: 2 });
    await here.joiner.client.stateIds(resident, simulator.room.roomId, here.joinId, rulesOf('11'), options);
    expect(await active.hits()).toBe(0);
    const ends = [await takeState(here, resident), await takeState(here, resident), await takeState(here, resident)];
    expect(ends.map(({ end }) => end)).toEqual(['server-error', 'server-error', 'whole']);
    expect(await active.hits()).toBe(2);
  });

  test('that takes a server down cuts its connections, and clear brings it back', async () => {
    const here = await joined(300);
    const { simulator, resident } = here;
    const hold = await simulator.inject({
      fault: { kind: 'hold', at: { share: 0.5 } },
      server: resident,
      endpoint: 'state',
    });
    const taking = takeState(here, resident);
    await hold.held();
    await simulator.inject({ fault: { kind: 'down' }, server: resident });
    expect((await taking).end).toBe('unreachable');
    expect((await takeState(here, resident)).end).toBe('unreachable');
    expect((await takeState(here, simulator.residents[2]!)).end).toBe('whole');
    await simulator.clear();
    expect((await takeState(here, resident)).end).toBe('whole');
  });
});

test('latency and bandwidth can be those of every answer', async () => {
  const simulator = await startTestSimulator({ members: 200 }, { latencyMs: 100, bytesPerSecond: 1_000_000 });
  const joiner = await startTestJoiner(simulator);
  const startedAt = performance.now();
  await joiner.join(simulator.residents[0]!, simulator.room.roomId);
  const answers = (await simulator.counts()).reduce((sum, { requests }) => sum + requests, 0);
  expect(answers).toBeGreaterThanOrEqual(2);
  expect(performance.now() - startedAt).toBeGreaterThan(195);
});
