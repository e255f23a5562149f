/**
 * Rings workflows for a server that must answer joins with or without Temporal: it connects in the background, again and
 * again until it succeeds, and a ring that does not get through is logged and left to the sweep.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type Tracer } from '@opentelemetry/api';
import { type Clock } from '../../clock.ts';
import { type Logger } from '../../logging.ts';
import { type RoomId } from '../../matrix/identifiers.ts';
import { type TemporalClient, connectTemporal } from '../../temporal/client.ts';
import { type TemporalTarget } from '../../temporal/connection.ts';

/** Somebody who joins a room waits for the ring. */
const RING_MS_MAX = 5_000;
/** A server that is slow to greet is reached in the background, while we listen already. */
const FIRST_CONNECT_MS_MAX = 3_000;
const FIRST_RECONNECT_MS = 500;
const LONGEST_RECONNECT_MS = 30_000;

export interface Ringer {
  /** Never rejects. */
  ring(roomId: RoomId): Promise<void>;
  close(): Promise<void>;
}

export interface RingerOptions {
  readonly target: TemporalTarget;
  readonly tracer: Tracer;
  readonly clock: Clock;
  readonly logger: Logger;
}

/** Resolves after the first try to connect, however that ended. */
export async function startRinger({ target, tracer, clock, logger }: RingerOptions): Promise<Ringer> {
  const stopping = new AbortController();
  let temporal: TemporalClient | undefined;
  const { address } = target;

  /** Whether it succeeded. */
  const connect = async (how: TemporalTarget): Promise<boolean> => {
    try {
      temporal = await connectTemporal(how, tracer);
      return true;
    } catch (error) {
      logger.error(
        { err: error, address },
        'Temporal cannot be reached: joins are answered, but rooms stay partial until it can; trying again',
      );
      return false;
    }
  };
  const isConnected = await connect({ ...target, connectTimeoutMs: FIRST_CONNECT_MS_MAX });
  const connecting = (async (): Promise<void> => {
    let pauseMs = FIRST_RECONNECT_MS;
    for (let isDone = isConnected; !isDone; pauseMs = Math.min(pauseMs * 2, LONGEST_RECONNECT_MS)) {
      await delay(pauseMs, undefined, { signal: stopping.signal });
      isDone = await connect(target);
      if (isDone) logger.info({ address }, 'Temporal is reached');
    }
  })().catch(() => undefined);

  return {
    ring: async (roomId) => {
      const client = temporal;
      if (client === undefined) {
        logger.warn({ roomId, address }, 'Temporal is not reached yet; the sweep will find the room');
        return;
      }
      try {
        await client.connection.withDeadline(clock.now() + RING_MS_MAX, () => client.ring(roomId));
      } catch (error) {
        logger.warn({ err: error, roomId, address }, 'the workflow could not be rung; the sweep will find the room');
      }
    },
    close: async () => {
      stopping.abort();
      await connecting;
      await temporal?.close();
    },
  };
}
