/**
 * Sends to one server what it is owed, a transaction after the other, until nothing is left or it does not take one. A transaction is
 * written down before it is sent: after a kill, or where the answer was lost, the same one is sent again, under its name, and the
 * receiver takes it once.
 */
import { randomUUID } from 'node:crypto';
import { FederationError } from '../federation/error.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { parseJsonObject } from '../matrix/json/strict-json.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type HealthView, viewHealth } from '../rooms/resync/destination-health.ts';
import { readRedacted } from '../store/events/redactions.ts';
import { withTransaction } from '../store/open-store.ts';
import { deleteExpiredEdus, readEdus, readNextEdus } from '../store/tables/outgoing-edus.ts';
import { readNextPassing, readPassing, settleExpiredPassing, settlePassing } from '../store/tables/outgoing-passing.ts';
import {
  type Carried,
  type Delivery,
  postponeDelivery,
  readOutgoingBodies,
  readOwedEvents,
  recordTransaction,
  settleOwed,
  settleTransaction,
} from '../store/tables/deliveries.ts';
import { type SendingContext } from './context.ts';
import { mergeReceipts } from './merge-receipts.ts';
import {
  DELIVERY_LEASE_MS,
  EDUS_MAX,
  EDU_BYTES_MAX,
  PDUS_MAX,
  isRefusedForGood,
  nextDelivery,
  pauseAfter,
} from './next-delivery.ts';

/** After so many another server that waits may have the place. */
const TRANSACTIONS_IN_A_ROW = 10;

/** How sending to a server ended: nothing is left, there is more, or it did not take what it was sent. */
export type DeliveryOutcome = 'done' | 'more' | 'failed';

/** Sends what is owed to a leased server. Aborting the signal leaves a transaction that is under way for the next. */
export async function deliver(
  context: SendingContext,
  delivery: Delivery,
  signal: AbortSignal,
): Promise<DeliveryOutcome> {
  const { serverName } = delivery;
  const health = viewHealth(context);
  let transaction = pendingOf(delivery);
  for (let sent = 0; sent < TRANSACTIONS_IN_A_ROW; sent += 1) {
    signal.throwIfAborted();
    transaction ??= await beginTransaction(context, delivery);
    if (transaction === undefined) {
      await settleOwed(context.store, serverName);
      await deleteExpiredEdus(context.store, serverName, context.clock.now());
      return 'done';
    }
    if (!(await send(context, health, delivery, transaction, signal))) return 'failed';
    transaction = undefined;
  }
  return 'more';
}

interface Transaction extends Carried {
  readonly txnId: string;
}

function pendingOf({ txnId, txnPositions, txnEdus, txnPassing }: Delivery): Transaction | undefined {
  if (txnId === null || txnPositions === null) return undefined;
  return { txnId, positions: txnPositions, edus: txnEdus ?? [], passing: txnPassing };
}

/** Chooses what is sent next and writes it down; `undefined`: nothing is owed. */
async function beginTransaction(
  { store, clock }: SendingContext,
  standing: Delivery,
): Promise<Transaction | undefined> {
  const { serverName } = standing;
  const next = await readOwedEvents(store, serverName, PDUS_MAX + 1, false);
  const now = clock.now();
  const edus = await readNextEdus(store, serverName, { now, limit: EDUS_MAX, bytesMax: EDU_BYTES_MAX });
  const passing = await readNextPassing(store, serverName, { now, limit: EDUS_MAX - edus.length });
  if (next.length + edus.length + passing.count === 0) {
    // What was owed says nothing any more.
    if (passing.upTo !== null) await settlePassing(store, serverName, passing.upTo);
    return undefined;
  }
  const isNewest = nextDelivery(standing, next.length) === 'newest';
  const chosen = isNewest ? await readOwedEvents(store, serverName, PDUS_MAX, true) : next.slice(0, PDUS_MAX);
  const positions = chosen.map(({ position }) => position);
  const transaction = { txnId: randomUUID(), positions, edus, passing: passing.upTo };
  await recordTransaction(store, serverName, transaction.txnId, transaction, DELIVERY_LEASE_MS);
  return transaction;
}

/** Whether the server has taken it, or never will. */
async function send(
  context: SendingContext,
  health: HealthView,
  { serverName, failures }: Delivery,
  { txnId, ...carried }: Transaction,
  signal: AbortSignal,
): Promise<boolean> {
  const { store, clock, random, logger, federation } = context;
  const content = await contentOf(context, serverName, carried);
  try {
    await health.ask(serverName, () => federation.sendTransaction(serverName, txnId, content, { signal }));
  } catch (error) {
    if (!(error instanceof FederationError)) throw error;
    if (!isRefusedForGood(error.status)) {
      const at = clock.now();
      // Whoever is known to be out of reach was not asked at all.
      const isAsked = error.status !== undefined || error.retryAfterMs === undefined;
      const pause = Math.max(pauseAfter(failures, random()), error.retryAfterMs ?? 0);
      await postponeDelivery(store, serverName, { at, retryAt: at + pause, counts: isAsked });
      // One that never takes anything has no more waiting than what is still to be said, be it in a transaction already.
      await deleteExpiredEdus(store, serverName, at);
      await settleExpiredPassing(store, serverName, at);
      logger.debug({ err: error, serverName, failures, retryInMs: pause }, 'a server did not take a transaction');
      return false;
    }
    logger.warn({ err: error, serverName, txnId }, 'a server refuses a transaction; it is not sent again');
  }
  await withTransaction(store, (tx) => settleTransaction(tx, serverName, carried));
  return true;
}

/** What was taken back since it was said is sent as the redaction leaves it: its id and its signatures are of that. */
async function contentOf(
  { store, clock, serverName }: SendingContext,
  destination: ServerName,
  { positions, edus, passing }: Carried,
): Promise<JsonObject> {
  const said = await readOutgoingBodies(store, positions);
  const redacted = await readRedacted(store, said);
  const pdus = said.flatMap(({ eventId, json }) => {
    const read = parseJsonObject(redacted.get(eventId)?.json ?? json);
    return read.ok ? [read.value] : [];
  });
  const now = clock.now();
  const others = [
    ...(await readEdus(store, destination, edus)),
    ...(passing === null ? [] : mergeReceipts(await readPassing(store, destination, now, passing))),
  ];
  const content = { origin: serverName satisfies ServerName, origin_server_ts: now, pdus };
  return others.length === 0 ? content : { ...content, edus: others };
}
