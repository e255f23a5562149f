/**
 * The end of a walk: check 6 is replayed for what was taken in while the room was partial, the current state is worked out
 * again from the full states of the extremities, and the resync is closed. Both are done outside the room's lock, as far as
 * the timeline goes by then, and appended when nothing has come since.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type ResyncEvent, type SnapshotId, type TimelineEvent } from '../../resync/events.ts';
import { invariant } from '../../invariant.ts';
import { countPartial } from '../../store/events/event-states.ts';
import { readStayStart } from '../../store/events/timeline-order.ts';
import { append } from '../../store/journal/journal.ts';
import { readTurnedJoins } from '../../store/journal/joins.ts';
import { summaryOf } from '../../store/journal/room-summaries.ts';
import {
  type LockedResync,
  type LockedRoom,
  isAnybodyIn,
  lockRoom,
  readRoom,
  readStanding,
} from '../../store/journal/rooms.ts';
import { type Sql, type Transaction } from '../../store/open-store.ts';
import { type RoomsContext } from '../context.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { Check6Replay } from './replay-check-6.ts';
import { stateOfExtremities } from './state-of-extremities.ts';

/**
 * A replay begins anew when a verdict that it has passed is reversed. After so many the one that is there goes on all the same: who
 * can make corrections again and again must not keep the room partial, and what they do to a soft failure is not much.
 */
const REPLAYS_MAX = 5;

/** The state after some extremities. */
interface Tip {
  readonly extremities: readonly EventId[];
  readonly state: SnapshotId;
  /** For which it holds: a replay that goes on though its verdicts are of before stands on states of before, too. */
  readonly stateVersion: number;
}

interface Replay {
  readonly check6: Check6Replay;
  /** For which it holds. */
  stateVersion: number;
}

/** What is worked out for the completion of one room, over all tries of a walk. */
export class Completion {
  readonly #context: RoomsContext;
  readonly #roomId: RoomId;
  readonly #heartbeat: () => void;
  #replay: Replay | undefined;
  #replaysBegun = 0;
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

  get #isReplayed(): boolean {
    return this.#context.policy.retroSoftFail !== false;
  }

  #holds(replay: Replay, stateVersion: number): boolean {
    return replay.stateVersion === stateVersion || this.#replaysBegun >= REPLAYS_MAX;
  }

  /** Works out what can be, by what the timeline holds now. */
  async prepare(sql: Sql, stateVersion: number): Promise<void> {
    if (!this.#isReplayed) {
      this.#tip = undefined;
      const standing = await readStanding(sql, this.#roomId);
      // A provisional state becomes another one, and nothing tells the tip.
      if (standing === undefined || (await countPartial(sql, this.#roomId)) > 0) return;
      const { extremities } = standing;
      const state = await stateOfExtremities(sql, this.#roomId, extremities);
      this.#tip = { extremities, state, stateVersion: standing.stateVersion };
      return;
    }
    if (this.#replay === undefined || !this.#holds(this.#replay, stateVersion)) {
      const start = await readStayStart(sql, this.#roomId);
      const room = await readRoom(sql, this.#roomId);
      invariant(
        start !== undefined && room !== undefined,
        `the join that opened the stay in ${this.#roomId} is stored`,
      );
      this.#replaysBegun += 1;
      const check6 = new Check6Replay(this.#roomId, rulesOfJoined(room.roomVersion), start);
      this.#replay = { check6, stateVersion };
    }
    await this.#catchUp(sql, this.#replay, Number.POSITIVE_INFINITY);
  }

  /** Whether it is at the end of the timeline. */
  async #catchUp(sql: Sql, { check6, stateVersion }: Replay, msMax: number): Promise<boolean> {
    const { clock } = this.#context;
    const until = clock.now() + msMax;
    const isTimeUp = (): boolean => clock.now() >= until;
    const isAtEnd = await check6.catchUp(sql, { onEvent: this.#heartbeat, isTimeUp });
    if (isAtEnd) {
      this.#tip = { extremities: check6.extremities, state: await check6.currentState(sql), stateVersion };
    }
    return isAtEnd;
  }

  /**
   * Completes a room in which nothing is partial, where everything is worked out, or can be in `msMax`. Joins of ours that the
   * full state refuses have failed; where they leave nobody of us in the room, the stay ends.
   */
  async append(tx: Transaction, stay: LockedResync, msMax: number): Promise<boolean> {
    let { room } = stay;
    const replay = this.#replay;
    if (this.#isReplayed && (replay === undefined || !this.#holds(replay, room.stateVersion))) return false;
    // Where the transaction is undone, so is what a replay has seen in it.
    this.#replay = undefined;
    if (replay !== undefined && !(await this.#catchUp(tx, replay, msMax))) {
      this.#replay = replay;
      return false;
    }
    const softFailed = replay?.check6.softFailed ?? [];
    if (softFailed.length > 0) {
      await append(tx, room, softFailed);
      room = await relock(tx, this.#roomId);
    }
    const currentState = await this.#stateOf(tx, room, msMax > 0 || softFailed.length > 0);
    if (currentState === undefined) {
      this.#replay = replay;
      return false;
    }
    await this.#close(tx, room, stay, currentState);
    return true;
  }

  /** As it was worked out before; where the room stands elsewhere, it is worked out now if that is worth the lock. */
  async #stateOf(
    tx: Transaction,
    { extremities, stateVersion }: LockedRoom,
    mayResolve: boolean,
  ): Promise<SnapshotId | undefined> {
    const tip = this.#tip?.stateVersion === stateVersion ? this.#tip : undefined;
    const known = new Set(tip?.extremities);
    const stands = known.size === extremities.length && extremities.every((eventId) => known.has(eventId));
    if (stands && tip !== undefined) return tip.state;
    return mayResolve ? stateOfExtremities(tx, this.#roomId, extremities) : undefined;
  }

  async #close(
    tx: Transaction,
    room: LockedRoom,
    { resync: { degraded } }: LockedResync,
    currentState: SnapshotId,
  ): Promise<void> {
    const roomId = this.#roomId;
    const at = this.#context.clock.now();
    const { members, isOver } = await appendCurrentState(
      tx,
      room,
      [{ type: 'CurrentStateResolved', currentState }],
      at,
    );
    const lacking = degraded === null ? {} : { lacking: degraded.count };
    await append(tx, await relock(tx, roomId), [
      isOver
        ? { type: 'StayEnded', because: 'join-rejected', at }
        : { type: 'ResyncCompleted', members, ...lacking, at },
    ]);
  }
}

/**
 * Appends a current state that was worked out anew, or nothing where it is the same, with the joins of ours that are rejected
 * now, or no longer. `isOver`: the rejected ones leave nobody of us in the room.
 */
export async function appendCurrentState(
  tx: Transaction,
  room: LockedRoom,
  resolved: readonly Extract<TimelineEvent, { type: 'CurrentStateResolved' }>[],
  at: number,
): Promise<{ readonly members: number; readonly isOver: boolean }> {
  const { roomId } = room;
  const turned = await turnedJoins(tx, room, at);
  await append(tx, room, [...resolved, ...turned]);
  const row = await readRoom(tx, roomId);
  invariant(row, `room ${roomId} is locked by this transaction`);
  const { members } = await summaryOf(tx, row);
  return { members, isOver: turned.some(({ type }) => type === 'JoinRejected') && !(await isAnybodyIn(tx, roomId)) };
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
