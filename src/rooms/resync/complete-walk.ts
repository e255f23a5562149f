/**
 * The end of a walk: check 6 is replayed for what was taken in while the room was partial, the current state is worked out
 * again from the full states of the extremities, and the resync is closed. Both are done outside the room's lock, as far as
 * the timeline goes by then. What the replay finds is appended in batches, with how far it came, so that whoever takes the room up
 * after a crash goes on there; the completion is appended when nothing has come since. Under the lock no states are resolved that take
 * long to (src/rooms/judge/resolve-in-time.ts): nothing is completed then, and they are resolved outside first.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type ResyncEvent, type SnapshotId, type TimelineEvent } from '../../resync/events.ts';
import { type ResyncState } from '../../resync/state.ts';
import { invariant } from '../../invariant.ts';
import { countCorrectionsDue } from '../../store/events/corrections.ts';
import { countPartial } from '../../store/events/event-states.ts';
import { readStayStart } from '../../store/events/timeline-order.ts';
import { append } from '../../store/journal/journal.ts';
import { readTurnedJoins } from '../../store/journal/joins.ts';
import { summaryOf } from '../../store/journal/room-summaries.ts';
import {
  type LockedResync,
  type LockedRoom,
  type ResyncRow,
  isAnybodyIn,
  lockRoom,
  readLocalMembers,
  readRoom,
  readStanding,
} from '../../store/journal/rooms.ts';
import { type Sql, type Transaction } from '../../store/open-store.ts';
import { type RoomsContext } from '../context.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { RESOLVED_UNDER_LOCK_MS_MAX } from '../judge/outside-the-lock.ts';
import { ResolutionTakesLong, resolveBriefly } from '../judge/resolve-in-time.ts';
import { type Resolve } from '../judge/resolve.ts';
import { Check6Replay } from './replay-check-6.ts';
import { stateOfExtremities } from './state-of-extremities.ts';

/**
 * A replay begins anew when a verdict that it has passed is reversed. After so many the one that is there goes on all the same: who
 * can make corrections again and again must not keep the room partial, and what they do to a soft failure is not much.
 */
const REPLAYS_MAX = 5;
/** Events judged between two appends, */
const BATCH_EVENTS_MAX = 200;
/** which come after this long at the latest. */
const BATCH_MS_MAX = 5_000;

/** The state after some extremities. */
interface Tip {
  readonly extremities: readonly EventId[];
  readonly state: SnapshotId;
  /** For which it holds. */
  readonly stateVersion: number;
}

interface Replay {
  readonly check6: Check6Replay;
  /** For which it holds. */
  stateVersion: number;
  /** How often one was begun in this stay. */
  readonly begun: number;
}

/** What is known of the room before something is worked out. */
type Before = Pick<ResyncRow, 'stateVersion'> & { readonly state: Pick<ResyncState, 'replay'> };

/** What is worked out for the completion of one room, over all tries of a walk. */
export class Completion {
  readonly #context: RoomsContext;
  readonly #roomId: RoomId;
  readonly #heartbeat: () => void;
  #replay: Replay | undefined;
  #tip: Tip | undefined;

  constructor(context: RoomsContext, roomId: RoomId, heartbeat: () => void) {
    this.#context = context;
    this.#roomId = roomId;
    this.#heartbeat = heartbeat;
  }

