/** Work that asks residents about a room, and is of no use any more when everybody has left it, or another stay has begun. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type Attempt, isAttemptWanted } from '../../resync/state.ts';
import { type ResyncRow, readResync } from '../../store/journal/rooms.ts';
import { type RoomsContext } from '../context.ts';
import { WANTED_MS } from '../read/wanted-rooms.ts';

/** How late it is noticed: well before a last round is over. */
const LOOK_MS = 10_000;

export interface StayingFor {
  readonly roomId: RoomId;
  readonly epoch: number;
  /** Ends when the last round ends, or when it begins. */
  readonly until: 'last-round-ends' | 'last-round-begins';
  /** And when this attempt is wanted no more; absent: it is none. */
  readonly attempt?: Pick<Attempt, 'attemptNo' | 'resident'>;
}

/**
 * Runs `work`, whose signal is aborted when our time in the room is over. What `work` makes of that is its own. `isWanted`: whether
 * somebody waits for the room, as of the last look.
 */
export async function whileStaying<Result>(
  { store, clock }: Pick<RoomsContext, 'store' | 'clock'>,
  { roomId, epoch, until, attempt }: StayingFor,
  work: (over: AbortSignal, isWanted: () => boolean) => Promise<Result>,
): Promise<Result> {
  const over = new AbortController();
  let timer: NodeJS.Timeout | undefined;
  let isDone = false;
  let wantedAt = Number.NEGATIVE_INFINITY;
  const leftMs = ({ epoch: now, state }: ResyncRow): number => {
    const { phase, closesAt } = state;
    if (now !== epoch || phase === 'ended') return 0;
    if (attempt !== undefined && !isAttemptWanted(state, attempt)) return 0;
    if (closesAt === null) return Number.POSITIVE_INFINITY;
    return until === 'last-round-begins' ? 0 : closesAt - clock.now();
  };
  const look = async (): Promise<void> => {
    // Trouble of the database is for the work to meet.
    const resync = await readResync(store, roomId).catch(() => undefined);
    if (isDone) return;
    wantedAt = resync?.wantedAt ?? wantedAt;
    const ms = resync === undefined ? LOOK_MS : leftMs(resync);
    if (ms <= 0) over.abort();
    else timer = setTimeout(() => void look(), Math.min(ms, LOOK_MS));
  };
  await look();
  try {
    return await work(over.signal, () => clock.now() - wantedAt < WANTED_MS);
  } finally {
    isDone = true;
    clearTimeout(timer);
  }
}
