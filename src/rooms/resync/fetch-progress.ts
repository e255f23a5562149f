/**
 * How far a resync is at this moment, for whoever watches: between two entries of the journal a big fetch takes seconds to
 * minutes. It decides nothing, and nothing waits for it.
 */
import { countPartial } from '../../store/events/event-states.ts';
import { readFetchProgress } from '../../store/tables/fetch-progress.ts';
import { type RoomRow } from '../../store/journal/rooms.ts';
import { type RoomsContext } from '../context.ts';

/** How far one attempt to fetch a state is. */
export interface FetchNumbers {
  /** Events of the state and its auth chain, by the resident's list. */
  readonly wanted: number;
  /** Of these, how many are stored, whoever sent them. */
  readonly held: number;
  /** Received of the answer so far. */
  readonly bytes: number;
}

export type RoomProgress =
  | ({ readonly step: 'fetch' } & FetchNumbers)
  /** Events judged with full state, and those that are left. */
  | { readonly step: 'walk'; readonly walked: number; readonly remaining: number };

/** `null`: nothing is under way, or nothing is known of it yet. */
export async function readProgress(
  { store }: RoomsContext,
  { roomId, epoch, resync }: RoomRow,
): Promise<RoomProgress | null> {
  if (resync.phase === 'walking') {
    return { step: 'walk', walked: resync.walked, remaining: await countPartial(store, roomId) };
  }
  if (resync.attempt === null) return null;
  const row = await readFetchProgress(store, { roomId, epoch, attemptNo: resync.attempt.attemptNo });
  return row === undefined ? null : { step: 'fetch', wanted: row.wanted, held: row.held, bytes: row.bytes };
}
