import { expect, test } from 'vitest';
import { type EventBatch, type FederationClient } from '../../src/federation/contract.ts';
import { FederationError } from '../../src/federation/error.ts';
import { type EventId, type KeyId, type RoomId, type ServerName } from '../../src/matrix/identifiers.ts';
import { type Metrics, createMetrics } from '../../src/metrics.ts';
import { type JoinRequest, type JoinedRoom } from '../../src/rooms/contract.ts';
import { RoomError } from '../../src/rooms/error.ts';
import { type CheckOutcome } from '../../src/verification/contract.ts';
import { type CheckInput, type VerificationPool } from '../../src/verification/pool.ts';
import { silent } from '../federation/tls-server.ts';
import { nonZero } from './series.ts';
import { rulesOf } from '../matrix/sample-event.ts';

const there = 'there.test' as ServerName;
const room = '!room:there.test' as RoomId;
const event = '$event' as EventId;
const untouched = new AbortController().signal;

/** Metrics over a clock that goes on by 100 ms at every look. */
function metricsOfTest(): Metrics {
  let now = 0;
  return createMetrics({ version: 'test', role: 'test', clock: { now: () => (now += 100) }, logger: silent });
}

/** A client that answers what is given, and fails at everything else. */
function clientOf(answers: Partial<FederationClient>): FederationClient {
  return answers as FederationClient;
}

async function* batchesOf(...batches: EventBatch<'pdus'>[]): AsyncGenerator<EventBatch<'pdus'>> {
  for (const batch of batches) yield await Promise.resolve(batch);
}

function streaming(batches: AsyncIterable<EventBatch<'pdus'>>): FederationClient {
  const summary = { bytes: 100, events: { pdus: 3 }, dropped: 0, rest: new Map() };
  return clientOf({
    state: () =>
      Promise.resolve({ [Symbol.asyncIterator]: () => batches[Symbol.asyncIterator](), summary: () => summary }),
  });
}

const batch = (...sizes: number[]): EventBatch<'pdus'> => ({
  array: 'pdus',
  events: sizes.map((size) => new Uint8Array(size)),
});

test('a request is counted once it is answered, with its time', async () => {
  const metrics = metricsOfTest();
  const answer = { name: 'Synapse', version: '1' };
  const client = metrics.countRequests(clientOf({ version: () => Promise.resolve(answer) }));
  expect(await client.version(there, { signal: untouched })).toBe(answer);
  expect(await nonZero(metrics, 'rejoinder_federation_')).toEqual({
    'rejoinder_federation_requests_total{endpoint="version",outcome="ok"}': 1,
    'rejoinder_federation_request_seconds_sum{endpoint="version"}': 0.1,
    'rejoinder_federation_request_seconds_count{endpoint="version"}': 1,
  });
});

test('a request that failed is counted by its kind, one that we gave up as aborted, a fault of ours as error', async () => {
  const metrics = metricsOfTest();
  const gone = AbortSignal.abort(new Error('gone'));
  const fail = (error: Error) =>
    metrics.countRequests(clientOf({ stateIds: () => Promise.reject(error), state: () => Promise.reject(error) }));
  const refused = new FederationError(there, 'forbidden', 'no');
  await expect(fail(refused).stateIds(there, room, event, rulesOf('11'), { signal: untouched })).rejects.toBe(refused);
  await expect(fail(refused).state(there, room, event, { signal: untouched })).rejects.toBe(refused);
  await expect(fail(refused).state(there, room, event, { signal: gone })).rejects.toBe(refused);
  await expect(fail(new TypeError('a bug')).state(there, room, event, { signal: untouched })).rejects.toThrow('a bug');
  expect(await nonZero(metrics, 'rejoinder_federation_requests_total')).toEqual({
    'rejoinder_federation_requests_total{endpoint="state_ids",outcome="forbidden"}': 1,
    'rejoinder_federation_requests_total{endpoint="state",outcome="forbidden"}': 1,
    'rejoinder_federation_requests_total{endpoint="state",outcome="aborted"}': 1,
    'rejoinder_federation_requests_total{endpoint="state",outcome="error"}': 1,
  });
});

