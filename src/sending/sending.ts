/**
 * The loop that carries what our users said to other servers. Any number of processes run it: rooms are shared out and servers
 * delivered to under leases, so a killed process loses nothing, and what it had begun is done by another when its leases end.
 *
 *   append ──▶ outgoing_rooms ──▶ shared out: destination_rooms ──▶ delivered, a transaction after the other ──▶ sent
 *                                                     ▲                      │ not taken
 *                                                     └── pause, longer each time
 */
import { type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { JoinedServers } from '../store/snapshots/joined-servers.ts';
import { endDeliveryLease, leaseDeliveries, leaseOutgoingRooms, retryDeliveries } from '../store/tables/deliveries.ts';
import { type SendingContext } from './context.ts';
import { deliver } from './deliver.ts';
import { DELIVERY_LEASE_MS, ROOM_LEASE_MS } from './next-delivery.ts';
import { shareOutRoom } from './share-out.ts';
import { tellNow } from './tell-now.ts';

/** Servers that one process sends to, at a time. */
const SERVERS_AT_ONCE = 32;
const ROOMS_AT_ONCE = 8;
/** How long what another process was told of waits here at the most, and what was paused. */
const POLL_MS = 1_000;

export interface Sending {
  /** Something was said. */
  poke(): void;
  /** A server has asked us something, or sent something: it may be there again. */
  heardFrom(server: ServerName): void;
  /** Sends a server now what it is owed of a room, and waits for that (tell-now.ts). Throws what the signal is aborted with. */
  tell(roomId: RoomId, server: ServerName, signal: AbortSignal): Promise<void>;
  /** Ends what is under way; it is sent again by the next. */
  close(): Promise<void>;
}

/** Starts at once, and takes over what was left. */
export function startSending(context: SendingContext): Sending {
  return new Loop(context);
}

class Loop implements Sending {
  readonly #context: SendingContext;
  readonly #joined = new JoinedServers();
  readonly #closing = new AbortController();
  readonly #runs = new Set<Promise<void>>();
  readonly #timer: NodeJS.Timeout;
  /** Servers that did not take something from this process. */
  readonly #resting = new Set<ServerName>();
  #delivering = 0;
  #isSharing = false;
  #again = false;
  #isLeasing = false;
  #leaseAgain = false;

  constructor(context: SendingContext) {
    this.#context = context;
    this.#timer = setInterval(() => this.poke(), POLL_MS);
    this.poke();
  }

  poke(): void {
    if (this.#isSharing) this.#again = true;
    else this.#inBackground(() => this.#shareOut());
  }

  heardFrom(server: ServerName): void {
    if (!this.#resting.delete(server)) return;
    this.#inBackground(async () => {
      await retryDeliveries(this.#context.store, [server]);
      await this.#deliver();
    });
  }

  tell(roomId: RoomId, server: ServerName, signal: AbortSignal): Promise<void> {
    return tellNow(this.#context, this.#joined, roomId, server, AbortSignal.any([signal, this.#closing.signal]));
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#closing.abort(new Error('the server is closing'));
    while (this.#runs.size > 0) await Promise.all(this.#runs);
  }

  #inBackground(work: () => Promise<void>): void {
    if (!this.#closing.signal.aborted) this.#run(work);
  }

  #run(work: () => Promise<void>): void {
    const run = work()
      .catch((error: unknown) => {
        if (this.#closing.signal.aborted) return;
        this.#context.logger.warn({ err: error }, 'what is to be sent could not be; it is tried again');
      })
      .finally(() => this.#runs.delete(run));
    this.#runs.add(run);
  }

  async #shareOut(): Promise<void> {
    this.#isSharing = true;
    try {
      do {
        this.#again = false;
        const rooms = await leaseOutgoingRooms(this.#context.store, ROOM_LEASE_MS, ROOMS_AT_ONCE);
        for (const room of rooms) await shareOutRoom(this.#context, this.#joined, room);
        this.#again ||= rooms.length === ROOMS_AT_ONCE;
        await this.#deliver();
      } while (this.#again && !this.#closing.signal.aborted);
    } finally {
      this.#isSharing = false;
    }
  }

  /** One lease at a time, and the next for all places that were freed meanwhile: each looks through all servers. */
  async #deliver(): Promise<void> {
    if (this.#isLeasing) {
      this.#leaseAgain = true;
      return;
    }
    this.#isLeasing = true;
    try {
      await this.#lease();
    } finally {
      this.#isLeasing = false;
    }
    if (!this.#leaseAgain) return;
    this.#leaseAgain = false;
    this.#inBackground(() => this.#deliver());
  }

  async #lease(): Promise<void> {
    const { store, clock } = this.#context;
    const limit = SERVERS_AT_ONCE - this.#delivering;
    if (limit <= 0 || this.#closing.signal.aborted) return;
    const leased = await leaseDeliveries(store, { now: clock.now(), leaseMs: DELIVERY_LEASE_MS, limit });
    this.#delivering += leased.length;
    for (const delivery of leased) {
      this.#run(async () => {
        const { serverName } = delivery;
        let outcome: Awaited<ReturnType<typeof deliver>> = 'failed';
        try {
          outcome = await deliver(this.#context, delivery, this.#closing.signal);
        } finally {
          this.#delivering -= 1;
          if (outcome === 'failed') this.#resting.add(serverName);
          else this.#resting.delete(serverName);
          await endDeliveryLease(store, serverName);
        }
        // What was said while it was sent to, and who waits for its place.
        await this.#deliver();
      });
    }
  }
}
