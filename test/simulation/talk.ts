/**
 * What our users say in a simulated room, and how it is carried to the other servers: by the real sending queue, over a simulated
 * network. A server that gets an event of ours builds on it, as far as it lets it be.
 */
import { type FederationClient } from '../../src/federation/contract.ts';
import { FederationError } from '../../src/federation/error.ts';
import { type EventId, type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { type RoomsContext } from '../../src/rooms/context.ts';
import { RoomError } from '../../src/rooms/error.ts';
import { changeMembership } from '../../src/rooms/send/change-membership.ts';
import { sendEvent } from '../../src/rooms/send/send-event.ts';
import { startSending } from '../../src/sending/sending.ts';
import { tellNow } from '../../src/sending/tell-now.ts';
import { JoinedServers } from '../../src/store/snapshots/joined-servers.ts';
import { type Sql } from '../../src/store/open-store.ts';
import { type Random, createRandom } from '../differential/random.ts';
import { type Coverage } from './coverage.ts';
import { type Activity } from './fragile-store.ts';
import { type Outage, type Step } from './plan.ts';
import { type Telling } from './process.ts';
import { withoutPolls } from './without-polls.ts';
import { type World } from './world.ts';

/** Apart from the seeds of plans. */
const TALK_SEEDS = 5_000_000_000;
/** Of the rooms. */
const TALKS = 0.35;

/** Our users say something now and then, in some of the rooms, and it is carried on later. */
export function addTalk(seed: number, steps: Step[]): void {
  const random = createRandom(seed + TALK_SEEDS);
  if (!random.chance(TALKS)) return;
  for (let times = 4 + random.integer(10); times > 0; times -= 1) {
    const at = 1 + random.integer(steps.length);
    const say: Step = { do: 'say', user: random.integer(3), seed: random.integer(1_000_000_000) };
    steps.splice(at, 0, say, ...(random.chance(0.6) ? ([{ do: 'carry' }] as const) : []));
  }
}

/** A transaction that a server took. */
export interface Taken {
  readonly txnId: string;
  readonly eventIds: readonly EventId[];
}

/** Events of ours up to a position were shared out, when the journal had come to another. */
export interface SharedOut {
  readonly upTo: number;
  readonly head: number;
}

export class Talk {
  readonly sharedOut: SharedOut[] = [];
  /** What servers were sent, in order: each transaction once, however often it came. */
  readonly taken = new Map<ServerName, Taken[]>();
  readonly #world: World;
  readonly #activity: Activity;
  readonly #coverage: Coverage;
  readonly #outages: ReadonlyMap<ServerName, Outage>;

  constructor(world: World, activity: Activity, coverage: Coverage, outages: ReadonlyMap<ServerName, Outage>) {
    this.#world = world;
    this.#activity = activity;
    this.#coverage = coverage;
    this.#outages = outages;
  }

  /** The other servers, as they take transactions. */
  client(): Pick<FederationClient, 'sendTransaction'> {
    return {
      sendTransaction: (name, txnId, content) =>
        this.#activity.during('send', async () => {
          await Promise.resolve();
          const outage = this.#outages.get(name);
          if (outage === 'unreachable') throw new FederationError(name, 'unreachable', 'it is down');
          if (outage === 'server-error') throw new FederationError(name, 'server-error', 'it fails', { status: 500 });
          this.#take(name, txnId, content);
        }),
    };
  }

  /** One of our users says something, if he may. */
  async say(context: RoomsContext, user: number, seed: number): Promise<void> {
    const { ourUsers } = this.#world;
    const random = createRandom(seed);
    const sender = ourUsers[user % ourUsers.length]!;
    try {
      await this.#activity.during('what is said', () => this.#act(context, sender, random));
      this.#coverage.count('said by us');
    } catch (error) {
      if (!(error instanceof RoomError)) throw error;
      this.#coverage.count(`said by us: ${error.kind}`);
    }
  }

  async #act(context: RoomsContext, sender: UserId, random: Random): Promise<void> {
    const { roomId } = this.#world;
    const word = `our${random.integer(1_000)}`;
    const dice = random.next();
    if (dice < 0.5) {
      await sendEvent(context, roomId, { sender, type: 'm.room.message', content: { body: word } });
    } else if (dice < 0.7) {
      await sendEvent(context, roomId, { sender, type: 'm.room.topic', stateKey: '', content: { topic: word } });
    } else if (dice < 0.9) {
      const content = { membership: 'join', displayname: word };
      await sendEvent(context, roomId, { sender, type: 'm.room.member', stateKey: sender, content });
    } else {
      await changeMembership(context, { roomId, sender, act: 'leave', userId: sender });
    }
  }

  /** Sends what is owed, as far as it can be now. */
  async carry(context: RoomsContext): Promise<void> {
    const sending = withoutPolls(() => startSending(context));
    await this.#activity.idle();
    await sending.close();
  }

  /** What a server is owed, before one of us asks it to be let in again. */
  tell(context: RoomsContext, ...what: Telling): Promise<void> {
    return this.#activity.during('telling', () => tellNow(context, new JoinedServers(), ...what));
  }

  /** Notes what a process has shared out that has carried, and may have died of it; `head`: of the journal, before. */
  async noteSharedOut(sql: Sql, head: number): Promise<void> {
    const [row] = await sql.query<{ upTo: number }>(
      `SELECT shared_out AS "upTo" FROM outgoing_rooms WHERE room_id = $1`,
      [this.#world.roomId],
    );
    if (row !== undefined && row.upTo > (this.sharedOut.at(-1)?.upTo ?? 0)) {
      this.sharedOut.push({ upTo: row.upTo, head });
    }
  }

  /** When the next thing is to be sent, milliseconds; `undefined`: everything is. */
  async nextDue(sql: Sql): Promise<number | undefined> {
    const [row] = await sql.query<{ at: number | null }>(
      `SELECT least((SELECT min(leased_until) FROM outgoing_rooms WHERE shared_out < position),
                    (SELECT min(greatest(retry_at, leased_until)) FROM deliveries d
                      WHERE EXISTS (SELECT FROM destination_rooms r
                                     WHERE r.server_name = d.server_name AND r.sent < r.owed))) AS at`,
    );
    return row?.at ?? undefined;
  }

  #take(name: ServerName, txnId: string, content: JsonObject): void {
    const transactions = this.taken.get(name) ?? [];
    this.taken.set(name, transactions);
    const world = this.#world;
    const server = world.server(name);
    if (server === undefined) throw new Error(`${name} was sent something, and is no server`);
    const eventIds = (content['pdus'] as JsonObject[]).map((json) => {
      const event = world.read(json);
      if (!world.events.has(event.eventId)) world.add(event, server);
      else if (!world.truth.isRejected(event.eventId)) world.follow(server, [event.eventId]);
      return event.eventId;
    });
    if (transactions.some((taken) => taken.txnId === txnId)) {
      this.#coverage.count('carried again');
      return;
    }
    this.#coverage.count('carried', eventIds.length);
    transactions.push({ txnId, eventIds });
  }
}
