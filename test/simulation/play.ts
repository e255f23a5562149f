/**
 * Plays a plan: the other servers act, send and fail, our process takes it in, dies and is started again, and at the end
 * everything that was sent has come and everything that can be settled is.
 */
import { type EventId, type ServerName, domainOf } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { joinRoom } from '../../src/rooms/join/join.ts';
import { readHead } from '../../src/store/journal/journal.ts';
import { isAnybodyIn } from '../../src/store/journal/rooms.ts';
import { createRandom } from '../differential/random.ts';
import { actOf, canDo, sceneAt } from './acts.ts';
import { Clients } from './clients.ts';
import { Coverage } from './coverage.ts';
import { foundRoom } from './founding.ts';
import { Activity } from './fragile-store.ts';
import { type Plan, type Step } from './plan.ts';
import { type Machine, Process, type Workflow, lookAgainAt } from './process.ts';
import { Residents } from './residents.ts';
import { Talk } from './talk.ts';
import { BEGINNING, type SimulatedServer, World } from './world.ts';
import { transactionWith } from '../support/bodies.ts';

/** Rounds of sending, working and waiting until all is settled; back-offs double, so that a few dozen are months. */
const SETTLING_ROUNDS_MAX = 120;
/** After this long another process takes the leases of a dead one, and finishes what it had claimed. */
const REBOOT_MS = 16 * 60_000;
/** How often a server builds on an event of its own that the others reject. */
const STUBBORN = 0.3;
/**
 * State events whose refusal shows only far off, by what their auth events cite. Nobody builds on them: the state after a parent of our
 * join is not told, only the one before it, so that who has our join built on such a one lies about it, and nobody can tell.
 */
const NEVER_BUILT_ON: ReadonlySet<string | undefined> = new Set(['by refused invite', 'kick by refused join']);

/** Something went wrong that is no difference between verdicts: an error of ours, or a room that does not come to rest. */
export class Stuck extends Error {
  override readonly name = 'Stuck';
}

/** What was seen of our process when it last came to rest. */
interface Look {
  /** Of ours, is there anybody in the room, as far as our server knows? */
  readonly areWeIn: boolean;
  /** What was sent and has no verdict yet. */
  readonly staged: readonly EventId[];
  readonly given: ReadonlySet<EventId>;
}

interface Unsent {
  readonly server: SimulatedServer;
  readonly eventIds: EventId[];
}

export class Play {
  readonly plan: Plan;
  readonly world: World;
  readonly residents: Residents;
  readonly talk: Talk;
  readonly coverage = new Coverage();
  /** Pushed to us and taken without an error. */
  readonly pushed = new Set<EventId>();
  /** Sent to us while nobody of ours was in, or without a verdict when the last one went: we may have taken it in, and need not. */
  readonly unsure = new Set<EventId>();
  /** Joins that we were told to have succeeded. */
  readonly joined = new Set<EventId>();
  crashes = 0;
  /** Of ours, is there anybody in the room, as far as he was told? */
  isJoined = false;
  readonly #machine: Machine;
  readonly #activity = new Activity();
  readonly #outboxes = new Map<ServerName, Unsent>();
  readonly #late: (() => void)[] = [];
  #process: Process;
  /** The head of the journal when a resident was first told something before the join that is under way. */
  #toldAt: number | undefined;
  readonly #workflow: Workflow = {};
  #clients: Clients | undefined;
  #transactions = 0;
  #isWhole = false;
  #seen: Look = { areWeIn: false, staged: [], given: new Set() };
  #armed: 'before' | 'after' = 'before';

