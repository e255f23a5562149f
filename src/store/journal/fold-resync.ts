/** The fold of control events: one row an epoch, by the same `evolve` that the workflow runs. */
import { type ResyncEvent } from '../../resync/events.ts';
import { evolve } from '../../resync/evolve.ts';
import { type ResyncState, asResyncState, isCancelled } from '../../resync/state.ts';
import { type Transaction } from '../open-store.ts';
import { type LockedRoom } from './rooms.ts';

/** What the sweep and others find rooms by: one that an operator has stopped is not among the parked, which are woken. */
function storedPhase(state: ResyncState): string {
  return isCancelled(state) && state.closesAt === null ? 'cancelled' : state.phase;
}

/** Folds `events`, the last of which has `seq`, into the resync of the locked room's epoch, and gives it. */
export async function foldResync(
  tx: Transaction,
  room: LockedRoom,
  events: readonly ResyncEvent[],
  seq: number,
): Promise<ResyncState> {
  const [row] = await tx.query<{ state: ResyncState }>('SELECT state FROM resyncs WHERE room_id = $1 AND epoch = $2', [
    room.roomId,
    room.epoch,
  ]);
  const state = events.reduce(evolve, asResyncState(row?.state ?? null));
  await tx.query(
    `INSERT INTO resyncs (room_id, epoch, seq, state, phase, next_wake_at, purge_at) VALUES ($1, $2, $3, $4, $5, $6, $7)
     ON CONFLICT (room_id, epoch) DO UPDATE
        SET (seq, state, phase, next_wake_at, purge_at, rung_at) =
            (excluded.seq, excluded.state, excluded.phase, excluded.next_wake_at, excluded.purge_at, NULL)`,
    [room.roomId, room.epoch, seq, JSON.stringify(state), storedPhase(state), state.nextWakeAt, state.purgeAt],
  );
  return state;
}
