/**
 * Tells one application service what is of interest to it, a transaction after the other, until nothing is left or it does not take one.
 * A transaction is written down before it is sent: after a kill, or where the answer was lost, the same one is sent again, under its
 * name, and the service takes it once.
 *
 * Source: https://spec.matrix.org/v1.16/application-service-api/#pushing-events
 */
import { randomUUID } from 'node:crypto';
import { type Clock } from '../clock.ts';
import { type Logger } from '../logging.ts';
import { clientEvent, shownEvent } from '../matrix/client/client-event.ts';
import { parseJsonObject } from '../matrix/json/strict-json.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { readRedacted } from '../store/events/redactions.ts';
import { readVisibleEvents } from '../store/journal/visible-events.ts';
import { type Store } from '../store/open-store.ts';
import {
  type ServiceDelivery,
  type ServiceTransaction,
  type TellableEvent,
  postponeService,
  readTellable,
  readToldBodies,
  recordServiceTransaction,
  settleService,
} from '../store/tables/app-services.ts';
import { type ServiceClient, ServiceError } from './ask-service.ts';
import { type Interested, ofInterest } from './interest.ts';

/** Longer than a transaction takes, before each of which it is renewed; what a killed process had waits so long. */
export const SERVICE_LEASE_MS = 60_000;
const TRANSACTION_MS_MAX = 30_000;
/** Of one transaction. */
const EVENTS_MAX = 100;
const EVENT_BYTES_MAX = 1024 * 1024;
/** Of the events that state events of a transaction replaced. */
const REPLACED_BYTES_MAX = 1024 * 1024;
/** Entries of the journal that are looked at together. */
const ENTRIES_MAX = 500;
/** After so many steps others have their turn. */
const STEPS_IN_A_ROW = 20;
const PAUSE_FIRST_MS = 1_000;
const PAUSE_LONGEST_MS = 300_000;

export interface DeliverContext {
  readonly store: Store;
  readonly client: ServiceClient;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  /** Told of each transaction that a service did not take. */
  readonly onFailure: (serviceId: string) => void;
}

/** How telling a service ended: nothing is left, there is more, it did not take what it was sent, or another process tells it by now. */
export type ToldOutcome = 'done' | 'more' | 'failed' | 'overtaken';

/** Tells a leased service. Aborting the signal leaves a transaction that is under way for the next. */
export async function tellService(
  context: DeliverContext,
  to: Interested,
  { lease, sent, failures, transaction: pending }: ServiceDelivery,
  signal: AbortSignal,
): Promise<ToldOutcome> {
  const { store } = context;
  let transaction = pending;
  let after = sent;
  for (let step = 0; step < STEPS_IN_A_ROW; step += 1) {
    signal.throwIfAborted();
    if (transaction === undefined) {
      const { events, upTo } = await readTellable(store, after, ENTRIES_MAX);
      if (upTo === after) return 'done';
      const wanted = fitting(await ofInterest(store, to, events));
      const last = wanted.isCut ? (wanted.events.at(-1)?.position ?? upTo) : upTo;
      if (wanted.events.length === 0) {
        if (!(await settleService(store, lease, last, SERVICE_LEASE_MS))) return 'overtaken';
        after = last;
        continue;
      }
      const positions = wanted.events.map(({ position }) => position);
      transaction = { txnId: randomUUID(), positions, upTo: last, madeAt: context.clock.now() };
      if (!(await recordServiceTransaction(store, lease, transaction, SERVICE_LEASE_MS))) return 'overtaken';
    }
    if (!(await send(context, to, { lease, failures, transaction }, signal))) return 'failed';
    if (!(await settleService(store, lease, transaction.upTo, SERVICE_LEASE_MS))) return 'overtaken';
    after = transaction.upTo;
    transaction = undefined;
  }
  return 'more';
}

/** As many of the first as one transaction holds. */
function fitting(events: readonly TellableEvent[]): {
  readonly events: readonly TellableEvent[];
  readonly isCut: boolean;
} {
  let bytes = 0;
  const end = events.findIndex((event, i) => {
    bytes += event.bytes;
    return i > 0 && (i >= EVENTS_MAX || bytes > EVENT_BYTES_MAX);
  });
  return end === -1 ? { events, isCut: false } : { events: events.slice(0, end), isCut: true };
}

/** Whether the service has taken it. It is sent until it does, as the specification asks. */
async function send(
  { store, client, clock, random, logger, onFailure }: DeliverContext,
  { service }: Interested,
  { lease, failures, transaction }: Omit<ServiceDelivery, 'sent'> & { readonly transaction: ServiceTransaction },
  signal: AbortSignal,
): Promise<boolean> {
  const { id } = service;
  const path = `/_matrix/app/v1/transactions/${encodeURIComponent(transaction.txnId)}`;
  const body = { events: await contentOf(store, transaction) };
  let why: object;
  try {
    const asked = { method: 'PUT', path, body, timeoutMs: TRANSACTION_MS_MAX, signal } as const;
    const { status } = await client.ask(service, asked);
    if (status === 200) return true;
    why = { status };
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    why = { err: error };
  }
  const at = clock.now();
  const pause = Math.min(PAUSE_FIRST_MS * 2 ** Math.min(failures, 20), PAUSE_LONGEST_MS) * (1 + random() / 5);
  await postponeService(store, lease, { at, retryAt: at + pause });
  onFailure(id);
  const fields = { ...why, service: id, failures, retryInMs: Math.round(pause) };
  logger.warn(fields, 'an application service did not take a transaction; it is sent again');
  return false;
}

/** Where the room's stripped state stands: https://spec.matrix.org/v1.16/client-server-api/#mroommember */
const STRIPPED_MEMBERS = { invite: 'invite_room_state', knock: 'knock_room_state' } as const;

/** What was taken back since is told as the redaction leaves it. */
async function contentOf(store: Store, { positions, madeAt }: ServiceTransaction): Promise<JsonObject[]> {
  const { events, outside } = await readToldBodies(store, positions);
  const asked = events.map((pdu) => ({ pdu, isSeen: true, joinedSince: true }));
  // Whose membership is looked at makes no difference where all may be seen.
  const [first] = events;
  const seen =
    first === undefined ? [] : (await readVisibleEvents(store, asked, first.sender, REPLACED_BYTES_MAX)).seen;
  const replaced = seen.flatMap(({ roomId, replaced: was }) => (was === null ? [] : [{ ...was, roomId }]));
  const redacted = await readRedacted(store, [...seen, ...replaced]);
  const told = seen.map(({ eventId, roomId, json, shownAt, replaced: was }) => {
    const before = was && { eventId: was.eventId, json: redacted.get(was.eventId)?.json ?? was.json };
    const about = { replaced: before ?? undefined, taken: redacted.get(eventId) };
    return { at: shownAt, event: shownEvent({ eventId, roomId, json, ...about }, madeAt) };
  });
  const asking = outside.flatMap(({ position: at, roomId, eventId, json, membership, stripped }) => {
    const read = parseJsonObject(json);
    const unsigned = { [STRIPPED_MEMBERS[membership]]: [...stripped] };
    return read.ok ? [{ at, event: clientEvent(read.value, { eventId, roomId, unsigned }) }] : [];
  });
  return [...told, ...asking].toSorted((one, other) => one.at - other.at).map(({ event }) => event);
}
