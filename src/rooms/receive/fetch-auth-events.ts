/**
 * Gets the auth events that check 4 of pushed events lacks, and judges them by their own: an event whose auth events are not
 * judged proves nothing, and is proven by nothing. The auth chain of a pushed event comes by one request; single events are
 * asked for where that does not give them. Runs outside the room's turn.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#retrieving-event-authorization-information
 */
import pLimit from 'p-limit';
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { readAuthChainIds, readLackingOfChains } from '../../store/events/auth-events.ts';
import { heldElsewhere, heldEventIds, insertPdus } from '../../store/events/pdus.ts';
import { readRoom } from '../../store/journal/rooms.ts';
import { type RoomsContext } from '../context.ts';
import { checkEvents, passed } from '../judge/check-events.ts';
import { judgeOutliers } from '../judge/judge-outliers.ts';
import { type Asking } from './ask.ts';
import { screenAnswer } from './offered.ts';
import { refuseCitingForeign } from './refuse-unproven.ts';
import { whomToAsk } from './whom-to-ask.ts';

/** Events asked for one by one at a time, of one server. What they cite in turn is asked for next. */
const SINGLE_EVENTS_MAX = 10;
/** No auth chain of a real room is longer by far. */
const CHAIN_EVENTS_MAX = 10_000;
/** Requests to one server at a time: members who speak for the first time come fifty a turn, and each costs one. */
const REQUESTS_AT_ONCE = 4;

export interface UnjudgedEvent {
  readonly eventId: EventId;
  /** Its auth events that are not held, or not judged. */
  readonly missingAuthEvents: readonly EventId[];
}

export interface UnjudgedEvents {
  readonly roomId: RoomId;
  readonly rules: RoomVersionRules;
  /** Who sent them, and whether it is believed to be in the room. */
  readonly origin: ServerName;
  readonly isOriginIn: boolean;
  /** Stored. */
  readonly events: readonly UnjudgedEvent[];
}

/** A search for what events lack. */
interface Search extends UnjudgedEvents {
  /** Found to be of another room: nothing is to be had of them, and what cites them is rejected. */
  readonly foreign: Set<EventId>;
}

/** Whether all of the auth events are judged now, or of another room, for which what cites them is rejected. */
export async function fetchAuthEvents(context: RoomsContext, events: UnjudgedEvents, asking: Asking): Promise<boolean> {
  return search(context, { ...events, foreign: new Set() }, asking);
}

async function search(context: RoomsContext, unjudged: Search, asking: Asking): Promise<boolean> {
  const { store } = context;
  const { roomId, origin, isOriginIn, events } = unjudged;
  const room = await readRoom(store, roomId);
  if (room === undefined) return false;
  const servers = await whomToAsk(context, room, { name: origin, isIn: isOriginIn }, asking);

  const wanted = events.flatMap(({ missingAuthEvents }) => missingAuthEvents);
  let missing: ReadonlySet<EventId> = await judge(context, unjudged, wanted);
  const lacking = await readLackingOfChains(store, roomId, [...missing], CHAIN_EVENTS_MAX);
  const refused = await refuseForeign(context, unjudged, await heldElsewhere(store, roomId, lacking));
  if (refused > 0) missing = await judge(context, unjudged, [...missing]);
  const limit = pLimit(REQUESTS_AT_ONCE);
  for (const server of servers) {
    if (missing.size === 0) break;
    const chains = citingEach(events, missing).map((eventId) =>
      limit(() => asking.ask(server, (options) => context.federation.eventAuth(server, roomId, eventId, options))),
    );
    await take(
      context,
      unjudged,
      missing,
      (await Promise.all(chains)).flatMap((chain) => chain ?? []),
      asking,
    );
    missing = await judge(context, unjudged, [...missing]);
    missing = await askOneByOne(context, unjudged, { server, missing, limit }, asking);
  }
  return missing.size === 0;
}

/** Events that together cite all of `missing`, as few as come of taking them in their order. */
function citingEach(events: readonly UnjudgedEvent[], missing: ReadonlySet<EventId>): EventId[] {
  const uncited = new Set(missing);
  return events
    .filter(({ missingAuthEvents }) => missingAuthEvents.filter((id) => uncited.delete(id)).length > 0)
    .map(({ eventId }) => eventId);
}

