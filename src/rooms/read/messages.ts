/**
 * Going through a room's events: page by page (`/messages`), and around one of them (`/context`).
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#syncing and #get_matrixclientv3roomsroomidcontexteventid
 */
import { ANY_EVENT } from '../../matrix/client/filter.ts';
import { type RoomPoint } from '../../matrix/client/tokens.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { readShownPosition } from '../../store/journal/timeline-page.ts';
import { type SeenPdu } from '../../store/journal/visible-events.ts';
import { readHistoryPlace } from '../../store/tables/history.ts';
import { type ContextQuery, type EventContext, type EventsPage, type MessagesQuery } from '../client-contract.ts';
import { RoomError } from '../error.ts';
import { giveEvents, giveSenders } from './give-events.ts';
import { givenTo } from './given-to.ts';
import { type PagesContext, readPage } from './room-pages.ts';
import { beginReading } from './room-reading.ts';
import { stateRows } from './state-rows.ts';
import { type Readers } from './who-may-read.ts';

export interface MessagesContext extends PagesContext {
  readonly readers: Readers;
}

type Waited<Answer> = Promise<({ readonly ready: true } & Answer) | undefined>;

/** `undefined`: a membership decides that is not known by the end of the wait. */
export async function readMessages(context: MessagesContext, query: MessagesQuery): Waited<EventsPage> {
  const { roomId, userId, direction, limit, filter, to } = query;
  const reader = await context.readers.of(roomId, userId);
  const reading = await beginReading(context, query, reader);
  const head = await context.looks.head();
  const from: RoomPoint = query.from ?? { kind: 'timeline', position: direction === 'backwards' ? head : 0 };
  if (from.kind === 'timeline' && from.position > head) throw new RoomError('invalid', 'from: a token from the future');
  const page = await readPage(context, reading, { from, to, direction, limit, filter });
  if (page === undefined) return undefined;
  const { store, clock } = context;
  const events = await giveEvents(store, page.events, givenTo({ ...query, now: clock.now() }, reader));
  return { ready: true, events, start: from, end: page.next, state: await sendersOf(context, page.events) };
}

/** Of the events beside it only what the user may see; the event itself throws `unknown-event` where he may not. */
export async function readContext(context: MessagesContext, query: ContextQuery): Waited<EventContext> {
  const { roomId, userId, limit, filter } = query;
  const reader = await context.readers.of(roomId, userId);
  const reading = await beginReading(context, query, reader);
  const place = await placeOf(context, query);
  if (place === undefined) throw notFound(query);
  const [half, rest] = [Math.floor(limit / 2), Math.ceil(limit / 2)];
  const beside = { to: null, filter };
  const [own, before, after] = await Promise.all([
    readPage(context, reading, {
      ...{ from: place.after, to: place.before, direction: 'backwards', limit: 1, filter: ANY_EVENT },
    }),
    readPage(context, reading, { from: place.before, direction: 'backwards', limit: half, ...beside }),
    readPage(context, reading, { from: place.after, direction: 'forwards', limit: rest, ...beside }),
  ]);
  if (own === undefined || before === undefined || after === undefined) return undefined;
  const [event] = own.events;
  if (event === undefined) throw notFound(query);
  const all = [...before.events, event, ...after.events];
  const last = after.events.at(-1) ?? event;
  const state = await stateAfter(context, query, last, all);
  if (state === undefined) return undefined;
  const given = await giveEvents(context.store, all, givenTo({ ...query, now: context.clock.now() }, reader));
  const count = before.events.length;
  return {
    ready: true,
    before: given.slice(0, count),
    event: given[count] ?? {},
    after: given.slice(count + 1),
    start: before.next,
    end: after.next ?? lastOf(after.events) ?? place.after,
    state,
  };
}

function at(position: number): RoomPoint {
  return { kind: 'timeline', position };
}

/** `undefined`: none of them is of the timeline. */
function lastOf(events: readonly SeenPdu[]): RoomPoint | undefined {
  const last = events.at(-1)?.shownAt ?? 0;
  return last === 0 ? undefined : at(last);
}

/** The points around an event, in the timeline or before a stay of ours; `undefined`: it is in neither. */
async function placeOf(
  { store }: MessagesContext,
  { roomId, eventId }: Pick<ContextQuery, 'roomId' | 'eventId'>,
): Promise<{ readonly before: RoomPoint; readonly after: RoomPoint } | undefined> {
  const position = await readShownPosition(store, roomId, eventId);
  if (position !== undefined) return { before: at(position - 1), after: at(position) };
  const held = await readHistoryPlace(store, roomId, eventId);
  if (held === undefined) return undefined;
  const point = (count: number): RoomPoint => ({ kind: 'history', epoch: held.epoch, count });
  return { before: point(held.nth), after: point(held.nth - 1) };
}

function notFound({ eventId }: Pick<ContextQuery, 'eventId'>): RoomError {
  return new RoomError('unknown-event', `there is no event ${eventId} here, or it is not to be seen`);
}

/** What a client is told of the state after the last of some events; `undefined`: it is not known by the end of the wait. */
async function stateAfter(
  { store, waits }: MessagesContext,
  query: ContextQuery,
  last: SeenPdu,
  events: readonly SeenPdu[],
): Promise<AsyncIterable<readonly JsonObject[]> | undefined> {
  const { roomId, isLazy } = query;
  if (isLazy) return stateRows(store, roomId, last.stateAfter, await giveSenders(store, events, last.stateAfter));
  // What lies before a stay has no states of its own.
  if (last.shownAt === 0) return stateRows(store, roomId, last.stateAfter, null);
  const known = await waits.event(roomId, last.eventId, query);
  return known && stateRows(store, roomId, known.stateAfter, null);
}

/** As they are after the newest of the events. */
async function sendersOf({ store }: MessagesContext, events: readonly SeenPdu[]) {
  const newest = events.reduce<SeenPdu | undefined>(
    (best, pdu) => (pdu.shownAt > (best?.shownAt ?? -1) ? pdu : best),
    undefined,
  );
  return newest === undefined ? [] : giveSenders(store, events, newest.stateAfter);
}
