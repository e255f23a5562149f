/** A client library that we did not write syncs, lazily and eagerly, before and after a room is whole. */
import { ClientEvent, type MatrixClient, SyncState, createClient } from 'matrix-js-sdk';
import { expect, onTestFinished, test } from 'vitest';
import { startClientApi } from '../client-api/client.ts';
import { ADMIN, ME, PartialRoom, member, message } from '../rooms/resync/partial-room.ts';
import { openTestStore } from '../support/postgres.ts';

const { store } = await openTestStore();

const BOB = '@bob:there.test';
const AUTH = ['create', 'power', 'rules'];

async function start(
  url: string,
  accessToken: string,
  deviceId: string,
  isLazy: boolean,
  initialSyncLimit = 20,
): Promise<MatrixClient> {
  const client = createClient({ baseUrl: url, accessToken, userId: ME, deviceId });
  onTestFinished(() => client.stopClient());
  const prepared = new Promise<void>((resolve) => {
    client.on(ClientEvent.Sync, (state) => {
      if (state === SyncState.Prepared) resolve();
    });
  });
  await client.startClient({ lazyLoadMembers: isLazy, initialSyncLimit });
  await prepared;
  return client;
}

test('matrix-js-sdk shows a partial room at once where it is lazy, and once it is whole where it is eager, and reads it back', async () => {
  const api = await startClientApi(store);
  const token = await api.user('me', { deviceId: 'SDK' });
  const room = new PartialRoom(store);
  await room.join();
  await room.hold(
    member('bob', BOB, 'join', { auth: AUTH }),
    member('bob-ban', BOB, 'ban', { sender: ADMIN, auth: ['create', 'power', 'admin'] }),
  );
  await room.push(message('said', BOB, { prev: ['join'], auth: ['create', 'power', 'bob'] }));

  const lazy = await start(api.url, token, 'SDK', true);
  const eager = await start(api.url, token, 'SDK', false);
  const shown = lazy.getRoom(room.roomId)!;
  expect(shown.getMyMembership()).toBe('join');
  expect(
    shown
      .getLiveTimeline()
      .getEvents()
      .map((event) => event.getId()),
  ).toContain(room.id('said'));
  expect(shown.getMember(BOB)?.membership).toBe('join');
  expect(eager.getRoom(room.roomId)).toBeNull();

  await room.fetch('create', 'admin', 'power', 'rules', 'bob-ban');
  await room.walk();
  await expect.poll(() => eager.getRoom(room.roomId)?.getMember(ADMIN)?.membership, { timeout: 10_000 }).toBe('join');
  expect(eager.getRoom(room.roomId)!.getMember(BOB)?.membership).toBe('ban');
  // What the lazy client had been told of him was wrong.
  await expect.poll(() => shown.getMember(BOB)?.membership, { timeout: 10_000 }).toBe('ban');

  await room.push(message('after', ADMIN, { prev: ['join'], auth: ['create', 'power', 'admin'] }));
  for (const client of [lazy, eager]) {
    const ids = () =>
      client
        .getRoom(room.roomId)!
        .getLiveTimeline()
        .getEvents()
        .map((event) => event.getId());
    await expect.poll(ids, { timeout: 10_000 }).toContain(room.id('after'));
  }

  const late = await start(api.url, token, 'SDK', true, 1);
  const idsOf = () =>
    late
      .getRoom(room.roomId)!
      .getLiveTimeline()
      .getEvents()
      .map((event) => event.getId());
  expect(idsOf()).toEqual([room.id('after')]);
  await late.scrollback(late.getRoom(room.roomId)!, 10);
  expect(idsOf()).toEqual([room.id('join'), room.id('after')]);
});
