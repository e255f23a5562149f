/**
 * Tells one application service what is of interest to it, a transaction after the other, until nothing is left or it does not take one.
 * Looking for it writes nothing.
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
  type ServiceLease,
  type ServiceState,
  type ServiceTransaction,
  beginTransaction,
  endLease,
  leaseTransaction,
  postponeTransaction,
  settleTransaction,
} from '../store/tables/app-services.ts';
import {
  type TellableEvent,
  type TellablePage,
  readTellable,
  readToldBodies,
} from '../store/tables/tellable-events.ts';
import { type ServiceClient } from './ask-service.ts';
import { readEphemeral } from './ephemeral.ts';
import { type Interested, ofInterest } from './interest.ts';

/** Longer than a transaction takes; what a killed process had waits so long. */
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
/** Of what a service answers where it does not take a transaction, as operators are shown it. */
const FAILURE_CHARS_MAX = 300;

export interface DeliverContext {
  readonly store: Store;
  readonly client: ServiceClient;
  readonly clock: Clock;
  readonly random: () => number;
  readonly logger: Logger;
  /** Told of each transaction that a service did not take. */
  readonly onFailure: (serviceId: string) => void;
}

/** What may be told after positions; services that stand at the same one share it. */
export type PageReader = (after: number) => Promise<TellablePage>;

/** Reads each page once, for as long as it is held. */
export function createPageReader(store: Store): PageReader {
  const pages = new Map<number, Promise<TellablePage>>();
  return (after) => {
    const page = pages.get(after) ?? readTellable(store, after, ENTRIES_MAX);
    pages.set(after, page);
    return page;
  };
}

/** How telling a service ended: nothing is left, there is more, it did not take what it was sent, or another process tells it by now. */
export type ToldOutcome = 'done' | 'more' | 'failed' | 'overtaken';

export interface Told {
  readonly outcome: ToldOutcome;
  /** Nothing from where it has been told up to here is of interest to it. */
  readonly looked: number;
}

/** Tells a service what comes after `looked`. Aborting the signal leaves a transaction that is under way for the next. */
export async function tellService(
  context: DeliverContext,
  to: Interested,
  state: ServiceState & { readonly looked: number; readonly readPage: PageReader },
  signal: AbortSignal,
): Promise<Told> {
  const { store, clock } = context;
  const { serviceId } = state;
  let { sent, looked, failures, transaction } = state;
  for (let step = 0; step < STEPS_IN_A_ROW; step += 1) {
    signal.throwIfAborted();
    let lease: ServiceLease | undefined;
    if (transaction === undefined) {
      const { upTo, found } = await nextTransaction(context, to, looked, state.readPage);
      if (found === undefined) {
        if (upTo === looked) return { outcome: 'done', looked };
        looked = upTo;
        continue;
      }
      transaction = found;
      lease = await beginTransaction(store, { serviceId, sent }, transaction, SERVICE_LEASE_MS);
    } else {
      const { txnId } = transaction;
      lease = await leaseTransaction(store, { serviceId, txnId }, { now: clock.now(), leaseMs: SERVICE_LEASE_MS });
    }
    if (lease === undefined) return { outcome: 'overtaken', looked };
    if (!(await send(context, to, { lease, failures, transaction }, signal))) return { outcome: 'failed', looked };
    if (!(await settleTransaction(store, lease))) return { outcome: 'overtaken', looked };
    sent = transaction.upTo;
    looked = transaction.upTo;
    failures = 0;
    transaction = undefined;
  }
  return { outcome: 'more', looked };
}

/** What is next of interest to a service after a position, if anything up to `upTo` is. */
async function nextTransaction(
  { store, clock }: DeliverContext,
  to: Interested,
  after: number,
  readPage: PageReader,
): Promise<{ readonly upTo: number; readonly found?: ServiceTransaction }> {
  const page = await readPage(after);
  if (page.upTo === after) return { upTo: after };
  const wanted = fitting(await ofInterest(store, to, page.events));
  const upTo = wanted.isCut ? (wanted.events.at(-1)?.position ?? page.upTo) : page.upTo;
  const madeAt = clock.now();
  const isTold = to.service.ephemeralKeys.length > 0;
  const ephemeral = isTold ? await readEphemeral(store, to, { since: after, upTo }, madeAt) : [];
  if (wanted.events.length === 0 && ephemeral.length === 0) return { upTo };
  const positions = wanted.events.map(({ position }) => position);
  return { upTo, found: { txnId: randomUUID(), positions, ephemeral, upTo, madeAt } };
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

/** Whether the service has taken it. It is sent until it does, as the specification asks, unless an operator gives it up. */
async function send(
  context: DeliverContext,
  { service }: Interested,
  {
    lease,
    failures,
    transaction,
  }: { readonly lease: ServiceLease; readonly failures: number; readonly transaction: ServiceTransaction },
  signal: AbortSignal,
): Promise<boolean> {
  const { store, client, clock, random, logger, onFailure } = context;
  const { id, ephemeralKeys } = service;
  const { txnId, ephemeral } = transaction;
  const path = `/_matrix/app/v1/transactions/${encodeURIComponent(txnId)}`;
  let why: object;
  let failure: string;
  try {
    const events = await contentOf(store, transaction);
    const body = { events, ...Object.fromEntries(ephemeralKeys.map((key) => [key, ephemeral])) };
    const asked = { method: 'PUT', path, body, timeoutMs: TRANSACTION_MS_MAX, signal } as const;
    const answer = await client.ask(service, asked);
    if (answer.status === 200) return true;
    why = { status: answer.status };
    failure = `it answered ${answer.status}: ${answer.body.trim()}`;
  } catch (error) {
    if (signal.aborted) {
      await endLease(store, lease);
      throw error;
    }
    // Whatever keeps it from being sent is shown, and tried again no more often than what is refused.
    why = { err: error };
    failure = error instanceof Error ? error.message : String(error);
  }
  const at = clock.now();
  const pause = Math.min(PAUSE_FIRST_MS * 2 ** Math.min(failures, 20), PAUSE_LONGEST_MS) * (1 + random() / 5);
  await postponeTransaction(store, lease, { at, retryAt: at + pause, failure: failure.slice(0, FAILURE_CHARS_MAX) });
  onFailure(id);
  const fields = { ...why, service: id, transaction: txnId, failures, retryInMs: Math.round(pause) };
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
