/**
 * Our server as one process of a simulation: the real store, receiver, use cases and activities, with simulated time and
 * network. Time does not pass by itself, neither here nor in the database.
 */
import { MockActivityEnvironment } from '@temporalio/testing';
import { DefaultLogger } from '@temporalio/worker';
import pg from 'pg';
import pino from 'pino';
import { createActivities } from '../../activities/index.ts';
import { type FederationClient } from '../../src/federation/contract.ts';
import { type RoomId } from '../../src/matrix/identifiers.ts';
import { LONGEST_WAIT_IN_RUN_MS, STALLED_ROUNDS_MAX, foldAnswer, isNews } from '../../src/resync/fold-answer.ts';
import { type NextAction, nextAction } from '../../src/resync/next-action.ts';
import { type ResyncPolicy, defaultResyncPolicy } from '../../src/resync/policy.ts';
import { type RoomsContext } from '../../src/rooms/context.ts';
import { type Receiver, startReceiver } from '../../src/rooms/receive/receive.ts';
import { type Shadows } from '../../src/store/journal/rebuild.ts';
import { type Notification, type Notifier } from '../../src/store/notify.ts';
import { type Activities, type ControlEvents, type LoadedResync } from '../../src/temporal/contract.ts';
import { type VerificationPool } from '../../src/verification/pool.ts';
import { type Connections } from './connections.ts';
import { type Activity, type FragileStore, openFragileStore } from './fragile-store.ts';
import { withoutPolls } from './without-polls.ts';
import { BEGINNING, type World, keyOfServer, oldKeyOfServer } from './world.ts';

/** The worker's own: an activity of a process that dies fails, and that is no news. */
const quiet = new DefaultLogger('ERROR', () => undefined);
/** Of a process to its database. */
export const CONNECTIONS_MAX = 8;
/** So long before the beginning that nothing of the room is as old. */
const OLD_KEYS_ENDED_MS = 100_000_000;
const FOREVER = Number.MAX_SAFE_INTEGER;

/**
 * From now on nothing is given up after some time of the real clock: a machine that is busy besides would decide by it. What
 * takes long in simulated time is an outage.
 */
export function stopRealTimeouts(): void {
  AbortSignal.timeout = () => new AbortController().signal;
}

/** What outlives a process: the database, the machine's clock, the threads. */
export interface Machine {
  readonly databaseUrl: string;
  readonly connections: Connections;
  readonly verification: VerificationPool;
  readonly clock: SimulatedClock;
  /** Tables to fold the journal into once more. */
  readonly shadows: Shadows;
}

/** What the workflow remembers from one thing to the next: that of a process which dies goes on in another. */
export interface Workflow {
  /** What it did last; absent: the run is new. */
  last?: NextAction['type'] | undefined;
}

/** As an operator has set it. */
export type Settings = Pick<ResyncPolicy, 'retroSoftFail' | 'leave'>;

/** One clock for our code and for the database's. */
export class SimulatedClock {
  readonly #client: pg.Client;
  #now: number;

  private constructor(client: pg.Client, now: number) {
    this.#client = client;
    this.#now = now;
  }

  /** Puts a clock before that of PostgreSQL, for connections that are opened later. */
  static async install(databaseUrl: string, now: number): Promise<SimulatedClock> {
    const client = new pg.Client({ connectionString: databaseUrl });
    await client.connect();
    await client.query(`
      CREATE SCHEMA simulated;
      CREATE TABLE simulated.clock (at timestamptz NOT NULL);
      INSERT INTO simulated.clock VALUES (to_timestamp(${now} / 1000.0));
      CREATE FUNCTION simulated.clock_timestamp() RETURNS timestamptz LANGUAGE plpgsql STABLE
        AS 'BEGIN RETURN (SELECT at FROM simulated.clock); END';
      DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET search_path = simulated, pg_catalog, public', current_database());
        EXECUTE format('ALTER DATABASE %I SET plan_cache_mode = force_generic_plan', current_database());
        -- A plan is made while the tables are all but empty, and is kept while run after run fills them.
        EXECUTE format('ALTER DATABASE %I SET enable_seqscan = off', current_database());
      END $$`);
    return new SimulatedClock(client, now);
  }