test('events of a stream are counted while they arrive, the request when its last batch is taken', async () => {
  const metrics = metricsOfTest();
  const client = metrics.countRequests(streaming(batchesOf(batch(10, 20), batch(30))));
  const answer = await client.state(there, room, event, { signal: untouched });
  const seen: unknown[] = [];
  for await (const { events } of answer) {
    const { 'rejoinder_fetched_bytes_total{endpoint="state"}': bytes } = await nonZero(metrics);
    seen.push([events.length, bytes]);
  }
  expect(seen).toEqual([
    [2, 30],
    [1, 60],
  ]);
  expect(answer.summary().bytes).toBe(100);
  expect(await nonZero(metrics)).toMatchObject({
    'rejoinder_fetched_events_total{endpoint="state"}': 3,
    'rejoinder_federation_requests_total{endpoint="state",outcome="ok"}': 1,
  });
});

test('a stream that breaks is counted by its kind, with what had arrived; one left early as aborted', async () => {
  const metrics = metricsOfTest();
  async function* cut(): AsyncGenerator<EventBatch<'pdus'>> {
    yield await Promise.resolve(batch(10));
    throw new FederationError(there, 'unreachable', 'cut');
  }
  const broken = await metrics.countRequests(streaming(cut())).state(there, room, event, { signal: untouched });
  await expect(
    (async () => {
      for await (const { events } of broken) expect(events).toHaveLength(1);
    })(),
  ).rejects.toThrow('cut');

  const whole = batchesOf(batch(5), batch(5));
  const left = await metrics.countRequests(streaming(whole)).state(there, room, event, { signal: untouched });
  for await (const { events } of left) if (events.length > 0) break;
  expect(await whole.next()).toEqual({ done: true, value: undefined });
  expect(await nonZero(metrics)).toMatchObject({
    'rejoinder_fetched_bytes_total{endpoint="state"}': 15,
    'rejoinder_federation_requests_total{endpoint="state",outcome="unreachable"}': 1,
    'rejoinder_federation_requests_total{endpoint="state",outcome="aborted"}': 1,
  });
});

test('single events, missing events and auth chains count as fetched too', async () => {
  const metrics = metricsOfTest();
  const client = metrics.countRequests(
    clientOf({
      event: () => Promise.resolve(new Uint8Array(7)),
      getMissingEvents: () => Promise.resolve([new Uint8Array(3), new Uint8Array(4)]),
      eventAuth: () => Promise.resolve([new Uint8Array(5)]),
    }),
  );
  await client.event(there, event, { signal: untouched });
  const query = { earliestEvents: [], latestEvents: [], limit: 10 };
  await client.getMissingEvents(there, room, query, { signal: untouched });
  await client.eventAuth(there, room, event, { signal: untouched });
  expect(await nonZero(metrics, 'rejoinder_fetched_')).toEqual({
    'rejoinder_fetched_events_total{endpoint="event"}': 1,
    'rejoinder_fetched_bytes_total{endpoint="event"}': 7,
    'rejoinder_fetched_events_total{endpoint="event_auth"}': 1,
    'rejoinder_fetched_bytes_total{endpoint="event_auth"}': 5,
    'rejoinder_fetched_events_total{endpoint="get_missing_events"}': 2,
    'rejoinder_fetched_bytes_total{endpoint="get_missing_events"}': 7,
  });
});

/** What a pool does besides, and nobody counts. */
const otherWork = {
  readBody: () => Promise.reject(new Error('no body is sent here')),
  screen: () => Promise.resolve([]),
};

