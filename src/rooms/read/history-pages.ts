/**
 * What was said before a stay of ours, as its readers may see it. The states there are not known; who may see what is read off the
 * state before our join and the events of the history that change it: going back, the visibility is that of before the join until an event
 * changed it, and behind that the one that an older event said, or nobody's where none is held.
 */
import { type SeenFrom, historyVisibility, maySee } from '../../matrix/client/history-visibility.ts';
import { type RoomPoint } from '../../matrix/client/tokens.ts';
import { type EventId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type Cancellation } from '../../cancellation.ts';
import { type Clock } from '../../clock.ts';
import { readEventStates } from '../../store/events/event-states.ts';
import { type PageSelection, SCANNED_MAX, type Stay, readStays } from '../../store/journal/timeline-page.ts';
import { type SeenPdu } from '../../store/journal/visible-events.ts';
import { type Store } from '../../store/open-store.ts';
import { readStateKeys } from '../../store/snapshots/state-keys.ts';
import {
  type HistorySign,
  readHistoryPage,
  readHistoryPlace,
  readHistorySigns,
  readHistoryState,
} from '../../store/tables/history.ts';
import { type ClientQuery } from '../client-contract.ts';
import { type Backfill } from './backfill.ts';
import { type RoomReading } from './room-reading.ts';
import { type SharedLooks } from './shared-looks.ts';
import { type Reader, visibilityAt } from './who-may-read.ts';

const MEMBER = 'm.room.member';
const VISIBILITY = 'm.room.history_visibility';

export interface HistoryContext {
  readonly store: Store;
  readonly clock: Clock;
  readonly looks: SharedLooks;
  /** `null`: nobody is asked. */
  readonly backfill: Backfill | null;
}

export interface HistoryRows {
  readonly seen: readonly SeenPdu[];
  /** `null`: nothing is there to be had. */
  readonly next: RoomPoint | null;
}

/** Where in the history of one stay reading begins, and where it ends at the latest; counts as tokens have them. */
export interface HistorySpan {
  readonly from: number;
  /** `null`: nowhere. */
  readonly until: number | null;
}

/** Reads back from a place before a stay; asks other servers where what is held ends, if the reader is in the room. */
export async function readBack(
  context: HistoryContext,
  reading: RoomReading,
  stay: Stay,
  { from: count, until }: HistorySpan,
  selection: PageSelection,
): Promise<HistoryRows> {
  const { store, clock, backfill } = context;
  const { roomId, signal } = reading.query;
  const before = { roomId, epoch: stay.epoch };
  let rows = await readHistoryPage(store, stay.epoch, count, selection, until);
  let state = await readHistoryState(store, before, clock.now());
  const isNew = state.last === 0 && state.isWhole;
  const isAsker = backfill !== null && reading.reader.may === 'now' && reading.reader.isJoined;
  const isHeld = (): boolean => until !== null && until <= state.last;
  const scannedTo = count + SCANNED_MAX;
  const isScanned = (): boolean =>
    rows.length < selection.limit && scannedTo < Math.min(state.last, until ?? state.last);
  const isLacking = rows.length < selection.limit && !isScanned() && !isHeld() && (isNew || state.wanted.length > 0);
  const hasAsked = isAsker && isLacking && reading.mayAsk();
  if (hasAsked) {
    await untilGone(signal, (gone) => backfill({ ...stay, roomId }, gone));
    rows = await readHistoryPage(store, stay.epoch, count, selection, until);
    state = await readHistoryState(store, before, clock.now());
  }
  const seen = await visibleOf(context, reading, stay, rows, state.isWhole && state.last > 0);
  const last = rows.at(-1)?.nth ?? count;
  if (rows.length === selection.limit) return { seen, next: { kind: 'history', epoch: stay.epoch, count: last } };
  if (isScanned()) return { seen, next: { kind: 'history', epoch: stay.epoch, count: scannedTo } };
  if (isHeld()) return { seen, next: null };
  const isAtEnd = state.isWhole && (state.last > 0 || hasAsked);
  if (!isAsker || isAtEnd) return { seen, next: { kind: 'timeline', position: stay.begun - 1 } };
  return { seen, next: { kind: 'history', epoch: stay.epoch, count: Math.max(count, state.last) } };
}

/** The network wants a whole signal, which is made only where it is asked. */
export async function untilGone<Answer>(
  caller: Cancellation,
  work: (signal: AbortSignal) => Promise<Answer>,
): Promise<Answer> {
  const gone = new AbortController();
  const listener = { handleEvent: () => gone.abort() };
  if (caller.aborted) gone.abort();
  caller.addEventListener('abort', listener);
  try {
    return await work(gone.signal);
  } finally {
    caller.removeEventListener('abort', listener);
  }
}

