/** What a server's own requests say about it: it is there, and believes us to be in the rooms that it sends events of. */
import { type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { markRecovered } from '../../store/tables/destinations.ts';
import { type WakeContext, wakeThatHeard, wakeWaitingFor } from './wake-waiting.ts';

/** A server that sends all the time is looked at so often, milliseconds. */
const LOOK_EVERY_MS = 10_000;
/** Servers that this is remembered of. */
const SERVERS_MAX = 10_000;

export interface ResidentsHeard {
  /** Returns at once. `roomIds`: of the events that it sent. */
  heardFrom(server: ServerName, roomIds: readonly RoomId[]): void;
  close(): Promise<void>;
}

/** One for a process. */
export function hearResidents(context: WakeContext): ResidentsHeard {
  const { store, clock, logger } = context;
  const lookedAt = new Map<ServerName, number>();
  const closing = new AbortController();
  const runs = new Set<Promise<void>>();
  const look = async (server: ServerName, roomIds: readonly RoomId[]): Promise<void> => {
    const isBack = await markRecovered(store, server, clock.now());
    if (isBack) await wakeWaitingFor(context, server, closing.signal);
    if (roomIds.length > 0) await wakeThatHeard(context, server, roomIds, closing.signal);
  };
  return {
    heardFrom(server, roomIds) {
      const now = clock.now();
      if (closing.signal.aborted || Math.abs(now - (lookedAt.get(server) ?? 0)) < LOOK_EVERY_MS) return;
      if (lookedAt.size >= SERVERS_MAX) lookedAt.clear();
      lookedAt.set(server, now);
      const run: Promise<void> = look(server, [...new Set(roomIds)])
        .catch((error: unknown) =>
          logger.warn({ err: error, server }, 'rooms that wait for a server could not be woken'),
        )
        .finally(() => runs.delete(run));
      runs.add(run);
    },
    async close() {
      closing.abort(new Error('the server is closing'));
      while (runs.size > 0) await Promise.all(runs);
    },
  };
}
