/**
 * Starts a simulated federation in a process of its own, so that its work on the processor and its memory are not those of
 * the server that joins, and offers it as if it were here.
 */
import { fileURLToPath } from 'node:url';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Child, startChild } from '../launch/child.ts';
import { type Environment, LaunchError, type Progress } from '../launch/progress.ts';
import { type InjectedFault, type Simulator, type SimulatorOptions } from './contract.ts';
import {
  type PassedCall,
  type SimulatorFacts,
  type SimulatorReply,
  type SimulatorRequest,
} from './process-messages.ts';

export interface LaunchOptions extends SimulatorOptions {
  /** The environment of the process. */
  readonly env: Environment;
  /** Takes what the process prints; a throw-away file when absent. */
  readonly logFile?: string;
  readonly progress?: Progress;
}

export interface LaunchedSimulator extends Simulator {
  /** Of the process that serves. */
  readonly pid: number;
}

/** Resolves when the rooms are made and requests are answered. The process ends with `stop`, or when we do. Throws `LaunchError`. */
export async function launchSimulator(options: LaunchOptions): Promise<LaunchedSimulator> {
  const { env, logFile, progress = () => undefined, ...simulatorOptions } = options;
  const folder = logFile === undefined ? await mkdtemp(join(tmpdir(), 'rejoinder-simulator-')) : undefined;
  const calls = new Calls();
  const { promise: started, settle } = startReply();
  const take = (reply: SimulatorReply): void => {
    if (reply.type === 'progress') progress(reply.line);
    else if (reply.type === 'started' || reply.type === 'not-started') settle(reply);
    else calls.settle(reply);
  };
  const child = await startChild({
    name: 'the simulator',
    command: process.execPath,
    args: entryArguments(),
    env,
    logFile: logFile ?? join(folder ?? '', 'simulator.log'),
    stopSignal: 'TERM',
    onMessage: (message) => take(message as SimulatorReply),
  });
  const stop = async (): Promise<void> => {
    await child.stop();
    if (folder !== undefined) await rm(folder, { recursive: true, force: true });
  };
  void child.ended.then((how) => calls.failAll(`the simulator ${how}`));
  try {
    send(child, { type: 'start', options: simulatorOptions });
    return remoteSimulator(await startedOrEnded(started, child), child, calls, stop);
  } catch (error) {
    await stop();
    throw error;
  }
}

type StartReply = Extract<SimulatorReply, { type: 'started' | 'not-started' }>;

function startReply(): { promise: Promise<StartReply>; settle: (reply: StartReply) => void } {
  let settle!: (reply: StartReply) => void;
  const promise = new Promise<StartReply>((resolve) => (settle = resolve));
  return { promise, settle };
}

async function startedOrEnded(started: Promise<StartReply>, child: Child): Promise<SimulatorFacts> {
  const ended = child.ended.then(async (how): Promise<never> => {
    throw new LaunchError(`the simulator ${how}:\n${await child.logTail()}`);
  });
  // It ends some day after it has started, too.
  ended.catch(() => undefined);
  const reply = await Promise.race([started, ended]);
  if (reply.type === 'not-started') throw new LaunchError(`the simulator could not start: ${reply.reason}`);
  return reply.facts;
}

function send(child: Child, request: SimulatorRequest): void {
  child.send(request);
}

/** Calls that wait for their replies. */
class Calls {
  readonly #waiting = new Map<number, { resolve: (value: unknown) => void; reject: (error: Error) => void }>();
  #nextId = 1;
  #over: string | undefined;

  make(request: (id: number) => void): Promise<unknown> {
    return new Promise((resolve, reject) => {
      if (this.#over !== undefined) {
        reject(new Error(this.#over));
        return;
      }
      const id = this.#nextId++;
      this.#waiting.set(id, { resolve, reject });
      request(id);
    });
  }

  settle(reply: Extract<SimulatorReply, { type: 'done' | 'failed' }>): void {
    const waiting = this.#waiting.get(reply.id);
    this.#waiting.delete(reply.id);
    if (reply.type === 'done') waiting?.resolve(reply.value);
    else waiting?.reject(new Error(reply.reason));
  }

  failAll(reason: string): void {
    this.#over = reason;
    for (const { reject } of this.#waiting.values()) reject(new Error(reason));
    this.#waiting.clear();
  }
}

function remoteSimulator(
  facts: SimulatorFacts,
  child: Child,
  calls: Calls,
  stop: () => Promise<void>,
): LaunchedSimulator {
  type Returned<Name extends PassedCall> = ReturnType<Simulator[Name]>;
  const call = <Name extends PassedCall>(name: Name, ...args: Parameters<Simulator[Name]>): Returned<Name> =>
    calls.make((id) => send(child, { type: 'call', id, call: name, args })) as Returned<Name>;
  return {
    ...facts,
    inject: async (rule) => {
      const faultNo = (await calls.make((id) => send(child, { type: 'inject', id, rule }))) as number;
      const ofFault = (name: keyof InjectedFault): Promise<unknown> =>
        calls.make((id) => send(child, { type: 'fault', id, faultNo, call: name }));
      return {
        hits: () => ofFault('hits') as Promise<number>,
        held: () => ofFault('held') as Promise<void>,
        release: () => ofFault('release') as Promise<void>,
        remove: () => ofFault('remove') as Promise<void>,
      };
    },
    clear: () => call('clear'),
    counts: () => call('counts'),
    resetCounts: () => call('resetCounts'),
    emit: (roomId, drafts) => call('emit', roomId, drafts),
    stateEvent: (roomId, type, stateKey) => call('stateEvent', roomId, type, stateKey),
    holds: (roomId, eventId) => call('holds', roomId, eventId),
    summary: (roomId) => call('summary', roomId),
    speakers: (roomId, limit) => call('speakers', roomId, limit),
    pushesSettled: () => call('pushesSettled'),
    digest: (roomId) => call('digest', roomId),
    stop,
  };
}

/** Built, the entry is a file beside this one; from source it is TypeScript, for which Node needs a loader. */
function entryArguments(): string[] {
  if (!import.meta.url.endsWith('.ts')) return [fileURLToPath(new URL('./process.js', import.meta.url))];
  return ['--import', import.meta.resolve('tsx'), fileURLToPath(new URL('./process.ts', import.meta.url))];
}
