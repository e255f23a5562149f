/**
 * Rooms as they are told to who is not in them: an entry of a list of rooms, by the room's state as far as it is known.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3publicrooms (PublicRoomsChunk)
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../../matrix/pdu.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { readRedacted } from '../../store/events/redactions.ts';
import { readNumbered } from '../../store/journal/seen-by-clients.ts';
import { type Sql } from '../../store/open-store.ts';
import { readStates } from '../../store/snapshots/many-snapshots.ts';
import { readStateKeys } from '../../store/snapshots/state-keys.ts';

const TYPES = [
  ...['m.room.create', 'm.room.name', 'm.room.topic', 'm.room.avatar', 'm.room.canonical_alias'],
  ...['m.room.join_rules', 'm.room.history_visibility', 'm.room.guest_access'],
] as const;

export interface RoomToTell {
  readonly roomId: RoomId;
  readonly state: SnapshotId;
  readonly members: number | null;
}

/** In their order; the same few statements for however many. */
export async function readRoomEntries(sql: Sql, rooms: readonly RoomToTell[]): Promise<JsonObject[]> {
  const keys = await readStateKeys(
    sql,
    TYPES.map((type) => ({ type, stateKey: '' })),
  );
  const selection = { keys: new Set(keys.values()) };
  const states = await readStates(
    sql,
    rooms.map(({ roomId, state }) => ({ roomId, state, selection })),
  );
  const bodies = await readNumbered(
    sql,
    states.flatMap((places) => [...places.values()]),
  );
  const given = rooms.flatMap(({ roomId }, i) =>
    [...(states[i]?.values() ?? [])].flatMap((nid) => {
      const body = bodies.get(nid);
      return body === undefined ? [] : [{ ...body, roomId }];
    }),
  );
  const redacted = await readRedacted(sql, given);
  return rooms.map(({ roomId, members }, i) => {
    const contentOf = (type: string): JsonObject => {
      const body = bodies.get(states[i]?.get(keys.get(stateMapKey(type, '')) ?? -1) ?? -1);
      if (body === undefined) return {};
      const { content } = JSON.parse(redacted.get(body.eventId)?.json ?? body.json) as JsonObject;
      return isJsonObject(content) ? content : {};
    };
    return entryOf(roomId, members ?? 0, contentOf);
  });
}

function entryOf(roomId: RoomId, members: number, contentOf: (type: string) => JsonObject): JsonObject {
  const text = (name: string, value: Json | undefined): JsonObject =>
    typeof value === 'string' ? { [name]: value } : {};
  return {
    room_id: roomId,
    num_joined_members: members,
    world_readable: contentOf('m.room.history_visibility')['history_visibility'] === 'world_readable',
    guest_can_join: contentOf('m.room.guest_access')['guest_access'] === 'can_join',
    ...text('name', contentOf('m.room.name')['name']),
    ...text('topic', contentOf('m.room.topic')['topic']),
    ...text('avatar_url', contentOf('m.room.avatar')['url']),
    ...text('canonical_alias', contentOf('m.room.canonical_alias')['alias']),
    ...text('join_rule', contentOf('m.room.join_rules')['join_rule']),
    ...text('room_type', contentOf('m.room.create')['type']),
  };
}
