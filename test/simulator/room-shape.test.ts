import { describe, expect, test } from 'vitest';
import { type UserId, domainOf } from '../../src/matrix/identifiers.ts';
import { generateRoom } from '../../src/simulator/generate-room.ts';
import { type RoomShape } from '../../src/simulator/room-shape.ts';
import { type SimulatedEvent, type SimulatedRoom } from '../../src/simulator/room.ts';
import { serverKeysFromSeed } from '../../src/simulator/server-keys.ts';
import { SMALL_SHAPE, allEvents, makeRoom, names, readPdu } from './room-under-test.ts';

function memberships(room: SimulatedRoom): Map<string, number> {
  const counts = new Map<string, number>();
  for (const id of room.currentState().values()) {
    const membership = room.event(id)?.membership;
    if (membership !== undefined) counts.set(membership, (counts.get(membership) ?? 0) + 1);
  }
  return counts;
}

function joinedByServer(room: SimulatedRoom): number[] {
  const counts = new Map<string, number>();
  for (const id of room.currentState().values()) {
    const event = room.event(id);
    if (event?.membership !== 'join') continue;
    const server = domainOf(event.stateKey as UserId);
    counts.set(server, (counts.get(server) ?? 0) + 1);
  }
  return [...counts.values()].sort((a, b) => b - a);
}

describe('the shape of a room', () => {
  test.each([
    { members: 2, servers: 2, messages: 0 },
    { members: 40, servers: 40, messages: 3 },
    { members: 501, servers: 7, messages: 10 },
  ])('is kept: %o', ({ members, servers, messages }) => {
    const { room } = makeRoom({ members, servers, messages });
    expect(memberships(room).get('join')).toBe(members);
    expect(room.joinedCount()).toBe(members);
    expect(joinedByServer(room).length).toBe(servers);
    expect(new Set(room.serversInRoom()).size).toBe(servers);
    expect(allEvents(room).filter(({ type }) => type === 'm.room.message').length).toBe(messages);
  });

  test('is kept by the shares of those who are not in the room any more, or not yet', () => {
    const { room } = makeRoom({ leftShare: 0.2, bannedShare: 0.1, invitedShare: 0.05 });
    expect(Object.fromEntries(memberships(room))).toEqual({ join: 120, leave: 24, ban: 12, invite: 6 });
  });

  test('is kept by the counts of changes, on top of the first', () => {
    const { room } = makeRoom({ powerLevelChanges: 7, topicChanges: 3 });
    const count = (wanted: string): number => allEvents(room).filter(({ type }) => type === wanted).length;
    expect(count('m.room.power_levels')).toBe(8);
    expect(count('m.room.topic')).toBe(4);
  });

  test('has profile changes for the share of members it names, and linear history where it names no forks', () => {
    const { room } = makeRoom({
      profileChangeShare: 0.25,
      rejoinedShare: 0,
      leftShare: 0,
      bannedShare: 0,
      messages: 0,
      forkShare: 0,
    });
    const events = allEvents(room);
    const joins = events.filter(({ membership }) => membership === 'join').length;
    expect(joins - room.joinedCount()).toBe(30);
    expect(events.every(({ prevEvents }) => prevEvents.length <= 1)).toBe(true);
    expect(events.map(({ depth }) => depth)).toEqual(events.map((_, index) => BigInt(index + 1)));
  });

  test.each<[string, Partial<RoomShape>]>([
    ['an unknown version', { roomVersion: '13' }],
    ['fewer members than servers', { members: 24 }],
    ['fewer servers than residents', { servers: 1 }],
  ])('is refused with %s', (_, shape) => {
    expect(() => makeRoom(shape)).toThrow('invariant');
  });

  test('may be of the creator alone, with nothing but the founding', () => {
    const shape = { ...SMALL_SHAPE, members: 1, servers: 1, messages: 0, powerLevelChanges: 0, topicChanges: 0 };
    const { residents } = names(1);
    const alone = { residents: residents.slice(0, 1), memberServers: [] };
    const room = generateRoom(
      { ...shape, leftShare: 0, bannedShare: 0, invitedShare: 0 },
      alone,
      serverKeysFromSeed(1),
      0,
    );
    expect(room.joinedCount()).toBe(1);
    const said = room.append({
      sender: room.currentEvent('m.room.create', '')!.sender,
      type: 'm.room.message',
      content: { body: 'anybody here?' },
    });
    expect(room.stateBefore(said.eventId)).toEqual(room.currentState());
  });
});

