/** A local server that is started again, in its place, when it ends unasked. */
import { setTimeout as delay } from 'node:timers/promises';
import { type Progress } from '../../launch/progress.ts';
import { CliError } from '../failure.ts';
import { type Shutdown } from '../process/shutdown.ts';

export interface LocalServer {
  /** Resolves with how it ended, asked or not. */
  readonly ended: Promise<string>;
  /** Also gives its folder free, of one that has ended. */
  stop(): Promise<void>;
}

export interface KeepRunningOptions<Server extends LocalServer> {
  /** What people call it. */
  readonly name: string;
  /** Starts it; given the one that ended, where that was. */
  readonly launch: (ended?: Server) => Promise<Server>;
  /** Whether what it knew is there again after it died; one that has forgotten all is not started again. */
  readonly isKept: boolean;
  readonly progress: Progress;
  readonly shutdown: Shutdown;
}

/** What breaks at once each time does not get better by itself. */
const RESTARTS_MAX = 5;
/** One that has run for so long is not counted with those before. */
const SOUND_MS = 600_000;
/** What a killed server leaves behind, such as PostgreSQL's other processes, goes within seconds. */
const TRIES_MAX = 20;
const TRY_AGAIN_MS = 500;

/** Starts the server and registers how it is stopped. `failed` rejects with a `CliError` when it ends and cannot be had again. */
export async function keepRunning<Server extends LocalServer>(
  options: KeepRunningOptions<Server>,
): Promise<{ readonly server: Server; readonly failed: Promise<never> }> {
  const { name, launch, isKept, progress, shutdown } = options;
  const stopping = new AbortController();
  const isStopping = (): boolean => stopping.signal.aborted;
  let current = await launch();
  const server = current;

  const again = async (): Promise<Server> => {
    for (let tries = 1; ; tries += 1) {
      try {
        return await launch(server);
      } catch (error) {
        if (tries === TRIES_MAX) throw error;
        await delay(TRY_AGAIN_MS, undefined, { signal: stopping.signal });
      }
    }
  };
  /** Ends when it is stopped; throws when it cannot go on. */
  const watch = async (): Promise<void> => {
    for (let restarts = 1; ; restarts += 1) {
      const since = performance.now();
      const how = await current.ended;
      if (isStopping()) return;
      if (performance.now() - since > SOUND_MS) restarts = 1;
      if (!isKept || restarts > RESTARTS_MAX) throw new CliError(`${name} ${how}`);
      progress(`${name} ${how}: starting it again`);
      await current.stop();
      current = await again();
      if (isStopping()) return;
      progress(`${name}: started again`);
    }
  };
  const watching = watch();
  shutdown.add(name, async () => {
    stopping.abort();
    const stopped = current.stop();
    await watching.catch(() => undefined);
    await Promise.all([stopped, current.stop()]);
  });
  const failed = watching.then(() => new Promise<never>(() => undefined));
  failed.catch(() => undefined);
  return { server, failed };
}
