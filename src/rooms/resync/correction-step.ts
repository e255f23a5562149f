/** What the steps of a correction share: where the room stood, and the one way to write what was worked out. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type ResyncEvent, type TimelineEvent } from '../../resync/events.ts';
import { type ResyncState } from '../../resync/state.ts';
import { countCorrectionsDue } from '../../store/events/corrections.ts';
import { append } from '../../store/journal/journal.ts';
import { type LockedRoom, lockResync } from '../../store/journal/rooms.ts';
import { type Transaction, withTransaction } from '../../store/open-store.ts';
import { type RoomsContext } from '../context.ts';

/** A room in which something is corrected, as it was when a step began. */
export interface Correcting {
  readonly context: RoomsContext;
  readonly roomId: RoomId;
  readonly epoch: number;
  readonly rules: RoomVersionRules;
  readonly stateVersion: number;
  readonly progress: CorrectionProgress;
}

export interface CorrectionProgress {
  readonly signal: AbortSignal;
  readonly heartbeat: () => void;
}

/** A room whose states are to be had; while they are fetched there is nothing to be judged by. */
export function mayCorrect({ phase }: ResyncState): boolean {
  return phase === 'walking' || phase === 'complete';
}

/**
 * Runs `work` under the room's lock, unless a verdict or a state has changed since the step began: then nothing happens, and what
 * was worked out is void. What `work` returns is appended.
 */
export async function commitCorrections(
  { context, roomId, epoch, stateVersion }: Correcting,
  work: (tx: Transaction, room: LockedRoom) => Promise<readonly (ResyncEvent | TimelineEvent)[]>,
): Promise<boolean> {
  return withTransaction(context.store, async (tx) => {
    const stay = await lockResync(tx, roomId, epoch);
    if (stay === undefined || !mayCorrect(stay.resync) || stay.room.stateVersion !== stateVersion) return false;
    await append(tx, stay.room, await work(tx, stay.room));
    return true;
  });
}

/** What is journalled of a step that judged events; in the transaction that removes what it looked at. */
export async function correctedEvent(
  tx: Transaction,
  { context, roomId }: Correcting,
  judged: number,
  changed: number,
): Promise<ResyncEvent> {
  const remaining = await countCorrectionsDue(tx, roomId);
  return { type: 'EventsCorrected', judged, changed, remaining, at: context.clock.now() };
}
