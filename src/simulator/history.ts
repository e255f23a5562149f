/**
 * What happens in a simulated room, and when: each person has a script of memberships, the room has its own changes, and
 * all are put in one order. Nobody acts here; the generator plays the acts.
 */
import { type Person, type Population } from './population.ts';
import { type WholeRoomShape } from './room-shape.ts';
import { type SeededRandom } from './seeded-random.ts';

/** What a person does or suffers. `kick`, `ban`, `unban` and `invite` are somebody else's doing. */
export type MembershipAct = 'join' | 'profile' | 'leave' | 'kick' | 'ban' | 'unban' | 'invite';

export interface PersonalAct {
  readonly kind: MembershipAct;
  readonly person: Person;
  /** Whether this person, once joined, stays and is fit to be given power. */
  readonly isSteady: boolean;
  /** From 0, the beginning of the history, to 1, its end. */
  readonly at: number;
}

export type Act =
  PersonalAct | { readonly kind: 'power'; readonly at: number } | { readonly kind: 'topic'; readonly at: number };

const RETURNS: readonly (readonly MembershipAct[])[] = [
  ['join', 'leave', 'join'],
  ['join', 'leave', 'invite', 'join'],
  ['join', 'kick', 'join'],
  ['join', 'ban', 'unban', 'join'],
];
const DEPARTURES: readonly (readonly MembershipAct[])[] = [
  ['join', 'leave'],
  ['join', 'leave'],
  ['join', 'profile', 'leave'],
  ['join', 'kick'],
  ['invite', 'leave'],
  ['join', 'ban', 'unban'],
];
const BANS: readonly (readonly MembershipAct[])[] = [['join', 'ban'], ['join', 'kick', 'ban'], ['ban']];

/** People who come in by an invite, though the room is public. */
const INVITED_FIRST_SHARE = 0.03;

/** How many people a room of this shape has beside its members, by what became of them. */
export function outsiderCounts(shape: WholeRoomShape): { left: number; banned: number; invited: number } {
  const count = (share: number): number => Math.round(share * shape.members);
  return { left: count(shape.leftShare), banned: count(shape.bannedShare), invited: count(shape.invitedShare) };
}

/** The acts of a history in their order. The creator, first of the members, is there already. */
export function planHistory(shape: WholeRoomShape, population: Population, random: SeededRandom): Act[] {
  const acts: Act[] = [];
  const script = (person: Person, kinds: readonly MembershipAct[], isSteady: boolean): void => {
    let at = 0;
    for (const kind of kinds) {
      at += (1 - at) * random.fraction();
      acts.push({ kind, person, isSteady, at });
    }
  };

  const rejoined = Math.round(shape.rejoinedShare * shape.members);
  const changed = Math.round(shape.profileChangeShare * shape.members);
  population.members.slice(1).forEach((person, index) => {
    if (index < rejoined) {
      script(person, random.pick(RETURNS), false);
    } else {
      const entrance: readonly MembershipAct[] = random.chance(INVITED_FIRST_SHARE) ? ['invite', 'join'] : ['join'];
      script(person, index < rejoined + changed ? [...entrance, 'profile'] : entrance, true);
    }
  });

  const { left, banned } = outsiderCounts(shape);
  population.outsiders.forEach((person, index) => {
    if (index < left) script(person, random.pick(DEPARTURES), false);
    else if (index < left + banned) script(person, random.pick(BANS), false);
    else script(person, ['invite'], false);
  });

  for (let i = 0; i < shape.powerLevelChanges; i++) acts.push({ kind: 'power', at: random.fraction() });
  for (let i = 0; i < shape.topicChanges; i++) acts.push({ kind: 'topic', at: random.fraction() });
  // The sort is stable: who acts twice at one moment does so in the order of the script.
  return acts.sort((a, b) => a.at - b.at);
}