test('verified events are counted by outcome, and stand in the queue until then', async () => {
  const metrics = metricsOfTest();
  let answer: (outcomes: readonly CheckOutcome[]) => void = () => undefined;
  const pool: VerificationPool = {
    ...otherWork,
    check: () => new Promise((resolve) => (answer = resolve)),
    close: () => Promise.resolve(),
  };
  const input = { events: Array<Uint8Array>(5).fill(new Uint8Array(1)) } as unknown as CheckInput;
  const checking = metrics.countVerifications(pool).check(input);
  expect(await nonZero(metrics, 'rejoinder_verif')).toEqual({ rejoinder_verification_queue_events: 5 });

  const passed = (hollow: boolean) => ({ outcome: 'passed', pdu: { hollow } }) as CheckOutcome;
  const badlySigned: CheckOutcome = {
    outcome: 'bad-signature',
    eventId: event,
    type: 'm.room.message',
    serverName: there,
    reason: '',
  };
  answer([passed(false), passed(false), passed(true), { outcome: 'skipped', eventId: event }, badlySigned]);
  await checking;
  expect(await nonZero(metrics, 'rejoinder_verif')).toEqual({
    'rejoinder_verifications_total{outcome="passed"}': 2,
    'rejoinder_verifications_total{outcome="hollow"}': 1,
    'rejoinder_verifications_total{outcome="skipped"}': 1,
    'rejoinder_verifications_total{outcome="bad-signature"}': 1,
    rejoinder_verification_seconds_sum: 0.1,
    rejoinder_verification_seconds_count: 1,
  });
});

test('events whose check was given up count as unfinished, and leave the queue', async () => {
  const metrics = metricsOfTest();
  const failing: VerificationPool = {
    ...otherWork,
    check: () => Promise.reject(new Error('the thread died')),
    close: () => Promise.resolve(),
  };
  const input = { events: [new Uint8Array(1), new Uint8Array(1)] } as unknown as CheckInput;
  await expect(metrics.countVerifications(failing).check(input)).rejects.toThrow('the thread died');
  expect(await nonZero(metrics, 'rejoinder_verif')).toEqual({
    'rejoinder_verifications_total{outcome="unfinished"}': 2,
  });
});

test('keys are counted once for each name, had or not', async () => {
  const metrics = metricsOfTest();
  const request = (keyId: string) => ({ serverName: there, keyId: keyId as KeyId, validAtTs: 1 });
  const key = { ...request('ed25519:a'), publicKey: '', validUntilTs: 2, renewableUntilTs: 2 };
  const keyRing = metrics.countKeys({ resolve: () => Promise.resolve([key]) });
  const wanted = [request('ed25519:a'), request('ed25519:a'), request('ed25519:b'), request('ed25519:c')];
  expect(await keyRing.resolve(wanted, untouched)).toEqual([key]);
  expect(await nonZero(metrics, 'rejoinder_keys')).toEqual({
    'rejoinder_keys_total{outcome="found"}': 1,
    'rejoinder_keys_total{outcome="missing"}': 2,
  });
});

test('joins are counted by how they ended, and timed where a resident was asked and answered', async () => {
  const metrics = metricsOfTest();
  const joined = { partial: true, membersOmitted: true, timingsMs: { send_join: 50 } } as unknown as JoinedRoom;
  const ends: (() => Promise<JoinedRoom>)[] = [
    () => Promise.resolve(joined),
    () => Promise.resolve({ ...joined, partial: false }),
    () => Promise.resolve({ ...joined, timingsMs: {} }),
    () => Promise.reject(new RoomError('forbidden', 'banned')),
    () => Promise.reject(new TypeError('a bug')),
  ];
  const join = metrics.countJoins(() => ends.shift()!());
  const request = { room, via: [], signal: untouched } as unknown as JoinRequest;
  for (let i = 0; i < 3; i += 1) await join(request);
  await expect(join(request)).rejects.toThrow('banned');
  await expect(join(request)).rejects.toThrow('a bug');

  const gone = metrics.countJoins(() => Promise.reject(new Error('gone')));
  await expect(gone({ ...request, signal: AbortSignal.abort() })).rejects.toThrow('gone');
  expect(await nonZero(metrics, 'rejoinder_join')).toEqual({
    'rejoinder_joins_total{outcome="partial"}': 1,
    'rejoinder_joins_total{outcome="whole"}': 1,
    'rejoinder_joins_total{outcome="held"}': 1,
    'rejoinder_joins_total{outcome="forbidden"}': 1,
    'rejoinder_joins_total{outcome="error"}': 1,
    'rejoinder_joins_total{outcome="aborted"}': 1,
    rejoinder_join_seconds_sum: 0.2,
    rejoinder_join_seconds_count: 2,
  });
});