  constructor(machine: Machine, plan: Plan) {
    this.plan = plan;
    this.#machine = machine;
    this.world = new World(String(plan.seed), plan.version, plan.seed, plan.servers);
    this.residents = new Residents(this.world, this.#activity, { givesWhole: plan.givesWhole });
    this.talk = new Talk(this.world, this.#activity, this.coverage, this.residents.outages);
    this.#process = this.#start();
  }

  get process(): Process {
    return this.#process;
  }

  get shadows(): Machine['shadows'] {
    return this.#machine.shadows;
  }

  /** Those of our users. Throws before the run. */
  get clients(): Clients {
    if (this.#clients === undefined) throw new Error('nobody syncs before a run');
    return this.#clients;
  }

  /** Plays everything. @throws Stuck */
  async run(): Promise<void> {
    this.coverage.count(`version ${this.plan.version}`);
    await this.#machine.clock.set(BEGINNING);
    foundRoom(this.world, createRandom(this.plan.seed + 1));
    const { plan, world, coverage } = this;
    this.#clients = await Clients.open({ machine: this.#machine, plan, world, coverage });
    for (const step of this.plan.past) await this.#take(step);
    for (const step of this.plan.steps) {
      await this.#take(step);
      await this.#rest();
      if (step.do === 'work' || step.do === 'join') await this.#look();
      await this.clients.after(step.do);
    }
    await this.#settle();
  }

  async end(): Promise<void> {
    await this.#clients?.close();
    await this.#process.end();
  }

  async #take(step: Step): Promise<void> {
    const { servers } = this.world;
    const serverOf = (index: number): SimulatedServer => servers[index % servers.length]!;
    switch (step.do) {
      case 'act': {
        this.#act(serverOf(step.server), step);
        return;
      }
      case 'gossip': {
        const from = serverOf(step.from);
        for (const to of step.to === 'all' ? servers : [serverOf(step.to)]) this.world.gossip(from, to);
        return;
      }
      case 'send':
        return this.#send(serverOf(step.server), step);
      case 'history':
        return this.#sendHistory(serverOf(step.server), step);
      case 'work':
        if (this.isJoined) await this.#alive(() => this.#work(step.actions));
        return;
      case 'wait':
        await this.#machine.clock.advance(step.ms);
        await this.#alive(() => this.#process.restartReceiver());
        return;
      case 'say':
        if (this.isJoined) await this.#alive(() => this.talk.say(this.#process.context, step.user, step.seed));
        return;
      case 'carry':
        return this.#carry();
      case 'join':
        return this.#join(step.user, serverOf(step.via), step.isLax === true);
      case 'crash':
        this.#process.fragile.arm(step.commits, step.when);
        this.#armed = step.when;
        return;
      case 'down':
        this.residents.outages.set(serverOf(step.server).name, step.how);
        this.coverage.count(`down: ${step.how}`);
        return;
      case 'up':
        if (this.residents.outages.has(serverOf(step.server).name)) this.coverage.count('up again');
        this.residents.outages.delete(serverOf(step.server).name);
        return;
    }
  }

  #start(): Process {
    const federation = { ...this.residents.client(), ...this.talk.client() };
    return new Process(this.#machine, this.world, federation, this.#activity, {
      retroSoftFail: this.plan.retroSoftFail,
      tell: async (context, ...what) => {
        this.#toldAt ??= await readHead(context.store);
        await this.talk.tell(context, ...what);
      },
    });
  }

  /** Waits until nothing is under way any more; what has died is started again. */
  async #rest(): Promise<void> {
    await this.#activity.idle();
    const { troubles } = this.#process;
    if (troubles.length > 0) throw new Stuck(`an error was logged: ${troubles[0] ?? ''}`);
    if (!this.#process.isDead()) return;
    this.crashes += 1;
    this.coverage.count(`crash ${this.#armed} a commit`);
    await this.#process.end();
    await this.clients.crash();
    await this.#machine.clock.advance(REBOOT_MS);
    this.#process = this.#start();
    await this.#activity.idle();
  }

