import { expect, test } from 'vitest';
import { createNotifier } from '../../src/store/notify.ts';
import { ADMIN, message } from '../rooms/resync/partial-room.ts';
import { OUR, start, typing, typingEvent } from './passing-stage.ts';

test('after a crash of PostgreSQL no position is given twice, and nobody who typed then types for ever', async () => {
  const { room, passing, client, store, receive, events } = await start();
  await client.sync();
  await receive('m.typing', typing(room, ADMIN));
  expect(events(await client.sync())).toEqual([typingEvent(ADMIN)]);
  const told = Number(client.token?.split('_')[1]);
  // As it is then: unlogged tables are empty, and the disk does not know of the last commits.
  await store.query(`TRUNCATE room_typing, presence, last_recovery`);
  await store.query(`UPDATE journal_head SET position = position - 1`);
  await room.push(message('after', ADMIN, { prev: ['join'], auth: ['create', 'power', 'admin'] }));
  const notifier = createNotifier(store);
  await new Promise<void>((resolve) => notifier.subscribe(() => resolve()));
  await notifier.close();
  const answer = await client.sync();
  expect([...answer.joined.keys()]).toEqual([room.roomId]);
  expect(answer.joined.get(room.roomId)!.timeline).toHaveLength(1);
  expect(events(answer)).toEqual([typingEvent()]);
  expect(Number(client.token?.split('_')[1])).toBeGreaterThan(told);
  expect((await client.sync()).joined.size).toBe(0);
  const [head] = await store.query<{ position: number }>(`SELECT position FROM journal_head`);
  await passing.setPresence(OUR, 'online', null);
  expect((await store.query(`SELECT position FROM journal_head`))[0]).toEqual({ position: head!.position + 1 });
});
