import { expect, onTestFinished, test, vi } from 'vitest';
import { createLogger } from '../../src/logging.ts';
import { type Metrics, createMetrics } from '../../src/metrics.ts';
import { createMetricsServer } from '../../src/metrics/server.ts';
import { silent } from '../federation/tls-server.ts';
import { nonZero, parseSeries } from './series.ts';

interface Listening {
  readonly metrics: Metrics;
  readonly get: (path: string, init?: RequestInit) => Promise<Response>;
}

async function listen(): Promise<Listening> {
  const metrics = createMetrics({ version: '1.2.3', role: 'worker', clock: { now: () => 0 }, logger: silent });
  const app = createMetricsServer(metrics, silent);
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => app.close());
  return { metrics, get: (path, init) => fetch(`${url}${path}`, init) };
}

test('a scrape needs no token and is in the text format that Prometheus asks for', async () => {
  const { metrics, get } = await listen();
  metrics.watchProcess();
  const response = await get('/metrics');
  expect(response.status).toBe(200);
  expect(response.headers.get('content-type')).toBe('text/plain; version=0.0.4; charset=utf-8');
  expect(response.headers.get('cache-control')).toBe('no-store');
  const text = await response.text();
  expect(text).toContain('# TYPE rejoinder_resync_seconds histogram\n');
  const series = parseSeries(text);
  expect(series.get('rejoinder_info{version="1.2.3",role="worker"}')).toBe(1);
  expect(series.get('rejoinder_state_fetch_total{outcome="timeout"}')).toBe(0);
  expect(series.get('process_resident_memory_bytes')).toBeGreaterThan(1_000_000);
  expect([...series].filter(([name, value]) => name.startsWith('rejoinder_') && Number.isNaN(value))).toEqual([]);
});

test('a scrape ends with the metrics of another part, and goes without them while they cannot be read', async () => {
  const { metrics, get } = await listen();
  let read = (): Promise<string> => Promise.resolve('temporal_request 7\n');
  metrics.tellToo(() => read());
  const text = await (await get('/metrics')).text();
  expect(parseSeries(text).get('temporal_request')).toBe(7);
  expect(parseSeries(text).get('rejoinder_info{version="1.2.3",role="worker"}')).toBe(1);
  read = () => Promise.reject(new Error('away'));
  expect(await (await get('/metrics')).text()).not.toContain('temporal_request');
});

test('health is answered, and nothing else is there', async () => {
  const { get } = await listen();
  expect(await (await get('/health')).json()).toEqual({ status: 'ok' });
  expect((await get('/')).status).toBe(404);
  expect((await get('/metrics', { method: 'POST', body: 'x' })).status).toBe(404);
  expect((await get('/%')).status).toBe(400);
});

test('a scrape that fails says so without its reason, which is logged', async () => {
  const log: string[] = [];
  const logger = createLogger({ level: 'error', destination: { write: (line) => void log.push(line) } });
  const failing = { contentType: 'text/plain', scrape: () => Promise.reject(new Error('a secret')) };
  const answer = await createMetricsServer(failing, logger).inject('/metrics');
  expect(answer.statusCode).toBe(500);
  expect(answer.body).not.toContain('secret');
  expect(log.join()).toContain('a secret');
});

test('two registries share nothing', async () => {
  const [one, other] = [await listen(), await listen()];
  one.metrics.watchProcess();
  const join = one.metrics.countJoins(() => Promise.reject(new Error('no')));
  await expect(join({ signal: new AbortController().signal } as never)).rejects.toThrow('no');
  expect(await nonZero(other.metrics, 'rejoinder_joins')).toEqual({});
});

/** The gauge over a count of the test's, with a clock that the test moves. */
function gaugeOver(count: () => Promise<ReadonlyMap<string, number>>) {
  const clock = { time: 0, now: () => clock.time };
  const warnings: string[] = [];
  const logger = { warn: (_fields: object, message: string) => void warnings.push(message) };
  const metrics = createMetrics({ version: 'test', role: 'test', clock, logger });
  metrics.watchPartialRooms(count);
  const scrape = async (): Promise<Record<string, number>> => {
    const series = [...parseSeries(await metrics.scrape())];
    return Object.fromEntries(series.filter(([name]) => name.startsWith('rejoinder_partial_rooms')));
  };
  return { clock, warnings, scrape };
}

test('partial rooms are counted at most once in five seconds, phases without rooms as 0', async () => {
  let asked = 0;
  const { clock, scrape } = gaugeOver(() => Promise.resolve(new Map([['fetching', ++asked]])));
  const phases = (fetching: number) => ({
    'rejoinder_partial_rooms{phase="fetching"}': fetching,
    'rejoinder_partial_rooms{phase="waiting"}': 0,
    'rejoinder_partial_rooms{phase="parked"}': 0,
    'rejoinder_partial_rooms{phase="cancelled"}': 0,
    'rejoinder_partial_rooms{phase="walking"}': 0,
  });
  expect(await Promise.all([scrape(), scrape()])).toEqual([phases(1), phases(1)]);
  clock.time = 4_999;
  expect(await scrape()).toEqual(phases(1));
  clock.time = 5_000;
  expect(await scrape()).toEqual(phases(2));
});

test('while the database does not answer their number is absent, and all others are there', async () => {
  let fails = false;
  const { clock, warnings, scrape } = gaugeOver(() =>
    fails ? Promise.reject(new Error('refused')) : Promise.resolve(new Map([['waiting', 4]])),
  );
  expect(await scrape()).toMatchObject({ 'rejoinder_partial_rooms{phase="waiting"}': 4 });
  fails = true;
  clock.time = 10_000;
  expect(await scrape()).toEqual({});
  expect(warnings).toEqual(['partial rooms cannot be counted; their metric is absent']);
});

test('a database that is silent does not hold up a scrape', async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const { warnings, scrape } = gaugeOver(() => new Promise(() => undefined));
  const scraping = scrape();
  await vi.advanceTimersByTimeAsync(3_000);
  expect(await scraping).toEqual({});
  expect(warnings).toHaveLength(1);
});

test('what waits to be judged and what degraded rooms lack are told with the age of the oldest', async () => {
  const clock = { now: () => 100_000 };
  const metrics = createMetrics({ version: 'test', role: 'test', clock, logger: { warn: () => undefined } });
  metrics.watchBacklog(() =>
    Promise.resolve({
      ...{ staged: 3, oldestStagedAt: 90_000, gaps: 1, oldestGapAt: 40_000 },
      ...{ lacking: 2, degraded: 1, oldestLackingSince: null, corrections: 3, oldestCorrectionSince: null },
    }),
  );
  const series = parseSeries(await metrics.scrape());
  expect(
    Object.fromEntries([...series].filter(([name]) => /_(staged|open_gaps|lacking|degraded)(_|$)/.test(name))),
  ).toEqual({
    rejoinder_staged_events: 3,
    rejoinder_staged_age_seconds: 10,
    rejoinder_open_gaps: 1,
    rejoinder_open_gaps_age_seconds: 60,
    rejoinder_degraded_rooms: 1,
    rejoinder_lacking_events: 2,
    rejoinder_lacking_age_seconds: 0,
  });
});
