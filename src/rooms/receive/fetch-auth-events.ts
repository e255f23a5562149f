/**
 * Gets the auth events that check 4 of pushed events lacks, and judges them by their own: an event whose auth events are not
 * judged proves nothing, and is proven by nothing. The auth chain of a pushed event comes by one request; single events are
 * asked for where that does not give them. Runs outside the room's turn.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#retrieving-event-authorization-information
 */
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

/** Events asked for one by one. */
const SINGLE_EVENTS_MAX = 10;

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
  const { roomId, rules, origin, events } = unjudged;
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

  const take = async (raws: readonly Uint8Array[]): Promise<void> => {
    spending.received(raws);
    const isHeld = (ids: readonly EventId[]) => heldEventIds(store, ids);
    const { signal } = spending;
    const outcomes = await checkEvents(context, { roomId, rules, events: raws, capReferences: false, isHeld, signal });
    await insertPdus(store, passed(outcomes));
  };

  let all = true;
  for (const { eventId, missingAuthEvents } of events) {
    let missing = await judge(context, unjudged, missingAuthEvents);
    for (const server of servers) {
      if (missing.length === 0) break;
      const chain = await ask(context, spending, (signal) =>
        context.federation.eventAuth(server, roomId, eventId, { signal }),
      );
      if (chain !== undefined) {
        await take(chain);
        missing = await judge(context, unjudged, missing);
      }
      const raws: Uint8Array[] = [];
      for (const wanted of missing.slice(0, SINGLE_EVENTS_MAX)) {
        const raw = await ask(context, spending, (signal) => context.federation.event(server, wanted, { signal }));
        if (raw !== undefined) raws.push(raw);
      }
      if (raws.length === 0) continue;
      await take(raws);
      missing = await judge(context, unjudged, missing);
    }
    all &&= missing.length === 0;
  }
  return all;
}

/** Judges events by what is held of their auth chains; gives those that are still without a verdict. */
async function judge(
  { store }: RoomsContext,
  { roomId, rules }: UnjudgedEvents,
  eventIds: readonly EventId[],
): Promise<EventId[]> {
  const chain = await readAuthChainIds(store, roomId, eventIds);
  const judged = await judgeOutliers(store, roomId, rules, [...chain], () => undefined);
  return eventIds.filter((eventId) => {
    const verdict = judged.get(eventId)?.verdict;
    return verdict !== 'accepted' && verdict !== 'rejected';
  });
}