  /** Does something that a crash may cut off; gives nothing then. */
  async #alive<T>(work: () => Promise<T>): Promise<T | undefined> {
    try {
      return await work();
    } catch (error) {
      if (this.#process.isDead()) return undefined;
      throw new Stuck(`an error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    }
  }

  /** A special act is done by whoever can, first of all at `preferred`, and all servers hear of it at once. */
  #act(preferred: SimulatedServer, { seed, send, special, isKept, other }: Extract<Step, { do: 'act' }>): void {
    const { world } = this;
    const able = (server: SimulatedServer): boolean =>
      special !== undefined && canDo(sceneAt(world, server, createRandom(seed)), special);
    const server = [preferred, ...world.servers].find(able) ?? preferred;
    const random = createRandom(seed);
    const { name, act } = actOf(sceneAt(world, server, random), special);
    const areWeIn =
      this.residents.lax === server.name || world.ourUsers.some((user) => world.membershipAt(server, user) === 'join');
    const isStubborn = random.chance(STUBBORN) && !NEVER_BUILT_ON.has(special);
    const eventId = world.say(act, server, isStubborn);
    this.coverage.count(`act ${name}`);
    if (special !== undefined && isKept !== true) for (const other of world.servers) world.gossip(server, other);
    // Who does not know that we are in does not send us anything.
    const knowsUs = this.residents.joins.some(
      (join) => server.tips.includes(join.eventId) || world.ancestorsOf([...server.tips, eventId]).has(join.eventId),
    );
    if (!knowsUs || !areWeIn || send === 'never') {
      if (this.isJoined) {
        this.coverage.count(knowsUs ? (areWeIn ? 'never sent' : 'while we were out') : 'beside the join');
      }
      return;
    }
    const queue = (id: EventId, when: 'soon' | 'late'): void => {
      const put = (): void => void this.#outbox(server).eventIds.push(id);
      if (when === 'soon') put();
      else this.#late.push(put);
    };
    if (send === 'late') this.coverage.count('sent late');
    queue(eventId, send);
    const otherId = world.otherInCircle(eventId);
    if (otherId !== undefined && other !== undefined && other !== 'never') queue(otherId, other);
  }

  #outbox(server: SimulatedServer): Unsent {
    const outbox = this.#outboxes.get(server.name) ?? { server, eventIds: [] };
    this.#outboxes.set(server.name, outbox);
    return outbox;
  }

  async #send(server: SimulatedServer, { count, order, seed, again }: Extract<Step, { do: 'send' }>): Promise<void> {
    const random = createRandom(seed);
    const eventIds = this.#outbox(server).eventIds.splice(0, count);
    if (order === 'reversed') eventIds.reverse();
    if (order === 'shuffled') eventIds.sort(() => random.next() - 0.5);
    const sent = [...this.pushed];
    if (eventIds.length > 1) this.coverage.count(`order ${order}`);
    if (again > 0 && sent.length > 0) this.coverage.count('sent again');
    for (let i = 0; i < again && sent.length > 0; i += 1) eventIds.push(random.pick(sent));
    await this.#push(server, eventIds);
  }

  /** One transaction, sent again until it is answered. */
  async #push(server: SimulatedServer, eventIds: readonly EventId[]): Promise<void> {
    if (eventIds.length === 0) return;
    this.#transactions += 1;
    const txnId = `t${this.#transactions}`;
    const pdus = eventIds.map((eventId) => this.world.raw(eventId));
    for (let tries = 0; tries < 5; tries += 1) {
      const answer = await this.#alive(() =>
        this.#process.receiver.receiveTransaction(server.name, txnId, transactionWith(pdus)),
      );
      await this.#rest();
      if (answer?.outcome !== 'answered') continue;
      const results = answer.response['pdus'] as JsonObject;
      for (const eventId of eventIds) {
        const result = results[eventId] as JsonObject | undefined;
        if (result !== undefined && result['error'] === undefined) this.pushed.add(eventId);
      }
      await this.#look(eventIds);
      return;
    }
    throw new Stuck('a transaction was not answered');
  }

  /**
   * Looks at what is at rest. Where nobody of ours is in, by whatever came of the last step, what had no verdict gets none, nor need what
   * was given meanwhile have been taken in; `sent`: in the last step, of which the same is true if nobody was in before it.
   */
  async #look(sent: readonly EventId[] = []): Promise<void> {
    const before = this.#seen;
    const { areWeIn, staged } = await this.#seenAtRest();
    this.#seen = { areWeIn, staged, given: new Set(this.residents.given) };
    if (areWeIn && (before.areWeIn || sent.length === 0)) return;
    const meanwhile = [...this.residents.given].filter((id) => !before.given.has(id));
    for (const eventId of [...sent, ...before.staged, ...this.#seen.staged, ...meanwhile]) this.unsure.add(eventId);
  }

  /** By another process, where one dies of what goes on beside the look. */
  async #seenAtRest(): Promise<Pick<Look, 'areWeIn' | 'staged'>> {
    for (;;) {
      const seen = await this.#alive(async () => ({
        areWeIn: await isAnybodyIn(this.#process.fragile.store, this.world.roomId),
        staged: await this.#staged(),
      }));
      if (seen !== undefined) return seen;
      await this.#rest();
    }
  }

