/**
 * The whole scene of one run, started anew and empty each time: a simulated federation in a process of its own, a
 * PostgreSQL with nothing in it, and Rejoinder as `up` and the demo start it (serve, worker and Temporal, each a process),
 * with a new name, a new key and nothing in its key cache.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { stringify } from 'yaml';
import { startPart } from '../../src/cli/up/part.ts';
import { type RunningSystem, startSystem } from '../../src/cli/up/system.ts';
import { packageFile } from '../../src/cli/package.ts';
import { Shutdown } from '../../src/cli/process/shutdown.ts';
import { requireTemporal } from '../../src/cli/process/temporal.ts';
import { systemClock } from '../../src/clock.ts';
import { type SettingsInput } from '../../src/config/settings.ts';
import { mergeTrees, withoutSettings } from '../../src/config/sources.ts';
import { ensureCertificateFiles } from '../../src/launch/certificates.ts';
import { freePort } from '../../src/launch/ports.ts';
import { type LocalPostgres, type PostgresOptions, launchPostgres } from '../../src/launch/postgres.ts';
import { type Simulator, type SimulatorOptions } from '../../src/simulator/contract.ts';
import { launchSimulator } from '../../src/simulator/launch-simulator.ts';
import { connectDatabase, watchStatements } from './database.ts';
import { type OperatorAddress } from './operator.ts';
import { descendantsOf } from './proc.ts';
import { type Watched } from './process-watch.ts';

/** A process writes its profile when it ends, which takes seconds for a long one. */
const PART_STOP_MS_MAX = 12_000;

const SIGNALS = ['SIGINT', 'SIGTERM'] as const;
/** 128 + SIGINT, as shells count. */
const INTERRUPTED = 130;

export interface StageOptions {
  readonly seed: number;
  readonly residents: number;
  readonly rooms: SimulatorOptions['rooms'];
  /** `throw-away`: PostgreSQL without fsync, Temporal in memory, as the demo has them. */
  readonly durability: 'safe' | 'throw-away';
  readonly workers: number;
  /** Of the simulator's network; none when absent. */
  readonly latencyMs?: number;
  readonly bytesPerSecond?: number;
  /** Where serve and worker write V8's profiles when they end; none when absent. PostgreSQL counts statements then, too. */
  readonly profileDirectory?: string;
  /** Beside those that a scene needs. */
  readonly settings?: Partial<SettingsInput>;
  /** One line for the person who waits. */
  readonly note: (line: string) => void;
}

export interface Stage {
  readonly simulator: Simulator;
  readonly serverName: string;
  readonly operator: OperatorAddress;
  readonly databaseUrl: string;
  readonly database: pg.Client;
  readonly postgresMajor: number;
  /** Rejoinder's, then what it needs, then the simulator. */
  readonly processes: readonly Watched[];
  /** Whether PostgreSQL counts statements. */
  readonly countsStatements: boolean;
  /** Rejects when a process ends unasked. */
  readonly failed: Promise<never>;
  /** Kills the worker as the kernel would, and starts another; resolves when that asks for work. */
  replaceWorker(): Promise<void>;
  /** Ends serve, worker and Temporal; PostgreSQL stays, and knows all that they wrote. */
  stopSystem(): Promise<void>;
  /** Ends everything and removes every file. */
  close(): Promise<void>;
}

/** Throws `LaunchError` or `CliError`; what was started is stopped then. */
export async function openStage(options: StageOptions): Promise<Stage> {
  const ending = new Shutdown(PART_STOP_MS_MAX);
  const endingSystem = new Shutdown(PART_STOP_MS_MAX);
  const complain = {
    warn: (fields: object, message: string) => options.note(`${message}: ${JSON.stringify(fields)}`),
  };
  const stopSystem = (): Promise<void> => endingSystem.run(complain);
  const close = async (): Promise<void> => {
    await stopSystem();
    await ending.run(complain);
    for (const signal of SIGNALS) process.off(signal, interrupted);
  };
  // Servers end with us however we end; their files would stay.
  const interrupted = (): void => void close().finally(() => process.exit(INTERRUPTED));
  for (const signal of SIGNALS) process.on(signal, interrupted);
  try {
    return { ...(await startAll(options, ending, endingSystem)), stopSystem, close };
  } catch (error) {
    await close();
    throw error;
  }
}

