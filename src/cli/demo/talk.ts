/**
 * What is said in the simulated room while it is being joined, made so that two things turn out otherwise when the full state
 * comes: a visitor and a moderator have left the room, which nobody can see in a state without memberships. The visitor says
 * something all the same, and the moderator kicks somebody, who is then not believed to be in the room, and sets its topic.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { type EventId, type RoomId, type UserId, domainOf } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type Simulator } from '../../simulator/contract.ts';
import { invariant } from '../../invariant.ts';

/** Something that was said, and what the demo calls it. */
export interface Said {
  readonly eventId: EventId;
  readonly what: string;
}

/** The talk of a room that is being joined. */
export interface RoomTalk {
  /** Says it all. Resolves, with what was said, when every push has been answered or given up. */
  speak(): Promise<readonly Said[]>;
  /** Has somebody in the room answer what a user of ours said, once the room's servers have it. */
  answer(eventId: EventId): Promise<EventId>;
  /** The room's servers hold the last of its state back until now, or a small room were whole before anything is said. */
  letGo(): Promise<void>;
}

type Speaking = Pick<Simulator, 'emit' | 'speakers' | 'stateEvent' | 'pushesSettled'>;
type Hearing = Pick<Simulator, 'emit' | 'holds'>;

/** Those who speak. */
export interface Cast {
  /** Was in the room, and has left. */
  readonly visitor: UserId;
  readonly visitorJoined: EventId;
  /** Was in the room, has left, and is named in the power levels still. */
  readonly moderator: UserId;
  readonly moderatorJoined: EventId;
  /** Is in the room, and may set its topic. */
  readonly host: UserId;
  /** Is in the room; of the server of those who have left. */
  readonly neighbour: UserId;
}

const HEARING_POLL_MS = 20;
const MODERATOR_LEVEL = 75;
const HOST_LEVEL = 50;

/** Has the visitor and the moderator come and go, in truth and before anybody joins from outside. */
export async function gatherCast(simulator: Speaking, roomId: RoomId, creator: UserId): Promise<Cast> {
  // Three at least are in a demo's room, and one of them is its creator.
  const [host, ...others] = (await simulator.speakers(roomId, 3)).filter((userId) => userId !== creator);
  const neighbour = others.at(-1);
  invariant(host !== undefined && neighbour !== undefined, 'there are two in the room beside its creator');
  const server = domainOf(neighbour);
  const [visitor, moderator] = [`@visitor:${server}` as UserId, `@moderator:${server}` as UserId];
  const member = (userId: UserId, membership: string) => ({
    sender: userId,
    type: 'm.room.member',
    stateKey: userId,
    content: { membership },
  });
  const { content } = await standing(simulator, roomId, 'm.room.power_levels', '');
  const users = { ...(content['users'] as JsonObject), [moderator]: MODERATOR_LEVEL, [host]: HOST_LEVEL };
  const [visitorJoined, moderatorJoined] = await simulator.emit(roomId, [
    member(visitor, 'join'),
    member(moderator, 'join'),
    { sender: creator, type: 'm.room.power_levels', stateKey: '', content: { ...content, users } },
    member(visitor, 'leave'),
    member(moderator, 'leave'),
  ]);
  invariant(visitorJoined !== undefined && moderatorJoined !== undefined, 'each draft becomes an event');
  return { visitor, visitorJoined, moderator, moderatorJoined, host, neighbour };
}

/** Has the cast speak. */
export async function speak(simulator: Speaking, roomId: RoomId, cast: Cast): Promise<readonly Said[]> {
  const { visitor, moderator, host, neighbour } = cast;
  const standingId = async (type: string, stateKey = ''): Promise<EventId> =>
    (await standing(simulator, roomId, type, stateKey)).eventId;
  const rules = [await standingId('m.room.create'), await standingId('m.room.power_levels')];
  const message = (sender: UserId, body: string) => ({
    sender,
    type: 'm.room.message',
    content: { body, msgtype: 'm.text' },
  });
  const [welcome, gone, kick] = await simulator.emit(roomId, [
    message(neighbour, 'Welcome! We have been waiting for you.'),
    { ...message(visitor, 'I never left, did I?'), authEvents: [...rules, cast.visitorJoined] },
    {
      sender: moderator,
      type: 'm.room.member',
      stateKey: host,
      content: { membership: 'leave', reason: 'off topic, again' },
      authEvents: [...rules, cast.moderatorJoined, await standingId('m.room.member', host)],
    },
  ]);
  invariant(welcome !== undefined && gone !== undefined && kick !== undefined, 'each draft becomes an event');
  const [reply, topic] = await simulator.emit(roomId, [
    // So that the topic comes after the kick.
    { ...message(neighbour, 'That was uncalled for.'), prevEvents: [welcome, kick] },
    { sender: host, type: 'm.room.topic', stateKey: '', content: { topic: 'Joining without waiting' } },
  ]);
  invariant(reply !== undefined && topic !== undefined, 'each draft becomes an event');
  await simulator.pushesSettled();
  return [
    { eventId: welcome, what: `a message of ${neighbour}` },
    { eventId: gone, what: `a message of ${visitor}, who has left` },
    { eventId: kick, what: `a kick by ${moderator}, who has left` },
    { eventId: reply, what: `a message of ${neighbour}` },
    { eventId: topic, what: `a topic of ${host}, who was kicked` },
  ];
}

/** Has the neighbour answer what somebody said, as soon as it has come. */
export async function answerTo(
  simulator: Hearing,
  roomId: RoomId,
  { neighbour }: Pick<Cast, 'neighbour'>,
  eventId: EventId,
): Promise<EventId> {
  while (!(await simulator.holds(roomId, eventId))) await delay(HEARING_POLL_MS);
  const content = { body: 'Loud and clear. Make yourself at home.', msgtype: 'm.text' };
  const [answer] = await simulator.emit(roomId, [{ sender: neighbour, type: 'm.room.message', content }]);
  invariant(answer !== undefined, 'a draft becomes an event');
  return answer;
}

async function standing(
  simulator: Speaking,
  roomId: RoomId,
  type: string,
  stateKey: string,
): Promise<NonNullable<Awaited<ReturnType<Speaking['stateEvent']>>>> {
  const event = await simulator.stateEvent(roomId, type, stateKey);
  invariant(event !== undefined, `the room has its ${type}`);
  return event;
}
