/**
 * The sweep: rings the workflow of every room that should be moving and is not. It goes through all of them, the one rung
 * least lately first, so that no number of slow rooms keeps a dead one from its turn.
 */
import { setTimeout as delay } from 'node:timers/promises';
import pLimit from 'p-limit';
import { type RoomsContext } from '../src/rooms/context.ts';
import { type OverdueRoom, overdueResyncs } from '../src/store/journal/rooms.ts';
import { type PassInput, type SweepResult } from '../src/temporal/contract.ts';

/** Rings side by side: a ring is a round trip or two to Temporal. */
const RINGS_AT_ONCE = 15;
/** At most so many rings a second, so that a Temporal server that was away is not met by all rooms at once. */
const RINGS_A_SECOND = 50;

export interface SweepDependencies {
  readonly rooms: Pick<RoomsContext, 'store' | 'clock' | 'logger' | 'ring'>;
  /** How long a room may be overdue before it is rung, milliseconds; also the pause between two rings of a room. */
  readonly sweepAfterMs: number;
  /** Ends the workflow of a room if it cannot go on, and says whether it did. */
  readonly endWedged: (roomId: OverdueRoom['roomId']) => Promise<boolean>;
}

export async function ringOverdue(
  { rooms, sweepAfterMs, endWedged }: SweepDependencies,
  { budgetMs }: PassInput,
  { signal, heartbeat }: { readonly signal: AbortSignal; readonly heartbeat: () => void },
): Promise<Omit<SweepResult, 'woken'>> {
  const { store, clock, logger, ring } = rooms;
  const until = clock.now() + budgetMs;
  const limit = pLimit(RINGS_AT_ONCE);
  let rung = 0;
  let revived = 0;
  const wake = async ({ roomId, wasRung }: OverdueRoom): Promise<void> => {
    try {
      // It was rung and nothing came of it: it is slow, or its workflow cannot go on.
      if (wasRung && (await endWedged(roomId))) revived += 1;
      await ring(roomId);
      rung += 1;
    } catch (error) {
      // One room that cannot be rung must not keep the others waiting; it is overdue again in a later pass.
      logger.warn({ err: error, roomId }, 'the sweep could not ring a room');
    }
    heartbeat();
  };
  // Rooms rung in this pass are overdue again only after `sweepAfterMs`, so a pass comes to an end.
  const now = clock.now();
  for (;;) {
    const started = clock.now();
    const overdue = await overdueResyncs(store, { now, overdueMs: sweepAfterMs, limit: RINGS_A_SECOND });
    await Promise.all(overdue.map((room) => limit(wake, room)));
    if (overdue.length < RINGS_A_SECOND || clock.now() >= until || signal.aborted) return { rung, revived };
    await delay(Math.max(0, started + 1_000 - clock.now()), undefined, { signal }).catch(() => undefined);
  }
}
