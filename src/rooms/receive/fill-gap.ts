/**
 * Looks for the parents that pushed events lack: asks for what lies between them and our newest events, as long as that
 * makes progress, and stages it to be judged as if it had been pushed. Where that does not reach anything we hold, the
 * oldest missing parents become gaps: the state there is fetched by the room's workflow. Runs outside the room's turn.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#post_matrixfederationv1get_missing_eventsroomid
 */
import { PREV_EVENTS_MAX } from '../../matrix/event-format.ts';
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { readParents } from '../../store/events/anchors.ts';
import { readOpenGaps } from '../../store/events/gaps.ts';
import { readPdus } from '../../store/events/pdus.ts';
import { append } from '../../store/journal/journal.ts';
import { type GapBounds, lockRoom, readGapBounds, readRoom } from '../../store/journal/rooms.ts';
import { withTransaction } from '../../store/open-store.ts';
import { stagePdus } from '../../store/tables/staged-pdus.ts';
import { type UselessCopies, readMissingParents, readUselessCopies } from '../../store/tables/staged-reads.ts';
import { type RoomsContext } from '../context.ts';
import { GAPS_OF_ORIGIN_MAX, gapPlaces, gaveWay } from '../gap-places.ts';
import { inOrderOfComing } from '../judge/order-of-coming.ts';
import { ringRoom } from '../ring.ts';
import { type Asking } from './ask.ts';
import { type Offered, screenAnswer } from './offered.ts';
import { isOfOtherRoom } from './waits.ts';
import { whomToAsk } from './whom-to-ask.ts';

/** What the reference implementation gives at most in one answer. */
const ASKED_AT_A_TIME = 20;
/** Answers that make progress: over a gap of some 100 events the state is cheaper than the events. */
const ROUNDS_MAX = 6;

export interface LackingEvents {
  readonly roomId: RoomId;
  readonly rules: RoomVersionRules;
  /** Who sent them, and whether it is believed to be in the room. */
  readonly origin: ServerName;
  readonly isOriginIn: boolean;
  /** Stored, and without some of their parents. */
  readonly eventIds: readonly EventId[];
}

interface Node {
  readonly eventId: EventId;
  readonly prevEvents: readonly EventId[];
}

/** `done`: something came of it, events that are staged now or gaps that are open. `no-place`: there are gaps enough already. */
export type Filled = 'done' | 'nothing' | 'no-place';

/** Looks for what events of one server lack. Throws for faults of ours only. */
export async function fillGap(context: RoomsContext, lacking: LackingEvents, asking: Asking): Promise<Filled> {
  const { roomId, origin, isOriginIn, eventIds } = lacking;
  const room = await readRoom(context.store, roomId);
  if (room === undefined) return 'nothing';
  const events = await readPdus(context.store, roomId, eventIds);
  const servers = await whomToAsk(context, room, { name: origin, isIn: isOriginIn }, asking);
  const graph = new Map<EventId, Node>(events.map((event) => [event.eventId, event]));
  const walk = { ...lacking, graph, ...(await readGapBounds(context.store, roomId, PREV_EVENTS_MAX)) };
  let rounds = 0;
  let found = 0;
  for (const server of servers) {
    for (; rounds < ROUNDS_MAX; rounds++) {
      const missing = await missingOf(context, lacking, graph);
      if (missing.length === 0) return 'done';
      const came = await askForMissing(context, walk, server, missing, asking);
      if (came === 0) break;
      found += came;
    }
  }
  const missing = await missingOf(context, lacking, graph);
  if (missing.length === 0) return 'done';
  const opened = await openGaps(context, lacking, await knownThere(context, lacking, servers, missing, asking));
  return found > 0 ? 'done' : opened;
}

/** Parents of the graph that nobody here has, and that nothing here waits for yet. */
async function missingOf(
  { store }: RoomsContext,
  { roomId, rules }: LackingEvents,
  graph: ReadonlyMap<EventId, Node>,
): Promise<EventId[]> {
  const cited = new Set([...graph.values()].flatMap(({ prevEvents }) => prevEvents));
  const unknown = [...cited].filter((eventId) => !graph.has(eventId));
  const known = await readMissingParents(store, roomId, unknown);
  return unknown.filter((eventId) => {
    const about = known.get(eventId);
    if (about === undefined) return true;
    return !about.isParent && !about.isComing && about.gap !== 'open' && !isOfOtherRoom(about, rules);
  });
}

