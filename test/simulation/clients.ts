/**
 * Clients of our users, who sync while a room is joined, resynced and left: at any moment, from one process or another, some
 * with a long poll, some losing an answer on the way. What each has kept of what it was told is, in the end, what the oracle has.
 */
import { type EventId, type UserId } from '../../src/matrix/identifiers.ts';
import { type StateMap, parseStateMapKey, stateMapKey } from '../../src/matrix/state-map.ts';
import { readRoom } from '../../src/store/journal/rooms.ts';
import { readSnapshot } from '../../src/store/snapshots/snapshots.ts';
import { type Store, openStore } from '../../src/store/open-store.ts';
import { type RoomPart, type Sync, type SyncAnswer } from '../../src/sync/contract.ts';
import { createSync } from '../../src/sync/sync.ts';
import { createRandom } from '../differential/random.ts';
import { FoldingClient, type FoldingOptions } from '../sync/folding-client.ts';
import { type Coverage } from './coverage.ts';
import { Gate } from './gate.ts';
import { type Plan, type Step } from './plan.ts';
import { type Machine } from './process.ts';
import { type World } from './world.ts';

/** Apart from the seeds of plans. */
const CLIENT_SEEDS = 4_000_000_000;
/** How often a client syncs after a step that may have told it something. */
const SYNCS = 0.1;
/** Of its syncs, those that wait, those whose answer is lost, and those after which it asks until there is nothing more. */
const [POLLS, LOSSES, CATCHES_UP] = [0.3, 0.08, 0.3];
const POLL_MS = 30_000;
const TELLING: ReadonlySet<Step['do']> = new Set(['send', 'history', 'work', 'join']);

interface Poll {
  readonly over: AbortController;
  readonly answer: Promise<SyncAnswer>;
}

/** One that keeps what it is told, and what a test has to know of it besides. */
interface Client {
  readonly name: string;
  readonly userId: UserId;
  readonly options: FoldingOptions;
  readonly folding: FoldingClient;
  /** What it was told, in words. */
  readonly log: string[];
  /** It was told that its user has left, by no event: his join had lost its place for a while. */
  isPuzzled: boolean;
  poll: Poll | undefined;
}

export interface ClientsOptions {
  readonly machine: Machine;
  readonly plan: Plan;
  readonly world: World;
  readonly coverage: Coverage;
}

export class Clients {
  /** In words: what a client was told and should not have been. */
  readonly differences: string[] = [];
  readonly #options: ClientsOptions;
  readonly #random;
  readonly #store: Store;
  readonly #gate: Gate;
  readonly #clients: readonly Client[];
  #processes: readonly Sync[] = [];
  #fresh: readonly Client[] = [];

