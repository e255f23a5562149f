/**
 * What a process counts for Prometheus. Nothing below the command line knows of it: the store tells of what it appended,
 * and client, key ring, verification and joins are wrapped where a process is put together (src/cli/process/). What is
 * counted is in src/metrics/instruments.ts.
 */
import { type Gauge, collectDefaultMetrics } from 'prom-client';
import { type Clock } from './clock.ts';
import { type FederationClient } from './federation/contract.ts';
import { type KeyRing } from './federation/key-ring.ts';
import { countAttempts } from './metrics/activities.ts';
import { countRequests } from './metrics/federation.ts';
import { createInstruments } from './metrics/instruments.ts';
import { countJournal } from './metrics/journal.ts';
import { countJournalReaders } from './metrics/journal-readers.ts';
import { type JoinRoom, type OpenJoins, countJoins } from './metrics/joins.ts';
import {
  type BacklogEverywhere,
  type CountPartialRooms,
  type PartialRoomsLogger,
  collectBacklog,
  collectPartialRooms,
} from './metrics/partial-rooms.ts';
import { collectLags } from './metrics/app-services.ts';
import { countKeys, countVerifications } from './metrics/verification.ts';
import { type JournalReads } from './rooms/contract.ts';
import { type StoreOptions } from './store/open-store.ts';
import { type ServiceLag } from './store/tables/app-services.ts';
import { type VerificationPool } from './verification/pool.ts';

export interface Metrics {
  /** The media type of what `scrape` gives. */
  readonly contentType: string;
  /** Everything, in Prometheus' text format. */
  scrape(): Promise<string>;
  /** For the store, which tells it of every append. */
  readonly onAppended: NonNullable<StoreOptions['onAppended']>;
  /** For what receives EDUs: how many were dropped of a transaction. */
  readonly onDroppedEdus: (count: number) => void;
  /** From now on the gauge of partial rooms asks this. */
  watchPartialRooms(count: CountPartialRooms): void;
  /** From now on the gauges of what waits to be judged ask this. */
  watchBacklog(read: () => Promise<BacklogEverywhere>): void;
  /** From now on the gauges of how far these application services are behind ask this. */
  watchAppServices(serviceIds: readonly string[], read: () => Promise<readonly ServiceLag[]>): void;
  /** An application service did not take what it was told. */
  onServiceFailure(serviceId: string): void;
  /** From now on the gauge of open joins asks this. */
  watchOpenJoins(joins: OpenJoins): void;
  /** From now on a scrape ends with what this gives, in the same format; it goes without where this fails. */
  tellToo(read: () => Promise<string>): void;
  /** For the activities, which tell of every attempt as it begins. */
  readonly onAttempt: (activity: string, attempt: number) => void;
  /** Adds Node's and the process's own: CPU, memory, event loop, garbage collection. Measuring them costs a timer. */
  watchProcess(): void;
  countRequests(client: FederationClient): FederationClient;
  countKeys(keyRing: KeyRing): KeyRing;
  countVerifications(pool: VerificationPool): VerificationPool;
  countJoins(join: JoinRoom): JoinRoom;
  countJournalReaders(reads: JournalReads): JournalReads;
}

export interface MetricsOptions {
  /** Of Rejoinder. */
  readonly version: string;
  /** What this process is: `serve` or `worker`. */
  readonly role: string;
  readonly clock: Clock;
  readonly logger: PartialRoomsLogger;
}

/** Metrics of one process, all at zero. */
export function createMetrics({ version, role, clock, logger }: MetricsOptions): Metrics {
  let openJoins: OpenJoins | undefined;
  let collect: ((gauge: Gauge<'phase'>) => Promise<void>) | undefined;
  let collectWaiting: ReturnType<typeof collectBacklog> | undefined;
  let collectBehind: ReturnType<typeof collectLags> | undefined;
  const instruments = createInstruments({
    version,
    role,
    collectPartialRooms: async (gauge) => collect?.(gauge),
    collectBacklog: async (gauge, number) => collectWaiting?.(gauge, number),
    collectLags: async (gauge, number) => collectBehind?.(gauge, number),
    collectOpenJoins: (gauge) => {
      if (openJoins === undefined) return;
      gauge.set({ phase: 'under_way' }, openJoins.underWay);
      gauge.set({ phase: 'waiting' }, openJoins.waiting);
    },
  });
  const { registry } = instruments;
  let readMore = (): Promise<string> => Promise.resolve('');
  return {
    contentType: registry.contentType,
    scrape: async () => {
      const [own, more] = await Promise.all([
        registry.metrics(),
        readMore().catch((error: unknown) => {
          logger.warn({ err: error }, 'metrics of a part cannot be read; they are absent');
          return '';
        }),
      ]);
      return `${own}${more}`;
    },
    tellToo: (read) => {
      readMore = read;
    },
    onAttempt: countAttempts(instruments),
    onAppended: countJournal(instruments),
    onDroppedEdus: (count) => instruments.droppedEdus.inc(count),
    watchBacklog: (read) => {
      collectWaiting = collectBacklog(read, clock, logger);
    },
    watchAppServices: (serviceIds, read) => {
      collectBehind = collectLags(read, clock, logger);
      for (const service of serviceIds) instruments.serviceFailures.inc({ service }, 0);
    },
    onServiceFailure: (service) => instruments.serviceFailures.inc({ service }),
    watchPartialRooms: (count) => {
      collect = collectPartialRooms(count, clock, logger);
    },
    watchOpenJoins: (joins) => {
      openJoins = joins;
    },
    watchProcess: () => collectDefaultMetrics({ register: registry }),
    countRequests: (client) => countRequests(client, instruments, clock),
    countKeys: (keyRing) => countKeys(keyRing, instruments),
    countVerifications: (pool) => countVerifications(pool, instruments, clock),
    countJoins: (join) => countJoins(join, instruments, clock),
    countJournalReaders: (reads) => countJournalReaders(reads, instruments),
  };
}