/** Reads on towards a stay. */
export async function readForth(
  context: HistoryContext,
  reading: RoomReading,
  stay: Stay,
  { from: count, until }: HistorySpan,
  selection: PageSelection,
): Promise<HistoryRows> {
  const rows = await readHistoryPage(context.store, stay.epoch, count, selection, until);
  const seen = await visibleOf(context, reading, stay, rows, false);
  const last = rows.at(-1);
  if (last === undefined || rows.length < selection.limit) {
    const scannedTo = count - SCANNED_MAX;
    if (scannedTo > (until ?? 0)) return { seen, next: { kind: 'history', epoch: stay.epoch, count: scannedTo } };
    return { seen, next: until === null ? { kind: 'timeline', position: stay.begun - 1 } : null };
  }
  return { seen, next: { kind: 'history', epoch: stay.epoch, count: last.nth - 1 } };
}

/** An event that was said before a stay of ours, if its reader may see it. */
export async function seenHistory(
  context: Pick<HistoryContext, 'store' | 'clock' | 'looks'>,
  reading: HistoryReader,
  eventId: EventId,
): Promise<SeenPdu | undefined> {
  const { store, clock } = context;
  const { roomId } = reading.query;
  const place = await readHistoryPlace(store, roomId, eventId);
  if (place === undefined) return undefined;
  const stay = (await readStays(store, roomId)).find(({ epoch }) => epoch === place.epoch);
  if (stay === undefined) return undefined;
  const rows = await readHistoryPage(store, stay.epoch, place.nth, { ...ANY_EVENT, roomId });
  const { isWhole, last } = await readHistoryState(store, { roomId, epoch: stay.epoch }, clock.now());
  const seen = await visibleOf(context, reading, stay, rows, isWhole && last > 0);
  return seen.find((pdu) => pdu.eventId === eventId);
}

const ANY_EVENT: Omit<PageSelection, 'roomId'> = {
  ...{ limit: 1, types: null, notTypes: [], senders: null, notSenders: [], ignored: [] },
  direction: 'forwards',
};

/** Who reads, and which room. */
export interface HistoryReader {
  readonly query: Pick<ClientQuery, 'roomId' | 'userId'>;
  readonly reader: Reader;
}

/** @param isWhole the history is held to the room's beginning */
async function visibleOf(
  { store, looks }: Pick<HistoryContext, 'store' | 'looks'>,
  { query: { roomId, userId }, reader }: HistoryReader,
  { epoch, joinEventId, begun }: Stay,
  rows: Awaited<ReturnType<typeof readHistoryPage>>,
  isWhole: boolean,
): Promise<SeenPdu[]> {
  const join = (await readEventStates(store, roomId, [joinEventId])).get(joinEventId);
  if (join === undefined || rows.length === 0) return [];
  const state = join.stateBefore;
  const places = [
    { type: VISIBILITY, stateKey: '' },
    { type: MEMBER, stateKey: userId },
  ];
  const keys = await readStateKeys(store, places);
  const signs = await readHistorySigns(store, { roomId, epoch }, [...keys.values()]);
  const [own] = await looks.entriesAt({ roomId, state, places: [{ type: MEMBER, stateKey: userId }] });
  const atJoin: SeenFrom = {
    visibility: await visibilityAt(looks, roomId, state),
    membership: own?.membership ?? null,
  };
  const ownKey = keys.get(stateMapKey(MEMBER, userId));
  const joinedSince = reader.may === 'now' ? reader.isJoined : reader.left.position >= begun;
  const visible = rows.filter(({ nth, key }) => {
    if (key !== null && key === ownKey) return true;
    const [after, before] = [seenFrom(signs, nth, atJoin, isWhole), seenFrom(signs, nth + 1, atJoin, isWhole)];
    const isSign = signs.some((sign) => sign.nth === nth);
    return maySee(isSign ? [after, before] : [after], joinedSince) === true;
  });
  const around = { roomId, shownAt: 0, stateBefore: state, stateAfter: state, replaced: null, membership: null };
  return visible.map((pdu) => ({ ...pdu, ...around }));
}

/** By the events up to the place `nth`, counted back; exported for the rule's own test. */
export function seenFrom(signs: readonly HistorySign[], nth: number, atJoin: SeenFrom, isWhole: boolean): SeenFrom {
  const contentOf = (type: string): JsonObject | 'unchanged' | undefined => {
    const ofType = signs.filter((sign) => sign.type === type);
    const older = ofType.find((sign) => sign.nth >= nth);
    if (older !== undefined) return ((JSON.parse(older.json) as JsonObject)['content'] ?? {}) as JsonObject;
    return ofType.length === 0 ? 'unchanged' : undefined;
  };
  const [visible, own] = [contentOf(VISIBILITY), contentOf(MEMBER)];
  const unknown = isWhole ? historyVisibility(undefined) : 'joined';
  const visibility =
    visible === 'unchanged'
      ? atJoin.visibility
      : visible === undefined
        ? unknown
        : historyVisibility(visible['history_visibility']);
  const said = own === 'unchanged' ? atJoin.membership : own?.['membership'];
  // None of us was in the room then, so that nobody of us was joined.
  return { visibility, membership: said === 'invite' ? 'invite' : null };
}