describe('a room is like those that exist', () => {
  const { room } = makeRoom({ members: 2_000, servers: 200, messages: 50 });
  const members = [...room.currentState().values()].map((id) => room.event(id) as SimulatedEvent);
  const joined = members.filter(({ membership }) => membership === 'join').map((event) => readPdu(event, room));

  test('a few servers have most of the members, and most servers have a few', () => {
    const counts = joinedByServer(room);
    expect(counts[0]).toBeGreaterThan(300);
    expect(counts.slice(0, 20).reduce((sum, count) => sum + count)).toBeGreaterThan(1_000);
    expect(counts.slice(100).every((count) => count <= 5)).toBe(true);
  });

  test('member events take 700 to 900 bytes', () => {
    const bytes = members.reduce((sum, { json }) => sum + json.length, 0) / members.length;
    expect(bytes).toBeGreaterThan(700);
    expect(bytes).toBeLessThan(900);
  });

  test('members have names in several scripts, and six in ten a picture', () => {
    const displayNames = joined.map(({ content }) => content['displayname']).filter((name) => typeof name === 'string');
    for (const script of ['Latin', 'Cyrillic', 'Arabic', 'Hebrew', 'Han', 'Hangul', 'Devanagari']) {
      expect(displayNames.some((name) => new RegExp(`\\p{Script=${script}}`, 'u').test(name))).toBe(true);
    }
    const pictured = joined.filter(({ content }) => typeof content['avatar_url'] === 'string').length;
    expect(pictured / joined.length).toBeGreaterThan(0.55);
    expect(pictured / joined.length).toBeLessThan(0.65);
  });

  test('members were invited, kicked, banned and let in again by whoever had the power, not always by one', () => {
    const others = allEvents(room).filter(
      ({ stateKey, sender, type }) => type === 'm.room.member' && stateKey !== sender,
    );
    const senders = (wanted: string): number =>
      new Set(others.filter(({ membership }) => membership === wanted).map(({ sender }) => sender)).size;
    for (const membership of ['invite', 'leave', 'ban']) expect(senders(membership)).toBeGreaterThan(2);
  });

  test('has what rooms have from their first minute', () => {
    const types = members
      .filter(({ type }) => type !== 'm.room.member')
      .map(({ type }) => type.slice('m.room.'.length));
    expect(types.sort()).toEqual(
      // Alphabetically, as they are sorted.
      [
        ['avatar', 'canonical_alias', 'create', 'guest_access', 'history_visibility', 'join_rules', 'name'],
        ['power_levels', 'server_acl', 'topic'],
      ].flat(),
    );
    expect(makeRoom({ roomVersion: '5' }).room.currentEvent('m.room.aliases', 'resident1.test')).toBeDefined();
  });

  test('all of it lies in the past, parents before their children', () => {
    const times = new Map(allEvents(room).map((event) => [event.eventId, readPdu(event, room).originServerTs]));
    for (const { eventId, prevEvents } of allEvents(room)) {
      for (const parent of prevEvents) expect(times.get(parent)).toBeLessThanOrEqual(times.get(eventId)!);
    }
    expect(Math.max(...times.values())).toBeLessThan(Date.UTC(2025, 11));
  });
});

describe('a room is determined', () => {
  const idsOf = (shape: Partial<RoomShape>, roomNo = 0): string[] =>
    allEvents(makeRoom(shape, roomNo).room).map(({ eventId }) => eventId);
  const ids = idsOf({});

  test('by shape and seed: the same room every time', () => {
    expect(idsOf({})).toEqual(ids);
    const [one, two] = [makeRoom(), makeRoom()].map(({ room }) => allEvents(room).map(({ json }) => json.toString()));
    expect(one).toEqual(two);
  });

  test.each<[string, Partial<RoomShape>, number]>([
    ['seed', { seed: SMALL_SHAPE.seed + 1 }, 0],
    ['number in the federation', {}, 1],
  ])('so that with another %s no event is the same', (_, shape, roomNo) => {
    const others = new Set(idsOf(shape, roomNo));
    expect(ids.filter((id) => others.has(id))).toEqual([]);
    expect(makeRoom(shape, roomNo).room.roomId).not.toBe(makeRoom().room.roomId);
  });

  test('rooms of one federation have different aliases', () => {
    const aliases = Array.from(
      { length: 30 },
      (_, roomNo) => makeRoom({ members: 25, messages: 0 }, roomNo).room.alias,
    );
    expect(new Set(aliases).size).toBe(30);
  });

  test('everywhere: the same ids on every machine, until the generator is changed on purpose', () => {
    expect(makeRoom().room.digest()).toMatchInlineSnapshot(
      `"5391635e58066cb697b2e7436d74325e30c7d43a436ec948ba15b02605cf302d"`,
    );
  });
});
