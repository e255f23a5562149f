/** Events in the form of clients, with what this server says of them, and the memberships that a lazy client needs to show them. */
import { clientEvent, shownEvent } from '../../matrix/client/client-event.ts';
import { type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { readBundles } from '../../store/events/bundles.ts';
import { readRedacted } from '../../store/events/redactions.ts';
import { readCitedMembers, readNumbered } from '../../store/journal/seen-by-clients.ts';
import { type SeenPdu } from '../../store/journal/visible-events.ts';
import { type Store } from '../../store/open-store.ts';
import { readStates } from '../../store/snapshots/many-snapshots.ts';
import { readStateKeys } from '../../store/snapshots/state-keys.ts';
import { readTransactionIds } from '../../store/tables/client-transactions.ts';
import { asRedacted } from './as-redacted.ts';

const MEMBER = 'm.room.member';

export interface GivenTo {
  readonly userId: UserId;
  readonly deviceId: string;
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  /** What is shown to him later than this position is not told of. */
  readonly upTo?: number | null;
  /** He was joined at some time after the events. */
  readonly joinedSince?: boolean;
}

/** In their order; the same few statements for however many. */
export async function giveEvents(
  store: Store,
  events: readonly SeenPdu[],
  { userId, deviceId, now, upTo = null, joinedSince = true }: GivenTo,
): Promise<JsonObject[]> {
  const redacted = await readRedacted(
    store,
    events.flatMap((pdu) => [pdu, ...(pdu.replaced === null ? [] : [{ ...pdu.replaced, roomId: pdu.roomId }])]),
  );
  const own = events.flatMap(({ sender, eventId }) => (sender === userId ? [eventId] : []));
  const transactions = await readTransactionIds(store, userId, deviceId, own);
  const parents = events.map(({ eventId, roomId }) => ({ eventId, roomId, userId, upTo, joinedSince }));
  const relations = await readBundles(store, parents, userId, now);
  return events.map(({ eventId, roomId, json, replaced, membership }) => {
    const was = replaced && { eventId: replaced.eventId, json: redacted.get(replaced.eventId)?.json ?? replaced.json };
    const about = {
      ...{ taken: redacted.get(eventId), replaced: was ?? undefined, membership },
      relations: relations.get(eventId),
    };
    return shownEvent({ eventId, roomId, json, ...about, transactionId: transactions.get(eventId) }, now);
  });
}

/**
 * The memberships of those who sent the events, as they are in `state`; where a partial state lacks them, what their events cite.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#lazy-loading-room-members
 */
export async function giveSenders(store: Store, events: readonly SeenPdu[], state: SnapshotId): Promise<JsonObject[]> {
  const [first] = events;
  if (first === undefined) return [];
  const { roomId } = first;
  const senders = [...new Set(events.map(({ sender }) => sender))];
  const keys = await readStateKeys(
    store,
    senders.map((stateKey) => ({ type: MEMBER, stateKey })),
  );
  const wanted = senders.flatMap((sender) => keys.get(stateMapKey(MEMBER, sender)) ?? []);
  const [places = new Map<number, number>()] = await readStates(store, [
    { roomId, state, selection: { keys: new Set(wanted) } },
  ]);
  const lacking = new Set(wanted.filter((key) => !places.has(key)));
  const cited =
    lacking.size === 0
      ? []
      : await readCitedMembers(
          store,
          events.flatMap(({ eventId, authEvents }) => [eventId, ...authEvents]),
        );
  const nids = new Map([
    ...cited.filter(({ key }) => lacking.has(key)).map(({ key, nid }) => [key, nid] as const),
    ...places,
  ]);
  const bodies = [...(await readNumbered(store, nids.values())).values()];
  const given = await asRedacted(store, roomId, bodies);
  // Without an age, which would be another for each who asks.
  return given.map(({ eventId, json, redactedBecause }) => {
    const unsigned = redactedBecause === undefined ? {} : { unsigned: { redacted_because: redactedBecause } };
    return clientEvent(JSON.parse(json) as JsonObject, { eventId, roomId, ...unsigned });
  });
}
