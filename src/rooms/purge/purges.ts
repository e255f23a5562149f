/** Purges as a process that serves offers them: begun at once, gone on with in the background, and resumed when it starts. */
import { setTimeout as delay } from 'node:timers/promises';
import { type RoomId } from '../../matrix/identifiers.ts';
import { type Tombstone, readTombstone, readTombstoneOf } from '../../store/journal/tombstones.ts';
import {
  type RoomPurge,
  purgesToGoOn,
  readPurge,
  readPurgeById,
  roomsToPurge,
} from '../../store/tables/room-purges.ts';
import { RoomError } from '../error.ts';
import { type SendContext } from '../send/send-event.ts';
import { type PurgeStatus, type Purges } from './contract.ts';
import { goOnPurging, planPurge, recordRequest } from './purge.ts';

/** Rooms that are looked for at a time. */
const ROOMS_AT_ONCE = 100;
/** What a killed process was at is claimed by it for half a minute. */
const RESUME_EVERY_MS = 30_000;
/** Who waits for a purge that another process works at looks so often. */
const POLL_MS = 500;

export interface RunningPurges extends Purges {
  /** Ends between two batches what is under way: whoever starts next goes on. */
  close(): Promise<void>;
}

/** Goes on with what was cut off, at once and from time to time. */
export function startPurging(context: SendContext): RunningPurges {
  const { store, logger } = context;
  const closing = new AbortController();
  const running = new Map<RoomId, Promise<void>>();
  const goOn = (roomId: RoomId): Promise<void> => {
    const run =
      running.get(roomId) ??
      goOnPurging(context, roomId, closing.signal)
        .catch((error: unknown) => {
          logger.error({ err: error, roomId }, 'a room could not be purged; the maintenance goes on with it');
        })
        .finally(() => running.delete(roomId));
    running.set(roomId, run);
    return run;
  };
  let resuming: Promise<unknown> | undefined;
  const resume = (): void => {
    resuming ??= resumePurges(context, closing.signal, goOn)
      .catch((error: unknown) => {
        logger.warn({ err: error }, 'purges that were cut off could not be looked for; they are looked for again');
      })
      .finally(() => (resuming = undefined));
  };
  resume();
  const timer = setInterval(resume, RESUME_EVERY_MS);

  const status = async (purgeId: string): Promise<PurgeStatus> => {
    const purge = await readPurgeById(store, purgeId);
    if (purge !== undefined) return statusOf(purge);
    const tombstone = await readTombstoneOf(store, purgeId);
    if (tombstone !== undefined) return doneStatus(tombstone);
    throw new RoomError('unknown-room', 'no purge has that name');
  };
  return {
    plan: (roomId) => planPurge(context, roomId),
    request: async (request) => {
      const purge = await recordRequest(context, request);
      void goOn(request.roomId);
      return statusOf(purge);
    },
    wait: async (purgeId, signal) => {
      const either = AbortSignal.any([signal, closing.signal]);
      for (;;) {
        const now = await status(purgeId);
        if (now.step === 'done' || either.aborted) return now;
        const aborted = delay(POLL_MS, undefined, { signal: either }).catch(() => undefined);
        await Promise.race([goOn(now.roomId).then(() => undefined), aborted]);
        // Another process may be at it: then nothing is under way here.
        if ((await status(purgeId)).step !== 'done') await aborted;
      }
    },
    status,
    ofRoom: async (roomId) => {
      const purge = await readPurge(store, roomId);
      if (purge !== undefined) return [statusOf(purge)];
      const tombstone = await readTombstone(store, roomId);
      return tombstone === undefined ? [] : [doneStatus(tombstone)];
    },
    close: async () => {
      closing.abort();
      clearInterval(timer);
      await resuming;
      await Promise.all(running.values());
    },
  };
}

/** Begins to purge rooms that were left for good so long ago (`leave_during_resync: purge`). One that somebody is in again stays. */
export async function purgeLeft(context: SendContext, now: number): Promise<void> {
  for (const roomId of await roomsToPurge(context.store, now, ROOMS_AT_ONCE)) {
    try {
      await recordRequest(context, { roomId, isForced: false });
    } catch (error) {
      if (!(error instanceof RoomError)) throw error;
      context.logger.info({ err: error, roomId }, 'a room that was left is not purged yet');
    }
  }
}

/** Goes on with all purges at which nobody is, one after the other; gives how many rooms those were. */
export async function resumePurges(
  context: SendContext,
  signal: AbortSignal,
  goOn = (roomId: RoomId): Promise<void> => goOnPurging(context, roomId, signal),
): Promise<number> {
  const rooms = await purgesToGoOn(context.store, ROOMS_AT_ONCE);
  let begun = 0;
  for (const roomId of rooms) {
    if (signal.aborted) break;
    await goOn(roomId);
    begun += 1;
  }
  return begun;
}

function statusOf({ roomId, purgeId, putOut, fencedAt, rows, requestedAt }: RoomPurge): PurgeStatus {
  const step = fencedAt === null ? 'leaving' : rows === 0 ? 'telling' : 'deleting';
  return { roomId, purgeId, step, putOut, rows, requestedAt, doneAt: null };
}

function doneStatus({ roomId, event: { purgeId, putOut, requestedAt, at } }: Tombstone): PurgeStatus {
  return { roomId, purgeId, step: 'done', putOut, rows: null, requestedAt, doneAt: at };
}
