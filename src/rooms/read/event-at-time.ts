/**
 * The event of a room that is the nearest to a time, of those that its reader may see. Where what lies before our stay is not held
 * so far back, other servers are asked for a hint, and then for the events up to there, as far as one request may go.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv1roomsroomidtimestamp_to_event
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type TimePlace, readEventsByTime } from '../../store/events/events-by-time.ts';
import { type Stay, readShownPosition, readStays } from '../../store/journal/timeline-page.ts';
import { readHistoryBeginning, readHistoryPlace, readHistoryState } from '../../store/tables/history.ts';
import { type TimeQuery } from '../client-contract.ts';
import { RoomError } from '../error.ts';
import { type Backfill } from './backfill.ts';
import { type EventReading, seesEvent } from './event-for-client.ts';
import { untilGone } from './history-pages.ts';
import { type DatedEvent, type TimeSearch } from './time-search.ts';

/** Events that are looked at together, whether they are to be seen. */
const AT_A_TIME = 10;
/** Looks for one that is: each reads a page of the room's events by time. */
const LOOKS_MAX = 25;
/** Requests for what lies further back, before the one that a server hinted at is given up. */
const BACKFILLS_MAX = 3;

/** `backfill`, `search`: how others are asked; `null`: nobody is. */
export interface TimeReading extends EventReading {
  readonly backfill: Backfill | null;
  readonly search: TimeSearch | null;
}

/** Throws `unknown-event` where there is none, and `forbidden` for who may read nothing. */
export async function eventAtTime(reading: TimeReading, query: TimeQuery): Promise<DatedEvent> {
  const { search, readers } = reading;
  const { roomId, at, direction } = query;
  const reader = await readers.of(roomId, query.userId);
  const mayAsk = search !== null && reader.may === 'now' && reader.isJoined;
  const held = await nearestHeld(reading, query);
  const stay = mayAsk ? await stayWithGapAt(reading, roomId, at) : undefined;
  if (search === null || stay === undefined) return held ?? none(query);
  const hint = await untilGone(query.signal, (signal) => search(roomId, { at, direction }, signal));
  if (hint === undefined || (held !== undefined && distance(held, at) <= distance(hint, at))) {
    return held ?? none(query);
  }
  if (!(await isReached(reading, query, stay, hint))) return hint;
  return (await nearestHeld(reading, query)) ?? none(query);
}

async function nearestHeld(reading: TimeReading, query: TimeQuery): Promise<DatedEvent | undefined> {
  const { roomId, at, direction } = query;
  let from: TimePlace | null = { at, nid: null };
  for (let look = 0; look < LOOKS_MAX && from !== null; look += 1) {
    const { events, next }: Awaited<ReturnType<typeof readEventsByTime>> = await readEventsByTime(
      ...([reading.store, roomId, direction, from, AT_A_TIME] as const),
    );
    const seen = await Promise.all(events.map(({ eventId }) => seesEvent(reading, query, eventId)));
    const found = events.find((_event, i) => seen[i] === true);
    if (found !== undefined) return { eventId: found.eventId, at: found.at };
    from = next;
  }
  return undefined;
}

/** The newest stay, where more lies before it than is held, and the time is older than what is. */
async function stayWithGapAt({ store, clock }: TimeReading, roomId: RoomId, at: number): Promise<Stay | undefined> {
  const stay = (await readStays(store, roomId)).at(-1);
  if (stay === undefined) return undefined;
  const before = { roomId, epoch: stay.epoch };
  const { last, isWhole } = await readHistoryState(store, before, clock.now());
  if (last === 0) return stay;
  const beginning = await readHistoryBeginning(store, before);
  return isWhole || (beginning !== null && at >= beginning) ? undefined : stay;
}

/** Reads back from the stay until the event is held. */
async function isReached(
  { store, backfill }: TimeReading,
  { roomId, signal }: TimeQuery,
  stay: Stay,
  { eventId }: DatedEvent,
): Promise<boolean> {
  const isHeld = async (): Promise<boolean> =>
    (await readHistoryPlace(store, roomId, eventId)) !== undefined ||
    (await readShownPosition(store, roomId, eventId)) !== undefined;
  for (let round = 0; round < BACKFILLS_MAX && backfill !== null && !(await isHeld()); round += 1) {
    await untilGone(signal, (gone) => backfill({ ...stay, roomId }, gone));
  }
  return isHeld();
}

function distance({ at }: DatedEvent, from: number): number {
  return Math.abs(at - from);
}

function none({ roomId }: TimeQuery): never {
  throw new RoomError('unknown-event', `nothing in ${roomId} lies on that side of that time`);
}
