/**
 * A user of ours joins the room that has taken the place of one that he was in: our aliases mean it from then on, and what he keeps of the old
 * one goes with him. Only the old room says where it has gone; that the new one names it is anybody's word.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#room-upgrades
 */
import { type RoomId, type UserId, parseRoomId } from '../../matrix/identifiers.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { readStanding } from '../../store/journal/rooms.ts';
import { readRoomViews } from '../../store/journal/views.ts';
import { readRoomContents } from '../read/room-contents.ts';
import { moveDirectory } from './move-directory.ts';
import { type SendContext } from './send-event.ts';

const CREATE = 'm.room.create';
const TOMBSTONE = 'm.room.tombstone';

/** The room whose place this one has taken, where the user was in it; `undefined`: there is none. May be done again. */
export async function followUpgrade(context: SendContext, userId: UserId, roomId: RoomId): Promise<RoomId | undefined> {
  const { predecessor } = await contentAt(context, roomId, CREATE);
  const from = isJsonObject(predecessor) ? parseRoomId(predecessor['room_id']) : undefined;
  if (from === undefined || from === roomId || from.includes('\0')) return undefined;
  const [view] = await readRoomViews(context.store, [{ roomId: from, userId }]);
  if (view === undefined || (view.membership === null && !view.isFormer)) return undefined;
  const { replacement_room: successor } = await contentAt(context, from, TOMBSTONE);
  if (successor !== roomId) return undefined;
  await moveDirectory(context, from, roomId);
  return from;
}

async function contentAt({ store }: SendContext, roomId: RoomId, type: string) {
  const room = await readStanding(store, roomId);
  if (room === undefined || room.currentState === null) return {};
  const places = [{ type, stateKey: '' }];
  return (await readRoomContents(store, roomId, room.currentState, { places })).contentOf(type);
}