interface AskedServer {
  readonly server: ServerName;
  /** Without a verdict. */
  readonly missing: ReadonlySet<EventId>;
  readonly limit: <Result>(work: () => Promise<Result>) => Promise<Result>;
}

/** One generation of the auth chains after the other, as long as the server gives any of it; gives what is missing then. */
async function askOneByOne(
  context: RoomsContext,
  unjudged: Search,
  { server, missing, limit }: AskedServer,
  asking: Asking,
): Promise<ReadonlySet<EventId>> {
  const { store, federation } = context;
  let left = missing;
  for (let came = true; came && left.size > 0;) {
    const lacking = await readLackingOfChains(store, unjudged.roomId, [...left], SINGLE_EVENTS_MAX);
    const raws = await Promise.all(
      lacking.map((wanted) => limit(() => asking.ask(server, (options) => federation.event(server, wanted, options)))),
    );
    const taken = await take(
      context,
      unjudged,
      left,
      raws.filter((raw) => raw !== undefined),
      asking,
    );
    came = taken > 0;
    if (came) left = await judge(context, unjudged, [...left]);
  }
  return left;
}

/**
 * Stores those of the events that the auth chains of `missing` lead to and that pass checks 1 to 3, and gives how many. What
 * nobody asked for is left: a server may send as much of that as it likes.
 */
async function take(
  context: RoomsContext,
  unjudged: Search,
  missing: ReadonlySet<EventId>,
  raws: readonly Uint8Array[],
  { spending }: Asking,
): Promise<number> {
  const { store } = context;
  const { roomId, rules } = unjudged;
  const { signal } = spending;
  const { offered, foreign } = await screenAnswer(context, { roomId, rules, raws, capReferences: false }, spending);
  if (offered.size + foreign.size === 0) return 0;
  const wanted = new Set<Uint8Array>();
  const toLook = await readLackingOfChains(store, roomId, [...missing], CHAIN_EVENTS_MAX);
  const refused = await refuseForeign(
    context,
    unjudged,
    toLook.filter((eventId) => foreign.has(eventId)),
  );
  for (let eventId = toLook.pop(); eventId !== undefined; eventId = toLook.pop()) {
    const event = offered.get(eventId);
    if (event === undefined || wanted.has(event.raw)) continue;
    wanted.add(event.raw);
    toLook.push(...event.authEvents);
  }
  if (wanted.size === 0) return refused;
  const isHeld = (ids: readonly EventId[]) => heldEventIds(store, roomId, ids);
  const outcomes = await checkEvents(context, {
    roomId,
    rules,
    events: [...wanted],
    asker: 'pushed',
    capReferences: false,
    isHeld,
    signal,
  });
  const pdus = passed(outcomes);
  await insertPdus(store, pdus);
  return pdus.length + refused;
}

/** Ids that are hashes name one event; in versions 1 and 2 this room may have one under the same. Gives how many are news. */
async function refuseForeign(
  { store }: RoomsContext,
  { roomId, rules, events, foreign }: Search,
  eventIds: readonly EventId[],
): Promise<number> {
  const news = rules.eventIdFormat === 'given' ? [] : eventIds.filter((eventId) => !foreign.has(eventId));
  if (news.length === 0) return 0;
  for (const eventId of news) foreign.add(eventId);
  const ids = events.map(({ eventId }) => eventId);
  await refuseCitingForeign(store, roomId, ids, foreign);
  return news.length;
}

/** Judges events by what is held of their auth chains; gives those that are still without a verdict. */
async function judge(
  { store }: RoomsContext,
  { roomId, rules, foreign }: Search,
  eventIds: readonly EventId[],
): Promise<Set<EventId>> {
  const chain = await readAuthChainIds(store, roomId, eventIds);
  const judged = await judgeOutliers(store, roomId, rules, [...chain], () => undefined, { areCitedOnly: true });
  const isUnjudged = (eventId: EventId): boolean => {
    const verdict = judged.verdictOf(eventId);
    return verdict !== 'accepted' && verdict !== 'rejected' && !foreign.has(eventId);
  };
  return new Set(eventIds.filter(isUnjudged));
}