/** One request for what lies before the graph; what comes of it is staged and in the graph. Gives how many events. */
async function askForMissing(
  context: RoomsContext,
  walk: LackingEvents & GapBounds & { readonly graph: Map<EventId, Node> },
  server: ServerName,
  missing: readonly EventId[],
  { ask, spending }: Asking,
): Promise<number> {
  const { roomId, rules, graph, extremities, joinDepth: minDepth } = walk;
  const wanted = new Set(missing);
  const latestEvents = [...graph.values()]
    .filter(({ prevEvents }) => prevEvents.some((eventId) => wanted.has(eventId)))
    .map(({ eventId }) => eventId)
    .slice(0, ASKED_AT_A_TIME);
  const query = { earliestEvents: extremities, latestEvents, limit: ASKED_AT_A_TIME, minDepth };
  const raws = await ask(server, (options) => context.federation.getMissingEvents(server, roomId, query, options));
  if (raws === undefined) return 0;
  const { offered } = await screenAnswer(context, { roomId, rules, raws, capReferences: true }, spending);
  // What nobody asked for is left: only what the graph cites, from there on backwards, what stands at an open gap among it. What lies
  // before our join is history, whatever its server says: the state at its edge says all of it that counts.
  const taken: Offered[] = [];
  // A copy of this server's that was of no use, for want of a key or a good signature, would be of none again, nor would one
  // that is signed the same, nor one of what has its place: what lies behind such an event counts all the same.
  const copies = await readUselessCopies(context.store, roomId, server, [...offered.keys()]);
  const useless = await uselessOf(context, { roomId, rules, copies, offered }, spending);
  const seen = new Set(graph.keys());
  const toLook = [...graph.values()].flatMap(({ prevEvents }) => prevEvents);
  for (let eventId = toLook.pop(); eventId !== undefined; eventId = toLook.pop()) {
    const event = offered.get(eventId);
    if (event === undefined || seen.has(eventId) || event.depth < minDepth || event.prevEvents.length === 0) continue;
    seen.add(eventId);
    toLook.push(...event.prevEvents);
    if (useless.has(eventId)) continue;
    graph.set(eventId, event);
    taken.push(event);
  }
  const givenUp = await citesGivenUp(context, roomId, taken);
  const staged = inOrderOfComing(taken.filter(({ eventId }) => !givenUp.has(eventId)));
  for (const eventId of givenUp) graph.delete(eventId);
  await stagePdus(
    context.store,
    server,
    staged.map(({ eventId, raw }) => ({ roomId, eventId, raw, waitsFor: [] })),
  );
  return staged.length;
}

interface Compared {
  readonly roomId: RoomId;
  readonly rules: RoomVersionRules;
  readonly copies: UselessCopies;
  readonly offered: ReadonlyMap<EventId, Offered>;
}

/** Those of the events that are of no more use than the copies that we have: given by the same server, or signed the same. */
async function uselessOf(
  { verification }: RoomsContext,
  { roomId, rules, copies: { given, texts }, offered }: Compared,
  { signal }: Asking['spending'],
): Promise<ReadonlySet<EventId>> {
  const useless = new Set(given);
  const events = [...texts].flatMap(([eventId, copies]) => (given.has(eventId) ? [] : copies));
  if (events.length === 0) return useless;
  for (const copy of await verification.screen({ roomVersion: rules.version, roomId, events, signal })) {
    if (copy.outcome !== 'sound') continue;
    if (copy.signatures === offered.get(copy.eventId)?.signatures) useless.add(copy.eventId);
  }
  return useless;
}

/** Those that build on a gap that was given up: they can have no place themselves, but the state at them may be had. */
async function citesGivenUp({ store }: RoomsContext, roomId: RoomId, events: readonly Node[]): Promise<Set<EventId>> {
  const cited = [...new Set(events.flatMap(({ prevEvents }) => prevEvents))];
  const known = await readMissingParents(store, roomId, cited);
  const isGivenUp = (eventId: EventId): boolean => known.get(eventId)?.gap === 'given-up';
  return new Set(events.filter(({ prevEvents }) => prevEvents.some(isGivenUp)).map(({ eventId }) => eventId));
}

/** Of a server that is not in the room a made-up parent must cost nobody a state: one resident has to know it. */
async function knownThere(
  context: RoomsContext,
  lacking: LackingEvents,
  servers: readonly ServerName[],
  missing: readonly EventId[],
  { ask, spending }: Asking,
): Promise<readonly EventId[]> {
  const { roomId, rules, isOriginIn } = lacking;
  if (isOriginIn) return missing;
  const known: EventId[] = [];
  for (const eventId of missing.slice(0, GAPS_OF_ORIGIN_MAX)) {
    for (const server of servers) {
      const raw = await ask(server, (options) => context.federation.event(server, eventId, options));
      const raws = raw === undefined ? [] : [raw];
      const { offered } = await screenAnswer(context, { roomId, rules, raws, capReferences: true }, spending);
      if (!offered.has(eventId)) continue;
      known.push(eventId);
      break;
    }
  }
  return known;
}

/** Opens gaps at events that are missing, as many as there are places for; others may be given up for them. */
async function openGaps(
  context: RoomsContext,
  { roomId, origin }: LackingEvents,
  missing: readonly EventId[],
): Promise<Filled> {
  if (missing.length === 0) return 'nothing';
  const opened = await withTransaction(context.store, async (tx): Promise<Filled> => {
    const room = await lockRoom(tx, roomId);
    if (room === undefined || room.epoch === 0 || !room.isAnybodyIn) return 'nothing';
    const parents = await readParents(tx, roomId, missing);
    const known = await readMissingParents(tx, roomId, missing);
    const wanted = missing.filter((eventId) => !parents.has(eventId) && known.get(eventId)?.gap !== 'open');
    const { places, givingWay } = gapPlaces(await readOpenGaps(tx, roomId), origin, wanted.length);
    if (places === 0) return wanted.length === 0 ? 'nothing' : 'no-place';
    const at = context.clock.now();
    const assumedState = room.partial ? room.currentState : null;
    await append(tx, room, [
      ...givingWay.map((gap) => ({
        type: 'GapGivenUp' as const,
        eventId: gap.eventId,
        reason: gaveWay(gap, origin),
        at,
      })),
      { type: 'GapOpened', eventIds: wanted.slice(0, places), origin, assumedState, at },
    ]);
    return 'done';
  });
  if (opened === 'done') await ringRoom(context, roomId, 'for a gap');
  return opened;
}
