/** Turns the acts of a history into drafts: who sends them, and what they say. Knows who has power at each moment. */
import { type Draft } from '../matrix/compose.ts';
import { type UserId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type Act, type PersonalAct } from './history.ts';
import { type Person, joinContent } from './population.ts';
import { type SeededRandom } from './seeded-random.ts';
import { topicText } from './words.ts';

const MODERATOR_LEVEL = 50;
/** When so many have power, the next change takes it from one of them. */
const MODERATORS_MAX = 12;
const REASONS = ['spam', 'off topic, again', 'asked to leave', 'flooding'];

/** Acts must be given in their order. */
export interface ActPlayer {
  draft(act: Act): Draft;
}

/** @param powerLevels the content of the m.room.power_levels that stands at the beginning. */
export function actPlayer(creator: Person, powerLevels: JsonObject, random: SeededRandom): ActPlayer {
  /** Joined for good, without power. */
  const steady: Person[] = [];
  const moderators: Person[] = [];
  const firstUsers = powerLevels['users'] as JsonObject;

  const power = (): Draft => {
    if (moderators.length >= MODERATORS_MAX) steady.push(...moderators.splice(random.below(moderators.length), 1));
    else if (steady.length > 0) moderators.push(...steady.splice(random.below(steady.length), 1));
    const users = Object.fromEntries(moderators.map(({ userId }) => [userId, MODERATOR_LEVEL]));
    const content = { ...powerLevels, users: { ...firstUsers, ...users } };
    return { sender: creator.userId, type: 'm.room.power_levels', stateKey: '', content };
  };
  const someoneWithPower = (): UserId => (random.chance(0.3) ? creator : random.pick([creator, ...moderators])).userId;
  const someone = (): UserId => (steady.length > 0 ? random.pick(steady) : creator).userId;
  const topic = (): Draft => {
    const content = { topic: topicText(random) };
    return { sender: someoneWithPower(), type: 'm.room.topic', stateKey: '', content };
  };
  const reason = (): JsonObject => (random.chance(0.7) ? { reason: random.pick(REASONS) } : {});
  const member = (sender: UserId, person: Person, content: JsonObject): Draft => ({
    sender,
    type: 'm.room.member',
    stateKey: person.userId,
    content,
  });

  const personal = ({ kind, person, isSteady }: PersonalAct): Draft => {
    switch (kind) {
      case 'join':
        if (isSteady) steady.push(person);
        return member(person.userId, person, joinContent(person, random));
      case 'profile':
        return member(person.userId, person, joinContent(person, random));
      case 'leave':
        return member(person.userId, person, { membership: 'leave' });
      case 'kick':
        return member(someoneWithPower(), person, { membership: 'leave', ...reason() });
      case 'ban':
        return member(someoneWithPower(), person, { membership: 'ban', ...reason() });
      case 'unban':
        return member(someoneWithPower(), person, { membership: 'leave' });
      case 'invite':
        return member(someone(), person, { membership: 'invite' });
    }
  };
  return {
    draft(act) {
      if (act.kind === 'power') return power();
      if (act.kind === 'topic') return topic();
      return personal(act);
    },
  };
}
