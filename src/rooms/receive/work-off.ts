/**
 * Works off what is staged: any process that serves, any room, leased one at a time by the database's clock. A kill loses
 * nothing; the rooms of a killed process are taken over when its leases end.
 *
 *   staged ──▶ turn ──▶ verdict: the row goes, and what waited for its event is released
 *     ▲         ├────▶ set aside until a gap is closed, another event has come, or a pause is over
 *     │         └────▶ errand: something is asked of another server meanwhile, outside the turn
 *     └─────────────── woken when that is over
 */
import { randomUUID } from 'node:crypto';
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { StayOverError } from '../../store/fence.ts';
import {
  type StagedPdu,
  dropStaged,
  giveWay,
  setStagedAside,
  settleStaged,
  takeStaged,
  wakeStaged,
} from '../../store/tables/staged-pdus.ts';
import { claimWaitingRooms, endStagedRoomLease, leaseStagedRooms } from '../../store/tables/staged-rooms.ts';
import { type RoomsContext } from '../context.ts';
import { inStay } from '../in-stay.ts';
import { type Spending, createBudgets } from './budgets.ts';
import { beginAsking } from './ask.ts';
import { fetchAuthEvents } from './fetch-auth-events.ts';
import { type Filled, fillGap } from './fill-gap.ts';
import {
  type Errand,
  JUDGED_MS_MAX,
  LATE_MS,
  LONGEST_STAGED_MS,
  TURN_EVENTS_MAX,
  type TurnOutcome,
  pauseAfter,
  restAt,
  takeTurn,
} from './take-turn.ts';
import { readOriginsIn } from './whom-to-ask.ts';

/** Rooms that one process works at, at a time. */
const ROOMS_AT_ONCE = 8;
/** Turns before another room that waits may have the place. */
const TURNS_IN_A_ROW = 4;
/** Far longer than a turn takes; what a killed process had waits so long. */
const LEASE_MS = 30_000;
/** How long events wait that another process has staged, or whose pause is over. */
const POLL_MS = 1_000;
/** How soon what found no place for its gap looks again: a place lasts for an attempt. */
const PLACE_EVERY_MS = 30_000;
/** After so long it is the event, and no passing trouble of ours. */
const OWN_TROUBLE_MS_MAX = 3 * LONGEST_STAGED_MS;
/** How long what waits for others may have waited in vain when no notification came. */
const RELEASE_EVERY_MS = 5_000;
/** Rooms that are looked at in one go; with more of them each waits longer. */
const RELEASED_AT_ONCE = 50;

/** Whether events of the room are left for its next turn, and those among them for which the time was over. */
type TurnEnd = 'done' | 'left' | 'cut';

/** Whose origin is believed to be in the room, or is not. */
type PlacedErrand = Errand & { readonly isOriginIn: boolean };

/** A room that is leased. */
interface Working {
  /** Something was staged in it since the last look. */
  again: boolean;
  /** Positions of the journal: of the last append to the room that was heard of, and up to which all were minded. */
  toldOf: number;
  settledAt: number;
}

export interface WorkOff {
  /** Says that events of a room were staged. */
  poke(roomId: RoomId): void;
  /** Says that events of a room were staged that wait for a join of ours. */
  watch(roomId: RoomId): void;
  /** Ends turns and errands under way; their events stay staged. */
  close(): Promise<void>;
}

/** Starts at once, and takes over what killed processes have left. */
export function startWorkingOff(context: RoomsContext): WorkOff {
  return new Worker(context);
}

class Worker implements WorkOff {
  readonly #context: RoomsContext;
  readonly #holder = randomUUID();
  readonly #closing = new AbortController();
  readonly #budgets: ReturnType<typeof createBudgets>;
  readonly #working = new Map<RoomId, Working>();
  /** Rooms in which events wait for something that an append may bring. */
  readonly #waiting = new Set<RoomId>();
  #isReleasing = false;
  readonly #runs = new Set<Promise<void>>();
  readonly #timers: NodeJS.Timeout[];
  readonly #unsubscribe: () => void;

