/** Rooms made in memory, stored with verdicts as judging leaves them, and a store that counts what it is asked. */
import { authEventIdsOf } from '../../../src/matrix/auth/auth-events.ts';
import { membershipOf } from '../../../src/matrix/content.ts';
import { type EventId, type RoomId } from '../../../src/matrix/identifiers.ts';
import { type Json, type JsonObject, type Pdu } from '../../../src/matrix/pdu.ts';
import { type RoomVersionRules } from '../../../src/matrix/room-versions.ts';
import { type StateMap, stateMapKey } from '../../../src/matrix/state-map.ts';
import { type SnapshotId } from '../../../src/resync/events.ts';
import { createCaches } from '../../../src/store/caches.ts';
import { insertPdus, recordOutlierVerdicts } from '../../../src/store/events/pdus.ts';
import { type Sql } from '../../../src/store/open-store.ts';
import { createSnapshot, readSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { type CheckedPdu } from '../../../src/verification/contract.ts';

/** Events in the order in which they cite each other. */
export interface RoomOfEvents {
  readonly roomId: RoomId;
  readonly rules: RoomVersionRules;
  readonly events: ReadonlyMap<EventId, Pdu>;
  readonly rejected: ReadonlySet<EventId>;
}

/** What goes over the wire, for events that tests made without. */
function wireOf(pdu: Pdu, rules: RoomVersionRules): JsonObject {
  if (Object.hasOwn(pdu.json, 'hashes')) return pdu.json;
  const refer = (ids: readonly EventId[]): Json =>
    rules.eventReferences === 'ids' ? ids : ids.map((id) => [id, { sha256: 'A'.repeat(43) }]);
  const isRoomless = rules.roomIdIsCreateHash && pdu.type === 'm.room.create';
  return {
    ...{ type: pdu.type, sender: pdu.sender, content: pdu.content, depth: Number(pdu.depth) },
    ...{ prev_events: refer(pdu.prevEvents), auth_events: refer(pdu.authEvents), origin_server_ts: pdu.originServerTs },
    ...(pdu.stateKey !== undefined && { state_key: pdu.stateKey }),
    ...(!isRoomless && { room_id: pdu.roomId }),
    ...(rules.eventIdFormat === 'given' && { event_id: pdu.eventId }),
    ...{ hashes: { sha256: 'A'.repeat(43) }, signatures: {} },
  };
}

function asStored(pdu: Pdu, rules: RoomVersionRules): CheckedPdu {
  const membership = pdu.type === 'm.room.member' ? (membershipOf(pdu) ?? null) : null;
  const json = Buffer.from(JSON.stringify(wireOf(pdu, rules)));
  return { ...pdu, json, stateKey: pdu.stateKey ?? null, membership, hollow: false };
}

/** Depths as judging works them out; a chain that is not held in full has none. */
function authDepthsOf({ events, rules }: RoomOfEvents): Map<EventId, number | null> {
  const depths = new Map<EventId, number | null>();
  for (const [id, event] of events) {
    const cited = authEventIdsOf(event, rules).map((each) => depths.get(each) ?? null);
    depths.set(id, cited.includes(null) ? null : Math.max(0, ...cited.map((depth) => 1 + (depth ?? 0))));
  }
  return depths;
}

/** Stores the room's events and the verdicts on them; without depths as rows from before these were stored. */
export async function storeRoom(sql: Sql, room: RoomOfEvents, { withDepths = true } = {}): Promise<void> {
  const depths = authDepthsOf(room);
  await insertPdus(
    sql,
    [...room.events.values()].map((event) => asStored(event, room.rules)),
  );
  const verdicts = Array.from(room.events.keys(), (eventId) => ({
    eventId,
    verdict: room.rejected.has(eventId) ? ('rejected' as const) : ('accepted' as const),
    authDepth: withDepths ? (depths.get(eventId) ?? null) : null,
  }));
  await recordOutlierVerdicts(sql, room.roomId, verdicts);
}

export function storeState(sql: Sql, { roomId }: RoomOfEvents, state: StateMap): Promise<SnapshotId> {
  return createSnapshot(sql, roomId, [...state.values()]);
}

/** The whole of a stored state, by place. */
export async function readState(sql: Sql, { roomId }: RoomOfEvents, snapshot: SnapshotId): Promise<StateMap> {
  const entries = await readSnapshot(sql, roomId, snapshot);
  return new Map(entries.map(({ type, stateKey, eventId }) => [stateMapKey(type, stateKey), eventId]));
}

/** The same database, with nothing in memory, and every statement counted with the rows it gave. */
export function counted<S extends Sql>(sql: S): { sql: S; statements: string[]; rows: { count: number } } {
  const statements: string[] = [];
  const rows = { count: 0 };
  const counting = {
    ...sql,
    caches: createCaches(),
    query: async <Row extends object>(text: string, values?: readonly unknown[]) => {
      statements.push(text);
      const given = await sql.query<Row>(text, values);
      rows.count += given.length;
      return given;
    },
  };
  return { sql: counting, statements, rows };
}
