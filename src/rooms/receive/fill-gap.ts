/**
 * Looks for the parents that pushed events lack: asks for what lies between them and our newest events, as long as that
 * makes progress, and stages it to be judged as if it had been pushed. Where that does not reach anything we hold, the
 * oldest missing parents become gaps: the state there is fetched by the room's workflow. Runs outside the room's turn.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#post_matrixfederationv1get_missing_eventsroomid
 */
import { PREV_EVENTS_MAX } from '../../matrix/event-format.ts';
import { type MissingEventsQuery } from '../../federation/contract.ts';
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { readParents } from '../../store/events/anchors.ts';
import { readOpenGaps } from '../../store/events/gaps.ts';
import { readFollowing, readPdus } from '../../store/events/pdus.ts';
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

/** What is known of the events before those that lack something. */
interface Walk extends LackingEvents, GapBounds {
  /** The lacking events, and what was given and taken of what lies before them. */
  readonly graph: Map<EventId, Node>;
  /** What the server that is asked gave, and may lie before our join. */
  readonly early: Map<EventId, Offered>;
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
  const bounds = await readGapBounds(context.store, roomId, PREV_EVENTS_MAX);
  let rounds = 0;
  let found = 0;
  for (const server of servers) {
    const walk: Walk = { ...lacking, ...bounds, graph, early: new Map() };
    for (; rounds < ROUNDS_MAX; rounds++) {
      const missing = await missingOf(context, lacking, graph);
      if (missing.length === 0) return 'done';
      const seen = walk.early.size;
      const came = await askForMissing(context, walk, server, missing, asking);
      found += came;
      if (came === 0 && walk.early.size === seen) break;
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
  walk: Walk,
  server: ServerName,
  missing: readonly EventId[],
  { ask, spending }: Asking,
): Promise<number> {
  const { roomId, rules, graph, early } = walk;
  const { latestEvents, earliestEvents } = await whereToAsk(context, walk, missing);
  if (latestEvents.length === 0) return 0;
  // By no depth: senders choose it, and what follows an event that claims to be the first would be hidden.
  const query = { earliestEvents, latestEvents, limit: ASKED_AT_A_TIME };
  const raws = await ask(server, (options) => context.federation.getMissingEvents(server, roomId, query, options));
  if (raws === undefined) return 0;
  const { offered } = await screenAnswer(context, { roomId, rules, raws, capReferences: true }, spending);
  // What nobody asked for is left: only what the graph cites, from there on backwards, what stands at an open gap among it.
  const reached = new Map(early);
  const toLook = [...graph.values(), ...early.values()].flatMap(({ prevEvents }) => prevEvents);
  for (let eventId = toLook.pop(); eventId !== undefined; eventId = toLook.pop()) {
    const event = offered.get(eventId);
    if (event === undefined || graph.has(eventId) || reached.has(eventId) || event.prevEvents.length === 0) continue;
    reached.set(eventId, event);
    toLook.push(...event.prevEvents);
  }
  const ours = await sinceOurJoin(context, walk, reached);
  for (const [eventId, event] of reached) if (!ours.has(eventId)) early.set(eventId, event);
  for (const eventId of ours) early.delete(eventId);
  // A copy of this server's that was of no use, for want of a key or a good signature, would be of none again, nor would one
  // that is signed the same, nor one of what has its place: what lies behind such an event counts all the same.
  const copies = await readUselessCopies(context.store, roomId, server, [...reached.keys()]);
  const useless = await uselessOf(context, { roomId, rules, copies, offered: reached }, spending);
  const taken = [...reached.values()].filter(({ eventId }) => ours.has(eventId) && !useless.has(eventId));
  const givenUp = await citesGivenUp(context, roomId, taken);
  const staged = inOrderOfComing(taken.filter(({ eventId }) => !givenUp.has(eventId)));
  for (const event of staged) graph.set(event.eventId, event);
  await stagePdus(
    context.store,
    server,
    staged.map(({ eventId, raw }) => ({ roomId, eventId, raw, waitsFor: [] })),
  );
  return staged.length;
}

/** First what certainly lies after our join; then, behind what may not, whether it does. */
async function whereToAsk(
  context: RoomsContext,
  walk: Walk,
  missing: readonly EventId[],
): Promise<Pick<MissingEventsQuery, 'earliestEvents' | 'latestEvents'>> {
  const { graph, early, extremities } = walk;
  const unseen = missing.filter((eventId) => !early.has(eventId));
  const [from, wanted] =
    unseen.length > 0 || early.size === 0 ? [graph, unseen] : [early, await missingOf(context, walk, early)];
  const cited = new Set(wanted);
  const latest = [...from.values()].filter(({ prevEvents }) => prevEvents.some((eventId) => cited.has(eventId)));
  const seen = from === graph ? missing.filter((eventId) => early.has(eventId)) : [];
  return {
    earliestEvents: [...extremities, ...seen.slice(0, ASKED_AT_A_TIME)],
    latestEvents: latest.map(({ eventId }) => eventId).slice(0, ASKED_AT_A_TIME),
  };
}

/**
 * Those of the events that are no history. What lies before our join is: the state at its edge says all of it that counts. Honest servers
 * count on from whatever depth they find, so all of that claims to lie below the join; but so may what follows an event that lies. It is
 * told by what it follows: nothing that builds on an event at the join's depth is an ancestor of the join.
 */
async function sinceOurJoin(
  { store }: RoomsContext,
  { roomId, joinDepth }: Walk,
  events: ReadonlyMap<EventId, Offered>,
): Promise<ReadonlySet<EventId>> {
  const low = [...events.values()].filter(({ depth }) => depth < joinDepth);
  const cited = [...new Set(low.flatMap(({ prevEvents }) => prevEvents))];
  const held = await readFollowing(store, roomId, cited, joinDepth);
  const children = new Map<EventId, EventId[]>();
  const toLook = [...events.keys()].filter((eventId) => (events.get(eventId)?.depth ?? 0) >= joinDepth);
  for (const { eventId, prevEvents } of low) {
    if (prevEvents.some((prev) => held.has(prev))) toLook.push(eventId);
    for (const prev of prevEvents) children.set(prev, [...(children.get(prev) ?? []), eventId]);
  }
  const ours = new Set<EventId>();
  for (let eventId = toLook.pop(); eventId !== undefined; eventId = toLook.pop()) {
    if (ours.has(eventId)) continue;
    ours.add(eventId);
    toLook.push(...(children.get(eventId) ?? []));
  }
  return ours;
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
