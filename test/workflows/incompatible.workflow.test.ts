/**
 * What the check of recorded histories (histories.workflow.test.ts) is worth: the workflow of today is changed in a copy, once as
 * nobody may change it, and once as everybody should.
 */
import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { historyFromJSON } from '@temporalio/common/lib/proto-utils.js';
import { DefaultLogger, Worker, bundleWorkflowCode } from '@temporalio/worker';
import { beforeAll, expect, onTestFinished, test } from 'vitest';
import { installTemporalRuntime } from '../../src/temporal/runtime.ts';
import { silent } from '../federation/tls-server.ts';

/** As `npm run build` compiled them; a copy beside them finds what they import. */
const WORKFLOWS = fileURLToPath(new URL('../../dist/workflows/', import.meta.url));
const HISTORY = new URL('../histories/straight-through.json', import.meta.url);
const BEGIN = `let resync = await load(roomId, 'Read the journal');`;

beforeAll(() => installTemporalRuntime(silent));

/** The bundle of a copy in which the workflow of a room begins so. */
async function bundleBeginning(name: string, begin: string): Promise<{ readonly code: string }> {
  const copy = `${WORKFLOWS.replace(/\/$/, '')}-${name}`;
  await cp(WORKFLOWS, copy, { recursive: true });
  onTestFinished(() => rm(copy, { recursive: true, force: true }));
  const file = join(copy, 'resync-room.js');
  const code = await readFile(file, 'utf8');
  expect(code).toContain(BEGIN);
  await writeFile(file, code.replace(BEGIN, `${begin}\n${BEGIN}`));
  return bundleWorkflowCode({
    workflowsPath: join(copy, 'index.js'),
    workflowInterceptorModules: [
      createRequire(import.meta.url).resolve('@temporalio/interceptors-opentelemetry-v2/lib/workflow-interceptors'),
    ],
    logger: new DefaultLogger('ERROR'),
  });
}

async function replay(workflowBundle: { readonly code: string }): Promise<void> {
  const history = historyFromJSON(JSON.parse(await readFile(HISTORY, 'utf8')));
  await Worker.runReplayHistory({ workflowBundle }, history, 'recorded');
}

const WAIT = `await condition(() => false, '1 second');`;

test('a workflow that does one thing more than its recorded runs did does not replay them', async () => {
  await expect(replay(await bundleBeginning('changed', WAIT))).rejects.toThrow('Nondeterminism');
});

test('one that does it in new runs alone, by a patch, does', async () => {
  await replay(await bundleBeginning('patched', `if (patched('waits-first')) ${WAIT}`));
});
