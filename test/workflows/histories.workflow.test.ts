/** Recorded runs against the workflow of today, as `npm run build` bundled it with the tracing interceptors. */
import { readFile, readdir } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from '@temporalio/worker';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { beforeAll, expect, test } from 'vitest';
import { installTemporalRuntime } from '../../src/temporal/runtime.ts';
import { silent } from '../federation/tls-server.ts';

const BUNDLE = fileURLToPath(new URL('../../dist/workflow-bundle.js', import.meta.url));
const HISTORIES = new URL('../histories/', import.meta.url);
const NAMES = [
  'cancelled-and-resumed',
  'cancelled',
  'carries-corrections-on',
  'everybody-left',
  'failed-waited-rung',
  'gap-in-a-partial-room',
  'gap-in-a-whole-room',
  'given-up-and-left',
  'left-by-force',
  'left-finish-best-effort-refused',
  'left-finish-best-effort',
  'left-silently',
  'left-to-be-purged',
  'parked-and-resumed',
  'pinned-and-retried',
  'purged',
  'rung-when-cancelled',
  'seeks-what-is-missing',
  'state-at-the-join',
  'straight-through',
  'waited-and-resumed',
];

beforeAll(() => installTemporalRuntime(silent));

interface Recorded {
  readonly events: readonly { readonly eventType: string }[];
}

async function read(name: string): Promise<Recorded> {
  return JSON.parse(await readFile(new URL(`${name}.json`, HISTORIES), 'utf8')) as Recorded;
}

test('every file of the folder is replayed below', async () => {
  expect((await readdir(HISTORIES)).sort()).toEqual(NAMES.map((name) => `${name}.json`));
});

test.each(NAMES)('the workflow of today replays the recorded run %s', async (name) => {
  const recorded = await read(name);
  await Worker.runReplayHistory({ workflowBundle: { codePath: BUNDLE } }, historyFromJSON(recorded), name);
});

test('a run that the workflow of today would not make does not replay', async () => {
  const text = JSON.stringify(await read('straight-through')).replaceAll('"loadResync"', '"walkEvents"');
  const replay = Worker.runReplayHistory(
    { workflowBundle: { codePath: BUNDLE } },
    historyFromJSON(JSON.parse(text)),
    'another run',
  );
  await expect(replay).rejects.toThrow('Nondeterminism');
});

test('recorded runs took the paths that they are named for, and carry traces', async () => {
  const types = async (name: string): Promise<string[]> => (await read(name)).events.map(({ eventType }) => eventType);
  expect(await types('straight-through')).not.toContain('EVENT_TYPE_TIMER_STARTED');
  expect(await types('failed-waited-rung')).toEqual(
    expect.arrayContaining([
      'EVENT_TYPE_TIMER_STARTED',
      'EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED',
      'EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED',
    ]),
  );
  const named = async (name: string, activity: string): Promise<boolean> =>
    JSON.stringify(await read(name)).includes(`"name":"${activity}"`);
  expect(await named('gap-in-a-whole-room', 'fetchGaps')).toBe(true);
  expect(await named('gap-in-a-partial-room', 'fetchGaps')).toBe(true);
  expect(await named('gap-in-a-partial-room', 'walkEvents')).toBe(true);
  expect(await named('seeks-what-is-missing', 'seekMissing')).toBe(true);
  expect(await named('carries-corrections-on', 'correctEvents')).toBe(true);
  expect(await named('everybody-left', 'endStay')).toBe(true);
  expect(await named('given-up-and-left', 'leaveRoom')).toBe(true);
  expect(await named('left-silently', 'leaveRoom')).toBe(true);
  for (const name of ['left-by-force', 'left-finish-best-effort-refused', 'left-to-be-purged']) {
    expect(await named(name, 'endStay')).toBe(true);
  }
  expect(await named('left-finish-best-effort', 'walkEvents')).toBe(true);
  expect((await types('purged')).at(-1)).toBe('EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED');
  expect(await types('parked-and-resumed')).not.toContain('EVENT_TYPE_TIMER_STARTED');
  expect(await named('parked-and-resumed', 'resumeResync')).toBe(true);
  expect(await named('waited-and-resumed', 'resumeResync')).toBe(true);
  expect(await types('cancelled')).toContain('EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED');
  expect(await types('rung-when-cancelled')).toContain('EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED');
  for (const name of ['cancelled', 'cancelled-and-resumed', 'pinned-and-retried']) {
    expect(await named(name, 'commandRoom')).toBe(true);
  }
  for (const name of NAMES) {
    const text = await readFile(new URL(`${name}.json`, HISTORIES), 'utf8');
    // The header in which the interceptors hand a trace on.
    expect(text).toContain('_tracer-data');
  }
});

test('what a workflow can reach has no cryptography in it', async () => {
  const code = await readFile(BUNDLE, 'utf8');
  expect(code).toContain('resyncRoom');
  expect(code).not.toMatch(/node:crypto|tweetnacl|require\(['"]crypto['"]\)/);
});
