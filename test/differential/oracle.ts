/** Starts oracle.py, which answers with Synapse's own code in a process of its own, and asks it. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { cacheDirectory } from '../../src/launch/cache.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';

/** How many requests are in the pipe at once; more would fill both pipes and stop both sides. */
const WINDOW = 64;

/** The Python of the cached environment that has Synapse; `undefined` when there is none yet. */
export function oraclePython(): string | undefined {
  const cache = cacheDirectory(process.env);
  if (!existsSync(cache)) return undefined;
  return readdirSync(cache)
    .filter((name) => name.startsWith('synapse-venv-'))
    .map((name) => join(cache, name, 'bin', 'python'))
    .find((python) => existsSync(python));
}

export interface Oracle {
  /** Answers in the order of the requests; each is one line of JSON. Rejects when the process ends. */
  ask(requests: readonly string[]): Promise<JsonObject[]>;
  close(): void;
}

export function startOracle(python: string): Oracle {
  const script = fileURLToPath(new URL('oracle.py', import.meta.url));
  const child: ChildProcessWithoutNullStreams = spawn(python, [script], { stdio: 'pipe' });
  const complaints: string[] = [];
  child.stderr.on('data', (chunk: Buffer) => complaints.push(chunk.toString()));
  const waiting: { resolve: (answer: JsonObject) => void; reject: (error: Error) => void }[] = [];
  createInterface({ input: child.stdout }).on('line', (line) =>
    waiting.shift()?.resolve(JSON.parse(line) as JsonObject),
  );
  child.on('close', () => {
    for (const { reject } of waiting.splice(0)) {
      reject(new Error(`the oracle ended: ${complaints.join('').slice(-2_000)}`));
    }
  });
  const askOne = (line: string): Promise<JsonObject> =>
    new Promise((resolve, reject) => {
      waiting.push({ resolve, reject });
      child.stdin.write(`${line}\n`);
    });
  return {
    async ask(requests) {
      const answers: JsonObject[] = [];
      for (let at = 0; at < requests.length; at += WINDOW) {
        answers.push(...(await Promise.all(requests.slice(at, at + WINDOW).map(askOne))));
      }
      return answers;
    },
    close: () => void child.kill(),
  };
}
