/**
 * Pushes new events to the joining servers: for each of them a queue, whose events arrive in the order they were made. One
 * transaction holds neighbours of the queue that the same server sends, up to the spec's 50, and is signed by it.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#transactions
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type Clock } from '../clock.ts';
import { authorizationOf } from '../federation/request-auth.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { isJsonObject, parseJsonObject } from '../matrix/json/strict-json.ts';
import { TRANSACTION_PDUS_MAX } from '../matrix/transactions.ts';
import { invariant } from '../invariant.ts';
import { type JoiningServers } from './joining-servers.ts';
import { type RequestCounts } from './request-counts.ts';
import { type SimulatedEvent } from './room.ts';
import { type ServerKeys } from './server-keys.ts';

/** Pauses before a transaction is sent again; after the last it is given up, and the queue goes on with the next. */
const RETRY_PAUSES_MS = [250, 1_000, 4_000];

export interface Pushes {
  /** Queues an event for every destination. `from`: who sends it, which need not be its sender's server. */
  push(event: SimulatedEvent, from: ServerName, destinations: Iterable<ServerName>): void;
  /** Resolves when every event queued so far has been answered or given up. */
  settled(): Promise<void>;
  /** Gives up what is queued. */
  close(): Promise<void>;
}

interface Queued {
  readonly event: SimulatedEvent;
  readonly from: ServerName;
}

export interface PushesDependencies {
  readonly keys: ServerKeys;
  readonly joiningServers: Pick<JoiningServers, 'ask'>;
  readonly counts: RequestCounts;
  readonly clock: Clock;
}

/** Queues without a destination yet; the first event for a server makes its queue. */
export function createPushes({ keys, joiningServers, counts, clock }: PushesDependencies): Pushes {
  const queues = new Map<ServerName, Queued[]>();
  const running = new Map<ServerName, Promise<void>>();
  const closing = new AbortController();
  let transactions = 0;

  const send = async (destination: ServerName, from: ServerName, events: readonly SimulatedEvent[]): Promise<void> => {
    transactions += 1;
    const uri = `/_matrix/federation/v1/send/${clock.now()}-${transactions}`;
    const pdus = events.map(({ json }) => json.toString('utf8')).join(',');
    const body = `{"origin":${JSON.stringify(from)},"origin_server_ts":${clock.now()},"pdus":[${pdus}]}`;
    const content = parseJsonObject(body);
    invariant(content.ok, 'signed events are JSON');
    const signed = { method: 'PUT', uri, origin: from, destination, content: content.value } as const;
    const request = {
      method: 'PUT',
      path: uri,
      authorization: authorizationOf(signed, keys.of(from)),
      body,
      signal: closing.signal,
    } as const;
    const isTaken = await tryToSend(destination, request);
    counts.add(from, 'send', 'sent', {
      requests: 1,
      bodyBytes: Buffer.byteLength(body),
      failed: isTaken ? 0 : 1,
    });
  };

  const tryToSend = async (
    destination: ServerName,
    request: Parameters<JoiningServers['ask']>[1],
  ): Promise<boolean> => {
    for (const pauseMs of [0, ...RETRY_PAUSES_MS]) {
      try {
        await delay(pauseMs, undefined, { signal: closing.signal });
        const { status, body } = await joiningServers.ask(destination, request);
        if (status === 200) return isWithoutErrors(body);
      } catch {
        if (closing.signal.aborted) return false;
      }
    }
    return false;
  };

  const drain = async (destination: ServerName): Promise<void> => {
    const queue = queues.get(destination) ?? [];
    while (queue.length > 0 && !closing.signal.aborted) {
      const from = (queue[0] as Queued).from;
      const end = queue.findIndex((next, i) => next.from !== from || i === TRANSACTION_PDUS_MAX);
      const batch = queue.splice(0, end < 0 ? queue.length : end);
      await send(
        destination,
        from,
        batch.map(({ event }) => event),
      );
    }
    running.delete(destination);
  };

  return {
    push(event, from, destinations) {
      for (const destination of destinations) {
        const queue = queues.get(destination) ?? [];
        queues.set(destination, queue);
        queue.push({ event, from });
        // In the next turn, so that events queued in this one share transactions.
        if (!running.has(destination)) {
          running.set(
            destination,
            Promise.resolve().then(() => drain(destination)),
          );
        }
      }
    },
    async settled() {
      await Promise.all(running.values());
    },
    async close() {
      closing.abort();
      await Promise.all(running.values());
    },
  };
}

/** Whether a transaction's answer has no error for any of its PDUs. */
function isWithoutErrors(body: Buffer): boolean {
  const answer = parseJsonObject(body);
  if (!answer.ok || !isJsonObject(answer.value['pdus'])) return false;
  return Object.values(answer.value['pdus']).every((result) => isJsonObject(result) && !Object.hasOwn(result, 'error'));
}