  /** The walk has reversed so many verdicts itself: on partial events, which a replay has not come to. */
  flipped(stateVersion: number, flips: number): void {
    if (this.#replay?.stateVersion === stateVersion) this.#replay.stateVersion += flips;
  }

  /** For what the replay holds, if there is one: for `undone`. */
  get replayedVersion(): number | undefined {
    return this.#replay?.stateVersion;
  }

  /** A transaction was undone, and what it has reversed with it: the replay holds for what it held for before. */
  undone(replayedVersion: number | undefined): void {
    if (this.#replay !== undefined && replayedVersion !== undefined) this.#replay.stateVersion = replayedVersion;
  }

  get #isReplayed(): boolean {
    return this.#context.policy.retroSoftFail !== false;
  }

  /**
   * Works out what can be, by what the timeline holds now, up to a batch of the replay. `false`: there is more; `appendBatch` is to come
   * first.
   */
  async prepare(sql: Sql, before: Before): Promise<boolean> {
    this.#tip = undefined;
    if (this.#isReplayed) {
      const replay = await this.#replayFor(sql, before);
      this.#replay = replay;
      if (!(await this.#catchUp(sql, replay, { msMax: BATCH_MS_MAX, eventsMax: BATCH_EVENTS_MAX }))) return false;
      if (replay.stateVersion === before.stateVersion) {
        this.#tip = await tipOf(sql, replay);
        return true;
      }
      // One that goes on though its verdicts are of before stands on states of before, too.
      if (replay.check6.findings.length > 0) return false;
    }
    const standing = await readStanding(sql, this.#roomId);
    // A provisional state becomes another one, and nothing tells the tip.
    if (standing === undefined || (await countPartial(sql, this.#roomId)) > 0) return true;
    const { extremities } = standing;
    const state = await stateOfExtremities(sql, this.#roomId, extremities);
    this.#tip = { extremities, state, stateVersion: standing.stateVersion };
    return true;
  }

  /** The one that goes on: ours, or the one that is journalled. Where neither holds, one that begins. */
  async #replayFor(sql: Sql, { stateVersion, state: { replay: journalled } }: Before): Promise<Replay> {
    const own = this.#replay;
    if (own !== undefined && holds(own, stateVersion)) return own;
    const goesOn = own === undefined && journalled !== null && holds(journalled, stateVersion);
    const start = await readStayStart(sql, this.#roomId);
    const room = await readRoom(sql, this.#roomId);
    invariant(start !== undefined && room !== undefined, `the join that opened the stay in ${this.#roomId} is stored`);
    const begun = Math.max(own?.begun ?? 0, journalled?.begun ?? 0) + (goesOn ? 0 : 1);
    const passedUpTo = goesOn ? journalled.position : 0;
    const check6 = new Check6Replay(this.#roomId, rulesOfJoined(room.roomVersion), start, passedUpTo);
    return { check6, stateVersion, begun };
  }

  /** Whether it is at the end of the timeline. */
  #catchUp(sql: Sql, { check6 }: Replay, { msMax, eventsMax, resolve }: CatchUpLimits): Promise<boolean> {
    const { clock } = this.#context;
    const until = clock.now() + msMax;
    const isTimeUp = (): boolean => clock.now() >= until;
    return check6.catchUp(sql, { onEvent: this.#heartbeat, isTimeUp, eventsMax, resolve });
  }

  /** Appends what the replay has found, and how far it is, to a room that is as it was before. */
  async appendBatch(tx: Transaction, room: LockedRoom): Promise<void> {
    if (this.#replay === undefined) return;
    const { check6, begun } = this.#replay;
    const { findings, position } = check6;
    const softFailed = findings.filter(({ type }) => type === 'EventSoftFailed').length;
    const counts = { softFailed, lifted: findings.length - softFailed };
    const { stateVersion } = room;
    const at = this.#context.clock.now();
    await append(tx, room, [...findings, { type: 'Check6Replayed', position, stateVersion, begun, ...counts, at }]);
  }

  /** It is durable. */
  batchAppended(): void {
    this.#replay?.check6.forgetFindings();
  }

  /**
   * Completes a room in which nothing is partial, where everything is worked out, or can be in `msMax`. Joins of ours that the
   * full state refuses have failed; where they leave nobody of us in the room, the stay ends. By a verdict that is still to be
   * corrected neither is so: whoever brings corrections all the time gets a whole room, which tells it when they are through.
   *
   * @returns `false`: there is more to be worked out, outside
   * @throws ResolutionTakesLong as `false`, where something was appended by then, which has to be undone
   */
  async append(
    tx: Transaction,
    stay: LockedResync,
    msMax: number,
    resolve: Resolve = resolveBriefly(RESOLVED_UNDER_LOCK_MS_MAX),
  ): Promise<boolean> {
    let { room } = stay;
    const replay = this.#replay;
    if (this.#isReplayed && (replay === undefined || !holds(replay, room.stateVersion))) return false;
    // Where the transaction is undone, so is what a replay has seen in it.
    this.#replay = undefined;
    let currentState: SnapshotId | undefined;
    let isBegun = false;
    try {
      if (replay === undefined || (await this.#catchUpLocked(tx, room, replay, { msMax, resolve }))) {
        const findings = replay?.check6.findings ?? [];
        if (findings.length > 0) {
          isBegun = true;
          await append(tx, room, findings);
          room = await relock(tx, this.#roomId);
        }
        currentState = await this.#stateOf(tx, room, msMax > 0 || isBegun ? resolve : undefined);
      }
    } catch (error) {
      if (isBegun || !(error instanceof ResolutionTakesLong)) throw error;
      sayHeldUp(this.#context, this.#roomId);
    }
    if (currentState === undefined) {
      this.#replay = replay;
      return false;
    }
    await this.#close(tx, room, stay, currentState);
    return true;
  }

  /** @throws ResolutionTakesLong */
  async #catchUpLocked(
    tx: Transaction,
    { stateVersion }: LockedRoom,
    replay: Replay,
    limits: Pick<CatchUpLimits, 'msMax' | 'resolve'>,
  ): Promise<boolean> {
    if (!(await this.#catchUp(tx, replay, { ...limits, eventsMax: BATCH_EVENTS_MAX }))) return false;
    if (replay.stateVersion === stateVersion) this.#tip = await tipOf(tx, replay, limits.resolve);
    return true;
  }

  /**
   * As it was worked out before; where the room stands elsewhere, it is worked out now if that is worth the lock.
   *
   * @throws ResolutionTakesLong
   */
  async #stateOf(
    tx: Transaction,
    { extremities, stateVersion }: LockedRoom,
    resolve: Resolve | undefined,
  ): Promise<SnapshotId | undefined> {
    const tip = this.#tip?.stateVersion === stateVersion ? this.#tip : undefined;
    const known = new Set(tip?.extremities);
    const stands = known.size === extremities.length && extremities.every((eventId) => known.has(eventId));
    if (stands && tip !== undefined) return tip.state;
    return resolve && stateOfExtremities(tx, this.#roomId, extremities, resolve);
  }

  async #close(
    tx: Transaction,
    room: LockedRoom,
    { resync: { degraded } }: LockedResync,
    currentState: SnapshotId,
  ): Promise<void> {
    const roomId = this.#roomId;
    const at = this.#context.clock.now();
    const remaining = await countCorrectionsDue(tx, roomId);
    const resolved = [{ type: 'CurrentStateResolved', currentState } as const];
    const { members, end } = await appendCurrentState(tx, room, resolved, { isLast: remaining === 0, at });
    const lacking = degraded === null ? {} : { lacking: degraded.count };
    const due = remaining === 0 ? {} : { remaining };
    const completed: ResyncEvent[] =
      end?.because === 'join-rejected' ? [] : [{ type: 'ResyncCompleted', members, ...lacking, ...due, at }];
    await append(tx, await relock(tx, roomId), [...completed, ...(end === undefined ? [] : [end])]);
  }
}

/** For operators: whoever does that to a room again and again keeps it from its end. */
export function sayHeldUp({ logger }: Pick<RoomsContext, 'logger'>, roomId: RoomId): void {
  logger.warn({ roomId }, 'states of a room take long to resolve: its walk goes on without its lock');
}

interface CatchUpLimits {
  readonly msMax: number;
  readonly eventsMax: number;
  readonly resolve?: Resolve;
}

/** After what a replay has gone through, all of which is by its version. @throws what `resolve` does */
async function tipOf(sql: Sql, { check6, stateVersion }: Replay, resolve?: Resolve): Promise<Tip> {
  return { extremities: check6.extremities, state: await check6.currentState(sql, resolve), stateVersion };
}

/** Whether what a replay has passed is as it was, or it was begun often enough. */
function holds(replay: { readonly stateVersion: number; readonly begun: number }, stateVersion: number): boolean {
  return replay.stateVersion === stateVersion || replay.begun >= REPLAYS_MAX;
}

/**
 * Appends a current state that was worked out anew, or nothing where it is the same, with the joins of ours that are rejected
 * now, or no longer. `end`: how the stay ends, where nobody of us is in the room by that state; it is to be appended.
 *
 * @param about.isLast no correction is due that may change what is said of our joins; else nothing is, and no stay ends
 */
export async function appendCurrentState(
  tx: Transaction,
  room: LockedRoom,
  resolved: readonly Extract<TimelineEvent, { type: 'CurrentStateResolved' }>[],
  { isLast, at }: { readonly isLast: boolean; readonly at: number },
): Promise<{ readonly members: number; readonly end: Extract<ResyncEvent, { type: 'StayEnded' }> | undefined }> {
  const { roomId } = room;
  const turned = isLast ? await turnedJoins(tx, room, at) : [];
  await append(tx, room, [...resolved, ...turned]);
  const row = await readRoom(tx, roomId);
  invariant(row, `room ${roomId} is locked by this transaction`);
  const { members } = await summaryOf(tx, row);
  if (!isLast || (await isAnybodyIn(tx, roomId))) return { members, end: undefined };
  if (turned.some(({ type }) => type === 'JoinRejected')) {
    return { members, end: { type: 'StayEnded', because: 'join-rejected', at } };
  }
  // Who has left is in the state as one who has. A state that says nothing of us, as behind a cycle in versions 1 and 2, ends nothing.
  const hasLeft = (await readLocalMembers(tx, roomId)).length > 0;
  return { members, end: hasLeft ? { type: 'StayEnded', because: 'left', at } : undefined };
}

/** What the journal is to say of the joins of this stay: those that are rejected and told as accepted, and the other way round. */
async function turnedJoins(tx: Transaction, { roomId, epoch }: LockedRoom, at: number): Promise<ResyncEvent[]> {
  const turned = await readTurnedJoins(tx, roomId, epoch);
  return turned.map(({ joinEventId, userId, refusal }) =>
    refusal === null
      ? { type: 'JoinRestored', joinEventId, userId, at }
      : { type: 'JoinRejected', joinEventId, userId, ...refusal, at },
  );
}

async function relock(tx: Transaction, roomId: RoomId): Promise<LockedRoom> {
  const room = await lockRoom(tx, roomId);
  invariant(room !== undefined, `room ${roomId} is locked by this transaction`);
  return room;
}
