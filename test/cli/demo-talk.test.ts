import { describe, expect, test } from 'vitest';
import { answerTo, gatherCast, speak } from '../../src/cli/demo/talk.ts';
import { type EventId, type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { type Simulator } from '../../src/simulator/contract.ts';
import { generateRoom } from '../../src/simulator/generate-room.ts';
import { type SimulatedRoom } from '../../src/simulator/room.ts';
import { pduOf } from '../../src/simulator/room-verdicts.ts';
import { serverKeysFromSeed } from '../../src/simulator/server-keys.ts';

const CREATOR_PLACE = ['m.room.create', ''] as const;

interface Federation {
  readonly room: SimulatedRoom;
  readonly creator: UserId;
  readonly simulator: Pick<Simulator, 'emit' | 'speakers' | 'stateEvent' | 'pushesSettled' | 'holds'>;
}

/** A simulated room without the servers. */
function federation({ members, residents }: { members: number; residents: number }): Federation {
  const named = (count: number) => Array.from({ length: count }, (_, i) => `resident${i + 1}.test` as ServerName);
  const shape = { seed: 7, roomVersion: '11', members, servers: residents, messages: 5 };
  const names = { residents: named(residents), memberServers: [] };
  const room = generateRoom(shape, names, serverKeysFromSeed(7), 0);
  const joined = [...room.currentState().values()]
    .map((id) => room.event(id)!)
    .filter(({ membership }) => membership === 'join')
    .map(({ stateKey }) => stateKey as UserId);
  const simulator: Federation['simulator'] = {
    emit: (_, drafts) => Promise.resolve(drafts.map((draft) => room.append(draft).eventId)),
    speakers: (_, limit) => Promise.resolve(joined.slice(0, limit)),
    stateEvent: (_, type, stateKey) => {
      const event = room.currentEvent(type, stateKey);
      return Promise.resolve(event && { eventId: event.eventId, content: pduOf(event, room.rules).content });
    },
    pushesSettled: () => Promise.resolve(),
    holds: (_, eventId) => Promise.resolve(room.event(eventId) !== undefined),
  };
  return { room, creator: room.currentEvent(...CREATOR_PLACE)!.sender, simulator };
}

describe.each([
  { members: 3, residents: 3 },
  { members: 3, residents: 1 },
  { members: 40, residents: 4 },
])('in a room of $members members on $residents servers', (size) => {
  test('those who are to speak came, and two of them have left, and nothing of it is refused', async () => {
    const { room, creator, simulator } = federation(size);
    const cast = await gatherCast(simulator, room.roomId, creator);
    const membership = (userId: UserId) => room.currentEvent('m.room.member', userId)?.membership;
    expect([cast.visitor, cast.moderator].map(membership)).toEqual(['leave', 'leave']);
    expect([cast.host, cast.neighbour].map(membership)).toEqual(['join', 'join']);
    expect(new Set([cast.host, cast.neighbour, creator]).size).toBe(3);
    expect(room.event(cast.moderatorJoined)?.membership).toBe('join');
    expect(room.joinedCount()).toBe(size.members);
    expect(room.serversInRoom()).toHaveLength(size.residents);
    expect(pduOf(room.currentEvent('m.room.power_levels', '')!, room.rules).content).toMatchObject({
      users: { [cast.moderator]: 75, [cast.host]: 50 },
    });
  });

  test('what those say who have left is refused by the true state, and the rest is not', async () => {
    const { room, creator, simulator } = federation(size);
    const cast = await gatherCast(simulator, room.roomId, creator);
    const said = await speak(simulator, room.roomId, cast);
    expect(said.map(({ eventId }) => room.isRejected(eventId))).toEqual([false, true, true, false, false]);
    const [, , kick, reply, topic] = said.map(({ eventId }) => room.event(eventId)!);
    // The kick stands before the topic, or nobody would be misled by it.
    expect(topic!.prevEvents).toEqual([reply!.eventId]);
    expect(reply!.prevEvents).toContain(kick!.eventId);
    expect(room.currentEvent('m.room.topic', '')).toBe(topic);
    expect(room.currentEvent('m.room.member', cast.host)?.membership).toBe('join');
  });

  test('somebody who is in the room answers, once what was said has come', async () => {
    const { room, creator, simulator } = federation(size);
    const cast = await gatherCast(simulator, room.roomId, creator);
    let looks = 0;
    const hearing = { ...simulator, holds: () => Promise.resolve((looks += 1) > 1) };
    const answer = await answerTo(hearing, room.roomId, cast, '$ours' as EventId);
    expect(looks).toBe(2);
    expect(room.isRejected(answer)).toBe(false);
    expect(room.event(answer)!.sender).toBe(cast.neighbour);
  });

  test('the same is said in every run', async () => {
    const runs = [];
    for (const { room, creator, simulator } of [federation(size), federation(size)]) {
      runs.push(await speak(simulator, room.roomId, await gatherCast(simulator, room.roomId, creator)));
    }
    expect(runs[0]).toEqual(runs[1]);
  });
});
