/**
 * Who is in a simulated room, and on which servers: a few servers have most of the people and most servers have one or
 * two, as in every public room.
 */
import { invariant } from '../invariant.ts';
import { type ServerName, type UserId } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type SeededRandom } from './seeded-random.ts';
import { displayName, localpart, mediaUrl } from './words.ts';

export interface Person {
  readonly userId: UserId;
  readonly server: ServerName;
}

export interface Population {
  /** Those who are joined in the end; the first is the creator, on the first server. The others in random order. */
  readonly members: readonly Person[];
  /** Those who are not. */
  readonly outsiders: readonly Person[];
}

/**
 * The n-th largest server has about n^-1.2 times the members of the largest: with 13,000 members on 1,300 servers that
 * is a fifth of all members on the largest, and one or two each on the smaller half.
 */
const TAIL_EXPONENT = 1.2;
const DISPLAY_NAME_SHARE = 0.96;
const AVATAR_SHARE = 0.6;

/** Spreads people over servers, the largest first. Outsiders are on the same servers, and add none. */
export function populate(
  servers: readonly ServerName[],
  memberCount: number,
  outsiderCount: number,
  random: SeededRandom,
): Population {
  const [firstServer] = servers;
  invariant(firstServer !== undefined && memberCount >= servers.length, 'every server has a member');
  const weights = servers.map((_, rank) => (rank + 1) ** -TAIL_EXPONENT);
  let ordinal = 0;
  const person = (server: ServerName): Person => {
    const userId = `@${localpart(random, ordinal++)}:${server}` as UserId;
    return { userId, server };
  };
  const creator = person(firstServer);
  const others = membersByServer(weights, memberCount).flatMap((count, rank) =>
    Array.from({ length: rank === 0 ? count - 1 : count }, () => person(servers[rank] as ServerName)),
  );
  random.shuffle(others);
  const rankOf = weightedChoice(weights, random);
  const outsiders = Array.from({ length: outsiderCount }, () => person(servers[rankOf()] as ServerName));
  return { members: [creator, ...others], outsiders };
}

/** One member for each, and the rest by weight; what rounding leaves over goes to the largest. */
function membersByServer(weights: readonly number[], memberCount: number): number[] {
  const spread = memberCount - weights.length;
  const total = weights.reduce((sum, weight) => sum + weight, 0);
  const counts = weights.map((weight) => 1 + Math.floor((spread * weight) / total));
  const given = counts.reduce((sum, count) => sum + count, 0);
  counts[0] = (counts[0] as number) + memberCount - given;
  return counts;
}

/** Draws an index with a probability in proportion to its weight. */
function weightedChoice(weights: readonly number[], random: SeededRandom): () => number {
  let total = 0;
  const sums = weights.map((weight) => (total += weight));
  return () => {
    const drawn = random.fraction() * total;
    let low = 0;
    let high = sums.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((sums[middle] as number) > drawn) high = middle;
      else low = middle + 1;
    }
    return low;
  };
}

/** The content of a join, with a name and a picture made up on the spot. */
export function joinContent(person: Person, random: SeededRandom): JsonObject {
  return {
    ...(random.chance(AVATAR_SHARE) && { avatar_url: mediaUrl(random, person.server) }),
    ...(random.chance(DISPLAY_NAME_SHARE) && { displayname: displayName(random) }),
    membership: 'join',
  };
}
