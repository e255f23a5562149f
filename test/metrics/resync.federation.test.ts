import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { ensureCertificateFiles } from '../../src/launch/certificates.ts';
import { type UserId } from '../../src/matrix/identifiers.ts';
import { createMetricsServer } from '../../src/metrics/server.ts';
import { fetchState } from '../../src/rooms/resync/fetch-state.ts';
import { joinRoom } from '../../src/rooms/join/join.ts';
import { walkPartialEvents } from '../../src/rooms/resync/walk.ts';
import { readResync } from '../../src/store/journal/rooms.ts';
import { silent } from '../federation/tls-server.ts';
import { startTestRejoinder } from '../support/rejoinder.ts';
import { startResident } from '../workflows/resident.ts';
import { parseSeries } from './series.ts';

const MEMBERS = 40;
/** Create, power levels, join rules, and the owner among the members. */
const STATE_EVENTS = 3 + MEMBERS;
const signal = new AbortController().signal;

test('a scrape after a join and its resync shows what both did', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'rejoinder-metrics-'));
  const certificates = await ensureCertificateFiles(folder, [], systemClock);
  const resident = await startResident(certificates, MEMBERS);
  onTestFinished(async () => {
    await resident.stop();
    await rm(folder, { recursive: true, force: true });
  });
  const { context, metrics, resync } = await startTestRejoinder({ certificates });
  const app = createMetricsServer(metrics, silent);
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  onTestFinished(() => app.close());
  const scrape = async () => parseSeries(await (await fetch(`${url}/metrics`)).text());

  const { roomId, serverName } = resident;
  const userId = `@me:${context.serverName}` as UserId;
  const countedJoin = metrics.countJoins((request) => joinRoom(context, request));
  await countedJoin({ room: roomId, userId, via: [serverName], signal });
  const partial = await scrape();
  expect(partial.get('rejoinder_joins_total{outcome="partial"}')).toBe(1);
  expect(partial.get('rejoinder_join_seconds_count')).toBe(1);
  expect(partial.get('rejoinder_partial_rooms{phase="fetching"}')).toBe(1);
  expect(partial.get('rejoinder_federation_requests_total{endpoint="send_join",outcome="ok"}')).toBe(1);

  // Every resident fails once, and then the room is made whole.
  resident.isWilling = false;
  expect(await resync(roomId)).toBe('waiting');
  resident.isWilling = true;
  const wake = { ...context, clock: { now: () => systemClock.now() + 60_000 } };
  const { epoch, state } = (await readResync(context.store, roomId))!;
  const progress = { signal, heartbeat: () => undefined };
  const attempt = { roomId, epoch, attemptNo: state.attempts + 1, resident: serverName, atEventId: state.fetchAt[0]! };
  await fetchState(wake, attempt, progress);
  await walkPartialEvents(wake, roomId, epoch, progress);

  const whole = await scrape();
  const expected: Record<string, number> = {
    'rejoinder_state_fetch_total{outcome="server-error"}': 1,
    'rejoinder_state_fetch_total{outcome="fetched"}': 1,
    rejoinder_state_fetch_seconds_count: 1,
    rejoinder_rounds_failed_total: 1,
    'rejoinder_resync_seconds_count{outcome="retried"}': 1,
    'rejoinder_resync_seconds_count{outcome="straight"}': 0,
    rejoinder_walked_events_total: 1,
    rejoinder_corrected_events_total: 0,
    'rejoinder_federation_requests_total{endpoint="state_ids",outcome="server-error"}': 1,
    'rejoinder_federation_requests_total{endpoint="state_ids",outcome="ok"}': 1,
    'rejoinder_federation_requests_total{endpoint="state",outcome="ok"}': 1,
    'rejoinder_federation_requests_total{endpoint="server_keys",outcome="ok"}': 1,
    'rejoinder_verifications_total{outcome="bad-signature"}': 0,
    rejoinder_verification_queue_events: 0,
  };
  expect(Object.fromEntries(Object.keys(expected).map((name) => [name, whole.get(name)]))).toEqual(expected);
  expect(whole.get('rejoinder_fetched_events_total{endpoint="state"}')).toBeGreaterThanOrEqual(STATE_EVENTS);
  expect(whole.get('rejoinder_fetched_bytes_total{endpoint="state"}')).toBeGreaterThan(STATE_EVENTS * 200);
  expect(whole.get('rejoinder_verifications_total{outcome="passed"}')).toBeGreaterThanOrEqual(STATE_EVENTS);
  expect(whole.get('rejoinder_keys_total{outcome="found"}')).toBeGreaterThan(0);
  expect(whole.get('rejoinder_resync_seconds_sum{outcome="retried"}')).toBeGreaterThanOrEqual(60);

  // Done twice is counted once: the second finds everything in the journal.
  await fetchState(wake, attempt, progress);
  await walkPartialEvents(wake, roomId, epoch, progress);
  const again = await scrape();
  for (const [name, value] of whole) {
    if (/state_fetch|resync|walked/.test(name)) expect([name, again.get(name)]).toEqual([name, value]);
  }
});
