/** Whether what the database says of rooms is what their journals say. */
import { expect } from 'vitest';
import { type RoomId } from '../../src/matrix/identifiers.ts';
import { type RoomRebuilt, rebuildFolds } from '../../src/store/journal/rebuild.ts';
import { type Store } from '../../src/store/open-store.ts';

/** Folds the journal of a room, or of all, once more; gives what was found. */
export async function rebuilt(store: Store, roomId?: RoomId): Promise<RoomRebuilt[]> {
  const { signal } = new AbortController();
  const found: RoomRebuilt[] = [];
  const query = { rowsMax: 5, signal, ...(roomId === undefined ? {} : { roomId }) };
  for await (const room of rebuildFolds(store, query)) found.push(room);
  return found;
}

/** Every fold table of the room, or of all rooms, holds what its journal says; fails with what differs. */
export async function expectFoldsRebuilt(store: Store, roomId?: RoomId): Promise<void> {
  const rooms = await rebuilt(store, roomId);
  const isOther = ({ differences, unfoldable }: RoomRebuilt) => differences.length > 0 || unfoldable !== undefined;
  expect(rooms.filter(isOther)).toEqual([]);
  expect(rooms.length).toBeGreaterThan(0);
}
