/**
 * What relates to an event, page by page, and a room's threads, as their reader may see them. Nobody else is asked for what is not held.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#relationships-api and #threading
 */
import { type RoomPoint } from '../../matrix/client/tokens.ts';
import { type EventId } from '../../matrix/identifiers.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { readFollowingRelations, readRelatedNids, readShownPdus } from '../../store/events/relations.ts';
import { readThreads } from '../../store/events/threads.ts';
import { type SeenPdu, readVisibleEvents } from '../../store/journal/visible-events.ts';
import { type RelationsPage, type RelationsQuery, type ThreadsPage, type ThreadsQuery } from '../client-contract.ts';
import { RoomError } from '../error.ts';
import { type NotReady } from '../contract.ts';
import { type EventReading, eventForClient } from './event-for-client.ts';
import { giveEvents } from './give-events.ts';
import { givenTo } from './given-to.ts';
import { seenHistory } from './history-pages.ts';
import { type MessagesContext } from './messages.ts';
import { readPage } from './room-pages.ts';
import { type RoomReading, beginReading } from './room-reading.ts';
import { type Reader } from './who-may-read.ts';

/** How far it is looked from an event over others, where that is wanted. */
export const RECURSION_DEPTH = 3;
/** Looks for threads, where those found are not to be seen. */
const THREAD_LOOKS_MAX = 5;
const NO_BYTES = 0;

export type RelationsContext = MessagesContext & EventReading;

/** `undefined`: a membership decides that is not known by the end of the wait. Throws `unknown-event` where the event is not to be seen. */
export async function readRelations(
  context: RelationsContext,
  query: RelationsQuery,
): Promise<({ readonly ready: true } & RelationsPage) | NotReady | undefined> {
  const { store, looks, readers, clock } = context;
  const { roomId, userId, eventId, direction, limit, filter, to, relType } = query;
  const reader = await readers.of(roomId, userId);
  const parent = await eventForClient(context, query, eventId);
  if (!parent.ready) return parent;
  const reading: RoomReading = { ...(await beginReading(context, query, reader)), mayAsk: () => false };
  const head = await looks.head();
  const from: RoomPoint = query.from ?? { kind: 'timeline', position: direction === 'backwards' ? head : 0 };
  if (from.kind === 'timeline' && from.position > head) throw new RoomError('invalid', 'from: a token from the future');
  const eventIds = query.recurse ? await readFollowingRelations(store, roomId, eventId, RECURSION_DEPTH) : [eventId];
  const nids = await readRelatedNids(store, roomId, eventIds, relType);
  const wish = { from, to, direction, limit, filter, related: { eventIds, relType, nids } };
  const page = await readPage(context, reading, wish);
  if (page === undefined) return undefined;
  const events = await giveEvents(store, page.events, givenTo({ ...query, now: clock.now() }, reader));
  // Where nothing more is held nothing more is given, whoever may have it.
  return {
    ready: true,
    events: events.filter((event) => !wasTaken(event)),
    start: query.from === null ? null : from,
    end: page.isAllHeld ? null : page.next,
  };
}

function wasTaken({ unsigned }: JsonObject): boolean {
  return isJsonObject(unsigned) && unsigned['redacted_because'] !== undefined;
}

/** The roots of threads, those first in which somebody spoke last; those that are not to be seen are left out. */
export async function readThreadRoots(context: RelationsContext, query: ThreadsQuery): Promise<ThreadsPage> {
  const { store, readers, clock } = context;
  const { roomId, userId, limit, participated } = query;
  const reader = await readers.of(roomId, userId);
  const upTo = reader.may === 'now' ? null : reader.left.position;
  const roots: SeenPdu[] = [];
  let next = query.before;
  for (let look = 0; look < THREAD_LOOKS_MAX && roots.length < limit && (look === 0 || next !== null); look += 1) {
    const participant = participated ? userId : null;
    const wish = { roomId, userId, before: next, upTo, participant, limit: limit - roots.length };
    const found = await readThreads(store, wish);
    const ids = found.threads.map(({ root }) => root);
    const seen = await seenEvents(context, query, reader, ids);
    roots.push(...ids.flatMap((root) => seen.get(root) ?? []));
    next = found.next;
  }
  return { events: await giveEvents(store, roots, givenTo({ ...query, now: clock.now() }, reader)), next };
}

async function seenEvents(
  context: RelationsContext,
  { roomId, userId }: Pick<ThreadsQuery, 'roomId' | 'userId'>,
  reader: Reader,
  eventIds: readonly EventId[],
): Promise<ReadonlyMap<EventId, SeenPdu>> {
  const placed = await readShownPdus(
    context.store,
    eventIds.map((eventId) => ({ roomId, eventId })),
  );
  const joinedSince = (position: number): boolean =>
    reader.may === 'now' ? reader.isJoined : position <= reader.left.position;
  const asked = placed.map((pdu) => ({ pdu, joinedSince: joinedSince(pdu.shownAt), isPartial: pdu.partial }));
  const { seen } = await readVisibleEvents(context.store, asked, userId, NO_BYTES);
  const isPlaced = new Set(placed.map(({ eventId }) => eventId));
  const older = await Promise.all(
    eventIds
      .filter((eventId) => !isPlaced.has(eventId))
      .map((eventId) => seenHistory(context, { query: { roomId, userId }, reader }, eventId)),
  );
  return new Map([...seen, ...older.filter((pdu) => pdu !== undefined)].map((pdu) => [pdu.eventId, pdu]));
}
