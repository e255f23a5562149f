import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type ServiceStatus, type ServiceSteering } from '../../src/app-services/contract.ts';
import { type Ran, runCli } from '../cli/run-cli.ts';
import { type RunningServer, TOKEN, ask, portsOfTest, post, startServer } from './rooms-of-test.ts';

const at = Date.UTC(2026, 0, 1);
const FAILING: ServiceStatus = {
  ...{ id: 'irc', url: 'http://irc', state: 'failing', position: 10, lag: 5, oldestAt: at, failures: 3 },
  ...{ failedSince: at, lastFailure: 'it answered 400: {}', retryAt: at + 1_000 },
  transaction: { txnId: 't1', events: 2, ephemeral: 1, madeAt: at },
};
const UNTOLD: ServiceStatus = {
  ...{ id: 'quiet', url: null, state: 'not-told', position: null, lag: 0, oldestAt: null, failures: 0 },
  ...{ failedSince: null, lastFailure: null, retryAt: null, transaction: null },
};

let server: RunningServer;
let folder: string;
let decided: unknown[];
beforeEach(async () => {
  decided = [];
  folder = mkdtempSync(join(tmpdir(), 'rejoinder-services-'));
  const services: ServiceSteering = {
    list: () => Promise.resolve([FAILING, UNTOLD]),
    retry: (...said) => Promise.resolve(decided.push(said) > 0 && said[0] === 'irc'),
    skip: (...said) => {
      decided.push(said);
      if (said[0] !== 'irc') return Promise.resolve({ outcome: 'unknown' });
      if (said[1] !== 't1') return Promise.resolve({ outcome: 'other', waiting: 't1' });
      return Promise.resolve({ outcome: 'skipped', events: [{ eventId: '$one' as never, roomId: '!room' as never }] });
    },
    skipAll: (...said) => {
      decided.push(said);
      return Promise.resolve(said[0] === 'irc' ? { after: 10, upTo: 15 } : undefined);
    },
  };
  server = await startServer(portsOfTest({ services }));
});
afterEach(async () => {
  await server.close();
  rmSync(folder, { recursive: true });
});

const run = (...args: string[]): Promise<Ran> =>
  runCli(['services', ...args], { cwd: folder, env: { REJOINDER_URL: server.url, REJOINDER_OPERATOR_TOKEN: TOKEN } });

test('services are listed with what they did not take', async () => {
  const time = '2026-01-01T00:00:00.000Z';
  const { status, body } = await ask(server, '/services');
  expect([status, body]).toEqual([
    200,
    {
      services: [
        {
          ...{ id: 'irc', url: 'http://irc', state: 'failing', position: 10, lag: 5, oldest_at: time, failures: 3 },
          ...{ failing_since: time, last_failure: 'it answered 400: {}', next_try_at: '2026-01-01T00:00:01.000Z' },
          transaction: { id: 't1', events: 2, ephemeral: 1, made_at: time },
        },
        {
          ...{ id: 'quiet', url: null, state: 'not-told', position: null, lag: 0, oldest_at: null, failures: 0 },
          ...{ failing_since: null, last_failure: null, next_try_at: null, transaction: null },
        },
      ],
    },
  ]);
  const { stdout } = await run('list');
  expect(stdout).toMatch(
    /^SERVICE +STATE .*\nirc +failing +10 +5 +2026.* t1 +it answered 400: \{\}\nquiet +not-told .*\n$/,
  );
  const lines = (await run('list', '--json')).stdout.trim().split('\n');
  expect(lines.map((line) => (JSON.parse(line) as { id: string }).id)).toEqual(['irc', 'quiet']);
});

test('a transaction is skipped by its name, with who decides it and why, and the answer says what is not told', async () => {
  const { status, body } = await post(server, '/services/irc/skip', { transaction: 't1', by: 'me', reason: 'why' });
  const skipped = { transaction: 't1', events: [{ event_id: '$one', room_id: '!room' }] };
  expect([status, body]).toEqual([200, { service: 'irc', skipped }]);
  expect(decided).toEqual([['irc', 't1', { by: 'me', reason: 'why' }]]);
  const other = await post(server, '/services/irc/skip', { transaction: 't0' });
  expect([other.status, other.body['errcode']]).toEqual([409, 'REJOINDER_INAPPLICABLE']);
  expect(other.body['error']).toContain('t1');
  const unknown = await post(server, '/services/no%00ne/skip', { transaction: 't1' });
  expect([unknown.status, unknown.body['errcode']]).toEqual([404, 'M_NOT_FOUND']);
  expect(decided.at(-1)).toEqual(['none', 't1', { by: 'the operator API' }]);
  for (const body of [{}, { transaction: 't1', everything: true }, { everything: false }, { transaction: 1 }]) {
    expect([body, (await post(server, '/services/irc/skip', body)).status]).toEqual([body, 400]);
  }
  const { code, stdout } = await run('skip', 'irc', '--transaction', 't1');
  expect([code, stdout]).toEqual([0, 'irc is not told transaction t1:\n  $one  !room\n']);
});

test('all that waits is skipped, or sent at once, when they say so', async () => {
  const all = await run('skip', 'irc', '--everything', '--by', 'me');
  expect(all.stdout).toBe('irc is told nothing of what is between 10 and 15\n');
  const retried = await run('retry', 'irc', '--reason', 'it is back');
  expect(retried.stdout).toBe('irc is sent at once what it did not take\n');
  expect(decided).toEqual([
    ['irc', { by: 'me' }],
    ['irc', { by: 'the operator API', reason: 'it is back' }],
  ]);
  expect((await run('retry', 'none')).code).not.toBe(0);
  expect((await post(server, '/services/none/skip', { everything: true })).status).toBe(404);
});
