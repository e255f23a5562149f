import { expect, test } from 'vitest';
import { type RoomId } from '../../src/matrix/identifiers.ts';
import { SentMembers } from '../../src/sync/sent-members.ts';

const ROOM = '!room:here.test' as RoomId;
const DEVICE = '@me:here.test D1';
const KEY = 7;

test('a device has a membership from when it asks by the token that came with it, until it has been told that there is none', () => {
  const sent = new SentMembers();
  const has = (): boolean => sent.has(DEVICE, ROOM, KEY, 3, 0);
  sent.add(DEVICE, ROOM, KEY, { nid: 3, position: 10 });
  expect(has()).toBe(false);
  sent.begin(DEVICE, 10);
  expect(has()).toBe(true);

  sent.addEmpty(DEVICE, ROOM, KEY, 20);
  // That answer did not get there.
  sent.begin(DEVICE, 10);
  expect(has()).toBe(true);
  sent.addEmpty(DEVICE, ROOM, KEY, 20);
  sent.begin(DEVICE, 20);
  expect(has()).toBe(false);
});
