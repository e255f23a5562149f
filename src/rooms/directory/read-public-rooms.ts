/**
 * What another server says its public rooms are, as far as it has the form of such a list: clients are given nothing else. Pure.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#get_matrixfederationv1publicrooms
 */
import { parseRoomAlias, parseRoomId } from '../../matrix/identifiers.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../../matrix/pdu.ts';

/** Names and topics are of events, which have 64 KiB; nobody reads as much of a room that he is not in. */
const TEXT_BYTES_MAX = 8_192;
const TOKEN_BYTES_MAX = 1_024;
const TEXTS = ['name', 'topic', 'avatar_url', 'join_rule', 'room_type'] as const;
const FLAGS = ['world_readable', 'guest_can_join'] as const;

/** At most `limit` rooms; those that are of no form are left out. `undefined`: it is no list. */
export function readPublicRooms(answer: JsonObject, limit: number): JsonObject | undefined {
  const { chunk, next_batch: next, prev_batch: prev, total_room_count_estimate: total } = answer;
  if (!Array.isArray(chunk)) return undefined;
  return {
    chunk: (chunk as readonly Json[]).slice(0, limit).flatMap(entryOf),
    ...(isText(next, TOKEN_BYTES_MAX) ? { next_batch: next } : {}),
    ...(isText(prev, TOKEN_BYTES_MAX) ? { prev_batch: prev } : {}),
    ...(isCount(total) ? { total_room_count_estimate: total } : {}),
  };
}

function entryOf(room: Json): JsonObject[] {
  if (!isJsonObject(room)) return [];
  const { room_id: named, num_joined_members: members, canonical_alias: called } = room;
  const [roomId, alias] = [parseRoomId(named), parseRoomAlias(called)];
  if (roomId === undefined || !isCount(members)) return [];
  const texts = TEXTS.flatMap((name) => (isText(room[name], TEXT_BYTES_MAX) ? [[name, room[name]] as const] : []));
  return [
    {
      ...{ room_id: roomId, num_joined_members: members },
      ...(Object.fromEntries(FLAGS.map((name) => [name, room[name] === true])) as JsonObject),
      ...(alias === undefined ? {} : { canonical_alias: alias }),
      ...(Object.fromEntries(texts) as JsonObject),
    },
  ];
}

function isText(value: Json | undefined, bytesMax: number): value is string {
  return typeof value === 'string' && Buffer.byteLength(value) <= bytesMax;
}

function isCount(value: Json | undefined): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}
