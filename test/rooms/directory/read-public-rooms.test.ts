import { expect, test } from 'vitest';
import { readPublicRooms } from '../../../src/rooms/directory/read-public-rooms.ts';

const ROOM = { room_id: '!a:there.test', num_joined_members: 5, world_readable: true, guest_can_join: false };

test('of a list of rooms those are given that have the form of one, with what clients know of rooms', () => {
  const whole = {
    ...ROOM,
    ...{ name: 'A', topic: 'of it', avatar_url: 'mxc://a/b', join_rule: 'public', room_type: 'm.space' },
    canonical_alias: '#a:there.test',
  };
  const chunk = [
    ...[whole, ROOM, 7, null, [], {}, { ...ROOM, room_id: 'a' }, { ...ROOM, room_id: 7 }],
    ...[
      { ...ROOM, num_joined_members: -1 },
      { ...ROOM, num_joined_members: '5' },
      { ...ROOM, num_joined_members: 0.5 },
    ],
    { ...ROOM, name: 7, topic: 'x'.repeat(8_193), canonical_alias: 'no alias', world_readable: 'yes', unknown: 1 },
  ];
  expect(readPublicRooms({ chunk, total_room_count_estimate: 12, prev_batch: 'p', other: 1 }, 100)).toEqual({
    chunk: [whole, ROOM, { ...ROOM, world_readable: false }],
    ...{ total_room_count_estimate: 12, prev_batch: 'p' },
  });
});

test('of a list of rooms no more are given than were asked for, and what is no list is none', () => {
  expect(readPublicRooms({ chunk: [ROOM, ROOM, ROOM] }, 2)).toEqual({ chunk: [ROOM, ROOM] });
  expect(readPublicRooms({ chunk: { 0: ROOM } }, 2)).toBeUndefined();
  expect(readPublicRooms({}, 2)).toBeUndefined();
  const odd = { chunk: [], next_batch: 'x'.repeat(1_025), prev_batch: 5, total_room_count_estimate: -1 };
  expect(readPublicRooms(odd, 2)).toEqual({ chunk: [] });
});
