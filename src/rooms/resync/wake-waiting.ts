/**
 * Wakes the rooms that wait for a server which is back: it answers again, or has sent something. However many rooms wait for one that
 * is down, one request at a time finds out whether it still is (destination-health.ts), and they go on when it is not.
 *
 * That a server is back is a row until its rooms were woken, so that a killed process leaves none asleep: the sweep wakes them.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { type ResyncEvent } from '../../resync/events.ts';
import { evolve } from '../../resync/evolve.ts';
import { append } from '../../store/journal/journal.ts';
import { type WaitingRoom, lockResync, waitingFor } from '../../store/journal/rooms.ts';
import { type Store, withTransaction } from '../../store/open-store.ts';
import { type RoomsContext } from '../context.ts';
import { ringRoom } from '../ring.ts';

/** At most so many rooms a second, those first that somebody waits for: the server that is back has just been down. */
const WOKEN_A_SECOND = 50;
/** Whoever sends things all the time wakes a room no more often, milliseconds. */
const HEARD_EVERY_MS = 3_600_000;

export type WakeContext = Pick<RoomsContext, 'store' | 'clock' | 'ring' | 'logger'>;

/** Servers whose rooms a process is waking. */
const waking = new WeakMap<Store, Set<ServerName>>();

/** Wakes every room that waits for a server which answers again, and gives how many; at once 0 where this process is at it already. */
export async function wakeWaitingFor(context: WakeContext, server: ServerName, signal: AbortSignal): Promise<number> {
  const servers = waking.get(context.store) ?? new Set();
  waking.set(context.store, servers);
  if (servers.has(server)) return 0;
  servers.add(server);
  try {
    return await wakeAll(context, await waitingFor(context.store, server), server, 'answers', signal);
  } finally {
    servers.delete(server);
  }
}

/** Wakes those of the rooms that wait, in which a server has just said something that believes us to be there. */
export async function wakeThatHeard(
  context: WakeContext,
  server: ServerName,
  roomIds: readonly RoomId[],
  signal: AbortSignal,
): Promise<number> {
  return wakeAll(context, await waitingFor(context.store, server, roomIds), server, 'sent', signal);
}

async function wakeAll(
  context: WakeContext,
  rooms: readonly WaitingRoom[],
  server: ServerName,
  because: 'answers' | 'sent',
  signal: AbortSignal,
): Promise<number> {
  let woken = 0;
  for (const room of rooms) {
    if (signal.aborted) return woken;
    if (!(await wake(context, room, server, because))) continue;
    woken += 1;
    if (woken % WOKEN_A_SECOND === 0) await delay(1_000, undefined, { signal }).catch(() => undefined);
  }
  return woken;
}

async function wake(
  context: WakeContext,
  { roomId, epoch }: WaitingRoom,
  server: ServerName,
  because: 'answers' | 'sent',
): Promise<boolean> {
  const { store, clock } = context;
  const isWoken = await withTransaction(store, async (tx) => {
    const stay = await lockResync(tx, roomId, epoch);
    if (stay === undefined) return false;
    const at = clock.now();
    const back: ResyncEvent = { type: 'ResidentBack', resident: server, because, at };
    if (because === 'sent' && at - stay.resync.heardAt < HEARD_EVERY_MS) return false;
    if (evolve(stay.resync, back).phase === stay.resync.phase) return false;
    await append(tx, stay.room, [back]);
    return true;
  });
  if (isWoken) await ringRoom(context, roomId, 'for a server that is back');
  return isWoken;
}
