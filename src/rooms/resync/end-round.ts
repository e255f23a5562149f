/** Journals that every candidate failed in a round, when the next one starts and whom it asks beside the best candidates, or that it is parked. */
import { type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { CANDIDATES_MAX } from '../../resync/candidates.ts';
import { nextAction } from '../../resync/next-action.ts';
import { evolve } from '../../resync/evolve.ts';
import { nextRoundAt, parkedAfter, policyFor } from '../../resync/policy.ts';
import { append } from '../../store/journal/journal.ts';
import { type ResyncState } from '../../resync/state.ts';
import { type Transaction, withTransaction } from '../../store/open-store.ts';
import { pickHints } from '../../store/tables/room-servers.ts';
import { type LockedRoom, lockResync } from '../../store/journal/rooms.ts';
import { type RoomsContext } from '../context.ts';
import { readProvisionalStates } from '../../store/events/anchors.ts';
import { type ResyncEvent } from '../../resync/events.ts';
import { serversLeft } from './servers-left.ts';

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
    const hints = await freshHints(context, tx, room.roomId, state);
    const left = await leftOf(tx, room, state);
    const failed = { type: 'RoundFailed', round, wakeAt, reason, ...hints, ...left, at: now } as const;
    const { park } = policyFor(context.policy, state.control.policy);
    const after = evolve(state, failed);
    if (after.orphaned.rounds >= park.refusedRounds) {
      const states = await readProvisionalStates(tx, roomId);
      const orphaned = [...states].map(([assumedState, eventIds]) => ({ eventIds, assumedState, at: now }));
      await append(tx, room, [failed, ...orphaned.map((entry) => ({ type: 'RoomOrphaned' as const, ...entry }))]);
      return;
    }
    const parked = parkedAfter(state, after, now, park);
    const leaves = park.then === 'leave' ? { leaves: true as const } : {};
    await append(tx, room, [
      failed,
      ...(parked === undefined ? [] : [{ type: 'ResyncParked' as const, ...parked, ...leaves, at: now }]),
    ]);
  });
}

/** Those of the candidates that have left the room, and whether all servers have. */
async function leftOf(
  tx: Transaction,
  { roomId, currentState }: LockedRoom,
  { candidates }: ResyncState,
): Promise<Pick<Extract<ResyncEvent, { type: 'RoundFailed' }>, 'left' | 'isOrphaned'>> {
  if (currentState === null) return {};
  const { left, isOrphaned } = await serversLeft(tx, roomId, currentState);
  const some = candidates.filter((name) => left.has(name));
  return { ...(some.length === 0 ? {} : { left: some }), ...(isOrphaned ? { isOrphaned: true } : {}) };
}

/** Others of those said to be in the room: a list of thousands is asked through, some of it each round. */
async function freshHints(
  { random }: RoomsContext,
  tx: Transaction,
  roomId: RoomId,
  { candidates, ranks, control }: ResyncState,
): Promise<{ readonly hints?: readonly ServerName[] }> {
  const better = ranks.answered + ranks.via + ranks.spoke;
  const places = CANDIDATES_MAX - better;
  const fresh = await pickHints(tx, roomId, [...candidates, ...control.banned], random(), places);
  // Where there are few others, those of this round keep the places that are left.
  return fresh.length === 0 ? {} : { hints: [...fresh, ...candidates.slice(better)].slice(0, places) };
}
