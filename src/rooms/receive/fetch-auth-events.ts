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
import { readAuthChainIds } from '../../store/events/auth-events.ts';
import { heldEventIds, insertPdus, readPdus } from '../../store/events/pdus.ts';
import { readRoom } from '../../store/journal/rooms.ts';
import { type RoomsContext } from '../context.ts';
import { checkEvents, passed } from '../judge/check-events.ts';
import { judgeOutliers } from '../judge/judge-outliers.ts';
import { ask } from './ask.ts';
import { type Spending } from './budgets.ts';
import { whomToAsk } from './whom-to-ask.ts';

/** Events asked for one by one, of one server. */
const SINGLE_EVENTS_MAX = 10;
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
  /** Who sent them. */
  readonly origin: ServerName;
  /** Stored. */
  readonly events: readonly UnjudgedEvent[];
}

/** Whether all of the auth events are judged now. */
export async function fetchAuthEvents(
  context: RoomsContext,
  unjudged: UnjudgedEvents,
  spending: Spending,
): Promise<boolean> {
  const { store } = context;
  const { roomId, origin, events } = unjudged;
  const room = await readRoom(store, roomId);
  if (room === undefined) return false;
  const senders = (
    await readPdus(
      store,
      roomId,
      events.map(({ eventId }) => eventId),
    )
  ).map(({ sender }) => sender);
  const { servers } = await whomToAsk(context, room, origin, [...new Set(senders)]);

  let missing = await judge(
    context,
    unjudged,
    events.flatMap(({ missingAuthEvents }) => missingAuthEvents),
  );
  const limit = pLimit(REQUESTS_AT_ONCE);
  for (const server of servers) {
    if (missing.size === 0) break;
    const chains = citingEach(events, missing).map((eventId) =>
      limit(() =>
        ask(context, spending, (signal) => context.federation.eventAuth(server, roomId, eventId, { signal })),
      ),
    );
    await take(
      context,
      unjudged,
      (await Promise.all(chains)).flatMap((chain) => chain ?? []),
      spending,
    );
    missing = await judge(context, unjudged, [...missing]);
    if (missing.size === 0) break;
    const singles = [...missing]
      .slice(0, SINGLE_EVENTS_MAX)
      .map((wanted) =>
        limit(() => ask(context, spending, (signal) => context.federation.event(server, wanted, { signal }))),
      );
    await take(
      context,
      unjudged,
      (await Promise.all(singles)).filter((raw) => raw !== undefined),
      spending,
    );
    missing = await judge(context, unjudged, [...missing]);
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

/** Stores those of the events that pass checks 1 to 3. */
async function take(
  context: RoomsContext,
  { roomId, rules }: UnjudgedEvents,
  raws: readonly Uint8Array[],
  spending: Spending,
): Promise<void> {
  spending.received(raws);
  if (raws.length === 0) return;
  const isHeld = (ids: readonly EventId[]) => heldEventIds(context.store, roomId, ids);
  const { signal } = spending;
  const outcomes = await checkEvents(context, { roomId, rules, events: raws, capReferences: false, isHeld, signal });
  await insertPdus(context.store, passed(outcomes));
}

/** Judges events by what is held of their auth chains; gives those that are still without a verdict. */
async function judge(
  { store }: RoomsContext,
  { roomId, rules }: UnjudgedEvents,
  eventIds: readonly EventId[],
): Promise<Set<EventId>> {
  const chain = await readAuthChainIds(store, roomId, eventIds);
  const judged = await judgeOutliers(store, roomId, rules, [...chain], () => undefined);
  const isUnjudged = (eventId: EventId): boolean => {
    const verdict = judged.get(eventId)?.verdict;
    return verdict !== 'accepted' && verdict !== 'rejected';
  };
  return new Set(eventIds.filter(isUnjudged));
}
