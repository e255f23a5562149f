/**
 * `npm test`: everything that must hold before a change lands, in order: the build, the type check, the lint, the
 * boundaries, then the tests. Goes on after a failure, so that one run tells all. Prints each part's time and ends with
 * the plain line `N passed, N failed`; a check counts as one.
 */
import { spawn } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, readFile, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pythonWithSynapse } from '../src/launch/synapse-install.ts';
import { findTemporal } from '../src/launch/temporal-binary.ts';
import { seededRandom } from '../src/simulator/seeded-random.ts';

const root = fileURLToPath(new URL('..', import.meta.url));
const isBuildMachine = process.env['CI'] === 'true';

/** In the order in which a failure says most; names are those of vitest.config.ts. */
const SUITES = ['unit', 'pg', 'workflow', 'federation', 'interop', 'simulation', 'differential'] as const;

const CLIENT_API_TESTS = 'test/client-api';
/** Of its files whose tests run at two listeners too. */
const LISTENER_FILES = 4;

interface Part {
  readonly name: string;
  readonly seconds: number;
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** Why it failed, where its own output does not say. */
  readonly remark?: string;
}

interface Finished {
  readonly code: number;
  readonly output: string;
  readonly seconds: number;
}

/** Runs a command, passing its output on; resolves with the exit code, never rejects. */
async function run(
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<Finished> {
  const start = performance.now();
  const child = spawn(command, args, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...env },
  });
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
    process.stdout.write(chunk);
  });
  child.stderr.on('data', (chunk: Buffer) => process.stderr.write(chunk));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code: code ?? 1, output, seconds: (performance.now() - start) / 1_000 };
}

function heading(name: string): void {
  console.log(`\n── ${name} ${'─'.repeat(Math.max(0, 70 - name.length))}`);
}

async function check(name: string, script: string, remarkOn?: (output: string) => string | undefined): Promise<Part> {
  heading(name);
  const { code, output, seconds } = await run('npm', ['run', '--silent', script]);
  const remark = remarkOn?.(output);
  const isGood = code === 0 && remark === undefined;
  return {
    name,
    seconds,
    passed: isGood ? 1 : 0,
    failed: isGood ? 0 : 1,
    skipped: 0,
    ...(remark === undefined ? {} : { remark }),
  };
}

