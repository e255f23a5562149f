/**
 * Asks other servers for what was said in a room before our stay in it, when a client reads back so far, and never before. What comes is
 * checked as what is pushed is: hashes, signatures, and the auth rules by the events that each cites, since the states there are not known.
 * Only what our join follows is taken, event by event; it is stored as history (src/store/tables/history.ts), and changes no state.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#get_matrixfederationv1backfillroomid
 */
import { type EventId } from '../../matrix/identifiers.ts';
import { readAuthChainIds } from '../../store/events/auth-events.ts';
import { heldEventIds, insertPdus } from '../../store/events/pdus.ts';
import { isAnybodyIn, lockRoom, readRoom } from '../../store/journal/rooms.ts';
import { type Stay } from '../../store/journal/timeline-page.ts';
import { withTransaction } from '../../store/open-store.ts';
import { addHistory, beginHistory, readHistoryState } from '../../store/tables/history.ts';
import { type Turns, createTurns, takeTurn } from '../../turns.ts';
import { type RoomsContext } from '../context.ts';
import { checkEvents, passed } from '../judge/check-events.ts';
import { judgeOutliers } from '../judge/judge-outliers.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { inOrderOfComing } from '../judge/order-of-coming.ts';
import { beginAsking } from '../receive/ask.ts';
import { fetchAuthEvents } from '../receive/fetch-auth-events.ts';
import { type Offered, screenAnswer } from '../receive/offered.ts';
import { whomToAsk } from '../receive/whom-to-ask.ts';
import { spendingOf } from './spending.ts';

/** Events that one request asks for. */
const EVENTS_MAX = 100;
/** All that one reader waits for other servers, milliseconds; and of requests and bytes. */
const WAIT_MS_MAX = 10_000;
const REQUESTS_MAX = 24;
const BYTES_MAX = 16 * 1024 * 1024;
/** Of one process. */
const AT_ONCE_MAX = 4;

/** Asks once for what lies further back before a stay; resolves when what came is stored, or nothing did. Throws for faults of ours only. */
export type Backfill = (
  stay: Stay & { readonly roomId: Parameters<typeof readRoom>[1] },
  signal: AbortSignal,
) => Promise<void>;

/** One for a process. */
export function createBackfill(context: RoomsContext): Backfill {
  const turns: Turns = createTurns(AT_ONCE_MAX, 1);
  return async (stay, caller) => {
    const signal = AbortSignal.any([caller, AbortSignal.timeout(WAIT_MS_MAX)]);
    const leave = await takeTurn(turns, stay.roomId, signal).catch(() => undefined);
    try {
      if (leave !== undefined && !signal.aborted) await ask(context, stay, signal);
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      leave?.();
    }
  };
}

async function ask(context: RoomsContext, stay: Parameters<Backfill>[0], signal: AbortSignal): Promise<void> {
  const { store, clock, federation, serverName } = context;
  const { roomId, joinEventId } = stay;
  const room = await readRoom(store, roomId);
  if (room === undefined || !(await isAnybodyIn(store, roomId))) return;
  const now = clock.now();
  await withTransaction(store, async (tx) => {
    if ((await lockRoom(tx, roomId)) !== undefined) await beginHistory(tx, stay, joinEventId);
  });
  const { wanted } = await readHistoryState(store, stay, now);
  if (wanted.length === 0) return;

  const rules = rulesOfJoined(room.roomVersion);
  const spending = spendingOf(signal, { requestsMax: REQUESTS_MAX, bytesMax: BYTES_MAX });
  const asking = beginAsking(context, spending);
  const origin = { name: room.joinedVia ?? serverName, isIn: room.joinedVia !== null };
  const reached = new Map<EventId, Offered>();
  for (const server of await whomToAsk(context, room, origin, asking)) {
    const raws = await asking.ask(server, (options) =>
      federation.backfill(server, roomId, wanted, EVENTS_MAX, options),
    );
    const answer = { roomId, rules, raws: (raws ?? []).slice(0, EVENTS_MAX), capReferences: false };
    const { offered } = await screenAnswer(context, answer, spending);
    // What nobody asked for is left: what is no ancestor of our join is no history of ours.
    const toLook = [...wanted];
    for (let eventId = toLook.pop(); eventId !== undefined; eventId = toLook.pop()) {
      const event = offered.get(eventId);
      if (event === undefined || reached.has(eventId)) continue;
      reached.set(eventId, event);
      toLook.push(...event.prevEvents);
    }
    if (reached.size > 0) break;
  }

  const inTheirOrder = inOrderOfComing([...reached.values()].toSorted((a, b) => a.depth - b.depth));
  const isHeld = (ids: readonly EventId[]) => heldEventIds(store, roomId, ids);
  const events = inTheirOrder.map(({ raw }) => raw);
  const pdus = passed(
    await checkEvents(context, { roomId, rules, events, asker: 'pushed', capReferences: false, isHeld, signal }),
  );
  await insertPdus(store, pdus);
  const unjudged = pdus.map(({ eventId, authEvents }) => ({ eventId, missingAuthEvents: authEvents }));
  const lacking = { roomId, rules, origin: origin.name, isOriginIn: origin.isIn, events: unjudged };
  if (unjudged.length > 0) await fetchAuthEvents(context, lacking, asking);
  const chain = await readAuthChainIds(store, roomId, [...reached.keys()]);
  await judgeOutliers(store, roomId, rules, [...chain], () => undefined, { areCitedOnly: true });
  await withTransaction(store, async (tx) => {
    if ((await lockRoom(tx, roomId)) === undefined) return;
    await addHistory(tx, stay, inTheirOrder.toReversed(), { asked: wanted, now });
  });
}