  constructor(context: RoomsContext) {
    this.#context = context;
    this.#budgets = createBudgets(context.clock, this.#closing.signal);
    this.#unsubscribe = context.notifier.subscribe((notification) => {
      const roomId = notification?.topic as RoomId | undefined;
      if (roomId === undefined) this.#inBackground(() => this.#releaseAll());
      else if (this.#waiting.has(roomId)) this.#released(roomId, notification?.position ?? 0);
    });
    this.#timers = [
      setInterval(() => this.#inBackground(() => this.#lease()), POLL_MS),
      setInterval(() => this.#inBackground(() => this.#releaseAll()), RELEASE_EVERY_MS),
    ];
    this.#inBackground(() => this.#releaseAll());
  }

  poke(roomId: RoomId): void {
    const working = this.#working.get(roomId);
    if (working !== undefined) working.again = true;
    else this.#inBackground(() => this.#lease(roomId));
  }

  watch(roomId: RoomId): void {
    this.#waiting.add(roomId);
  }

  async close(): Promise<void> {
    this.#closing.abort(new Error('the server is closing'));
    this.#timers.forEach((timer) => clearInterval(timer));
    this.#unsubscribe();
    while (this.#runs.size > 0) await Promise.all(this.#runs);
    await this.#budgets.idle();
  }

  /** Nothing waits for it; a failure is our own trouble, and the next poll tries again. */
  #inBackground(work: () => Promise<void>): void {
    if (this.#closing.signal.aborted) return;
    const run = work()
      .catch((error: unknown) => {
        if (this.#closing.signal.aborted) return;
        this.#context.logger.warn({ err: error }, 'what is staged could not be worked at; it is tried again');
      })
      .finally(() => this.#runs.delete(run));
    this.#runs.add(run);
  }

  /** Looks at rooms in which events have waited in vain for a while, one after the other, and one such look at a time. */
  async #releaseAll(): Promise<void> {
    if (this.#isReleasing) return;
    this.#isReleasing = true;
    try {
      const claim = { everyMs: RELEASE_EVERY_MS, limit: RELEASED_AT_ONCE };
      for (const roomId of await claimWaitingRooms(this.#context.store, claim)) {
        if (this.#closing.signal.aborted) return;
        await this.#settle(roomId, []);
      }
    } finally {
      this.#isReleasing = false;
    }
    await this.#lease();
  }

  /** Something was appended to a room in which events wait: by ourselves, most often, and then it is minded already. */
  #released(roomId: RoomId, position: number): void {
    const working = this.#working.get(roomId);
    if (working !== undefined) {
      working.toldOf = Math.max(working.toldOf, position);
      return;
    }
    this.#inBackground(async () => {
      this.#waiting.delete(roomId);
      if ((await this.#settle(roomId, [])) === 0) this.#waiting.add(roomId);
      else await this.#lease(roomId);
    });
  }

  /** Takes rooms, or the one named, as far as there are places for them. */
  async #lease(roomId?: RoomId): Promise<void> {
    const places = ROOMS_AT_ONCE - this.#working.size;
    if (places <= 0) return;
    const lease = { holder: this.#holder, leaseMs: LEASE_MS, limit: places };
    const rooms = await leaseStagedRooms(this.#context.store, roomId === undefined ? lease : { ...lease, roomId });
    for (const leased of rooms) if (!this.#working.has(leased)) this.#inBackground(() => this.#work(leased));
  }

  async #work(roomId: RoomId): Promise<void> {
    const { store } = this.#context;
    const state: Working = { again: false, toldOf: 0, settledAt: 0 };
    const isTold = (): boolean => state.toldOf > state.settledAt;
    const isMore = (): boolean => state.again || isTold();
    this.#working.set(roomId, state);
    let isLeft = false;
    try {
      for (let turns = 0; turns < TURNS_IN_A_ROW && !this.#closing.signal.aborted; turns++) {
        state.again = false;
        if (isTold()) await this.#settle(roomId, []);
        const lease = { holder: this.#holder, leaseMs: LEASE_MS, limit: TURN_EVENTS_MAX };
        const rows = await takeStaged(store, roomId, lease);
        const [first] = rows;
        const end = first === undefined ? 'done' : await this.#turn(roomId, rows);
        isLeft = end !== 'done' || rows.length === TURN_EVENTS_MAX;
        // What costs so much waits behind all other rooms, and behind the other servers of its own.
        if (end === 'cut' && first !== undefined) await giveWay(store, roomId, first.origin);
        if (end === 'cut' || (!isLeft && !isMore())) break;
      }
    } finally {
      await endStagedRoomLease(store, roomId, this.#holder).finally(() => this.#working.delete(roomId));
    }
    if (isTold() && !this.#closing.signal.aborted) this.#released(roomId, state.toldOf);
    // Others that waited for a place come first.
    if (isLeft || state.again) await this.#lease();
  }

  async #turn(roomId: RoomId, rows: readonly StagedPdu[]): Promise<TurnEnd> {
    const { store, logger } = this.#context;
    const { signal } = this.#closing;
    let outcome: TurnOutcome | 'not-ours';
    try {
      outcome = await takeTurn(this.#context, roomId, rows, signal);
    } catch (error) {
      if (signal.aborted) throw error;
      // They are another stay's by now, or nobody's: the next turn sees.
      if (error instanceof StayOverError) return 'left';
      const [only] = rows;
      if (rows.length > 1 || only === undefined) {
        logger.error({ err: error, roomId, events: rows.length }, 'pushed events failed together; each is tried alone');
        return this.#eachAlone(roomId, rows);
      }
      logger.error({ err: error, roomId, eventId: only.eventId }, 'a pushed event could not be judged');
      const reason = `our own trouble: ${error instanceof Error ? error.message : String(error)}`;
      if (only.ageMs > OWN_TROUBLE_MS_MAX && only.lateMs <= LATE_MS) {
        await dropStaged(store, roomId, [{ nid: only.nid, reason }]);
        return 'done';
      }
      // No try of the event: nobody was asked for what it lacks.
      await setStagedAside(store, [{ nid: only.nid, reason, delayMs: Math.max(POLL_MS, restAt(only.ageMs)) }]);
      return 'done';
    }
    if (outcome === 'not-ours') {
      // Nobody of ours is in the room, nor about to be: its events are nothing to us.
      const nids = rows.map(({ nid }) => nid);
      await this.#settle(roomId, nids);
      return 'done';
    }
    return this.#apply(roomId, outcome);
  }

  /** One event that we cannot bear must not keep the others out. What has no turn in time is left. */
  async #eachAlone(roomId: RoomId, rows: readonly StagedPdu[]): Promise<TurnEnd> {
    const { clock } = this.#context;
    const until = clock.now() + JUDGED_MS_MAX;
    let isLeft = false;
    for (const [i, row] of rows.entries()) {
      if (i > 0 && clock.now() >= until) return 'cut';
      isLeft = (await this.#turn(roomId, [row])) === 'left' || isLeft;
    }
    return isLeft ? 'left' : 'done';
  }

  async #apply(roomId: RoomId, { done, dropped, aside, errands, isCut }: TurnOutcome): Promise<TurnEnd> {
    const { store, logger } = this.#context;
    const isWaiting = aside.some(({ waitsFor = [] }) => waitsFor.length > 0);
    if (isWaiting) this.#waiting.add(roomId);
    await setStagedAside(store, aside);
    await dropStaged(store, roomId, dropped);
    if (dropped.length > 0) logger.info({ roomId, dropped: dropped.length, first: dropped[0] }, 'events were given up');
    // What asks somebody stands for its event no longer, perhaps: then what waits for it is released.
    const isSettling = isWaiting || done.length + dropped.length > 0 || aside.some(({ isAttempt }) => isAttempt);
    const released = isSettling ? await this.#settle(roomId, done) : 0;
    const originsIn = await readOriginsIn(
      this.#context,
      roomId,
      new Map(errands.map((errand) => [errand.origin, eventsOf(errand)])),
    );
    for (const errand of errands) await this.#start({ ...errand, isOriginIn: originsIn.has(errand.origin) });
    if (isCut) return 'cut';
    const isPutBack = aside.some(({ delayMs = 0, waitsFor = [] }) => delayMs === 0 && waitsFor.length === 0);
    return released > 0 || isPutBack ? 'left' : 'done';
  }

  /** What is waited for may have come before this was written down: then nothing else would say so. */
  async #settle(roomId: RoomId, nids: readonly number[]): Promise<number> {
    const { released, position } = await settleStaged(this.#context.store, roomId, nids, TURN_EVENTS_MAX);
    const working = this.#working.get(roomId);
    if (working !== undefined) working.settledAt = position;
    return released;
  }

  async #start(errand: PlacedErrand): Promise<void> {
    const { roomId, origin, rows, isOriginIn } = errand;
    const nids = rows.map(({ nid }) => nid);
    const attempts = Math.max(0, ...rows.map((row) => row.attempts));
    const isAhead = rows.length === 0;
    const run = async (spending: Spending): Promise<void> => {
      const outcome = await this.#run(errand, spending);
      if (isAhead || this.#closing.signal.aborted) return;
      if (outcome === 'no-place') return this.#waitForPlace(rows);
      const delayMs = outcome === 'done' ? 0 : pauseAfter(attempts);
      await wakeStaged(this.#context.store, nids, { delayMs, wasAttempt: true });
      if (outcome === 'done') this.poke(roomId);
    };
    const later = () => wakeStaged(this.#context.store, nids, { delayMs: POLL_MS, wasAttempt: false });
    const isTaken = this.#budgets.tryRun(
      { roomId, origin, isAhead, isOutside: !isOriginIn },
      (spending) =>
        run(spending).catch((error: unknown) => {
          this.#context.logger.warn({ err: error, roomId }, 'what pushed events lack could not be looked for');
        }),
      () => this.#inBackground(later),
    );
    if (!isTaken && !isAhead) await later();
  }

  /** The want of a place is no attempt of an event, for as long as events may wait at all. */
  async #waitForPlace(rows: Errand['rows']): Promise<void> {
    const { store } = this.#context;
    const isOld = ({ ageMs }: Errand['rows'][number]): boolean => ageMs > LONGEST_STAGED_MS;
    for (const wasAttempt of [false, true]) {
      const nids = rows.filter((row) => isOld(row) === wasAttempt).map(({ nid }) => nid);
      await wakeStaged(store, nids, { delayMs: PLACE_EVERY_MS, wasAttempt });
    }
  }

  async #run(errand: PlacedErrand, spending: Spending): Promise<Filled> {
    const { lacksParents, lacksAuthEvents, ...about } = errand;
    const context = inStay(this.#context, errand);
    const asking = beginAsking(this.#context, spending);
    try {
      const parents =
        lacksParents.length === 0 ? 'done' : await fillGap(context, { ...about, eventIds: lacksParents }, asking);
      const areJudged =
        lacksAuthEvents.length === 0 || (await fetchAuthEvents(context, { ...about, events: lacksAuthEvents }, asking));
      return areJudged ? parents : 'nothing';
    } catch (error) {
      // Its time was used up while something else than a request went on, or nobody wants it any more.
      if (spending.signal.aborted || error instanceof StayOverError) return 'nothing';
      throw error;
    }
  }
}

function eventsOf({ lacksParents, lacksAuthEvents }: Errand): EventId[] {
  return [...lacksParents, ...lacksAuthEvents.map(({ eventId }) => eventId)];
}
