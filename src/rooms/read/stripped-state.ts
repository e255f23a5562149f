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
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { redactedPages } from './as-redacted.ts';

/** The stripped state events of a room's state; of a room that begins, none. */
export function readStrippedState(sql: Sql, roomId: RoomId, state: SnapshotId): Promise<JsonObject[]> {
  return readTelling(sql, roomId, state, strippedEvent);
}

/**
 * As another server is told of them: since version 12 whole, so that it can see by the create event that they are of this room.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#put_matrixfederationv2inviteroomideventid
 */
export function readStateForServer(
  sql: Sql,
  { roomId, roomVersion }: { readonly roomId: RoomId; readonly roomVersion: string },
  state: SnapshotId,
): Promise<JsonObject[]> {
  const isWhole = rulesOfJoined(roomVersion).roomIdIsCreateHash;
  return readTelling(sql, roomId, state, isWhole ? (json) => JSON.parse(json) as JsonObject : strippedEvent);
}

async function readTelling(
  sql: Sql,
  roomId: RoomId,
  state: SnapshotId,
  told: (json: string) => JsonObject,
): Promise<JsonObject[]> {
  const entries = await readSnapshot(sql, roomId, state, { keys: TELLING });
  const ids = entries.map(({ eventId }) => eventId);
  const events: JsonObject[] = [];
  for await (const page of redactedPages(sql, roomId, streamPduBodies(sql, ids, TELLING.length))) {
    events.push(...page.map(({ json }) => told(json)));
  }
  return events;
}
