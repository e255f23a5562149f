/** Journals that every candidate failed in a round, and when the next one starts. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { nextAction } from '../../resync/next-action.ts';
import { nextRoundAt } from '../../resync/policy.ts';
import { append } from '../../store/journal/journal.ts';
import { withTransaction } from '../../store/open-store.ts';
import { lockResync } from '../../store/journal/rooms.ts';
import { type RoomsContext } from '../context.ts';

/** Does nothing when the stay or the round is over, or a candidate has been learned meanwhile. */
export async function endRound(
  context: RoomsContext,
  { roomId, epoch, round }: { readonly roomId: RoomId; readonly epoch: number; readonly round: number },
): Promise<void> {
  await withTransaction(context.store, async (tx) => {
    const stay = await lockResync(tx, roomId, epoch);
    if (stay?.resync.round !== round) return;
    const { room, resync: state } = stay;
    const now = context.clock.now();
    // Candidates may have been learned since the workflow decided; then the round is not over.
    if (nextAction(state, now).type !== 'endRound') return;
    const reason = state.lastFailure?.reason ?? 'no resident may be asked yet';
    const wakeAt = nextRoundAt(state, context.policy, now, context.random());
    await append(tx, room, [{ type: 'RoundFailed', round, wakeAt, reason, at: now }]);
  });
}
