/**
 * Deletes what nothing needs any more, in small batches, for as long as the pass may take: old transactions of servers
 * and clients, what was pushed and given up, invites that are over, keys that nobody asked for, failures of servers that nobody asks, events
 * that prove nothing and that nothing needs, what states lacked that nobody asks for any more or that was awaited for
 * too long, chunks of states that nothing names. Never the journal, but of rooms that are purged: purges that are due,
 * and those that were cut off, come first. Before the rest, what older versions left undone in whole rooms is opened
 * again, and what their events relate to is written down.
 */
import { purgeLeft, resumePurges } from '../src/rooms/purge/purges.ts';
import { type SendContext } from '../src/rooms/send/send-event.ts';
import { reopenAnchors } from '../src/rooms/resync/reopen-anchors.ts';
import { readRelations } from '../src/store/events/read-relations.ts';
import { forgetOutliers } from '../src/store/events/forget-outliers.ts';
import { forgetAwaited } from '../src/store/events/left-out.ts';
import { forgetLackingAtGaps, forgetUnsought } from '../src/store/events/missing-events.ts';
import { collectChunks, roomsToCollect } from '../src/store/snapshots/collect-chunks.ts';
import { forgetCachedDevices } from '../src/store/tables/cached-devices.ts';
import { forgetDestinations } from '../src/store/tables/destinations.ts';
import { forgetKeys } from '../src/store/tables/keys.ts';
import { forgetEndedOutside } from '../src/store/tables/outside-memberships.ts';
import { forgetPresence } from '../src/store/tables/presence.ts';
import { pruneStaged } from '../src/store/tables/staged-pdus.ts';
import { forgetClientTransactions } from '../src/store/tables/client-transactions.ts';
import { forgetMessageIds } from '../src/store/tables/to-device.ts';
import { forgetTransactions } from '../src/store/tables/transactions.ts';
import { type MaintainResult, type PassInput } from '../src/temporal/contract.ts';

const DAY_MS = 86_400_000;
/** A server tries a transaction again for hours, at the most for days; a client for as long as somebody looks at it. */
const TRANSACTIONS_KEPT_MS = 7 * DAY_MS;
const KEYS_KEPT_MS = 90 * DAY_MS;
/** For people to see what was given up; a hundred a room at the most. */
const DROPPED_KEPT_MS = DAY_MS;
/** Longer than it is looked for. */
const LACKING_AT_GAPS_KEPT_MS = 30 * DAY_MS;
/** What a room lacks is looked for beside this (missing-events.ts); that pushed events are refused for want of it is final then. */
const AWAITED_KEPT_MS = 30 * DAY_MS;
/** Each room is looked through so often, */
const COLLECT_EVERY_MS = DAY_MS;
/** and for so long at a time: a big one keeps the others waiting for no longer, and is gone on with an hour later. */
const COLLECT_MS_MAX = 5 * 60_000;
/** Names are free, and whoever is asked by them notes a failure. The longest rest is shorter, but where the server itself wanted it. */
const DESTINATIONS_KEPT_MS = DAY_MS;
/** A client that has not synced for so long is not told any more that an invite is over; a server has ceased to send it again. */
const INVITES_KEPT_MS = 30 * DAY_MS;
/** Their server is asked once more then: nobody relies for ever on having been told of every change. */
const DEVICES_KEPT_MS = 30 * DAY_MS;
/** Of whom nothing is said for so long, nobody is told that he is there. */
const PRESENCE_KEPT_MS = 7 * DAY_MS;
const ROWS_A_BATCH = 1_000;

export interface MaintenanceDependencies {
  readonly rooms: SendContext;
}

export async function maintain(
  { rooms }: MaintenanceDependencies,
  { budgetMs }: PassInput,
  { signal, heartbeat }: { readonly signal: AbortSignal; readonly heartbeat: () => void },
): Promise<MaintainResult> {
  const { store, clock, logger } = rooms;
  const now = clock.now();
  const until = now + budgetMs;
  const isOver = (): boolean => signal.aborted || clock.now() >= until;
  const allOf = async (forget: () => Promise<number>): Promise<number> => {
    let rows = 0;
    for (let batch = ROWS_A_BATCH; batch === ROWS_A_BATCH && !isOver();) {
      batch = await forget();
      rows += batch;
      heartbeat();
    }
    return rows;
  };
  await purgeLeft(rooms, now);
  const purges = await resumePurges(rooms, AbortSignal.any([signal, AbortSignal.timeout(budgetMs)]));
  heartbeat();
  const reopened = await reopenAnchors({ store, clock }, isOver);
  heartbeat();
  await readRelations(store, { isOver, heartbeat });
  const transactions = await allOf(() => forgetTransactions(store, now - TRANSACTIONS_KEPT_MS, ROWS_A_BATCH));
  const messages = await allOf(() => forgetMessageIds(store, now - TRANSACTIONS_KEPT_MS, ROWS_A_BATCH));
  const sent = await allOf(() => forgetClientTransactions(store, now - TRANSACTIONS_KEPT_MS, ROWS_A_BATCH));
  await allOf(() => forgetPresence(store, now - PRESENCE_KEPT_MS, ROWS_A_BATCH));
  await allOf(() => forgetCachedDevices(store, now - DEVICES_KEPT_MS, ROWS_A_BATCH));
  const keys = await allOf(() => forgetKeys(store, now - KEYS_KEPT_MS, ROWS_A_BATCH));
  const staged = isOver() ? 0 : await pruneStaged(store, DROPPED_KEPT_MS);
  const outliers = await forgetOutliers(store, { now, isOver, heartbeat });
  const missing =
    (await allOf(() => forgetUnsought(store, ROWS_A_BATCH))) +
    (await allOf(() => forgetLackingAtGaps(store, now - LACKING_AT_GAPS_KEPT_MS, ROWS_A_BATCH)));
  const awaited = await allOf(() => forgetAwaited(store, now - AWAITED_KEPT_MS, ROWS_A_BATCH));
  const invites = await allOf(() => forgetEndedOutside(store, now - INVITES_KEPT_MS, ROWS_A_BATCH));
  const destinations = await allOf(() => forgetDestinations(store, now - DESTINATIONS_KEPT_MS, ROWS_A_BATCH));
  let chunks = 0;
  while (!isOver()) {
    const [roomId] = await roomsToCollect(store, { now, everyMs: COLLECT_EVERY_MS, limit: 1 });
    if (roomId === undefined) break;
    const enough = clock.now() + COLLECT_MS_MAX;
    try {
      const isOverHere = (): boolean => isOver() || clock.now() >= enough;
      chunks += await collectChunks(store, roomId, { now, heartbeat, isOver: isOverHere });
    } catch (error) {
      // One room's trouble keeps no other from its turn.
      logger.warn({ err: error, roomId }, 'the snapshots of a room could not be collected');
    }
  }
  return {
    reopened,
    transactions: transactions + messages + sent,
    keys,
    staged,
    outliers,
    missing,
    awaited,
    destinations,
    invites,
    chunks,
    purges,
  };
}
