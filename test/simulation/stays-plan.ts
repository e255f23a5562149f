/**
 * Sequences of what people and operators do about our being in a room: they join, leave, are kicked and banned, resume, park and purge,
 * while our process dies and is started again. Made from a seed.
 */
import { LEAVE_DURING_RESYNC, type LeaveDuringResync } from '../../src/resync/room-policy.ts';
import { type Random, createRandom } from '../differential/random.ts';
import { type Outage } from './plan.ts';

export type StayStep =
  | { readonly do: 'join' | 'kick' | 'ban' | 'unban'; readonly user: number; readonly server: number }
  | { readonly do: 'leave'; readonly user: number; readonly isForced: boolean }
  | { readonly do: 'purge'; readonly isForced: boolean; readonly dies: number }
  /** Somebody of another server says something; he sends it, or that is lost. */
  | { readonly do: 'say'; readonly server: number; readonly isSent: boolean }
  | { readonly do: 'work'; readonly actions: number }
  | { readonly do: 'wait'; readonly ms: number }
  /** The n-th commit from now on kills our process. */
  | { readonly do: 'kill'; readonly commits: number; readonly when: 'before' | 'after' }
  | { readonly do: 'down'; readonly server: number; readonly how: Outage }
  | { readonly do: 'up' | 'restart' | 'retry' | 'resume' | 'cancel' | 'park' | 'carry' };

export interface StaysPlan {
  readonly seed: number;
  readonly version: string;
  readonly leave: LeaveDuringResync;
  readonly steps: readonly StayStep[];
}

const STEPS_MIN = 8;
const STEPS_MORE = 22;
const USERS = 3;
export const STAYS_SERVERS = 3;

type Kind = readonly [weight: number, make: (random: Random) => StayStep];

const user = (random: Random): number => random.integer(USERS);
const server = (random: Random): number => random.integer(STAYS_SERVERS);
const whom = (what: 'join' | 'kick' | 'ban' | 'unban') => (random: Random) => ({
  ...{ do: what, user: user(random), server: server(random) },
});

const KINDS: readonly Kind[] = [
  [10, whom('join')],
  [3, whom('kick')],
  [2, whom('ban')],
  [2, whom('unban')],
  [7, (random) => ({ do: 'leave', user: user(random), isForced: random.chance(0.5) })],
  [
    3,
    (random) => ({ do: 'purge', isForced: random.chance(0.7), dies: random.chance(0.4) ? 1 + random.integer(40) : 0 }),
  ],
  [5, (random) => ({ do: 'say', server: server(random), isSent: random.chance(0.8) })],
  [12, (random) => ({ do: 'work', actions: random.pick([1, 1, 2, 3, 20]) })],
  [5, (random) => ({ do: 'wait', ms: random.pick([1_000, 30_000, 61_000, 600_000, 3_700_000]) })],
  [4, (random) => ({ do: 'kill', commits: 1 + random.integer(6), when: random.pick(['before', 'after'] as const) })],
  [3, (random) => ({ do: 'down', server: server(random), how: random.pick(['unreachable', 'server-error'] as const) })],
  [2, () => ({ do: 'up' })],
  [2, () => ({ do: 'restart' })],
  [2, () => ({ do: 'retry' })],
  [2, () => ({ do: 'resume' })],
  [2, () => ({ do: 'cancel' })],
  [2, () => ({ do: 'park' })],
  [4, () => ({ do: 'carry' })],
];

export function staysPlanOf(seed: number): StaysPlan {
  const random = createRandom(seed);
  const all = KINDS.reduce((sum, [weight]) => sum + weight, 0);
  const step = (): StayStep => {
    let dice = random.next() * all;
    for (const [weight, make] of KINDS) {
      dice -= weight;
      if (dice < 0) return make(random);
    }
    return { do: 'carry' };
  };
  const version = random.pick(['6', '10', '11', '12']);
  const leave = random.pick(LEAVE_DURING_RESYNC);
  const first: StayStep = { do: 'join', user: user(random), server: server(random) };
  const count = STEPS_MIN + random.integer(STEPS_MORE);
  return { seed, version, leave, steps: [first, ...Array.from({ length: count }, step)] };
}
