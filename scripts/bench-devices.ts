/**
 * `npm run bench:devices`: messages to devices of ours from many servers, at a rate, while their clients sync, and while the process that takes
 * them in is killed (SIGKILL). A server sends the same transaction again until it has its answer, as servers do. Each message has to be in one
 * response of a sync that its client took: none lost, none doubled. Before a PostgreSQL of its own, with fsync; no HTTP and no signatures.
 *
 *     --servers 100  --devices 50  --per-minute 10000  --minutes 2  --kills 2
 */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { systemClock } from '../src/clock.ts';
import { launchPostgres } from '../src/launch/postgres.ts';
import { type ServerName, type UserId } from '../src/matrix/identifiers.ts';
import { type JsonObject } from '../src/matrix/pdu.ts';
import { migrate } from '../src/store/migrate.ts';
import { createNotifier } from '../src/store/notify.ts';
import { openStore } from '../src/store/open-store.ts';
import { upsertDevice } from '../src/store/tables/devices.ts';
import { insertUser } from '../src/store/tables/users.ts';
import { createSync } from '../src/sync/sync.ts';
import { type ToReceiver } from './bench/devices-receiver.ts';
import { readFlags } from './bench/flags.ts';
import { cpuSecondsOfTree } from './bench/proc.ts';
import { count, quantile, tableLines } from './bench/table.ts';

const flags = readFlags('bench:devices', {
  numbers: { servers: 100, devices: 50, 'per-minute': 10_000, minutes: 2, kills: 2 },
  switches: [],
  texts: [],
});
const US = 'us.example.org' as ServerName;
const RECEIVER = fileURLToPath(new URL('bench/devices-receiver.js', import.meta.url));
/** As an encrypted to-device message is. */
const CIPHERTEXT = 'x'.repeat(800);
/** What a server has ready when its turn comes, in one transaction. */
const MESSAGES_OF_TRANSACTION = 5;
const SYNC_TIMEOUT_MS = 2_000;

const folder = await mkdtemp(join(tmpdir(), 'rejoinder-bench-devices-'));
const server = await launchPostgres({
  ...{ dataDirectory: folder, durability: 'safe', env: process.env },
  progress: (line) => console.error(line),
});
await migrate(server.databaseUrl);
const store = openStore({
  ...{ databaseUrl: server.databaseUrl, serverName: US, poolSizeMax: 20, applicationName: 'bench' },
});
const notifier = createNotifier(store);
const sync = createSync({ store, notifier, clock: systemClock });
const users = Array.from({ length: flags.number('devices') }, (_, i) => `@user${i}:${US}` as UserId);

/** Takes transactions, whichever process is there; one that dies takes with it what it had not answered. */
class Receiver {
  #child!: ChildProcess;
  readonly #waiting = new Map<number, (isTaken: boolean) => void>();
  #nth = 0;
  cpuSeconds = 0;