  private constructor(options: ClientsOptions, gate: Gate) {
    const { machine, plan, world } = options;
    this.#options = options;
    this.#gate = gate;
    this.#random = createRandom(plan.seed + CLIENT_SEEDS);
    this.#store = openStore({
      databaseUrl: machine.databaseUrl,
      serverName: world.us,
      poolSizeMax: 2,
      applicationName: 'rejoinder simulation',
    });
    machine.connections.lendTo(this.#store);
    this.restart();
    const kinds = [true, false].flatMap((lazy) => [true, false].map((stateAfter) => ({ lazy, stateAfter })));
    const [me, ...others] = world.ourUsers;
    this.#clients = [
      ...kinds.map((kind) => ({ ...kind, userId: me! })),
      ...others.map((userId) => ({ ...this.#random.pick(kinds), userId })),
    ].map(({ userId, lazy, stateAfter }, i) =>
      this.#client({ userId, lazy, stateAfter, deviceId: `D${i}`, limit: this.#random.pick([1, 3, 10, 100]) }),
    );
  }

  static async open(options: ClientsOptions): Promise<Clients> {
    const { databaseUrl, clock } = options.machine;
    return new Clients(options, await Gate.open(databaseUrl, clock));
  }

  /** The processes that answer are others from now on: what they had in memory is gone, and who waited there asks anew. */
  restart(): void {
    const { clock } = this.#options.machine;
    const context = { store: this.#store, notifier: this.#gate, clock };
    this.#processes = [createSync(context), createSync(context)];
  }

  /** Some of them sync, or are woken. */
  async after(step: Step['do']): Promise<void> {
    if (!TELLING.has(step)) return;
    if (this.#clients.some(({ poll }) => poll !== undefined)) await this.#wake();
    for (const client of this.#clients) if (this.#random.chance(SYNCS)) await this.#sync(client);
  }

  /** Whoever waits at a process that has died asks another. */
  async crash(): Promise<void> {
    for (const client of this.#clients) await this.#hangUp(client);
    this.restart();
  }

  /** All catch up, and some begin anew; each then holds `state`, if its user is in. Gives all that was wrong, in words. */
  async compare(state: StateMap | undefined): Promise<readonly string[]> {
    await this.#wake();
    for (const client of this.#clients) {
      if (client.poll !== undefined) await this.#endPoll(client);
      await this.#catchUp(client);
    }
    const { world } = this.#options;
    const [me] = world.ourUsers;
    const fresh = [true, false].map((lazy, i) =>
      this.#client({ userId: me!, lazy, stateAfter: this.#random.chance(0.5), deviceId: `F${i}`, limit: 100 }),
    );
    this.#fresh = fresh;
    for (const client of fresh) await this.#catchUp(client);
    if (state !== undefined) for (const client of [...this.#clients, ...fresh]) this.#compareState(client, state);
    return this.differences;
  }

  /** What those were told that complain, in words. */
  story(): string[] {
    const complaining = [...this.#clients, ...this.#fresh].filter(({ name }) =>
      this.differences.some((line) => line.includes(name)),
    );
    return complaining.flatMap(({ name, log }) => [`  ${name}`, ...log.map((line) => `    ${line}`)]);
  }

  async close(): Promise<void> {
    for (const client of this.#clients) await this.#hangUp(client);
    await this.#store.close();
    await this.#gate.close();
  }

  #client(options: FoldingOptions & { readonly userId: UserId }): Client {
    const { userId, lazy, stateAfter, deviceId, limit } = options;
    const how = `${lazy === true ? 'lazy' : 'eager'}${stateAfter === true ? ' with state_after' : ''}`;
    const name = `${userId.slice(0, userId.indexOf(':'))} ${deviceId ?? ''} (${how}, ${limit ?? ''} events)`;
    return {
      name,
      userId,
      options,
      folding: new FoldingClient(this.#processes[0]!, options),
      log: [],
      isPuzzled: false,
      poll: undefined,
    };
  }

  async #sync(client: Client): Promise<void> {
    if (client.poll !== undefined) return this.#endPoll(client);
    const isNew = client.folding.token === undefined;
    if (!isNew && this.#random.chance(POLLS)) return this.#beginPoll(client);
    const answer = await client.folding.ask({}, this.#random.pick(this.#processes));
    if (!isNew && this.#random.chance(LOSSES)) {
      this.#count('an answer was lost');
      client.log.push(`lost: ${describe(answer)}`);
      return;
    }
    await this.#take(client, answer);
    if (this.#random.chance(CATCHES_UP)) {
      await this.#catchUp(client);
      await this.#compareStored(client);
    }
  }

  async #beginPoll(client: Client): Promise<void> {
    const over = new AbortController();
    const { signal } = over;
    const answer = client.folding.ask({ timeoutMs: POLL_MS, signal }, this.#random.pick(this.#processes));
    answer.catch(() => undefined);
    client.poll = { over, answer };
    await this.#settled(client, client.poll);
  }

  /** Takes the answer, if it has come. */
  async #settled(client: Client, { over, answer }: Poll): Promise<void> {
    const given = await Promise.race([answer, this.#gate.untilAsleep(over.signal)]);
    if (given === undefined) return;
    client.poll = undefined;
    this.#count('a long poll was answered');
    await this.#take(client, given);
  }

  async #wake(): Promise<void> {
    await this.#gate.wake();
    for (const client of this.#clients) if (client.poll !== undefined) await this.#settled(client, client.poll);
  }

  /** It goes away: there was nothing to tell it, or it would have been told. */
  async #endPoll(client: Client): Promise<void> {
    await this.#hangUp(client);
    const answer = await client.folding.ask({}, this.#random.pick(this.#processes));
    if (!isEmpty(answer)) this.#differ(client, `was not woken for ${describe(answer)}`);
    await this.#take(client, answer);
  }

  async #hangUp(client: Client): Promise<void> {
    const { poll } = client;
    client.poll = undefined;
    poll?.over.abort();
    await poll?.answer.catch(() => undefined);
  }

  async #catchUp(client: Client): Promise<void> {
    for (let rounds = 0; ; rounds += 1) {
      const answer = await client.folding.ask({}, this.#random.pick(this.#processes));
      await this.#take(client, answer);
      if (isEmpty(answer)) return;
      if (rounds === ROUNDS_MAX) {
        this.#differ(client, `does not come to an end: ${describe(answer)}`);
        return;
      }
    }
  }

  async #take(client: Client, answer: SyncAnswer): Promise<void> {
    const { roomId } = this.#options.world;
    const { folding, options } = client;
    const [kept, since] = [folding.rooms.get(roomId), folding.token];
    client.log.push(`${since ?? 'nothing'} to ${answer.nextBatch}: ${describe(answer)}`);
    const before = new Set(kept?.timeline);
    await folding.take(answer);
    const part = answer.joined.get(roomId);
    if (part !== undefined) await this.#lookAt(client, part, { isKnown: kept !== undefined, before });
    const left = answer.left.get(roomId);
    if (left !== undefined) this.#count('a leave');
    client.isPuzzled ||= left?.timeline.length === 0;
    if (/_.*_/.test(answer.nextBatch)) this.#count('a correction is owed');
    if (since !== undefined && /_.*_/.test(since) && part !== undefined) {
      this.#count('a correction without state_after');
    }
    if (options.stateAfter === true && part !== undefined) await this.#compareStored(client);
  }

  /** What can be said of one response alone. */
  async #lookAt(
    client: Client,
    part: RoomPart,
    { isKnown, before }: { readonly isKnown: boolean; readonly before: ReadonlySet<string> },
  ): Promise<void> {
    const { world } = this.#options;
    const { options, folding } = client;
    const isPartial = part.resync !== null && part.resync.phase !== 'complete';
    const ids = part.timeline.map((event) => event['event_id'] as EventId);
    if (options.lazy === true) {
      if (isPartial) this.#count('a partial room shown lazily');
      const state = folding.rooms.get(world.roomId)?.state;
      const nameless = part.timeline.filter(({ sender }) => state?.has(`m.room.member ${sender as string}`) !== true);
      for (const event of client.isPuzzled ? [] : nameless) {
        // Resolution may leave a sender in a whole room without a membership.
        if (!isPartial && !(await this.#isMember(event['sender'] as UserId))) continue;
        const { event_id: eventId, sender } = event;
        // Who invites by a third-party invite need cite no membership of his own: nobody here knows it then.
        if (isPartial && !this.#citesOwnMembership(eventId as EventId)) continue;
        this.#differ(client, `was not told what ${sender as string} is in the room, who sent ${eventId as string}`);
      }
    } else {
      if (isPartial) this.#differ(client, 'was shown a partial room');
      if (!isKnown) this.#count('an eager room shown once whole');
    }
    if (isKnown && part.isLimited) this.#count('a gappy sync');
    if (part.removed.length > 0) this.#count('a place listed as empty');
    if (new Set(ids).size < ids.length) this.#differ(client, 'was given an event twice in one answer');
    const again = part.isLimited ? undefined : ids.find((id) => before.has(id));
    // What was taken back and is accepted after all is shown anew, where it is then.
    if (again !== undefined) this.#count('an event shown again');
  }

  #citesOwnMembership(eventId: EventId): boolean {
    const { truth } = this.#options.world;
    const { sender, authEvents } = truth.event(eventId);
    return authEvents
      .map((id) => truth.event(id))
      .some((cited) => cited.type === 'm.room.member' && cited.stateKey === sender);
  }

  /** Whether the current state has a membership of a user. */
  async #isMember(userId: UserId): Promise<boolean> {
    const { roomId } = this.#options.world;
    const room = await readRoom(this.#store, roomId);
    if (room?.currentState == null) return false;
    return (await readSnapshot(this.#store, roomId, room.currentState, { userIds: [userId] })).length > 0;
  }

  /** The state that is exact at a token with `use_state_after`, and for the others once nothing is owed. */
  async #compareStored(client: Client): Promise<void> {
    const { roomId } = this.#options.world;
    if (!client.folding.rooms.has(roomId)) return;
    this.#count('a state compared meanwhile');
    for (const difference of await client.folding.differsFromStored(this.#store, roomId)) {
      this.#differ(client, difference);
    }
  }

  #compareState({ folding, ...client }: Client, state: StateMap): void {
    const { world } = this.#options;
    const own = state.get(stateMapKey('m.room.member', client.userId));
    const isIn = own !== undefined && world.truth.event(own).content['membership'] === 'join';
    const isShown = folding.rooms.has(world.roomId);
    if (isIn !== isShown) this.#differ(client, isIn ? 'is not shown the room' : 'is still shown the room');
    if (!isIn || !isShown) return;
    this.#count(`state of a client in the end`);
    const truth = new Map(
      Array.from(state, ([place, eventId]) => {
        const { type, stateKey } = parseStateMapKey(place);
        return [`${type} ${stateKey}`, eventId];
      }),
    );
    for (const difference of folding.differsFrom(truth, world.roomId, { isPartial: false })) {
      this.#differ(client, `in the end: ${difference}`);
    }
  }

  #count(what: string): void {
    this.#options.coverage.count(`client: ${what}`);
  }

  #differ({ name }: Pick<Client, 'name'>, difference: string): void {
    this.differences.push(`the client ${name} ${difference}`);
  }
}

/** Of answers after another while nothing happens. */
const ROUNDS_MAX = 5;

function isEmpty({ joined, left, invited, knocked }: SyncAnswer): boolean {
  return joined.size + left.size + invited.size + knocked.size === 0;
}

function describe(answer: SyncAnswer): string {
  const { joined, left, invited, knocked } = answer;
  const idsOf = (events: RoomPart['state']): string => events.map((event) => event['event_id'] as string).join(', ');
  const parts = [...joined.values(), ...left.values()].map(({ timeline, state, removed, resync, isLimited }) =>
    [
      ...(resync === null || resync.phase === 'complete' ? [] : ['partial']),
      ...(isLimited ? ['limited'] : []),
      `timeline ${idsOf(timeline)}`,
      `state ${idsOf(state)}`,
      `empty ${removed.map(({ type, stateKey }) => `${type} ${stateKey}`).join(', ')}`,
    ].join('; '),
  );
  const sections = Object.entries({ joined, left, invited, knocked }).filter(([, rooms]) => rooms.size > 0);
  return [sections.map(([section]) => section).join() || 'nothing', ...parts].join('; ');
}
