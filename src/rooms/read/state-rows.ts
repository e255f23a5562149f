/** A state in the form of clients, read while it is sent. */
import { clientEvent } from '../../matrix/client/client-event.ts';
import { type RoomId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type PduBody, openStateBodies } from '../../store/events/pdu-bodies.ts';
import { readPdus } from '../../store/events/pdus.ts';
import { type Store } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { redactedPages } from './as-redacted.ts';

const PAGE_ROWS = 500;

/** `members`: the memberships that are told; `null`: all. */
export async function* stateRows(
  store: Store,
  roomId: RoomId,
  state: SnapshotId,
  members: readonly JsonObject[] | null,
): AsyncGenerator<readonly JsonObject[]> {
  const bodies =
    members === null
      ? (await openStateBodies(store, roomId, state, null, PAGE_ROWS)).pages
      : bodiesWithoutMembers(store, roomId, state);
  for await (const page of redactedPages(store, roomId, bodies)) {
    yield page.map(({ eventId, json, redactedBecause }) => {
      const unsigned = redactedBecause === undefined ? {} : { unsigned: { redacted_because: redactedBecause } };
      return clientEvent(JSON.parse(json) as JsonObject, { eventId, roomId, ...unsigned });
    });
  }
  if (members !== null) yield members;
}

async function* bodiesWithoutMembers(
  store: Store,
  roomId: RoomId,
  state: SnapshotId,
): AsyncGenerator<readonly PduBody[]> {
  const entries = await readSnapshot(store, roomId, state, { members: false });
  for (let start = 0; start < entries.length; start += PAGE_ROWS) {
    yield readPdus(
      store,
      roomId,
      entries.slice(start, start + PAGE_ROWS).map(({ eventId }) => eventId),
    );
  }
}
