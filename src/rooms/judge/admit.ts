/**
 * The one way of events into the timeline. A batch is judged outside the room's lock, by where the room stands; then, under
 * it, what was decided is appended if the room still stands there, and decided anew otherwise.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type Clock } from '../../clock.ts';
import { invariant } from '../../invariant.ts';
import { type Receipt, type ResyncEvent, type TimelineEvent } from '../../resync/events.ts';
import { AlreadyJournalledError } from '../../store/journal/write-entries.ts';
import { type RoomStanding, lockRoom, readStanding, standsStill } from '../../store/journal/rooms.ts';
import { type Store, withTransaction } from '../../store/open-store.ts';
import { type RoomsContext } from '../context.ts';
import { ringRoom } from '../ring.ts';
import { type Admission } from './admission.ts';
import { appendTakenIn } from './append-taken-in.ts';
import { RESOLVED_UNDER_LOCK_MS_MAX } from './outside-the-lock.ts';
import { resolveBriefly, resolveWithin } from './resolve-in-time.ts';
import { resolveSnapshots } from './resolve.ts';
import { type PreparedAdmission, prepareAdmission } from './prepare-admission.ts';

/** Events of one call. */
export const ADMITTED_AT_ONCE_MAX = 50;
/** How often a batch is decided outside the lock; who loses to others so often decides under it, on what is cached by then. */
const PREPARED_MAX = 3;

export interface AdmitOptions {
  readonly signal?: AbortSignal;
  /** Who gave us which of the events; for people. */
  readonly receipts?: ReadonlyMap<EventId, Receipt>;
  /**
   * No further event is begun after so many milliseconds, but for one each time, and no states are waited for that take longer to resolve;
   * absent: all are judged.
   */
  readonly msMax?: number;
}

/** What admission is given. */
export type AdmissionContext = Pick<RoomsContext, 'store' | 'clock' | 'ring' | 'logger' | 'policy'>;

/**
 * Admits stored events of a joined room, given in any order, into its timeline, those first that others cite. An event at
 * which there is a gap fills it, and the journal says so.
 *
 * @param eventIds at most `ADMITTED_AT_ONCE_MAX`, all stored
 * @returns what became of each
 */
export async function admitEvents(
  context: AdmissionContext,
  roomId: RoomId,
  eventIds: readonly EventId[],
  { signal, receipts = new Map(), msMax = Number.POSITIVE_INFINITY }: AdmitOptions = {},
): Promise<ReadonlyMap<EventId, Admission>> {
  const { store, clock } = context;
  const until = clock.now() + msMax;
  const isOver = (): boolean => clock.now() >= until;
  const resolve = Number.isFinite(msMax) ? resolveWithin(msMax) : resolveSnapshots;
  const underLock = resolveBriefly(Math.min(msMax, RESOLVED_UNDER_LOCK_MS_MAX));
  invariant(eventIds.length <= ADMITTED_AT_ONCE_MAX, 'events are admitted some at a time');
  for (let i = 0; i < PREPARED_MAX; i += 1) {
    signal?.throwIfAborted();
    const room = await readStanding(store, roomId);
    invariant(room !== undefined, `events are admitted into rooms that were joined, not ${roomId}`);
    if (!room.isAnybodyIn) return noneOf(eventIds);
    const prepared = await prepareAdmission(store, room, eventIds, { isOver, resolve });
    const appended = await appendPrepared(store, context, room, journalOf(prepared, clock, receipts));
    if (appended === undefined) continue;
    // An event that was judged otherwise as an outlier, or was missed, concerns what was judged by that.
    if (appended.ringsFor !== undefined) await ringRoom(context, roomId, appended.ringsFor);
    return withForeign(eventIds, prepared.admissions);
  }
  const { admissions, ringsFor } = await withTransaction(store, async (tx) => {
    const room = await lockRoom(tx, roomId);
    invariant(room !== undefined, 'the row of a room stays');
    if (!room.isAnybodyIn) return { admissions: noneOf(eventIds), ringsFor: undefined };
    const prepared = await prepareAdmission(tx, room, eventIds, { isOver, resolve: underLock });
    const admissions = withForeign(eventIds, prepared.admissions);
    return { admissions, ringsFor: await appendTakenIn(tx, room, journalOf(prepared, clock, receipts), context) };
  });
  if (ringsFor !== undefined) await ringRoom(context, roomId, ringsFor);
  return admissions;
}

/** What comes when the last of us has left is of a room that we are not in. */
function noneOf(eventIds: readonly EventId[]): ReadonlyMap<EventId, Admission> {
  return new Map(eventIds.map((eventId) => [eventId, { outcome: 'not-there' }]));
}

/** What is stored, and not as an event of this room, was not looked at. */
function withForeign(
  eventIds: readonly EventId[],
  admissions: PreparedAdmission['admissions'],
): ReadonlyMap<EventId, Admission> {
  return new Map(eventIds.map((eventId) => [eventId, admissions.get(eventId) ?? { outcome: 'foreign' }]));
}

/** `undefined`: it was not appended, since the room stands elsewhere, or somebody else has taken in one of the events. */
async function appendPrepared(
  store: Store,
  context: Pick<AdmissionContext, 'clock' | 'policy'>,
  before: RoomStanding,
  entries: readonly (ResyncEvent | TimelineEvent)[],
): Promise<{ readonly ringsFor: string | undefined } | undefined> {
  if (entries.length === 0) return { ringsFor: undefined };
  try {
    return await withTransaction(store, async (tx) => {
      const room = await lockRoom(tx, before.roomId);
      if (room === undefined || !standsStill(before, room)) return undefined;
      return { ringsFor: await appendTakenIn(tx, room, entries, context) };
    });
  } catch (error) {
    if (!(error instanceof AlreadyJournalledError)) throw error;
    return undefined;
  }
}

function journalOf(
  { entries, filled }: PreparedAdmission,
  clock: Clock,
  receipts: NonNullable<AdmitOptions['receipts']>,
): (ResyncEvent | TimelineEvent)[] {
  const at = clock.now();
  const gapsFilled = filled.map(
    ({ eventId, wasGivenUp }) => ({ type: 'GapFilled', eventId, ...(wasGivenUp ? { wasGivenUp } : {}), at }) as const,
  );
  const received = entries.map((entry) => {
    const from = 'eventId' in entry ? receipts.get(entry.eventId) : undefined;
    return from === undefined ? entry : { ...entry, from };
  });
  return [...gapsFilled, ...received];
}
