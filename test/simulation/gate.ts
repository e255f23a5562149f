/**
 * How clients of a simulation wait: as everybody does in a process that hears of what another wrote, but that they look when the
 * simulation lets them, so that a run goes the same way each time. What they are told of is what PostgreSQL notified of.
 */
import pg from 'pg';
import { type Cancellation } from '../../src/cancellation.ts';
import { NOTIFY_CHANNEL, type Topic } from '../../src/store/journal/positions.ts';
import { type Awaited, type Notifier, type WaitOptions } from '../../src/store/notify.ts';
import { type SimulatedClock } from './process.ts';

interface Waiter {
  readonly topics: ReadonlySet<Awaited>;
  readonly until: number;
  readonly signal: Cancellation;
  /** Whether it is over. */
  look(): Promise<boolean>;
  timeOut(): void;
}

export class Gate implements Notifier {
  readonly #client: pg.Client;
  readonly #clock: SimulatedClock;
  readonly #heard = new Set<string>();
  readonly #waiters = new Set<Waiter>();
  readonly #arrivals = new Map<Cancellation, () => void>();

  private constructor(client: pg.Client, clock: SimulatedClock) {
    this.#client = client;
    this.#clock = clock;
    client.on('notification', ({ payload = '' }) => this.#heard.add(payload.slice(payload.indexOf(' ') + 1)));
  }

  static async open(databaseUrl: string, clock: SimulatedClock): Promise<Gate> {
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    await client.query(`LISTEN ${NOTIFY_CHANNEL}`);
    return new Gate(client, clock);
  }

  get waiting(): number {
    return this.#waiters.size;
  }

  waitFor<Of extends Awaited, Result>(
    topic: Of,
    look: (topic: Of) => Promise<Result | undefined>,
    options: WaitOptions,
  ): Promise<Result | undefined> {
    return this.waitForAny([topic], () => look(topic), options);
  }

  async waitForAny<Result>(
    topics: readonly Awaited[],
    look: () => Promise<Result | undefined>,
    { signal, timeoutMs }: WaitOptions,
  ): Promise<Result | undefined> {
    const seen = await look();
    if (seen !== undefined) return seen;
    return new Promise((resolve, reject) => {
      const until = this.#clock.now() + timeoutMs;
      const waiter: Waiter = {
        ...{ topics: new Set(topics), until, signal },
        look: async () => {
          const result = await look();
          if (result !== undefined) resolve(result);
          return result !== undefined;
        },
        timeOut: () => resolve(undefined),
      };
      this.#waiters.add(waiter);
      signal.addEventListener('abort', {
        handleEvent: () => {
          this.#waiters.delete(waiter);
          reject(new Error('the client went away'));
        },
      });
      this.#arrivals.get(signal)?.();
    });
  }

  /** Resolves when whoever waits by this signal sleeps. */
  async untilAsleep(signal: Cancellation): Promise<void> {
    if ([...this.#waiters].some((waiter) => waiter.signal === signal)) return;
    await new Promise<void>((resolve) => this.#arrivals.set(signal, resolve));
    this.#arrivals.delete(signal);
  }

  /** Those wake who are told of what has been committed, and those whose time is over. */
  async wake(): Promise<void> {
    // PostgreSQL sends what it notified of before it answers.
    await this.#client.query('SELECT');
    const heard = new Set(this.#heard);
    this.#heard.clear();
    for (const waiter of [...this.#waiters]) {
      const isTold = [...waiter.topics].some((topic) => heard.has(topic as Topic));
      const isLate = this.#clock.now() >= waiter.until;
      if (isTold && (await waiter.look())) this.#waiters.delete(waiter);
      else if (isLate && this.#waiters.delete(waiter)) waiter.timeOut();
    }
  }

  subscribe(): () => void {
    return () => undefined;
  }

  close(): Promise<void> {
    return this.#client.end();
  }
}
