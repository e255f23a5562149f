import { expect, test } from 'vitest';
import { type ServerName } from '../../../src/matrix/identifiers.ts';
import { urgencyOf } from '../../../src/rooms/resync/fetch-order.ts';
import { learnServers } from '../../../src/store/tables/room-servers.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ADMIN, PartialRoom } from './partial-room.ts';

const { store } = await openTestStore();

async function roomOf(servers: number, isEncrypted = false): Promise<number> {
  const room = new PartialRoom(store);
  await room.join();
  const names = Array.from({ length: servers }, (_, n) => `s${n}.test` as ServerName);
  await learnServers(store, room.roomId, names, 'hint', 1);
  if (isEncrypted) {
    await room.push({
      ...{ id: 'encryption', type: 'm.room.encryption', sender: ADMIN, stateKey: '' },
      ...{ content: { algorithm: 'm.megolm.v1.aes-sha2' }, prev: ['join'], auth: ['create', 'power', 'admin'] },
    });
  }
  return urgencyOf({ store }, room.roomId);
}

test('encrypted rooms go before others, and of these the small ones first', async () => {
  const rooms = [await roomOf(2), await roomOf(300), await roomOf(2, true), await roomOf(300, true)];
  const [small, big, smallEncrypted, bigEncrypted] = rooms as [number, number, number, number];
  expect([big, smallEncrypted, small, bigEncrypted].sort((a, b) => a - b)).toEqual([
    smallEncrypted,
    bigEncrypted,
    small,
    big,
  ]);
  expect(Math.min(...rooms)).toBeGreaterThan(0);
});
