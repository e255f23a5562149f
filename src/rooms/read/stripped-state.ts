/**
 * What tells somebody who is not in a room which room it is.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#stripped-state
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { TELLING, strippedEvent } from '../../matrix/client/stripped-state.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { streamPduBodies } from '../../store/events/pdu-bodies.ts';
import { type Sql } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { redactedPages } from './as-redacted.ts';

/** The stripped state events of a room's state; of a room that begins, none. */
export async function readStrippedState(sql: Sql, roomId: RoomId, state: SnapshotId): Promise<JsonObject[]> {
  const entries = await readSnapshot(sql, roomId, state, { keys: TELLING });
  const ids = entries.map(({ eventId }) => eventId);
  const events: JsonObject[] = [];
  for await (const page of redactedPages(sql, roomId, streamPduBodies(sql, ids, TELLING.length))) {
    events.push(...page.map(({ json }) => strippedEvent(json)));
  }
  return events;
}
