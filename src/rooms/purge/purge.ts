/**
 * Purging a room: everything that is held of it is deleted, but for one entry of the journal. It goes on wherever it was cut off, since
 * each step is read off the row that stands for it (store/tables/room-purges.ts).
 *
 * Users of ours who are in the room leave it first, as if they did so themselves, and other servers are given a minute to hear of it: else
 * they would hold us to be in the room for ever, and send to us. Then the room is fenced, and who cannot leave by its rules is said to
 * have left here alone.
 */
import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { type RoomId, type UserId } from '../../matrix/identifiers.ts';
import { lockRoom, readLocalMembers } from '../../store/journal/rooms.ts';
import { type Sql, withTransaction } from '../../store/open-store.ts';
import { PURGED_TABLES, countRows } from '../../store/purge/purged-tables.ts';
import {
  type RoomPurge,
  claimPurge,
  deleteBatch,
  fenceRoom,
  finishPurge,
  isToldToOthers,
  lockingJoins,
  readOpenMoves,
  readPurge,
  recordPurge,
  releasePurge,
} from '../../store/tables/room-purges.ts';
import { RoomError } from '../error.ts';
import { ringRoom } from '../ring.ts';
import { changeMembership } from '../send/change-membership.ts';
import { type SendContext } from '../send/send-event.ts';
import { type PurgePlan, type PurgeRequest } from './contract.ts';

/** Rows of one transaction: tens of milliseconds of PostgreSQL, so that nobody waits long for a lock of it. */
const ROWS_A_BATCH = 2_000;
/** Other servers are told within a second; who needs longer is told no more. */
const TELLING_MS_MAX = 60_000;
const TELLING_POLL_MS = 200;
/** Far longer than a batch takes; what a killed process had waits so long. */
const CLAIM_MS = 30_000;
/** A join that is under way takes 14 minutes at the most, and most take seconds. */
const JOIN_RETRY_MS = 5_000;

/** What a purge would delete. Throws `unknown-room`. */
export async function planPurge({ store }: Pick<SendContext, 'store'>, roomId: RoomId): Promise<PurgePlan> {
  return withTransaction(store, async (tx) => {
    const members = await joinedOf(tx, roomId);
    const { open: openMoves } = await readOpenMoves(tx, roomId);
    const tables = await countRows(tx, roomId);
    if (!tables.some(({ table }) => table === 'rooms')) throw unknown(roomId);
    return { roomId, members, openMoves, tables: tables.sort((a, b) => b.rows - a.rows) };
  });
}

/** Records that a room is to be purged; one that is being purged already stays so. Throws as `Purges.request` (contract.ts). */
export async function recordRequest(
  { store, clock }: Pick<SendContext, 'store' | 'clock'>,
  { roomId, isForced }: PurgeRequest,
): Promise<RoomPurge> {
  return withTransaction(store, async (tx) => {
    await tx.query(`SELECT ${lockingJoins('$1', 'purge')}`, [roomId]);
    const before = await readPurge(tx, roomId);
    if (before !== undefined) return before;
    if ((await lockRoom(tx, roomId)) === undefined) throw unknown(roomId);
    const members = await joinedOf(tx, roomId);
    const { open, claimed } = await readOpenMoves(tx, roomId);
    if (claimed > 0) {
      throw new RoomError('busy', `somebody is joining ${roomId} at this moment`, { retryAfterMs: JOIN_RETRY_MS });
    }
    if (!isForced && members.length + open > 0) throw needsForce(roomId, members, open);
    return recordPurge(tx, { roomId, purgeId: randomUUID(), requestedAt: clock.now(), putOut: members });
  });
}

/** Goes on with a purge to its end, or until the signal is aborted: then whoever comes next does. Does nothing where somebody is at it. */
export async function goOnPurging(context: SendContext, roomId: RoomId, signal: AbortSignal): Promise<void> {
  const { store } = context;
  if ((await claimPurge(store, roomId, { ms: CLAIM_MS, isMine: false })) === undefined) return;
  try {
    await takeSteps(context, roomId, signal);
  } finally {
    await releasePurge(store, roomId);
  }
}

async function takeSteps(context: SendContext, roomId: RoomId, signal: AbortSignal): Promise<void> {
  const { store, clock } = context;
  /** The purge as it stands, still ours; `undefined`: it is over, or not to be gone on with. */
  const current = async (): Promise<RoomPurge | undefined> =>
    signal.aborted ? undefined : claimPurge(store, roomId, { ms: CLAIM_MS, isMine: true });
  if ((await current())?.fencedAt === null) {
    await leaveAll(context, roomId, async () => (await current()) !== undefined);
    if ((await current()) === undefined) return;
    await withTransaction(store, (tx) => fenceRoom(tx, roomId, clock.now()));
    // Its workflow sees that there is nothing more to do.
    await ringRoom(context, roomId, 'for a purge');
  }
  for (;;) {
    const purge = await current();
    if (purge === undefined) return;
    const isLate = clock.now() >= (purge.fencedAt ?? 0) + TELLING_MS_MAX;
    if (purge.rows > 0 || isLate || (await isToldToOthers(store, roomId))) break;
    await delay(TELLING_POLL_MS, undefined, { signal }).catch(() => undefined);
  }
  for (let isDone = false; !isDone;) {
    for (const table of PURGED_TABLES) {
      let rows = ROWS_A_BATCH;
      while (rows === ROWS_A_BATCH) {
        if ((await current()) === undefined) return;
        rows = await withTransaction(store, (tx) => deleteBatch(tx, roomId, table, ROWS_A_BATCH));
      }
    }
    isDone = await withTransaction(store, (tx) => finishPurge(tx, roomId, ROWS_A_BATCH, clock.now()));
  }
}

/** Whoever cannot leave, as only the rules of the room can keep him from, is out by the fence. */
async function leaveAll(context: SendContext, roomId: RoomId, goesOn: () => Promise<boolean>): Promise<void> {
  for (const userId of await joinedOf(context.store, roomId)) {
    if (!(await goesOn())) return;
    try {
      await changeMembership(context, {
        roomId,
        sender: userId,
        userId,
        act: 'leave',
        isForced: true,
        isDue: true,
      });
    } catch (error) {
      if (!(error instanceof RoomError)) throw error;
      context.logger.warn(
        { err: error, roomId, userId },
        'a user cannot leave a room that is purged; others are not told',
      );
    }
  }
}

async function joinedOf(sql: Sql, roomId: RoomId): Promise<UserId[]> {
  const members = await readLocalMembers(sql, roomId);
  return members.flatMap(({ userId, membership, isSilent }) => (membership === 'join' || isSilent ? [userId] : []));
}

function unknown(roomId: RoomId): RoomError {
  return new RoomError('unknown-room', `nothing is held of ${roomId}`);
}

/** Of a list that may be long. */
const NAMED_MAX = 3;

function needsForce(roomId: RoomId, members: readonly UserId[], open: number): RoomError {
  const named = `${members.slice(0, NAMED_MAX).join(', ')}${members.length > NAMED_MAX ? ', …' : ''}`;
  const who = members.length === 0 ? '' : `${members.length} users of this server are in ${roomId} (${named})`;
  const moves = open === 0 ? '' : `${open} joins or leaves of users of this server in ${roomId} are not settled`;
  return new RoomError(
    'needs-force',
    `${[who, moves].filter((text) => text !== '').join(', and ')}; by force they are out`,
  );
}
