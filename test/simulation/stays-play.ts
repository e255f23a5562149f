/**
 * Plays a sequence (stays-plan.ts) against the real code: the store, the use cases and activities, sending and receiving, with simulated time,
 * network and deaths; lets all of it come to rest, and says what is otherwise than it should be.
 */
import { type EventId, type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { isPaused } from '../../src/resync/state.ts';
import { RoomError } from '../../src/rooms/error.ts';
import { joinRoom } from '../../src/rooms/join/join.ts';
import { commandRoom } from '../../src/rooms/operate/command-room.ts';
import { goOnPurging, recordRequest } from '../../src/rooms/purge/purge.ts';
import { purgeLeft, resumePurges } from '../../src/rooms/purge/purges.ts';
import { changeMembership } from '../../src/rooms/send/change-membership.ts';
import { append, readHead } from '../../src/store/journal/journal.ts';
import { readTombstone } from '../../src/store/journal/tombstones.ts';
import { lockResync, readResync } from '../../src/store/journal/rooms.ts';
import { type Store, openStore, withTransaction } from '../../src/store/open-store.ts';
import { createRandom } from '../differential/random.ts';
import { transactionWith } from '../support/bodies.ts';
import { member } from './acts.ts';
import { Coverage } from './coverage.ts';
import { foundRoom } from './founding.ts';
import { Activity, Crash } from './fragile-store.ts';
import { type Machine, Process, type Workflow, lookAgainAt } from './process.ts';
import { Residents } from './residents.ts';
import { checkStays } from './stays-checks.ts';
import { STAYS_SERVERS, type StayStep, type StaysPlan } from './stays-plan.ts';
import { Talk } from './talk.ts';
import { type Act, BEGINNING, type SimulatedServer, World } from './world.ts';

/** After this long another process takes the leases of a dead one, and finishes what it had claimed. */
const REBOOT_MS = 16 * 60_000;
/** From one step to the next. */
const STEP_MS = 10;
/** Rounds of working and waiting until all is settled; pauses double, so that a few dozen are months. */
const SETTLING_ROUNDS_MAX = 120;

export interface StaysRan {
  readonly plan: StaysPlan;
  /** In words; empty: as it should be. */
  readonly differences: readonly string[];
  /** What was done, step by step, and what came of it. */
  readonly story: readonly string[];
  readonly counts: ReadonlyMap<string, number>;
}

/** Plays a plan on a machine that nobody else uses meanwhile. */
export async function playStays(machine: Machine, plan: StaysPlan): Promise<StaysRan> {
  const play = new StaysPlay(machine, plan);
  let differences: readonly string[];
  try {
    differences = await play.run();
  } catch (error) {
    differences = [`it failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`];
  }
  await play.end();
  return { plan, differences, story: play.story, counts: play.coverage.counts };
}

class StaysPlay {
  readonly coverage = new Coverage();
  readonly story: string[] = [];
  readonly #plan: StaysPlan;
  readonly #machine: Machine;
  readonly #world: World;
  readonly #activity = new Activity();
  readonly #residents: Residents;
  readonly #talk: Talk;
  /** Looks at what has become of it, and never dies. */
  readonly #store: Store;
  readonly #workflow: Workflow = {};
  /** Of whom a forced purge has forgotten a join or leave that was not settled: other servers may believe something else. */
  readonly #forgotten = new Set<UserId>();
  #process: Process;
  #transactions = 0;
  #epoch = 0;

  constructor(machine: Machine, plan: StaysPlan) {
    this.#plan = plan;
    this.#machine = machine;
    this.#world = new World(`stays${plan.seed}`, plan.version, plan.seed, STAYS_SERVERS);
    this.#residents = new Residents(this.#world, this.#activity, { givesWhole: false });
    this.#talk = new Talk(this.#world, this.#activity, this.coverage, this.#residents.outages);
    this.#store = openStore({
      ...{ databaseUrl: machine.databaseUrl, serverName: this.#world.us, poolSizeMax: 4 },
      applicationName: 'who looks at a simulation',
    });
    this.#process = this.#start();
  }

  get #roomId(): RoomId {
    return this.#world.roomId;
  }

  async run(): Promise<string[]> {
    await this.#machine.clock.set(Math.max(BEGINNING, this.#machine.clock.now()));
    foundRoom(this.#world, createRandom(this.#plan.seed + 1));
    const before = await readHead(this.#store);
    for (const step of this.#plan.steps) {
      // What is said in one millisecond has no order that anybody could tell.
      await this.#machine.clock.advance(STEP_MS);
      const outcome = await this.#take(step);
      this.coverage.count(`${step.do}: ${outcome}`);
      this.story.push(`${JSON.stringify(step)}: ${outcome}`);
      await this.#rest();
      await this.#watchEpoch();
    }
    const next = await this.#settle();
    return [
      ...(next === 'close' || next === 'park' ? [] : [`its workflow goes on: ${next}`]),
      ...(await checkStays({
        ...{ world: this.#world, store: this.#store, machine: this.#machine },
        ...{ forgotten: this.#forgotten, before },
      })),
    ];
  }

  async end(): Promise<void> {
    await this.#process.end();
    await this.#store.close();
  }

  #start(): Process {
    const federation = { ...this.#residents.client(), ...this.#talk.client() };
    return new Process(this.#machine, this.#world, federation, this.#activity, {
      leave: { during: this.#plan.leave, purgeAfterMs: 86_400_000 },
      tell: (context, ...what) => this.#talk.tell(context, ...what),
    });
  }

  /** Waits until nothing is under way any more; what has died is started again. */
  async #rest(): Promise<void> {
    await this.#activity.idle();
    const [trouble] = this.#process.troubles;
    if (trouble !== undefined) throw new Error(`an error was logged: ${trouble}`);
    if (this.#process.isDead()) await this.#restart(REBOOT_MS);
  }

  async #restart(ms: number): Promise<void> {
    await this.#process.end();
    await this.#machine.clock.advance(ms);
    this.#process = this.#start();
    await this.#activity.idle();
  }

  /** `refused` where a rule or a policy says no, `cut off` by a death. */
  async #try(work: () => Promise<unknown>): Promise<string> {
    return this.#outcomeOf(() => this.#activity.during('a step', work));
  }

  /** The same of work that waits itself until nothing is under way. */
  async #outcomeOf(work: () => Promise<unknown>): Promise<string> {
    try {
      await work();
      return 'done';
    } catch (error) {
      if (this.#process.isDead() || error instanceof Crash) return 'cut off';
      if (error instanceof RoomError) return `refused (${error.kind})`;
      throw error;
    }
  }

  async #take(step: StayStep): Promise<string> {
    const { servers, ourUsers } = this.#world;
    const serverOf = (index: number): SimulatedServer => servers[index % servers.length]!;
    const userOf = (index: number): UserId => ourUsers[index % ourUsers.length]!;
    const { context } = this.#process;
    const roomId = this.#roomId;
    switch (step.do) {
      case 'join':
        return this.#join(userOf(step.user), serverOf(step.server));
      case 'leave': {
        const userId = userOf(step.user);
        const { isForced } = step;
        return this.#try(() => changeMembership(context, { roomId, sender: userId, userId, act: 'leave', isForced }));
      }
      case 'kick':
      case 'ban':
      case 'unban':
        return this.#putOut(serverOf(step.server), userOf(step.user), step.do);
      case 'say': {
        const server = serverOf(step.server);
        const [sender] = server.users;
        return this.#act(server, { sender: sender!, type: 'm.room.message', content: { body: 'x' } }, step.isSent);
      }
      case 'purge':
        return this.#purge(step.isForced, step.dies);
      case 'work':
        return this.#try(() => this.#work(step.actions));
      case 'wait':
        await this.#machine.clock.advance(step.ms);
        return this.#try(() => this.#process.restartReceiver());
      case 'kill':
        this.#process.fragile.arm(step.commits, step.when);
        return 'done';
      case 'restart':
        await this.#restart(1_000);
        return 'done';
      case 'down':
        this.#residents.outages.set(serverOf(step.server).name, step.how);
        return 'done';
      case 'up':
        this.#residents.outages.clear();
        return 'done';
      case 'retry':
      case 'resume':
      case 'cancel': {
        const type = step.do;
        return this.#try(() => commandRoom(context, roomId, { type }, { by: 'an operator' }));
      }
      case 'park':
        return this.#park();
      case 'carry':
        return this.#outcomeOf(() => this.#talk.carry(context));
    }
  }

  async #join(userId: UserId, via: SimulatedServer): Promise<string> {
    const others = this.#world.servers.filter((server) => server !== via).map(({ name }) => name);
    const { signal } = new AbortController();
    const request = { room: this.#roomId, userId, via: [via.name, ...others], signal };
    const outcome = await this.#try(() => joinRoom(this.#process.context, request));
    await this.#rest();
    // Whoever took it passes it on.
    for (const from of this.#world.servers) for (const to of this.#world.servers) this.#world.gossip(from, to);
    // What got lost is finished like any such join.
    if (outcome !== 'done') await this.#try(() => this.#process.finishJoins());
    return outcome;
  }

  /** Whoever has the power there does it. */
  #putOut(server: SimulatedServer, user: UserId, how: 'kick' | 'ban' | 'unban'): Promise<string> {
    const [sender] = server.users;
    return this.#act(server, member(sender!, user, how === 'ban' ? 'ban' : 'leave'), true);
  }

  /** Somebody of another server does something, as far as the rules let him; all others hear of it, and we, if we are there. */
  async #act(server: SimulatedServer, act: Act, isSent: boolean): Promise<string> {
    const world = this.#world;
    if (world.judge(world.compose(act, server)).verdict !== 'accepted') return 'refused by the room';
    const areWeIn = world.ourUsers.some((user) => world.membershipAt(server, user) === 'join');
    const eventId = world.say(act, server);
    for (const other of world.servers) world.gossip(server, other);
    if (!areWeIn || !isSent) return 'not sent';
    return this.#push(server, [eventId]);
  }

  async #push(server: SimulatedServer, eventIds: readonly EventId[]): Promise<string> {
    const pdus = eventIds.map((eventId) => this.#world.raw(eventId));
    this.#transactions += 1;
    const txnId = `t${this.#plan.seed} ${this.#transactions}`;
    for (let tries = 0; tries < 5; tries += 1) {
      const outcome = await this.#try(() =>
        this.#process.receiver.receiveTransaction(server.name, txnId, transactionWith(pdus)),
      );
      await this.#rest();
      if (outcome === 'done') return outcome;
    }
    throw new Error('a transaction was not answered');
  }

  async #purge(isForced: boolean, dies: number): Promise<string> {
    const roomId = this.#roomId;
    const open = await this.#store.query<{ userId: UserId }>(
      `SELECT user_id AS "userId" FROM join_intents WHERE room_id = $1`,
      [roomId],
    );
    // Who is out of reach may not hear of a leave before what is to be told is gone.
    this.#residents.outages.clear();
    await this.#store.query(`UPDATE deliveries SET retry_at = 0, failures = 0`);
    await this.#store.query(`DELETE FROM destinations`);
    const asked = await this.#try(() => recordRequest(this.#process.context, { roomId, isForced }));
    if (asked !== 'done') return asked;
    for (const { userId } of open) this.#forgotten.add(userId);
    if (dies > 0) this.#process.fragile.arm(dies, 'before');
    await this.#goOnPurging();
    return dies > 0 ? 'begun, and killed' : 'done';
  }

  /** Other servers are told meanwhile. */
  async #goOnPurging(): Promise<void> {
    const { signal } = new AbortController();
    const under = { way: true };
    const purging = this.#outcomeOf(() => goOnPurging(this.#process.context, this.#roomId, signal)).finally(() => {
      under.way = false;
    });
    while (under.way) {
      await this.#outcomeOf(() => this.#talk.carry(this.#process.context));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await purging;
    await this.#rest();
  }

  async #park(): Promise<string> {
    const roomId = this.#roomId;
    const { clock, store } = this.#process.context;
    const epoch = (await readResync(this.#store, roomId))?.epoch ?? 0;
    let outcome = 'nothing to park';
    const tried = await this.#try(() =>
      withTransaction(store, async (tx) => {
        const stay = await lockResync(tx, roomId, epoch);
        if (stay === undefined || (stay.resync.phase !== 'fetching' && !isPaused(stay.resync))) return;
        outcome = 'done';
        const parked = { type: 'ResyncParked', because: 'gave-up', reason: 'for a test', at: clock.now() } as const;
        await append(tx, stay.room, [parked]);
      }),
    );
    return tried === 'done' ? outcome : tried;
  }

  async #work(actions: number) {
    return this.#process.work(this.#roomId, this.#workflow, actions, (action) => {
      this.coverage.count(`action ${action.type}`);
    });
  }

  /** Stays are numbered on, whatever was purged. */
  async #watchEpoch(): Promise<void> {
    const room = await readResync(this.#store, this.#roomId);
    const epoch = room?.epoch ?? (await readTombstone(this.#store, this.#roomId))?.epoch ?? this.#epoch;
    if (epoch < this.#epoch) throw new Error(`stay ${epoch} came after stay ${this.#epoch}`);
    this.#epoch = epoch;
  }

  /** Everybody is up now, and time passes until nothing is to be done any more; gives what the workflow would do next. */
  async #settle(): Promise<string> {
    const { signal } = new AbortController();
    this.#residents.outages.clear();
    this.#process.fragile.disarm();
    await this.#store.query(`DELETE FROM destinations`);
    const roomId = this.#roomId;
    for (let rounds = 0; rounds < SETTLING_ROUNDS_MAX; rounds += 1) {
      await this.#process.finishJoins();
      await this.#rest();
      if ((await this.#store.query(`SELECT FROM room_purges`)).length > 0) {
        await this.#machine.clock.advance(REBOOT_MS);
        await this.#goOnPurging();
      }
      await purgeLeft(this.#process.context, this.#machine.clock.now());
      await resumePurges(this.#process.context, signal);
      const { action } = await this.#work(50);
      await this.#rest();
      await this.#talk.carry(this.#process.context);
      await this.#rest();
      const staged = await this.#store.query<{ at: number }>(
        `SELECT not_before AS at FROM staged_pdus WHERE room_id = $1 AND dropped_at IS NULL ORDER BY not_before`,
        [roomId],
      );
      const intents = await this.#store.query(`SELECT FROM join_intents WHERE room_id = $1`, [roomId]);
      const toCarry = await this.#talk.nextDue(this.#store);
      const isOver = action.type === 'close' || action.type === 'park';
      if (isOver && staged.length + intents.length === 0 && toCarry === undefined) return action.type;
      const now = this.#machine.clock.now();
      const wakeAt = action.type === 'sleep' ? action.untilMs : undefined;
      const finishAt = intents.length > 0 ? now + 60_000 : undefined;
      await this.#machine.clock.set(lookAgainAt(now, [wakeAt, staged[0]?.at, toCarry, finishAt]));
      await this.#process.restartReceiver();
      await this.#rest();
    }
    throw new Error('it does not come to rest');
  }
}
