/**
 * The second process of "usable": it knows nothing of the join, and asks for the room's current state without memberships
 * again and again until it is given. Started before the join, so that its own start is not measured.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type OperatorAddress, operatorCaller } from './operator.ts';

/** How much later than possible the state is seen, at the most. */
const ASK_EVERY_MS = 10;

interface Task extends OperatorAddress {
  readonly roomId: string;
}

/** What the second process saw first. */
export interface FirstSight {
  /** When the answer's last byte was there, on the machine's monotonic clock. */
  readonly atUs: number;
  readonly stateEvents: number;
  readonly bytes: number;
}

export interface SecondProcess {
  /** Starts asking; resolves with the first state that it is given. */
  firstSight(address: OperatorAddress, roomId: string): Promise<FirstSight>;
  stop(): void;
}

export async function startSecondProcess(): Promise<SecondProcess> {
  const child = fork(fileURLToPath(import.meta.url));
  await message(child);
  return {
    firstSight: async ({ url, token }, roomId) => {
      const task: Task = { url, token, roomId };
      const seen = message(child);
      child.send(task);
      return (await seen) as FirstSight;
    },
    stop: () => void child.kill(),
  };
}

/** The next message of the child; throws when the child ends instead. */
async function message(child: ChildProcess): Promise<unknown> {
  const over = new AbortController();
  try {
    const options = { signal: over.signal };
    const [kind, value] = await Promise.race([
      once(child, 'message', options).then(([sent]): [string, unknown] => ['message', sent]),
      once(child, 'exit', options).then(([code]): [string, unknown] => ['exit', code]),
    ]);
    if (kind === 'exit') throw new Error(`the second process ended with ${String(value)}`);
    return value;
  } finally {
    over.abort();
  }
}

async function look({ roomId, ...address }: Task): Promise<FirstSight> {
  const caller = operatorCaller(address);
  try {
    for (;;) {
      const { status, body, atUs } = await caller.ask(`/rooms/${encodeURIComponent(roomId)}/state`);
      if (status === 200) {
        const { state } = JSON.parse(body.toString('utf8')) as { state: unknown[] };
        return { atUs, stateEvents: state.length, bytes: body.length };
      }
      await delay(ASK_EVERY_MS);
    }
  } finally {
    await caller.close();
  }
}

if (process.send !== undefined && process.argv[1] === fileURLToPath(import.meta.url)) {
  const tell = process.send.bind(process);
  process.once('message', (task: Task) => {
    void look(task).then((sight) => tell(sight));
  });
  tell('ready');
}