  async start(): Promise<void> {
    const child = fork(RECEIVER, [server.databaseUrl, US]);
    await once(child, 'message');
    child.on('message', (nth: number) => this.#answer(nth, true));
    child.on('exit', () => [...this.#waiting.keys()].forEach((nth) => this.#answer(nth, false)));
    this.#child = child;
  }

  /** Whether it was taken for sure. */
  take(origin: ServerName, edus: ToReceiver['edus']): Promise<boolean> {
    this.#nth += 1;
    const nth = this.#nth;
    return new Promise((resolve) => {
      if (!this.#child.connected) return void setTimeout(() => resolve(false), 100);
      this.#waiting.set(nth, resolve);
      this.#child.send({ nth, origin, edus } satisfies ToReceiver, (error) => {
        if (error !== null) this.#answer(nth, false);
      });
    });
  }

  async kill(): Promise<void> {
    this.#count();
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }

  #count(): void {
    this.cpuSeconds += cpuSecondsOfTree(this.#child.pid ?? 0);
  }

  #answer(nth: number, isTaken: boolean): void {
    this.#waiting.get(nth)?.(isTaken);
    this.#waiting.delete(nth);
  }
}

const sentAt = new Map<string, number>();
const seen = new Map<string, number>();
const answeredMs: number[] = [];
const deliveredMs: number[] = [];
let again = 0;

async function sendFrom(receiver: Receiver, nth: number, until: number, everyMs: number): Promise<void> {
  const origin = `s${nth}.example.org` as ServerName;
  await delay((everyMs * nth) / flags.number('servers'));
  for (let n = 0, next = performance.now(); next < until; n += 1, next += everyMs) {
    await delay(Math.max(0, next - performance.now()));
    const edus = Array.from({ length: MESSAGES_OF_TRANSACTION }, (_, i) => {
      const id = `${origin} ${n} ${i}`;
      const to = users[(nth * 7 + n * MESSAGES_OF_TRANSACTION + i) % users.length] ?? '';
      sentAt.set(id, performance.now());
      const messages = { [to]: { D: { id, ciphertext: CIPHERTEXT } } };
      const content = { sender: `@someone:${origin}`, type: 'm.room.encrypted', message_id: id, messages };
      return { type: 'm.direct_to_device', content } as const;
    });
    const begun = performance.now();
    while (!(await receiver.take(origin, edus))) again += 1;
    answeredMs.push(performance.now() - begun);
  }
}

/** A client that takes what it is told, but now and then loses a response and asks for it again. */
async function syncOf(userId: UserId, stop: AbortSignal): Promise<void> {
  let since: string | undefined;
  for (let nth = 0; ; nth += 1) {
    const answer = await sync.sync({
      ...{ userId, deviceId: 'D', since, filter: {}, isFullState: false, isStateAfter: false },
      ...{ timeoutMs: SYNC_TIMEOUT_MS, signal: new AbortController().signal },
    });
    if (nth % 10 === 9) continue;
    for (const { content } of answer.toDevice) {
      const id = (content as JsonObject)['id'] as string;
      seen.set(id, (seen.get(id) ?? 0) + 1);
      deliveredMs.push(performance.now() - (sentAt.get(id) ?? 0));
    }
    since = answer.nextBatch;
    if (stop.aborted && answer.toDevice.length === 0) return;
  }
}

try {
  for (const userId of users) {
    await insertUser(store, { userId, passwordHash: null, isAdmin: false, createdAt: 0 });
    await store.inTransaction((tx) =>
      upsertDevice(tx, { userId, deviceId: 'D', displayName: null, createdAt: 0, lastSeenAddress: null }),
    );
  }
  const receiver = new Receiver();
  await receiver.start();
  const lastMs = flags.number('minutes') * 60_000;
  const until = performance.now() + lastMs;
  const everyMs = (60_000 * MESSAGES_OF_TRANSACTION * flags.number('servers')) / flags.number('per-minute');
  const stop = new AbortController();
  const clients = users.map((userId) => syncOf(userId, stop.signal));
  const begun = performance.now();
  const senders = Array.from({ length: flags.number('servers') }, (_, i) => sendFrom(receiver, i, until, everyMs));
  for (let kill = 1; kill <= flags.number('kills'); kill += 1) {
    await delay(lastMs / (flags.number('kills') + 1));
    await receiver.kill();
    await receiver.start();
  }
  await Promise.all(senders);
  const ms = performance.now() - begun;
  stop.abort();
  await Promise.all(clients);
  await receiver.kill();
  const lost = [...sentAt.keys()].filter((id) => !seen.has(id)).length;
  const doubled = [...seen.values()].filter((times) => times > 1).length;
  const left = await store.query(`SELECT FROM to_device_messages`);
  const rows = [
    ['messages', count(sentAt.size)],
    ['a minute', count(sentAt.size / (ms / 60_000))],
    ['lost', count(lost)],
    ['doubled', count(doubled)],
    ['left in the database', count(left.length)],
    ['transactions sent again', count(again)],
    ['answered, p50 ms', quantile(answeredMs, 0.5).toFixed(1)],
    ['answered, p95 ms', quantile(answeredMs, 0.95).toFixed(1)],
    ['in a sync, p50 ms', quantile(deliveredMs, 0.5).toFixed(1)],
    ['in a sync, p95 ms', quantile(deliveredMs, 0.95).toFixed(1)],
    ["receiver's processor, s a minute", (receiver.cpuSeconds / (ms / 60_000)).toFixed(1)],
  ];
  console.log(tableLines(['', ''], rows).join('\n'));
  if (lost + doubled > 0) process.exitCode = 1;
} finally {
  await notifier.close();
  await store.close();
  await server.stop();
  await rm(folder, { recursive: true, force: true });
}
