/** Long stories of one room, told by the pure functions that its driver runs: time passes as the journal says. */
import { describe, expect, test } from 'vitest';
import { type AttemptOutcome, type ParkedBecause } from '../../src/resync/attempts.ts';
import { type FailureClass, type ResyncEvent } from '../../src/resync/events.ts';
import { evolve } from '../../src/resync/evolve.ts';
import { nextAction } from '../../src/resync/next-action.ts';
import { defaultResyncPolicy, nextRoundAt, parkedAfter } from '../../src/resync/policy.ts';
import { outcomeOf } from '../../src/resync/outcomes.ts';
import { type ResyncState } from '../../src/resync/state.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { fetched, given, joined, server } from './events.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

interface Request {
  readonly resident: ServerName;
  readonly at: number;
}

interface Story {
  readonly requests: readonly Request[];
  readonly rounds: number;
  readonly parked: ParkedBecause | null;
  readonly endedAt: number;
  readonly phase: ResyncState['phase'];
}

/**
 * A room that was joined at 0, until `untilMs`: `answer` says what a request meets, `null` that it gives the state; `told` are entries that
 * others write, in the order of their times.
 */
function tell(
  untilMs: number,
  answer: (resident: ServerName, at: number) => FailureClass | null,
  told: readonly ResyncEvent[] = [],
): Story {
  let state = given(joined({ at: 0 }));
  let now = 0;
  let rounds = 0;
  const requests: Request[] = [];
  const others = [...told];
  const journal = (event: ResyncEvent): void => {
    state = evolve(state, event);
  };
  for (let step = 0; step < 100_000 && now < untilMs; step += 1) {
    while ((others[0]?.at ?? Number.POSITIVE_INFINITY) <= now) journal(others.shift()!);
    const action = nextAction(state, now);
    if (action.type === 'walk' || (action.type === 'park' && others.length === 0)) break;
    if (action.type === 'sleep') {
      now = Math.min(action.untilMs, others[0]?.at ?? action.untilMs);
    } else if (action.type === 'park') {
      now = others[0]!.at;
    } else if (action.type === 'endRound') {
      const before = state;
      rounds += 1;
      const wakeAt = nextRoundAt(state, defaultResyncPolicy, now, 0.5);
      journal({ type: 'RoundFailed', round: action.round, wakeAt, reason: 'no', at: now });
      const parked = parkedAfter(before, state, now);
      if (parked !== undefined) journal({ type: 'ResyncParked', ...parked, at: now });
    } else if (action.type === 'fetchState') {
      const { attemptNo, resident, atEventId } = action;
      requests.push({ resident, at: now });
      now += 1_000;
      const failure = answer(resident, now);
      const outcome: AttemptOutcome | null = failure && outcomeOf(failure, { hasAnswered: true, sinceJoinMs: now });
      if (failure === null || outcome === null) {
        journal(fetched(attemptNo, resident, { at: now }));
      } else {
        journal({ type: 'StateFetchFailed', attemptNo, resident, atEventId, failure, outcome, reason: 'no', at: now });
      }
    }
  }
  return { requests, rounds, parked: state.parked?.because ?? null, endedAt: now, phase: state.phase };
}
const back = (name: string, at: number): ResyncEvent => ({
  type: 'ResidentBack',
  resident: server(name),
  because: 'answers',
  at,
});

describe('a week of outage', () => {
  const { requests, rounds, parked } = tell(7 * DAY, () => 'unreachable');

  test('costs a room some eighty rounds, ends by itself never, and parks nothing', () => {
    expect(parked).toBeNull();
    expect(rounds).toBeGreaterThan(70);
    expect(rounds).toBeLessThan(90);
    expect(requests.length).toBe(rounds * 3);
  });

  test('costs one round an hour from the second hour on, and one a day from the fourth day on', () => {
    const roundsIn = (from: number, to: number): number =>
      requests.filter(({ resident, at }) => resident === 'a' && at >= from && at < to).length;
    expect(roundsIn(0, HOUR)).toBe(7);
    expect(roundsIn(DAY, 2 * DAY)).toBeLessThanOrEqual(24);
    expect(roundsIn(4 * DAY, 7 * DAY)).toBeLessThanOrEqual(3);
  });
});

describe('a resident that is back after four days', () => {
  const backAt = 4 * DAY + 5 * HOUR;
  const isAway = (_: ServerName, at: number) => (at < backAt ? ('unreachable' as const) : null);

  test('is asked within a day by a room that heard of nothing', () => {
    const { endedAt, phase } = tell(9 * DAY, isAway);
    expect(phase).toBe('walking');
    expect(endedAt - backAt).toBeLessThan(27 * HOUR);
  });

  test('is asked at once by a room that is told', () => {
    const { endedAt, requests } = tell(9 * DAY, isAway, [back('b', backAt)]);
    expect(endedAt - backAt).toBeLessThan(2_000);
    expect(requests.at(-1)).toEqual({ resident: 'b', at: backAt });
  });
});

test('a server that flaps costs one request each time that it is back, and keeps nobody else from being asked', () => {
  const flaps = Array.from({ length: 6 * 24 * 2 }, (_, n) => back('b', DAY + n * 10 * MINUTE + 3_000));
  const quiet = tell(3 * DAY, () => 'unreachable');
  const { requests } = tell(3 * DAY, () => 'unreachable', flaps);
  const of = (name: string, story = requests): number => story.filter(({ resident }) => resident === name).length;
  expect(of('b') - of('b', quiet.requests)).toBeLessThanOrEqual(flaps.length + 2);
  // Their own rounds are as many as without it.
  expect(Math.abs(of('a') - of('a', quiet.requests))).toBeLessThanOrEqual(2);
  expect(Math.abs(of('c') - of('c', quiet.requests))).toBeLessThanOrEqual(2);
});

test('a room that all refuse is parked on the third day, and asks nobody more', () => {
  const { parked, endedAt, requests } = tell(400 * DAY, () => 'forbidden');
  expect(parked).toBe('refused');
  expect(endedAt).toBeGreaterThan(2 * DAY);
  expect(endedAt).toBeLessThan(3 * DAY);
  expect(requests.at(-1)!.at).toBeLessThanOrEqual(endedAt);
});

test('a room that one server refuses, while the others are out of reach, is parked, and asks the first of them that is back', () => {
  let isBack = false;
  const answer = (resident: ServerName, at: number): FailureClass | null => {
    if (resident === 'a') return 'forbidden';
    isBack = at >= 30 * DAY;
    return isBack ? null : 'unreachable';
  };
  const { phase, endedAt } = tell(40 * DAY, answer, [back('c', 30 * DAY)]);
  expect(phase).toBe('walking');
  expect(endedAt).toBeLessThan(30 * DAY + MINUTE);
});