  now(): number {
    return this.#now;
  }

  async set(now: number): Promise<void> {
    this.#now = now;
    await this.#client.query('UPDATE simulated.clock SET at = to_timestamp($1::bigint / 1000.0)', [now]);
  }

  async advance(ms: number): Promise<void> {
    await this.set(this.#now + ms);
  }

  async close(): Promise<void> {
    await this.#client.end();
  }
}

/** Whom a room's resident is told what, while somebody waits for that. */
export type Telling = Parameters<NonNullable<RoomsContext['tell']>>;

/** A process, from its start to its end or death. */
export class Process {
  readonly context: RoomsContext;
  readonly connections: Connections;
  readonly fragile: FragileStore;
  readonly activity: Activity;
  /** What was logged as a failure of ours while it was alive. */
  readonly troubles: string[] = [];
  readonly #activities: Activities;
  readonly #environment = new MockActivityEnvironment({}, { logger: quiet });
  readonly #listeners: Set<(notification: Notification | null) => void>;
  #receiver: Receiver;
  /** Of the room's workflow: it looks at the journal again then. */
  #rings = 0;

  constructor(
    machine: Machine,
    world: World,
    federation: FederationClient,
    activity: Activity,
    { tell, ...settings }: Settings & { readonly tell: (context: RoomsContext, ...what: Telling) => Promise<void> },
  ) {
    this.activity = activity;
    this.connections = machine.connections;
    this.#listeners = new Set();
    const hear = (roomId: RoomId, position: number): void => {
      const over = activity.begin('a notification');
      setImmediate(() => {
        for (const listener of [...this.#listeners]) listener({ topic: roomId, position });
        over();
      });
    };
    this.fragile = openFragileStore(
      {
        databaseUrl: machine.databaseUrl,
        serverName: world.us,
        poolSizeMax: CONNECTIONS_MAX,
        applicationName: 'rejoinder simulation',
        onAppended: ({ entries }) => {
          const last = entries.at(-1);
          if (last !== undefined) hear(last.roomId, last.position);
        },
      },
      activity,
      machine.connections,
    );
    const { verification } = machine;
    this.context = {
      ...{ serverName: world.us, signingKey: keyOfServer(world.us), store: this.fragile.store, federation },
      notifier: this.#notifier(),
      keyRing: {
        resolve: (requests) =>
          Promise.resolve(
            requests.map(({ serverName, keyId }) => {
              const old = oldKeyOfServer(serverName);
              const isOld = keyId === old.keyId;
              const { publicKey } = isOld ? old : keyOfServer(serverName);
              const until = isOld ? BEGINNING - OLD_KEYS_ENDED_MS : FOREVER;
              return { serverName, keyId, publicKey, validUntilTs: until, renewableUntilTs: until };
            }),
          ),
      },
      verification: {
        check: (input) => activity.during('verification', () => verification.check(input)),
        readBody: (claim, body, signal) =>
          activity.during('verification', () => verification.readBody(claim, body, signal)),
        screen: (input) => activity.during('verification', () => verification.screen(input)),
        close: () => verification.close(),
      },
      clock: machine.clock,
      random: () => world.random.next(),
      logger: this.#logger(),
      policy: { ...defaultResyncPolicy, ...settings },
      ring: () => Promise.resolve(void (this.#rings += 1)),
      tell: (...what) => tell(this.context, ...what),
    };
    this.#receiver = withoutPolls(() => startReceiver(this.context));
    this.#activities = createActivities({
      rooms: this.context,
      sweepAfterMs: 120_000,
      endWedged: () => Promise.resolve(false),
    });
  }

  get receiver(): Receiver {
    return this.#receiver;
  }

  isDead(): boolean {
    return this.fragile.isDead();
  }

  /** Looks again at what is staged, as polls do when time has passed. */
  async restartReceiver(): Promise<void> {
    await this.#receiver.close();
    this.#receiver = withoutPolls(() => startReceiver(this.context));
  }

  /** Does what the workflow does, rung before, up to so many things; gives what it wants to do next. */
  async work(
    roomId: RoomId,
    workflow: Workflow,
    actionsMax: number,
    onAction: (action: NextAction) => void = () => undefined,
  ) {
    const load = (): Promise<LoadedResync> => this.#run(() => this.#activities.loadResync({ roomId }));
    let resync = await load();
    for (let [actions, stalled] = [0, 0]; ; actions += 1) {
      const { epoch, seq, state, gaps, corrections } = resync;
      const now = this.context.clock.now();
      const action = nextAction(state, now, gaps, corrections, workflow.last);
      const isLong = action.type === 'sleep' && action.untilMs - now > LONGEST_WAIT_IN_RUN_MS;
      if (action.type === 'close' || action.type === 'park' || isLong) workflow.last = undefined;
      if (actions >= actionsMax || action.type === 'close' || action.type === 'sleep' || action.type === 'park') {
        return { action, state };
      }
      onAction(action);
      workflow.last = action.type;
      const rings = this.#rings;
      const answer = await this.#perform({ roomId, epoch, sinceSeq: seq }, action);
      const isNew = isNews(resync, answer);
      stalled = isNew ? 0 : stalled + 1;
      if (stalled === STALLED_ROUNDS_MAX) {
        throw new Error(`nothing came of ${stalled} activities, ${action.type} the last`);
      }
      const isKnown = isNew && answer.epoch === epoch && rings === this.#rings;
      resync = isKnown ? foldAnswer(resync, answer) : await load();
    }
  }

  async finishJoins(): Promise<void> {
    await this.#run(() => this.#activities.finishJoins());
  }

  /** Ends it; of a dead one only memory is left to drop. */
  async end(): Promise<void> {
    await this.#receiver.close();
    await this.activity.idle();
    await this.fragile.store.close();
  }

  async #perform(
    cursor: { readonly roomId: RoomId; readonly epoch: number; readonly sinceSeq: number },
    action: Exclude<NextAction, { type: 'close' | 'sleep' | 'park' }>,
  ): Promise<ControlEvents> {
    const activities = this.#activities;
    switch (action.type) {
      case 'fetchState': {
        const { attemptNo, resident, atEventId, atJoin } = action;
        const attempt = { attemptNo, resident, atEventId, ...(atJoin === undefined ? {} : { atJoin }) };
        return this.#run(() => activities.fetchState({ ...cursor, ...attempt }));
      }
      case 'endRound':
        return this.#run(() => activities.endRound({ ...cursor, round: action.round }));
      case 'endStay':
        return this.#run(() => activities.endStay(cursor));
      case 'leaveRoom':
        return this.#run(() => activities.leaveRoom(cursor));
      case 'walk':
        return this.#run(() => activities.walkEvents(cursor));
      case 'correct':
        return this.#run(() => activities.correctEvents(cursor));
      case 'fetchGaps':
        return this.#run(() => activities.fetchGaps(cursor));
      case 'seekMissing':
        return this.#run(() => activities.seekMissing(cursor));
    }
  }

  #run<Result>(activity: () => Promise<Result>): Promise<Result> {
    return this.activity.during('an activity', () => this.#environment.run(activity));
  }

  #logger(): RoomsContext['logger'] {
    return pino(
      { level: 'error' },
      {
        write: (line) => {
          if (!this.isDead()) this.troubles.push(line);
        },
      },
    );
  }

  #notifier(): Notifier {
    return {
      waitFor: (topic, look) => look(topic),
      waitForAny: (_topics, look) => look(),
      subscribe: (listener) => {
        this.#listeners.add(listener);
        return () => this.#listeners.delete(listener);
      },
      waiting: 0,
      close: () => Promise.resolve(),
    };
  }
}

/** When there is something to do again, by what is due and when (`undefined`: nothing); a second on at the least. */
export function lookAgainAt(now: number, due: readonly (number | undefined)[]): number {
  const first = Math.min(...due.map((at) => at ?? Infinity));
  return Math.max(now + 1_000, Number.isFinite(first) ? first : now);
}
