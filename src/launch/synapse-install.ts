/**
 * A virtual environment with Synapse from PyPI, made once and kept in the cache. Synapse runs as a process of its own:
 * it is under the AGPL, and nothing of it is part of Rejoinder.
 */
import { execFile } from 'node:child_process';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { cacheDirectory, cachedEntry } from './cache.ts';
import { type Environment, LaunchError, type Progress } from './progress.ts';

const run = promisify(execFile);

const SYNAPSE_VERSION = '1.163.2';
/** The oldest minor version of Python 3 that this Synapse takes. */
const PYTHON_MINOR_MIN = 10;
/** Newer ones first, after whatever `python3` is. */
const PYTHON_NAMES = ['python3', 'python3.14', 'python3.13', 'python3.12', 'python3.11', 'python3.10', 'python'];
const PROBE_TIMEOUT_MS = 20_000;
/** About thirty wheels; a slow line needs minutes. */
const INSTALL_TIMEOUT_MS = 15 * 60_000;

/** Prints version, real path, and whether environments with pip can be made (Debian packs that apart). */
const PROBE = `
import sys
try:
    import ensurepip, venv
    has_venv = True
except ImportError:
    has_venv = False
print(sys.version_info[0], sys.version_info[1], int(has_venv), sys.executable)
`;

export interface Python {
  readonly path: string;
  readonly minor: number;
}

async function probe(command: string, env: Environment): Promise<{ python?: Python; said: string }> {
  try {
    const { stdout } = await run(command, ['-c', PROBE], { env: { ...env }, timeout: PROBE_TIMEOUT_MS });
    const [major, minor, hasVenv, ...path] = stdout.trim().split(' ');
    const version = `${major ?? ''}.${minor ?? ''}`;
    if (major !== '3' || Number(minor) < PYTHON_MINOR_MIN) return { said: `${command} is ${version}` };
    if (hasVenv !== '1') return { said: `${command} (${version}) lacks venv (Debian: apt-get install python3-venv)` };
    return { python: { path: path.join(' '), minor: Number(minor) }, said: `${command} is ${version}` };
  } catch {
    return { said: `${command}: not there` };
  }
}

/** The first Python that Synapse can be installed with; throws a `LaunchError` that says what each lacks. */
export async function findPython(env: Environment): Promise<Python> {
  const said: string[] = [];
  for (const name of PYTHON_NAMES) {
    const answer = await probe(name, env);
    if (answer.python !== undefined) return answer.python;
    said.push(answer.said);
  }
  const folders = (env['PATH'] ?? '').split(delimiter).length;
  throw new LaunchError(
    `Synapse needs Python 3.${PYTHON_MINOR_MIN} or newer with venv. In ${folders} folders of the PATH: ${said.join('; ')}`,
  );
}

async function install(python: Python, folder: string, env: Environment): Promise<void> {
  const options = { env: { ...env }, timeout: INSTALL_TIMEOUT_MS, maxBuffer: 16 * 1024 * 1024 };
  const steps = [
    { command: python.path, args: ['-m', 'venv', folder] },
    {
      command: join(folder, 'bin', 'python'),
      args: ['-m', 'pip', 'install', '--no-input', '--disable-pip-version-check', `matrix-synapse==${SYNAPSE_VERSION}`],
    },
  ];
  for (const { command, args } of steps) {
    try {
      await run(command, args, options);
    } catch (error) {
      const { stderr = '', killed = false } = error as { stderr?: string; killed?: boolean };
      const said =
        stderr
          .trim()
          .split('\n')
          .findLast((line) => /error/i.test(line)) ?? stderr.trim().split('\n').at(-1);
      const why = killed ? `no result within ${INSTALL_TIMEOUT_MS / 60_000} minutes` : said;
      throw new LaunchError(`Synapse ${SYNAPSE_VERSION} can't be installed from PyPI: ${why ?? 'unknown reason'}`);
    }
  }
}

async function works(python: string): Promise<boolean> {
  return run(python, ['-c', 'import synapse.app.homeserver'], { timeout: PROBE_TIMEOUT_MS }).then(
    () => true,
    () => false,
  );
}

/**
 * The path of a Python that has Synapse. The environment's own scripts name the temporary folder it was made in, so run
 * `python -m`. Throws a `LaunchError` that says what is missing.
 */
export async function pythonWithSynapse(env: Environment, progress: Progress): Promise<string> {
  const python = await findPython(env);
  const folder = await cachedEntry({
    directory: cacheDirectory(env),
    name: `synapse-venv-${SYNAPSE_VERSION}-py3.${python.minor}`,
    progress,
    build: (temporary) => {
      progress(`Synapse: installing ${SYNAPSE_VERSION} from PyPI for Python 3.${python.minor} (about a minute, once)`);
      return install(python, temporary, env);
    },
    isUsable: (path) => works(join(path, 'bin', 'python')),
  });
  return join(folder, 'bin', 'python');
}