/** With a compiler it does not know, dependency-cruiser finds no modules and is content. */
function modulesSeen(output: string): string | undefined {
  const modules = Number(/\((\d+) modules|(\d+) modules/.exec(output)?.slice(1).find(Boolean) ?? 0);
  return modules > 0 ? undefined : 'dependency-cruiser saw no modules';
}

/** Gets the servers that tests start, outside of any test's time: on a new machine that takes minutes. */
async function prepare(): Promise<Part> {
  heading('servers');
  const start = performance.now();
  const progress = (line: string): void => console.log(line);
  const failures: string[] = [];
  const attempts = [
    { what: findTemporal(process.env, progress), isNeeded: true },
    // Without it the interop tests are skipped; they say so.
    { what: pythonWithSynapse(process.env, progress), isNeeded: isBuildMachine },
  ];
  for (const { what, isNeeded } of attempts) {
    await what.catch((error: unknown) => {
      console.log(String(error));
      if (isNeeded) failures.push(String(error));
    });
  }
  const failed = failures.length;
  return {
    name: 'servers',
    seconds: (performance.now() - start) / 1_000,
    passed: failed === 0 ? 1 : 0,
    failed,
    skipped: 0,
  };
}

/** What scripts/test.ts reads of vitest's JSON report. */
interface Report {
  readonly numPassedTests: number;
  readonly numFailedTests: number;
  readonly numPendingTests: number;
  readonly numTodoTests: number;
  readonly testResults: readonly {
    readonly name: string;
    readonly status: string;
    readonly assertionResults: readonly { readonly status: string }[];
  }[];
}

interface SuiteOptions {
  /** Of vitest.config.ts. */
  readonly project: string;
  /** All of them when absent. */
  readonly files?: readonly string[];
  readonly env?: Readonly<Record<string, string>>;
}

async function suite(name: string, folder: string, { project, files = [], env = {} }: SuiteOptions): Promise<Part> {
  heading(name);
  const file = join(folder, `${name}.json`);
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  const args = ['--no-install', 'vitest', 'run', '--project', project, ...reporters, ...files];
  const { code, seconds } = await run('npx', args, env);
  const text = await readFile(file, 'utf8').catch(() => undefined);
  if (text === undefined) return { name, seconds, passed: 0, failed: 1, skipped: 0, remark: 'vitest gave no report' };
  const report = JSON.parse(text) as Report;
  // A file that can't even be loaded has no tests to fail.
  const broken = report.testResults.filter(
    ({ status, assertionResults }) => status === 'failed' && !assertionResults.some((test) => test.status === 'failed'),
  );
  const passed = report.numPassedTests;
  const skipped = report.numPendingTests + report.numTodoTests;
  let failed = report.numFailedTests + broken.length;
  let remark: string | undefined;
  if (failed === 0 && code !== 0) remark = 'vitest failed outside of any test';
  if (failed === 0 && passed + skipped === 0) remark = 'found no tests';
  if (isBuildMachine && name === 'interop' && skipped > 0) {
    remark = `${skipped} skipped, which a build machine must not`;
  }
  if (remark !== undefined) failed += 1;
  return { name, seconds, passed, failed, skipped, ...(remark === undefined ? {} : { remark }) };
}

/** Some of the tests of the client API once more, at two processes that are asked in turn; `npm run test:full` runs all. */
async function atTwoListeners(folder: string): Promise<Part> {
  const files = (await readdir(join(root, CLIENT_API_TESTS))).filter((file) => file.endsWith('.pg.test.ts')).sort();
  const seed = Number(process.env['REJOINDER_TEST_SEED'] ?? randomInt(1_000_000));
  seededRandom(seed, 'two listeners').shuffle(files);
  const sample = files.slice(0, LISTENER_FILES);
  const part = await suite('two listeners', folder, {
    ...{
      project: 'pg',
      files: sample.map((file) => join(CLIENT_API_TESTS, file)),
      env: { REJOINDER_TESTS_LISTENERS: '2' },
    },
  });
  console.log(`${sample.join(', ')}: ${sample.length} of ${files.length} files, REJOINDER_TEST_SEED=${seed}`);
  return part;
}

function printTable(parts: readonly Part[]): void {
  heading('shares of time');
  const total = parts.reduce((sum, { seconds }) => sum + seconds, 0);
  for (const { name, seconds, passed, failed, skipped, remark } of parts) {
    const share = `${Math.round((100 * seconds) / total)} %`;
    const counts = `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`;
    const columns = `${name.padEnd(14)}${seconds.toFixed(1).padStart(7)} s${share.padStart(6)}   ${counts}`;
    console.log(remark === undefined ? columns : `${columns}: ${remark}`);
  }
}

const reports = await mkdtemp(join(tmpdir(), 'rejoinder-test-reports-'));
const parts: Part[] = [
  await check('build', 'build'),
  await check('typecheck', 'typecheck'),
  await check('lint', 'lint'),
  await check('boundaries', 'boundaries', modulesSeen),
  await prepare(),
];
for (const name of SUITES) parts.push(await suite(name, reports, { project: name }));
parts.push(await atTwoListeners(reports));
await rm(reports, { recursive: true, force: true });

printTable(parts);
const sum = (outcome: 'passed' | 'failed' | 'skipped'): number =>
  parts.reduce((total, part) => total + part[outcome], 0);
const skippedText = sum('skipped') > 0 ? `, ${sum('skipped')} skipped` : '';
console.log(`\n${sum('passed')} passed, ${sum('failed')} failed${skippedText}`);
process.exitCode = sum('failed') > 0 ? 1 : 0;