async function startAll(
  options: StageOptions,
  ending: Shutdown,
  endingSystem: Shutdown,
): Promise<Omit<Stage, 'stopSystem' | 'close'>> {
  const { seed, residents, rooms, durability, note } = options;
  const directory = await mkdtemp(join(tmpdir(), 'rejoinder-bench-'));
  ending.add('files', () => rm(directory, { recursive: true, force: true }));
  const env = withoutSettings(process.env);
  const certificates = await ensureCertificateFiles(join(directory, 'tls'), [], systemClock);

  const simulator = await launchSimulator({
    seed,
    residents,
    rooms,
    ...(options.latencyMs === undefined ? {} : { latencyMs: options.latencyMs }),
    ...(options.bytesPerSecond === undefined ? {} : { bytesPerSecond: options.bytesPerSecond }),
    joinersAuthorityPem: await readFile(certificates.authorityFile, 'utf8'),
    env,
    logFile: join(directory, 'simulator.log'),
    // A line for each of hundreds of rooms tells nobody anything.
    ...(rooms.length === 1 ? { progress: note } : {}),
  });
  ending.add('simulator', () => simulator.stop());

  const postgres = await startDatabase(
    { dataDirectory: join(directory, 'postgres'), durability, env, progress: note },
    options.profileDirectory !== undefined,
  );
  ending.add('PostgreSQL', async () => {
    await postgres.stop();
    // As root it may be elsewhere than in our folder.
    await rm(postgres.dataDirectory, { recursive: true, force: true });
  });

  const settings = await writeSettings(directory, certificates, simulator, postgres.databaseUrl, options.settings);
  const profiling =
    options.profileDirectory === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${options.profileDirectory}`];
  const starting = {
    env,
    config: settings.file,
    self: [process.execPath, ...profiling, packageFile('bin/rejoinder.js')],
  };
  const stop = new AbortController().signal;
  const system = await startSystem({ ...starting, durability, progress: note, stop }, endingSystem);
  await startFurtherWorkers(options.workers - 1, { ...starting, directory, system }, endingSystem);
  let replaced = 0;
  const replaceWorker = async (): Promise<void> => {
    const { pid } = findProcesses().find(({ name }) => name === 'worker')!;
    process.kill(pid, 'SIGKILL');
    await startFurtherWorkers(1, { ...starting, directory, system, first: (replaced += 1) + 1 }, endingSystem);
  };

  const database = await connectDatabase(postgres.databaseUrl);
  ending.add('connection', () => database.end());
  return {
    simulator,
    serverName: system.config.serverName,
    operator: { url: system.operatorUrl, token: system.operatorToken },
    databaseUrl: postgres.databaseUrl,
    database,
    postgresMajor: postgres.major,
    processes: [...findProcesses(), { name: 'simulator', pid: simulator.pid }],
    countsStatements: await watchStatements(database),
    failed: system.failed,
    replaceWorker,
  };
}

/** With statements counted, PostgreSQL is started twice: what is loaded with it can only be said before. */
async function startDatabase(options: PostgresOptions, withStatements: boolean): Promise<LocalPostgres> {
  const postgres = await launchPostgres({ ...options, durability: withStatements ? 'safe' : options.durability });
  if (!withStatements) return postgres;
  const client = await connectDatabase(postgres.databaseUrl);
  try {
    const { rows } = await client.query(`SELECT FROM pg_available_extensions WHERE name = 'pg_stat_statements'`);
    if (rows.length > 0) await client.query(`ALTER SYSTEM SET shared_preload_libraries = 'pg_stat_statements'`);
  } finally {
    await client.end();
  }
  await postgres.stop();
  return launchPostgres(options);
}

interface WrittenSettings {
  readonly file: string;
}

async function writeSettings(
  directory: string,
  certificates: { readonly certificateFile: string; readonly keyFile: string },
  simulator: Simulator,
  databaseUrl: string,
  more: Partial<SettingsInput> = {},
): Promise<WrittenSettings> {
  const [federationPort, operatorPort] = [await freePort(), await freePort()];
  const authorityFile = join(directory, 'simulator-authority.pem');
  await writeFile(authorityFile, simulator.authorityPem);
  const settings: SettingsInput = {
    server_name: `localhost:${federationPort}`,
    data_directory: join(directory, 'data'),
    listeners: {
      federation: {
        host: '127.0.0.1',
        port: federationPort,
        tls: { certificate_path: certificates.certificateFile, private_key_path: certificates.keyFile },
      },
      client: { port: 0 },
      operator: { port: operatorPort },
    },
    database: { url: databaseUrl },
    federation: {
      custom_ca_path: authorityFile,
      allowed_ip_ranges: ['127.0.0.0/8', '::1/128'],
      static_addresses: { ...simulator.staticAddresses },
    },
    trusted_key_servers: simulator.residents.slice(0, 1).map((name) => ({ server_name: name })),
  };
  const file = join(directory, 'rejoinder.yaml');
  await writeFile(file, stringify(mergeTrees(settings, more)));
  return { file };
}

interface Starting {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly config: string;
  readonly self: readonly string[];
  readonly directory: string;
  readonly system: RunningSystem;
  /** The number of the first of them; 2 when absent. */
  readonly first?: number;
}

/** Workers beside the one of `up`, as an operator adds them: the same configuration, and where Temporal is. */
async function startFurtherWorkers(
  count: number,
  { env, config, self, directory, system, first = 2 }: Starting,
  ending: Shutdown,
): Promise<void> {
  const { temporal } = system.config;
  const address = system.services.temporalAddress;
  const client = await requireTemporal({ ...temporal, address });
  try {
    for (let i = first; i < first + count; i++) {
      const part = await startPart({
        name: 'worker',
        self,
        env: { ...env, REJOINDER_CONFIG: config, REJOINDER_TEMPORAL_ADDRESS: address },
        logFile: join(directory, `worker-${i}.log`),
      });
      ending.add(`worker ${i}`, () => part.stop());
      await part.waitUntilReady(async () => {
        const { pollers } = await client.connection.workflowService.describeTaskQueue({
          namespace: temporal.namespace,
          taskQueue: { name: temporal.taskQueue },
        });
        return new Set(pollers.map(({ identity }) => identity)).size >= i;
      });
    }
  } finally {
    await client.close();
  }
}

/** The processes that were started below us, found by their command lines. */
function findProcesses(): Watched[] {
  const found = descendantsOf(process.pid);
  const withCommand = (matches: (command: readonly string[]) => boolean): number[] =>
    // A keeper's command line holds that of what it keeps.
    found.filter(({ command }) => !(command[0] ?? '').endsWith('/sh') && matches(command)).map(({ pid }) => pid);
  const workers = withCommand((command) => command.at(-1) === 'worker');
  const one = (name: string, pids: readonly number[], isFamily = false): Watched[] =>
    pids.slice(0, 1).map((pid) => ({ name, pid, isFamily }));
  return [
    ...workers.map((pid, i) => ({ name: workers.length === 1 ? 'worker' : `worker ${i + 1}`, pid })),
    ...one(
      'serve',
      withCommand((command) => command.at(-1) === 'serve'),
    ),
    ...one(
      'PostgreSQL',
      withCommand(([path, option]) => path?.endsWith('/postgres') === true && option === '-D'),
      true,
    ),
    ...one(
      'Temporal',
      withCommand((command) => command.includes('start-dev')),
    ),
  ];
}
