/** A local Temporal server with its UI, for `up`, the demo and the tests, for whoever has no TEMPORAL_ADDRESS. */
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Connection } from '@temporalio/client';
import { type Child, acceptsConnections, startChild } from './child.ts';
import { choosePort } from './ports.ts';
import { identify, isRunning, parseIdentity } from './process-identity.ts';
import { type Environment, LaunchError, type Progress, reasonOf } from './progress.ts';
import { type TemporalBinary, findTemporal } from './temporal-binary.ts';

/** First starts create the database's tables; on a loaded machine that takes a while. */
const START_TIMEOUT_MS = 60_000;
const CALL_TIMEOUT_MS = 2_000;
/** Free ports may be taken between the look and the start. */
const PORT_ATTEMPTS = 5;

/**
 * The database in a file answers 300 workflows in 11.6 s with the write-ahead log, 31.7 s without. `synchronous=off` may
 * break the file when the machine loses power, never when a process dies; the journal is the truth, and the sweep
 * drives every open resync anew on an empty server.
 */
const SQLITE_PRAGMAS = ['journal_mode=wal', 'synchronous=off'];

/** Without it timers fire on a grain of one second. */
const FINE_TIMERS = 'history.timerProcessorMaxTimeShift="10ms"';

export interface TemporalOptions {
  /** The folder of its database; made if missing. `memory`: nothing is kept. */
  readonly dataDirectory: string;
  /** gRPC port on 127.0.0.1; a free one when absent. */
  readonly port?: number;
  /** Port of the web UI on 127.0.0.1; a free one when absent. `none`: no UI. */
  readonly uiPort?: number | 'none';
  readonly namespace: string;
  /** Custom search attributes to register at the start, name to type, such as `{ RejoinderRoom: 'Keyword' }`. */
  readonly searchAttributes?: Readonly<Record<string, string>>;
  /** Further settings of the server, each as `KEY=JSON`. */
  readonly dynamicConfig?: readonly string[];
  readonly env: Environment;
  readonly progress: Progress;
}

export interface LocalTemporal {
  /** `host:port`, as TEMPORAL_ADDRESS has it. */
  readonly address: string;
  /** Undefined without UI. */
  readonly uiUrl: string | undefined;
  readonly rung: TemporalBinary['rung'];
  /** Resolves with how it ended, asked or not. */
  readonly ended: Promise<string>;
  stop(): Promise<void>;
}

interface Folder {
  readonly path: string;
  readonly databaseArguments: readonly string[];
  release(): Promise<void>;
}

/** A folder for log and database; that of a database on disk is taken for this process, since SQLite bears one server. */
async function takeFolder(dataDirectory: string): Promise<Folder> {
  if (dataDirectory === 'memory') {
    const path = await mkdtemp(join(tmpdir(), 'rejoinder-temporal-'));
    return { path, databaseArguments: [], release: () => rm(path, { recursive: true, force: true }) };
  }
  await mkdir(dataDirectory, { recursive: true });
  const ownerFile = join(dataDirectory, 'owner.json');
  const owner = parseIdentity(await readFile(ownerFile, 'utf8').catch(() => ''));
  if (owner !== undefined && isRunning(owner)) {
    throw new LaunchError(
      `${dataDirectory} is in use by process ${owner.pid} on ${owner.host}: end it, or choose another folder`,
    );
  }
  await writeFile(ownerFile, JSON.stringify(identify()));
  const pragmas = SQLITE_PRAGMAS.flatMap((pragma) => ['--sqlite-pragma', pragma]);
  return {
    path: dataDirectory,
    databaseArguments: ['--db-filename', join(dataDirectory, 'temporal.sqlite'), ...pragmas],
    release: () => rm(ownerFile, { force: true }),
  };
}

/** Whether the server answers for the namespace. */
async function servesNamespace(address: string, namespace: string): Promise<boolean> {
  let connection: Connection | undefined;
  try {
    connection = await Connection.connect({ address, connectTimeout: CALL_TIMEOUT_MS });
    const { workflowService } = connection;
    await connection.withDeadline(Date.now() + CALL_TIMEOUT_MS, () => workflowService.describeNamespace({ namespace }));
    return true;
  } catch {
    return false;
  } finally {
    await connection?.close();
  }
}

interface Started {
  readonly port: number;
  readonly uiPort: number | undefined;
  readonly child: Child;
}

async function start(binary: TemporalBinary, folder: Folder, options: TemporalOptions): Promise<Started> {
  const port = await choosePort(options.port, 'Temporal');
  const uiPort = options.uiPort === 'none' ? undefined : await choosePort(options.uiPort, "Temporal's UI");
  const attributes = Object.entries(options.searchAttributes ?? {});
  const child = await startChild({
    name: `Temporal (${binary.path})`,
    command: binary.path,
    args: [
      ...['server', 'start-dev', '--ip', '127.0.0.1', '--port', String(port), '--namespace', options.namespace],
      ...(uiPort === undefined ? ['--headless'] : ['--ui-port', String(uiPort)]),
      ...[FINE_TIMERS, ...(options.dynamicConfig ?? [])].flatMap((setting) => ['--dynamic-config-value', setting]),
      ...attributes.flatMap(([name, type]) => ['--search-attribute', `${name}=${type}`]),
      ...folder.databaseArguments,
    ],
    // A profile or an address in the user's environment is meant for other servers than this one.
    env: { PATH: options.env['PATH'], HOME: options.env['HOME'], TEMPORAL_DISABLE_CONFIG_FILE: 'true' },
    logFile: join(folder.path, 'temporal.log'),
    // A graceful stop takes 1.3 s; what is in memory only has nothing to finish.
    stopSignal: folder.databaseArguments.length === 0 ? 'KILL' : 'TERM',
  });
  try {
    await child.waitUntil(() => acceptsConnections(port), START_TIMEOUT_MS);
    await child.waitUntil(() => servesNamespace(`127.0.0.1:${port}`, options.namespace), START_TIMEOUT_MS);
    return { port, uiPort, child };
  } catch (error) {
    await child.stop();
    throw error;
  }
}

async function startOnSomePort(binary: TemporalBinary, folder: Folder, options: TemporalOptions): Promise<Started> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      return await start(binary, folder, options);
    } catch (error) {
      const isTaken = /address already in use/i.test(reasonOf(error));
      if (!isTaken || options.port !== undefined || attempt === PORT_ATTEMPTS) throw error;
    }
  }
}

/** Starts a Temporal development server by the ladder and waits until its namespace answers. */
export async function launchTemporal(options: TemporalOptions): Promise<LocalTemporal> {
  const binary = await findTemporal(options.env, options.progress);
  const folder = await takeFolder(options.dataDirectory);
  try {
    const { port, uiPort, child } = await startOnSomePort(binary, folder, options);
    return {
      address: `127.0.0.1:${port}`,
      uiUrl: uiPort === undefined ? undefined : `http://127.0.0.1:${uiPort}`,
      rung: binary.rung,
      ended: child.ended,
      stop: async () => {
        await child.stop();
        await folder.release();
      },
    };
  } catch (error) {
    await folder.release();
    throw error;
  }
}
