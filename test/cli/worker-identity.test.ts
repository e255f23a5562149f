import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { isDeadWorker, workerIdentity } from '../../src/cli/process/worker-identity.ts';
import { identify } from '../../src/launch/process-identity.ts';

test('a worker that runs is not dead, and one that has ended is, be its id another process’s now', () => {
  const { pid } = spawnSync(process.execPath, ['-e', '']);
  expect(isDeadWorker(workerIdentity())).toBe(false);
  expect(isDeadWorker(workerIdentity({ ...identify(), pid }))).toBe(true);
  expect(isDeadWorker(workerIdentity({ ...identify(), started: 'long ago' }))).toBe(true);
});

test('of other machines, and of what is no identity of ours, nobody is called dead', () => {
  expect(isDeadWorker(workerIdentity({ ...identify(), host: 'elsewhere', pid: 1 }))).toBe(false);
  for (const identity of ['', '1@elsewhere', 'temporal-cli:me@host', `${process.pid}@`]) {
    expect(isDeadWorker(identity)).toBe(false);
  }
});
