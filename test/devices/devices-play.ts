/**
 * A play, made from a seed, of messages to devices and of device lists: our server with its users in a room that is partial at first, and
 * four others, one of which is wrongly believed to be in the room, over a network that loses what is sent and what is answered. Our process dies at commits, before or after they took effect,
 * and another goes on. Whatever was said has to be there once in the end, and everybody has to know whose devices are others.
 */
import { noteOwnDeviceChanges } from '../../src/store/tables/device-changes.ts';
import { type DevicesContext } from '../../src/devices/context.ts';
import { createDevices, deviceAnswers } from '../../src/devices/devices.ts';
import { tellDeviceLists } from '../../src/devices/tell-device-lists.ts';
import { receiveEdus } from '../../src/edus/receive-edus.ts';
import { type FederationClient } from '../../src/federation/contract.ts';
import { FederationError } from '../../src/federation/error.ts';
import { type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { canonicalJson } from '../../src/matrix/json/canonical-json.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { deliver } from '../../src/sending/deliver.ts';
import { JoinedServers } from '../../src/store/snapshots/joined-servers.ts';
import { leaseDeliveries } from '../../src/store/tables/deliveries.ts';
import { upsertDevice } from '../../src/store/tables/devices.ts';
import { insertUser } from '../../src/store/tables/users.ts';
import { upsertDeviceKeys } from '../../src/store/tables/device-keys.ts';
import { type Store } from '../../src/store/open-store.ts';
import { type Notifier } from '../../src/store/notify.ts';
import { createSync } from '../../src/sync/sync.ts';
import { roomsContextOf } from '../client-api/client.ts';
import { type Random, createRandom } from '../differential/random.ts';
import { ADMIN, ME, PartialRoom, member } from '../rooms/resync/partial-room.ts';
import { Activity, Crash, type FragileStore, openFragileStore } from '../simulation/fragile-store.ts';
import { type Connections } from '../simulation/connections.ts';
import { FoldingClient } from '../sync/folding-client.ts';
import { PlayedServer } from './played-server.ts';

const AUTH = ['create', 'power', 'rules'];
const BY_ME = ['create', 'power', 'join'];
const FULL = ['create', 'admin', 'power', 'rules', 'late', 'ban'];
/** Was banned before we came, and is seen joining while nobody here knows of that. */
const GONE = '@user:gone.test' as UserId;
const STEPS = 150;
const OURS = 'here.test' as ServerName;
const DEVICE = 'DEVICE';
const NOBODY_STOPS = new AbortController().signal;

export interface Played {
  /** In words; empty: as it should be. */
  readonly differences: readonly string[];
  readonly counts: Readonly<Record<'deaths' | 'lost' | 'messages' | 'changes' | 'asked' | 'returns', number>>;
}

export class DevicesPlay {
  readonly #random: Random;
  readonly #store: Store;
  readonly #databaseUrl: string;
  readonly #connections: Connections;
  readonly #room: PartialRoom;
  readonly #servers: readonly PlayedServer[];
  readonly #activity = new Activity();
  readonly #clock = { at: 1_700_000_000_000, now: (): number => this.#clock.at };
  readonly #counts = { deaths: 0, lost: 0, messages: 0, changes: 0, asked: 0, returns: 0 };
  /** What our client has got of messages, in order, by sender; and what it knows of others' devices. */
  readonly #got: { readonly sender: string; readonly n: unknown }[] = [];
  readonly #known = new Map<string, readonly string[]>();
  #fragile!: FragileStore;
  #client!: FoldingClient;
  #isCalm = false;
  /** In every second play no device changes any more once the room is whole: what was missed by then is told by nothing that comes later. */
  readonly #isQuietOnceWhole: boolean;
  #isAllSaid = false;
  #said = 0;

  /** `store` never dies: it looks at what has become of it. */
  constructor(seed: number, store: Store, databaseUrl: string, connections: Connections) {
    this.#random = createRandom(seed);
    this.#isQuietOnceWhole = seed % 2 === 0;
    this.#store = store;
    this.#databaseUrl = databaseUrl;
    this.#connections = connections;
    this.#room = new PartialRoom(store);
    this.#servers = ['there.test', 'seen.test', 'late.test', 'gone.test'].map(
      (name) => new PlayedServer(name as ServerName),
    );
  }

  async run(): Promise<Played> {
    const room = this.#room;
    await room.join();
    await room.hold(member('late', '@user:late.test', 'join', { auth: AUTH }));
    await room.push(member('seen', '@user:seen.test', 'join', { prev: ['join'], auth: AUTH }));
    await room.push(member('user', '@user:there.test', 'join', { prev: ['seen'], auth: AUTH }));
    await room.hold(
      member('once', GONE, 'join', { auth: AUTH }),
      member('ban', GONE, 'ban', { sender: ADMIN, auth: ['create', 'power', 'admin'] }),
    );
    await room.push(member('gone', GONE, 'join', { prev: ['user'], auth: [...AUTH, 'once'] }));
    const userId = ME as UserId;
    await insertUser(this.#store, { userId, passwordHash: null, isAdmin: false, createdAt: 0 });
    await this.#store.inTransaction((tx) =>
      upsertDevice(tx, { userId, deviceId: DEVICE, displayName: null, createdAt: 0, lastSeenAddress: null }),
    );
    this.#live();
    for (const server of this.#servers) {
      server.learn(await deviceAnswers({ store: this.#store }).devicesOf(ME as UserId));
    }
    // It sees the three who were seen joining, and asks for their devices when it comes to that.
    await this.#client.sync();
    const wholeAt = this.#random.integer(STEPS);
    // In some plays the last of us leaves while it is partial, and comes again before it is whole.
    const leavesAt = wholeAt > 1 && this.#random.chance(0.5) ? this.#random.integer(wholeAt - 1) : STEPS;
    const returnsAt = leavesAt + 1 + this.#random.integer(Math.max(1, wholeAt - leavesAt - 1));
    for (let step = 0; step < STEPS; step += 1) {
      if (step === leavesAt) await room.push(member('bye', ME, 'leave', { prev: ['gone'], auth: BY_ME }));
      if (step === returnsAt) await this.#comeBack();
      if (step === wholeAt) await this.#becomeWhole();
      if (this.#random.chance(0.1)) {
        this.#fragile.arm(1 + this.#random.integer(8), this.#random.pick(['before', 'after']));
      }
      await this.#try(() => this.#step());
    }
    await this.#calmDown();
    return { differences: await this.#compare(), counts: this.#counts };
  }

  async #becomeWhole(): Promise<void> {
    this.#isAllSaid = this.#isQuietOnceWhole;
    if (this.#counts.returns === 0) {
      await this.#room.fetch(...FULL);
      await this.#room.walk();
    } else {
      await this.#room.fetchAgain(...FULL, 'seen', 'user');
      await this.#room.walk(this.#store, 2);
    }
  }

  /** As nobody was in a room with us meanwhile nobody was told anything, and who is in this one asks for all. */
  async #comeBack(): Promise<void> {
    await this.#room.joinAgain();
    this.#counts.returns += 1;
    for (const server of this.#servers) server.lacksDevices = true;
  }

  /** A process begins, where another has died or none was. */
  #live(): void {
    const options = {
      databaseUrl: this.#databaseUrl,
      serverName: OURS,
      poolSizeMax: 3,
      applicationName: 'a process that dies',
    };
    this.#fragile = openFragileStore(options, this.#activity, this.#connections);
    const notifier = {} as Notifier;
    const before = this.#client as FoldingClient | undefined;
    const sync = createSync({ store: this.#fragile.store, notifier, clock: this.#clock });
    this.#client = new FoldingClient(sync, { userId: ME, deviceId: DEVICE, lazy: true }, before?.token);
  }

  /** Does it in this life or a later one: whoever asked asks again until he is answered. */
  async #insist<Result>(work: () => Promise<Result>): Promise<Result> {
    for (;;) {
      let done: { readonly result: Result } | undefined;
      await this.#try(async () => void (done = { result: await work() }));
      if (done !== undefined) return done.result;
    }
  }

  async #try(work: () => Promise<unknown>): Promise<void> {
    try {
      await work();
    } catch (error) {
      if (!(error instanceof Crash) && !this.#fragile.isDead()) throw error;
    }
    await this.#activity.idle();
    if (!this.#fragile.isDead()) return;
    this.#counts.deaths += 1;
    // What the dead one had leased is free some minutes later.
    this.#clock.at += 3 * 60_000;
    await this.#store.query(`UPDATE deliveries SET leased_until = 0`);
    this.#live();
  }

  #context(): DevicesContext {
    const federation: Pick<FederationClient, 'sendTransaction' | 'userDevices' | 'queryKeys'> = {
      sendTransaction: (server, txnId, content) => this.#overTheWire(server, (there) => there.take(txnId, content)),
      userDevices: (server, userId) => {
        this.#counts.asked += 1;
        return this.#overTheWire(server, (there) => there.devicesOf(userId));
      },
      queryKeys: (server, userIds) =>
        this.#overTheWire(server, (there) => new Map(userIds.map((userId) => [userId, there.devicesOf(userId)]))),
    };
    return {
      ...roomsContextOf(this.#fragile.store, this.#clock),
      ...{ random: () => this.#random.next(), federation: federation as FederationClient, onSaid: () => undefined },
    };
  }

  /** What is asked may be lost, and so may the answer. */
  #overTheWire<Answer>(name: ServerName, ask: (server: PlayedServer) => Answer): Promise<Answer> {
    const server = this.#servers.find((one) => one.name === name);
    if (server === undefined) throw new Error(`${name} was to get something`);
    const isLost = (): boolean => !this.#isCalm && this.#random.chance(0.2);
    if (!isLost()) {
      const answer = ask(server);
      if (!isLost()) return Promise.resolve(answer);
    }
    this.#counts.lost += 1;
    return Promise.reject(new FederationError(name, 'server-error', 'lost on the way', { status: 502 }));
  }

  async #step(): Promise<void> {
    const server = this.#random.pick(this.#servers);
    switch (this.#random.integer(8)) {
      case 0:
        server.write({ [ME]: { [this.#random.pick([DEVICE, '*'])]: { n: (this.#said += 1) } } });
        this.#counts.messages += 1;
        return;
      case 1:
        if (this.#isAllSaid) return;
        server.changeDevice(`D${this.#random.integer(3)}`, this.#random.chance(0.3));
        this.#counts.changes += 1;
        return;
      case 2:
        return this.#hearFrom(server);
      case 3:
        return this.#write();
      case 4:
        return this.#isAllSaid ? undefined : this.#changeOurs();
      case 5:
        return this.#send();
      case 6:
        return this.#sync();
      default:
        // A server does not answer for a while, and is asked again later.
        this.#clock.at += this.#random.integer(2) * 3_600_000;
        await tellDeviceLists(this.#context(), new JoinedServers());
        return;
    }
  }

  /** Another server sends what it has for us, until it is answered; now and then once more. */
  async #hearFrom(server: PlayedServer): Promise<void> {
    for (const edus of server.transactions(this.#isCalm ? 0 : this.#random.integer(2))) {
      await receiveEdus(this.#context(), server.name, edus);
      if (!this.#isCalm && this.#random.chance(0.2)) return;
      server.settle(edus);
    }
  }

  /** One of ours writes to devices here and elsewhere, under one transaction id until he has his answer. */
  async #write(): Promise<void> {
    const n = (this.#said += 1);
    this.#counts.messages += 1;
    const to = Object.fromEntries(this.#servers.map(({ name }) => [`@user:${name}`, { D: { n } }]));
    const messages = { ...to, [ME]: { [DEVICE]: { n } } };
    for (const server of this.#servers) server.expected.push(n);
    await this.#insist(() =>
      createDevices(this.#context()).send(
        { userId: ME as UserId, deviceId: DEVICE },
        { type: 'm.test', txnId: `t${n}` },
        messages,
      ),
    );
    this.#ownExpected.push(n);
  }
  readonly #ownExpected: number[] = [];

  async #changeOurs(): Promise<void> {
    const keys = canonicalJson({ user_id: ME, device_id: DEVICE, n: (this.#said += 1) });
    this.#counts.changes += 1;
    await this.#insist(() =>
      this.#fragile.store.inTransaction(async (tx) => {
        await upsertDeviceKeys(tx, { userId: ME as UserId, deviceId: DEVICE }, keys);
        await noteOwnDeviceChanges(tx, ME as UserId, [DEVICE]);
      }),
    );
  }

  async #send(): Promise<void> {
    const context = this.#context();
    const leased = await leaseDeliveries(context.store, { now: this.#clock.at, leaseMs: 60_000, limit: 10 });
    for (const delivery of leased) {
      await deliver(context, delivery, NOBODY_STOPS);
      await context.store.query(`UPDATE deliveries SET leased_until = 0 WHERE server_name = $1`, [delivery.serverName]);
    }
    const gaps = this.#servers.filter((server) => server.lacksDevices);
    for (const server of gaps) server.learn(await deviceAnswers({ store: this.#store }).devicesOf(ME as UserId));
  }

  /** Now and then the answer is lost, and asked for again. */
  async #sync(): Promise<void> {
    const answer = await this.#client.ask();
    if (!this.#isCalm && this.#random.chance(0.3)) return;
    await this.#client.take(answer);
    for (const { sender, content } of answer.toDevice) {
      this.#got.push({ sender: sender as string, n: (content as JsonObject)['n'] });
    }
    const { changed = [], left = [] } = answer.deviceLists ?? {};
    for (const user of left) {
      this.#known.delete(user);
      this.#stale.delete(user);
    }
    for (const user of changed) this.#stale.add(user);
    const asked = [...this.#stale].filter((user) => user !== ME);
    if (asked.length === 0) return;
    const patience = { timeoutMs: 5_000, signal: NOBODY_STOPS };
    const { users, failures } = await createDevices(this.#context()).query(ME as UserId, asked, patience);
    for (const [user, { devices }] of users) {
      if ([...failures.keys()].some((server) => user.endsWith(`:${server}`))) continue;
      this.#stale.delete(user);
      this.#known.set(user, describeDevices(Object.fromEntries(devices)));
    }
  }
  readonly #stale = new Set<UserId>(['@user:there.test' as UserId, '@user:seen.test' as UserId, GONE]);

  /** All goes well from now on, and goes on until there is nothing left to do. */
  async #calmDown(): Promise<void> {
    this.#isCalm = true;
    this.#fragile.disarm();
    if (!(await this.#isWhole())) await this.#becomeWhole();
    for (let round = 0; round < 6; round += 1) {
      this.#clock.at += 2 * 3_600_000;
      await this.#store.query(`UPDATE deliveries SET retry_at = 0, leased_until = 0`);
      await this.#store.query(`DELETE FROM destinations`);
      for (const server of this.#servers) await this.#hearFrom(server);
      while (await tellDeviceLists(this.#context(), new JoinedServers()));
      await this.#send();
      await this.#sync();
    }
  }

  async #isWhole(): Promise<boolean> {
    const [row] = await this.#store.query<{ partial: boolean }>(`SELECT partial FROM rooms`);
    return row?.partial === false;
  }

  async #compare(): Promise<string[]> {
    const differences: string[] = [];
    const same = (what: string, is: unknown, should: unknown): void => {
      if (JSON.stringify(is) !== JSON.stringify(should)) {
        differences.push(`${what}: ${JSON.stringify(is)} instead of ${JSON.stringify(should)}`);
      }
    };
    const truth = await deviceAnswers({ store: this.#store }).devicesOf(ME as UserId);
    for (const server of this.#servers) {
      same(`${server.name} got messages`, server.got, server.expected);
      same(`${server.name} was told again`, server.toldAgain, []);
      const fromThere = this.#got.flatMap(({ sender, n }) => (sender.endsWith(`:${server.name}`) ? [n] : []));
      same(`we got messages of ${server.name}`, fromThere, server.written);
      const user = `@user:${server.name}` as UserId;
      if (user === GONE) {
        same(`${user} is out of sight`, [this.#known.has(user), this.#stale.has(user)], [false, false]);
        continue;
      }
      same(
        `${server.name} knows of our devices`,
        server.knows,
        describeDevices(Object.fromEntries(truth?.devices ?? [])),
      );
      same(`we know of the devices of ${user}`, this.#known.get(user), describeDevices(server.devicesOf(user).devices));
    }
    same(
      'we got messages of our own',
      this.#got.flatMap(({ sender, n }) => (sender === ME ? [n] : [])),
      this.#ownExpected,
    );
    same('what waits for others', (await this.#store.query(`SELECT FROM outgoing_edus`)).length, 0);
    same('what is untold', (await this.#store.query(`SELECT FROM untold_in_partial_rooms`)).length, 0);
    return differences;
  }
}

/** Which devices there are, each with what it says. */
export function describeDevices(devices: JsonObject): readonly string[] {
  return Object.entries(devices)
    .map(([deviceId, keys]) => `${deviceId} ${canonicalJson(keys)}`)
    .sort();
}
