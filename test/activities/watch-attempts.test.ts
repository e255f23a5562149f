import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import { expect, test } from 'vitest';
import { watchAttempts } from '../../activities/watch-attempts.ts';
import { createLogger } from '../../src/logging.ts';
import { createMetrics } from '../../src/metrics.ts';
import { type Activities } from '../../src/temporal/contract.ts';
import { silent } from '../federation/tls-server.ts';
import { nonZero } from '../metrics/series.ts';

/** The SDK's own log of failed activities. */
const quiet = new DefaultLogger('ERROR', () => undefined);

/** Attempts of an activity that fails so; gives what the log and the metrics say of them. */
async function attempts(numbers: readonly number[], error: Error) {
  const log: string[] = [];
  const logger = createLogger({ level: 'error', destination: { write: (line) => void log.push(line) } });
  const metrics = createMetrics({ version: 'test', role: 'test', clock: { now: () => 0 }, logger: silent });
  const failing = { walkEvents: () => Promise.reject(error) } as unknown as Activities;
  const watched = watchAttempts(failing, logger, metrics.onAttempt);
  for (const attempt of numbers) {
    const failed = new MockActivityEnvironment({ attempt }, { logger: quiet }).run(() =>
      watched.walkEvents({} as never),
    );
    await expect(failed).rejects.toBeInstanceOf(
      error instanceof CancelledFailure ? CancelledFailure : ApplicationFailure,
    );
  }
  return { log, counted: await nonZero(metrics, 'rejoinder_activity') };
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i + 1);

test('attempts after the first are counted, and nothing is said of nine of them', async () => {
  const { log, counted } = await attempts(upTo(9), new Error('the database is away'));
  expect(counted).toEqual({ 'rejoinder_activity_retries_total{activity="walkEvents"}': 8 });
  expect(log).toEqual([]);
});

test('the tenth attempt is an alarm, with its workflow and what it failed by in the log, and so is each ten after it', async () => {
  const { log, counted } = await attempts(upTo(21), new Error('the database is away'));
  expect(counted).toEqual({
    'rejoinder_activity_retries_total{activity="walkEvents"}': 20,
    'rejoinder_activity_late_attempts_total{activity="walkEvents"}': 12,
  });
  expect(log.map((line) => JSON.parse(line) as unknown)).toMatchObject([
    { activity: 'walkEvents', attempt: 10, workflowId: 'test', err: { message: 'the database is away' } },
    { attempt: 20 },
  ]);
});

test('an attempt that is cancelled is nobody’s trouble', async () => {
  expect((await attempts([10], new CancelledFailure('stopped'))).log).toEqual([]);
});
