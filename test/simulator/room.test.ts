import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { readJoinTemplate } from '../../src/federation/join-template.ts';
import { type EventId, type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { ROOM_VERSIONS } from '../../src/matrix/room-versions.ts';
import { signEvent } from '../../src/matrix/signing/signatures.ts';
import { stateMapKey } from '../../src/matrix/state-map.ts';
import { type SimulatedEvent, type SimulatedRoom } from '../../src/simulator/room.ts';
import { type ServerKeys, serverKeysFromSeed } from '../../src/simulator/server-keys.ts';
import { allEvents, makeRoom, readPdu } from './room-under-test.ts';

const JOINER = '@joiner:localhost:8448' as UserId;
const JOINER_KEY = serverKeysFromSeed(99).of('localhost:8448' as ServerName);

/** The join that a joining server makes of the template it is given. */
function joinOf(room: SimulatedRoom, user = JOINER): JsonObject {
  const { event } = room.joinTemplate(user);
  const given = room.rules.eventIdFormat === 'given' && { event_id: `$join-of-${user.slice(1)}` };
  const draft = { ...event, ...given, content: { membership: 'join' }, origin_server_ts: Date.UTC(2026, 0) };
  return signEvent(draft, room.rules, 'localhost:8448' as ServerName, JOINER_KEY);
}

function aMember(room: SimulatedRoom): UserId {
  for (const id of room.currentState().values()) {
    const event = room.event(id);
    if (event?.membership === 'join' && event.depth > 30) return event.stateKey as UserId;
  }
  throw new Error('nobody is joined');
}

describe.each(ROOM_VERSIONS)('a join to a room of version %s', (roomVersion) => {
  const { room } = makeRoom({ roomVersion, members: 40, servers: 10, messages: 5 });

  test('is made of a template that a joining server takes, and stands in the state', () => {
    const { room_version, event } = room.joinTemplate(JOINER);
    const reading = readJoinTemplate({ roomVersion: room_version, event }, ROOM_VERSIONS, {
      roomId: room.roomId,
      userId: JOINER,
    });
    expect(reading).toMatchObject({ ok: true });
    const before = room.currentState();
    const latest = room.extremities;

    const join = room.accept(joinOf(room));
    expect(readPdu(join, room).eventId).toBe(join.eventId);
    expect(room.extremities).toEqual([join.eventId]);
    expect(join.prevEvents).toEqual(latest);
    expect(room.stateBefore(join.eventId)).toEqual(before);
    expect(room.currentEvent('m.room.member', JOINER)).toBe(join);
    expect(room.joinedCount()).toBe(41);
    expect(room.serversInRoom()).toContain('localhost:8448');

    const next = room.append({ sender: aMember(room), type: 'm.room.message', content: { body: 'welcome' } });
    expect(readPdu(next, room)).toMatchObject({ prevEvents: [join.eventId], depth: join.depth + 1n });
    expect(room.stateBefore(next.eventId)).toEqual(room.currentState());
  });
});

describe('accepting an event', () => {
  test('that is here already changes nothing', () => {
    const { room } = makeRoom();
    const json = joinOf(room);
    const join = room.accept(json);
    room.append({ sender: JOINER, type: 'm.room.message', content: {} });
    const { extremities } = room;
    expect(room.accept(json)).toBe(join);
    expect(room.extremities).toEqual(extremities);
    expect(room.joinedCount()).toBe(121);
  });

  test('on parents that others were added to meanwhile forks the room, and the next merges', () => {
    const { room } = makeRoom();
    const json = joinOf(room);
    const member = aMember(room);
    const topic = room.append({
      sender: creatorOf(room),
      type: 'm.room.topic',
      stateKey: '',
      content: { topic: 'new' },
    });
    const join = room.accept(json);
    expect(room.extremities).toEqual([topic.eventId, join.eventId]);
    expect(room.stateBefore(join.eventId)?.get(stateMapKey('m.room.topic', ''))).not.toBe(topic.eventId);

    const merge = room.append({ sender: member, type: 'm.room.message', content: {} });
    expect(merge.prevEvents).toEqual([topic.eventId, join.eventId]);
    const state = room.stateBefore(merge.eventId);
    expect(state?.get(stateMapKey('m.room.topic', ''))).toBe(topic.eventId);
    expect(state?.get(stateMapKey('m.room.member', JOINER))).toBe(join.eventId);
  });

  test.each(['prev_events', 'auth_events'])(
    'with unknown %s is a mistake of the caller, and changes nothing',
    (name) => {
      const { room } = makeRoom();
      const event = { ...joinOf(room), [name]: ['$unknown'] };
      expect(() => room.accept(event)).toThrow('$unknown is not of the simulated room');
      expect(room.joinedCount()).toBe(120);
      const join = room.accept(joinOf(room));
      expect(room.stateBefore(join.eventId)?.size).toBe(room.currentState().size - 1);
      expect(room.authChain([join.eventId]).size).toBeGreaterThan(3);
    },
  );

  test('counts a server in from its first join to its last leave', () => {
    const { room } = makeRoom();
    room.accept(joinOf(room));
    const leave = { sender: JOINER, type: 'm.room.member', stateKey: JOINER, content: { membership: 'leave' } };
    room.append(leave);
    expect(room.serversInRoom()).not.toContain('localhost:8448');
    expect(room.joinedCount()).toBe(120);
  });
});

describe('appending an event', () => {
  test('makes one that is valid, on top of all extremities, later than everything before', () => {
    const { room, keys } = makeRoom();
    const last = readPdu(room.event(room.extremities[0]!)!, room);
    const appended = room.append({ sender: aMember(room), type: 'm.room.message', content: { body: 'hello' } });
    const pdu = readPdu(appended, room);
    expect(pdu.originServerTs).toBeGreaterThan(last.originServerTs);
    expect(pdu.content).toEqual({ body: 'hello' });
    expect(resigned(pdu.json, room, keys, pdu.sender)).toEqual(pdu.json);
    expect(room.event(appended.eventId)).toBe(appended);
  });

  test('gives the same event in every run', () => {
    const [one, two] = [makeRoom(), makeRoom()].map(({ room }) =>
      room.append({ sender: aMember(room), type: 'm.room.message', content: {} }),
    );
    expect(one?.json.toString()).toBe(two?.json.toString());
  });

  describe('by somebody who has left, which cites the join that is over', () => {
    const leaver = '@leaver:hs1.test' as UserId;
    const membership = (room: SimulatedRoom, sender: UserId, stateKey: UserId, to: string, more: object = {}) =>
      room.append({ sender, type: 'm.room.member', stateKey, content: { membership: to }, ...more });
    const standing = (room: SimulatedRoom, type: string, stateKey = '') => room.currentEvent(type, stateKey)!.eventId;

    /** A ban by who had the power for it, and has left. */
    const forbiddenBan = (room: SimulatedRoom) => {
      const banned = aMember(room);
      const joined = membership(room, leaver, leaver, 'join');
      const { content } = readPdu(room.currentEvent('m.room.power_levels', '')!, room);
      const users = { ...(content['users'] as JsonObject), [leaver]: 75 };
      room.append({
        sender: creatorOf(room),
        type: 'm.room.power_levels',
        stateKey: '',
        content: { ...content, users },
      });
      const left = membership(room, leaver, leaver, 'leave');
      const power = standing(room, 'm.room.power_levels');
      const cited = [standing(room, 'm.room.create'), power, joined.eventId, standing(room, 'm.room.member', banned)];
      return { banned, left, ban: membership(room, leaver, banned, 'ban', { authEvents: cited }) };
    };

    test('is held as rejected: the state and the extremities are those without it', () => {
      const { room } = makeRoom();
      const { banned, left, ban } = forbiddenBan(room);
      expect(ban.prevEvents).toEqual([left.eventId]);
      expect(readPdu(ban, room).authEvents).toEqual(ban.authEvents);
      expect(room.isRejected(ban.eventId)).toBe(true);
      expect(room.isRejected(left.eventId)).toBe(false);
      expect(room.event(ban.eventId)).toBe(ban);
      expect(room.extremities).toEqual([left.eventId]);
      expect(room.currentEvent('m.room.member', banned)?.membership).toBe('join');
    });

    test('may be named as a parent, and the state before its child is without it', () => {
      const { room } = makeRoom();
      const { banned, left, ban } = forbiddenBan(room);
      const prevEvents = [left.eventId, ban.eventId];
      const child = room.append({ sender: banned, type: 'm.room.message', content: {}, prevEvents });
      expect(child.prevEvents).toEqual(prevEvents);
      expect(room.isRejected(child.eventId)).toBe(false);
      expect(room.stateBefore(child.eventId)).toEqual(room.currentState());
      expect(room.extremities).toEqual([child.eventId]);
    });

    test('rejects what cites it, and is allowed where the parents are from before the leave', () => {
      const { room } = makeRoom();
      const joined = membership(room, leaver, leaver, 'join');
      const before = room.extremities;
      const left = membership(room, leaver, leaver, 'leave');
      const place = {
        prevEvents: before,
        authEvents: [standing(room, 'm.room.create'), standing(room, 'm.room.power_levels'), joined.eventId],
      };
      const late = room.append({ sender: leaver, type: 'm.room.message', content: {}, ...place });
      expect(room.isRejected(late.eventId)).toBe(false);
      expect(room.extremities).toEqual([left.eventId, late.eventId]);

      const { banned, ban } = forbiddenBan(room);
      const cited = [standing(room, 'm.room.create'), standing(room, 'm.room.power_levels'), ban.eventId];
      const said = room.append({ sender: banned, type: 'm.room.message', content: {}, authEvents: cited });
      expect(room.isRejected(said.eventId)).toBe(true);
    });
  });

  test('leaves the copies of the state alone that were given out before', () => {
    const { room } = makeRoom();
    const state = room.currentState();
    const digest = room.digest();
    const topic = stateMapKey('m.room.topic', '');
    const before = state.get(topic);
    const added = room.append({ sender: creatorOf(room), type: 'm.room.topic', stateKey: '', content: { topic: '' } });
    expect(state.get(topic)).toBe(before);
    expect(room.currentState().get(topic)).toBe(added.eventId);
    expect(room.digest()).not.toBe(digest);
  });
});

describe('what a room tells', () => {
  const { room } = makeRoom();
  const events = allEvents(room);

  test('no state before events of the older history, nor before unknown ones', () => {
    expect(room.stateBefore(events[20]!.eventId)).toBeUndefined();
    expect(room.stateBefore('$unknown' as EventId)).toBeUndefined();
  });

  test('a digest over the sorted ids of the state', () => {
    const ids = [...room.currentState().values()].sort().join('\n');
    expect(room.digest()).toBe(createHash('sha256').update(ids).digest('hex'));
  });

  test.each(['11', '12'])('auth chains as a plain walk finds them, in version %s', (roomVersion) => {
    const { room: walked } = makeRoom({ roomVersion });
    const { roomId } = walked;
    const createId = `$${roomId.slice(1)}` as EventId;
    const cited = ({ authEvents, type }: SimulatedEvent): readonly EventId[] =>
      roomVersion === '12' && type !== 'm.room.create' ? [...authEvents, createId] : authEvents;
    const state = [...walked.currentState().values()];
    const chain = new Set<EventId>();
    const open = state.flatMap((id) => cited(walked.event(id)!));
    for (let id = open.pop(); id !== undefined; id = open.pop()) {
      if (chain.has(id)) continue;
      chain.add(id);
      open.push(...cited(walked.event(id)!));
    }
    expect([...walked.authChain(state)].sort()).toEqual([...chain].sort());
    expect(chain.size).toBeGreaterThan(40);
    expect(walked.authChain([walked.currentEvent('m.room.create', '')!.eventId])).toEqual(new Set());
    expect(walked.authChain(['$unknown' as EventId])).toEqual(new Set());
  });

  test('the events between two points, the nearest first to be kept and the oldest first in the answer', () => {
    const { room: linear } = makeRoom({ forkShare: 0 });
    const ids = allEvents(linear).map(({ eventId }) => eventId);
    const idsOf = (found: readonly SimulatedEvent[]): EventId[] => found.map(({ eventId }) => eventId);
    const [earliest, latest] = [ids.at(-8)!, ids.at(-2)!];
    expect(idsOf(linear.missingEvents([latest], [earliest], 20))).toEqual(ids.slice(-7, -2));
    expect(idsOf(linear.missingEvents([latest], [earliest], 3))).toEqual(ids.slice(-5, -2));
    expect(linear.missingEvents([latest], [latest], 3)).toEqual([]);
    expect(linear.missingEvents(['$unknown' as EventId], [], 3)).toEqual([]);
    expect(idsOf(linear.missingEvents([ids[2]!], [], 10))).toEqual(ids.slice(0, 2));
  });

  test('both branches of a fork between two points', () => {
    const merge = events.findLast(({ prevEvents }) => prevEvents.length === 2)!;
    const found = room.missingEvents([merge.eventId], [], 2).map(({ eventId }) => eventId);
    expect(found.sort()).toEqual([...merge.prevEvents].sort());
  });
});

function creatorOf(room: SimulatedRoom): UserId {
  return room.currentEvent('m.room.create', '')!.sender;
}

/** The event with hash and signature made anew by src/matrix. */
function resigned(json: JsonObject, room: SimulatedRoom, keys: ServerKeys, sender: UserId): JsonObject {
  const bare = Object.fromEntries(Object.entries(json).filter(([name]) => name !== 'hashes' && name !== 'signatures'));
  const server = sender.slice(sender.indexOf(':') + 1) as ServerName;
  return signEvent(bare, room.rules, server, keys.of(server));
}