  /** What was sent and has not been looked at for good. */
  async #staged(): Promise<EventId[]> {
    const rows = await this.#process.fragile.store.query<{ eventId: EventId }>(
      `SELECT event_id AS "eventId" FROM staged_pdus WHERE room_id = $1 AND dropped_at IS NULL`,
      [this.world.roomId],
    );
    return rows.map(({ eventId }) => eventId);
  }

  /** Events that came before our join, as a server sends them that answers for what it sent long ago. */
  async #sendHistory(server: SimulatedServer, { count, seed }: Extract<Step, { do: 'history' }>): Promise<void> {
    const [first] = this.residents.joins;
    if (first === undefined || !this.isJoined) return;
    const random = createRandom(seed);
    const before = [...this.world.ancestorsOf([first.eventId])];
    const eventIds = Array.from({ length: Math.min(count, before.length) }, () => random.pick(before));
    this.coverage.count('history sent');
    await this.#push(server, [...new Set(eventIds)]);
  }

  async #join(user: number, via: SimulatedServer, isLax: boolean): Promise<void> {
    await this.#joinThere(user, via, isLax);
    await this.#rest();
    // What a resident was told first is shared out with that.
    const head = this.#toldAt;
    this.#toldAt = undefined;
    if (head !== undefined) await this.#alive(() => this.talk.noteSharedOut(this.#process.fragile.store, head));
  }

  async #joinThere(user: number, via: SimulatedServer, isLax: boolean): Promise<void> {
    const { world } = this;
    if (isLax) this.residents.lax = via.name;
    if (this.#isWhole && via.tips.length > 1 && !this.plan.features.includes('forked-joins')) return;
    const userId = world.ourUsers[user % world.ourUsers.length]!;
    const others = world.servers.filter((server) => server !== via).map(({ name }) => name);
    const signal = new AbortController().signal;
    const request = { room: world.roomId, userId, via: [via.name, ...others], signal };
    try {
      const joined = await joinRoom(this.#process.context, request);
      this.isJoined = true;
      this.joined.add(joined.eventId);
      this.coverage.count(joined.partial ? 'join partial' : 'join full');
    } catch (error) {
      if (this.#process.isDead()) {
        // The join may have been taken: it is finished like any that got lost.
        this.coverage.count('join cut off');
        await this.#rest();
        await this.#alive(() => this.#process.finishJoins());
        this.isJoined ||= this.residents.joins.length > 0;
        return;
      }
      if (!(error instanceof Error) || error.name !== 'RoomError') throw error;
      this.coverage.count('join refused');
      await this.#alive(() => this.#process.finishJoins());
    }
  }

  /** What is shared out meanwhile is so at what the journal says now. */
  async #carry(): Promise<void> {
    const head = (await this.#alive(() => readHead(this.#process.fragile.store))) ?? 0;
    await this.#alive(() => this.talk.carry(this.#process.context));
    await this.#rest();
    await this.#alive(() => this.talk.noteSharedOut(this.#process.fragile.store, head));
  }

  async #work(actions: number) {
    const worked = await this.#process.work(this.world.roomId, this.#workflow, actions, (action) => {
      this.coverage.count(`action ${action.type}`);
    });
    this.#isWhole = worked.state.phase === 'complete';
    return worked;
  }

  /** Everybody is up and honest now, sends what is left, and time passes until nothing is to be done any more. */
  async #settle(): Promise<void> {
    this.residents.outages.clear();
    this.#process.fragile.disarm();
    for (const queue of this.#late) queue();
    for (const { server, eventIds } of this.#outboxes.values()) {
      while (eventIds.length > 0) await this.#push(server, eventIds.splice(0, 20));
    }
    const { roomId } = this.world;
    for (let rounds = 0; rounds < SETTLING_ROUNDS_MAX; rounds += 1) {
      await this.#alive(() => this.#process.finishJoins());
      await this.#rest();
      // Before it is asked what is to be done: what is taken in meanwhile may make something due.
      const staged = await this.#process.fragile.store.query<{ at: number }>(
        `SELECT not_before AS at FROM staged_pdus WHERE room_id = $1 AND dropped_at IS NULL ORDER BY not_before`,
        [roomId],
      );
      const intents = await this.#process.fragile.store.query(`SELECT FROM join_intents WHERE room_id = $1`, [roomId]);
      const next = await this.#alive(() => this.#work(50));
      await this.#rest();
      await this.#look();
      const isOver = next?.action.type === 'close';
      await this.#carry();
      const toCarry = await this.talk.nextDue(this.#process.fragile.store);
      if (isOver && staged.length === 0 && intents.length === 0 && toCarry === undefined) return;
      const now = this.#machine.clock.now();
      const wakeAt = next?.action.type === 'sleep' ? next.action.untilMs : undefined;
      const finishAt = intents.length > 0 ? now + 60_000 : undefined;
      await this.#machine.clock.set(lookAgainAt(now, [wakeAt, staged[0]?.at, toCarry, finishAt]));
      await this.#process.restartReceiver();
      await this.#rest();
      await this.#look();
      await this.clients.after('work');
    }
    throw new Stuck(`it does not come to rest: ${await this.#whatIsLeft()}`);
  }

  async #whatIsLeft(): Promise<string> {
    const { store } = this.#process.fragile;
    const { roomId } = this.world;
    const staged = await store.query(
      `SELECT event_id, reason, waits_for, attempts FROM staged_pdus WHERE room_id = $1 AND dropped_at IS NULL LIMIT 5`,
      [roomId],
    );
    const gaps = await store.query(`SELECT * FROM gaps WHERE room_id = $1`, [roomId]);
    const intents = await store.query(
      `SELECT what, event_id, resident, not_before, attempts, last_reason FROM join_intents WHERE room_id = $1`,
      [roomId],
    );
    const { action } = await this.#work(0);
    return JSON.stringify({ staged, gaps, intents, action });
  }

  /** The server of one of our users is ours. */
  isOurs(eventId: EventId): boolean {
    return domainOf(this.world.truth.event(eventId).sender) === this.world.us;
  }
}
