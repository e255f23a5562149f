/**
 * Makes test/histories anew: runs the workflow tests against a real Temporal server and keeps the histories of the runs that
 * they have checked. For a deliberate change of what a workflow does; a history that must still replay is kept instead.
 * Needs the build (`npm run build`).
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';

const TEST_FILES = ['resync-room', 'operators', 'leaving'].map((name) => `test/workflows/${name}.workflow.test.ts`);

const tests = spawn('npx', ['--no-install', 'vitest', 'run', '--project', 'workflow', ...TEST_FILES], {
  stdio: 'inherit',
  env: { ...process.env, RECORD_HISTORIES: '1' },
});
const [code] = (await once(tests, 'exit')) as [number | null];
process.exitCode = code ?? 1;
