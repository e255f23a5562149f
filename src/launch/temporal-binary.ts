/**
 * Finds the `temporal` command with its development server: on the PATH, in our cache, through the SDK's downloader, or
 * built by Go from the module proxy (about three minutes, once).
 */
import { execFile } from 'node:child_process';
import { access, chmod, constants, readdir, rename, rm } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { cacheDirectory, cachedEntry } from './cache.ts';
import { type Environment, LaunchError, type Progress, reasonOf } from './progress.ts';

const run = promisify(execFile);

/** Later versions have replace directives in their go.mod, which `go install` refuses. */
const CLI_VERSION = 'v1.5.1';
/** Its name in the cache folder. */
const CACHE_ENTRY = `temporal-cli-${CLI_VERSION}`;
const CLI_MODULE = 'github.com/temporalio/cli/cmd/temporal';
/** The archive has some 50 MB; a network that drops packets silently would hold us for ever. */
const DOWNLOAD_TIMEOUT_MS = 90_000;
const BUILD_TIMEOUT_MS = 20 * 60_000;
const VERSION_TIMEOUT_MS = 20_000;

/**
 * Run in a process of its own: it can be ended when it takes too long, and the SDK's runtime, of which a process has
 * one, stays free for the worker. It starts the server once, which is the only way to make the SDK download it.
 */
const SDK_DOWNLOAD = `
import { Runtime } from '@temporalio/worker';
const runtime = Runtime.instance({ logger: undefined });
const [downloadDir, version] = process.argv.slice(1);
const server = await runtime.createEphemeralServer({
  type: 'dev-server', ip: '127.0.0.1', port: null, ui: false, uiPort: null, namespace: 'default', dbFilename: null,
  log: { format: 'pretty', level: 'error' }, extraArgs: [],
  exe: { type: 'cached-download', downloadDir, version, ttl: 0, sdkName: 'sdk-typescript', sdkVersion: '1.23.0' },
});
await runtime.shutdownEphemeralServer(server);
await runtime.shutdown();
`;

export interface TemporalBinary {
  readonly rung: 'path' | 'cache' | 'download' | 'go';
  readonly path: string;
}

async function works(path: string): Promise<boolean> {
  try {
    await access(path, constants.X_OK);
    const { stdout } = await run(path, ['--version'], { timeout: VERSION_TIMEOUT_MS });
    return stdout.includes('temporal version');
  } catch {
    return false;
  }
}

async function onPath(env: Environment): Promise<string | undefined> {
  for (const folder of (env['PATH'] ?? '').split(delimiter)) {
    if (folder !== '' && (await works(join(folder, 'temporal')))) return join(folder, 'temporal');
  }
  return undefined;
}

/** The reason of a failed command: the last line it wrote, or that it was ended for taking too long. */
function failureOf(error: unknown, timeoutMs: number): string {
  const { killed, stderr } = error as { killed?: boolean; stderr?: string };
  if (killed === true) return `no result within ${timeoutMs / 1_000} s`;
  const lines = (stderr ?? '').split('\n').filter((line) => /error|fail|not found|denied|refused/i.test(line));
  return lines[0]?.trim().slice(0, 300) ?? reasonOf(error).split('\n')[0] ?? 'failed';
}

async function download(folder: string, env: Environment): Promise<void> {
  // The SDK is found from where this file lies, wherever the command was started.
  const here = fileURLToPath(new URL('.', import.meta.url));
  await run(process.execPath, ['--input-type=module', '-e', SDK_DOWNLOAD, folder, CLI_VERSION], {
    cwd: here,
    env: { ...env },
    timeout: DOWNLOAD_TIMEOUT_MS,
    killSignal: 'SIGKILL',
  });
  const name = (await readdir(folder)).find((file) => file.startsWith('temporal'));
  if (name === undefined) throw new Error('the SDK left no binary behind');
  if (name !== 'temporal') await rename(join(folder, name), join(folder, 'temporal'));
  await chmod(join(folder, 'temporal'), 0o755);
}

async function goInstall(folder: string, env: Environment): Promise<void> {
  // -trimpath: the binary must not depend on the temporary folder it was built in.
  await run('go', ['install', '-trimpath', `${CLI_MODULE}@${CLI_VERSION}`], {
    env: { ...env, GOBIN: folder, GOFLAGS: '' },
    timeout: BUILD_TIMEOUT_MS,
    maxBuffer: 64 * 1024 * 1024,
  });
}

/** Fills a cache entry by download, else by Go; throws a `LaunchError` that tells what each rung said. */
async function obtain(
  folder: string,
  env: Environment,
  progress: Progress,
  taken: (rung: 'download' | 'go') => void,
): Promise<void> {
  const failures: string[] = [];
  progress(`Temporal: downloading ${CLI_VERSION} through the SDK (at most ${DOWNLOAD_TIMEOUT_MS / 1_000} s)`);
  try {
    await download(folder, env);
    taken('download');
    return;
  } catch (error) {
    failures.push(`4. the SDK's downloader: ${failureOf(error, DOWNLOAD_TIMEOUT_MS)}`);
    for (const name of await readdir(folder)) await rm(join(folder, name), { recursive: true, force: true });
  }
  progress(`Temporal: the download failed; building ${CLI_VERSION} with Go (about three minutes, once)`);
  try {
    await goInstall(folder, env);
    taken('go');
  } catch (error) {
    failures.push(`5. go install ${CLI_MODULE}@${CLI_VERSION}: ${failureOf(error, BUILD_TIMEOUT_MS)}`);
    throw new LaunchError(
      [
        'No Temporal server to be had. Tried:',
        '1. TEMPORAL_ADDRESS: not set',
        '2. temporal on the PATH: not there',
        `3. the cache (${cacheDirectory(env)}): empty`,
        ...failures,
        'Set TEMPORAL_ADDRESS to a running server, or put the temporal command on the PATH, or install Go.',
      ].join('\n'),
    );
  }
}

/** The binary where it is on this machine already: nothing is downloaded or built. */
export async function temporalAtHand(env: Environment): Promise<TemporalBinary | undefined> {
  const found = await onPath(env);
  if (found !== undefined) return { rung: 'path', path: found };
  const cached = join(cacheDirectory(env), CACHE_ENTRY, 'temporal');
  return (await works(cached)) ? { rung: 'cache', path: cached } : undefined;
}

/** Finds or makes the binary. Two starts at once make it once. */
export async function findTemporal(env: Environment, progress: Progress): Promise<TemporalBinary> {
  const held = await temporalAtHand(env);
  if (held !== undefined) return held;
  let rung: TemporalBinary['rung'] = 'cache';
  const folder = await cachedEntry({
    directory: cacheDirectory(env),
    name: CACHE_ENTRY,
    progress,
    build: (temporary) => obtain(temporary, env, progress, (taken) => (rung = taken)),
    isUsable: (path) => works(join(path, 'temporal')),
  });
  return { rung, path: join(folder, 'temporal') };
}
