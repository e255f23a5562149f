/**
 * Brings a server what it is owed of a room while somebody waits for that, not when its turn comes: a resident that is to let one of us in
 * again knows of the leave before then. Takes the same leases as the loop (sending.ts), and waits for whoever has them.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { type JoinedServers } from '../store/snapshots/joined-servers.ts';
import { endDeliveryLease, isOwed, leaseDeliveries, leaseOutgoingRooms } from '../store/tables/deliveries.ts';
import { type SendingContext } from './context.ts';
import { deliver } from './deliver.ts';
import { DELIVERY_LEASE_MS, ROOM_LEASE_MS } from './next-delivery.ts';
import { shareOutRoom } from './share-out.ts';

/** Between two looks whether another has finished what it has leased. */
const LOOK_AGAIN_MS = 50;

/**
 * Resolves when the server has taken it, or did not; one statement where nothing is owed.
 *
 * @throws what the signal is aborted with; it is sent in its turn then
 */
export async function tellNow(
  context: SendingContext,
  joined: JoinedServers,
  roomId: RoomId,
  server: ServerName,
  signal: AbortSignal,
): Promise<void> {
  const { store } = context;
  while (await isOwed(store, roomId, server)) {
    for (const room of await leaseOutgoingRooms(store, ROOM_LEASE_MS, 1, roomId)) {
      await shareOutRoom(context, joined, room);
    }
    const [delivery] = await leaseDeliveries(store, { leaseMs: DELIVERY_LEASE_MS, limit: 1, server });
    if (delivery !== undefined) {
      try {
        await deliver(context, delivery, signal);
      } finally {
        await endDeliveryLease(store, server);
      }
      return;
    }
    await delay(LOOK_AGAIN_MS, undefined, { signal });
  }
}
