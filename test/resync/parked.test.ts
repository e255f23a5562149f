import { describe, expect, test } from 'vitest';
import { type AttemptOutcome } from '../../src/resync/attempts.ts';
import { type FailureClass, type ResyncEvent } from '../../src/resync/events.ts';
import { evolve } from '../../src/resync/evolve.ts';
import { describeResync, explain } from '../../src/resync/explain.ts';
import { nextAction } from '../../src/resync/next-action.ts';
import { defaultParkPolicy, parkedAfter } from '../../src/resync/policy.ts';
import { type ResyncState } from '../../src/resync/state.ts';
import { everybodyLeft, failed, given, joined, learned, roundFailed, server } from './events.ts';

const HOUR = 3_600_000;
const DAY = 24 * HOUR;

const said = (resident: string, failure: FailureClass, outcome: AttemptOutcome): ResyncEvent =>
  failed(1, resident, { failure, outcome, reason: `${resident}: ${failure}` });
const refuses = (resident: string): ResyncEvent => said(resident, 'forbidden', 'not-in-room');
const isSilent = (resident: string): ResyncEvent => said(resident, 'unreachable', 'transient');
const isBusy = (resident: string): ResyncEvent => said(resident, 'rate-limited', 'rate-limited');
const isHuge = (resident: string): ResyncEvent =>
  failed(1, resident, { failure: 'too-large', outcome: 'too-large', reason: `${resident}: over 512 MiB` });

/** A room after rounds that end at these times, each with what was said in it. */
function after(...rounds: readonly (readonly [at: number, ...said: ResyncEvent[]])[]): ResyncState {
  return rounds.reduce<ResyncState>(
    (state, [at, ...events], n) =>
      [...events, { ...roundFailed(n + 1, at + HOUR), at } as ResyncEvent].reduce(evolve, state),
    given(joined()),
  );
}
const parked = (because: 'refused' | 'too-large' = 'refused', about: object = {}): ResyncEvent => ({
  type: 'ResyncParked',
  ...{ because, reason: 'nobody lets us in', at: 9_000 },
  ...about,
});

describe('rounds of definite refusals', () => {
  test('count when whoever answered refused, however many were silent', () => {
    expect(after([0, refuses('a'), isSilent('b')]).refusals).toEqual({ rounds: 1, at: 0 });
    expect(after([0, isSilent('a'), isSilent('b')]).refusals.rounds).toBe(0);
  });

  test('count once in a day', () => {
    const almost = after([0, refuses('a')], [HOUR, refuses('a')], [DAY - 1, refuses('a')]);
    expect(almost.refusals).toEqual({ rounds: 1, at: 0 });
    expect(after([0, refuses('a')], [DAY, refuses('a')]).refusals).toEqual({ rounds: 2, at: DAY });
  });

  test('are forgotten when somebody says anything that may be otherwise later, and not when all are silent', () => {
    const twice = [
      [0, refuses('a')],
      [DAY, refuses('a')],
    ] as const;
    expect(after(...twice, [2 * DAY, refuses('a'), isBusy('b')]).refusals.rounds).toBe(0);
    expect(after(...twice, [2 * DAY, isSilent('a')]).refusals.rounds).toBe(2);
  });
});

describe('a room is parked', () => {
  const endOf = (state: ResyncState, events: readonly ResyncEvent[], at: number, policy = defaultParkPolicy) => {
    const round = events.reduce(evolve, state);
    return parkedAfter(round, evolve(round, { ...roundFailed(round.round, at), at }), at, policy);
  };
  const twice = after([0, refuses('a')], [DAY, refuses('a')]);

  test('after three rounds of refusals a day apart, with what the last one said', () => {
    expect(endOf(twice, [refuses('b')], 2 * DAY - 1)).toBeUndefined();
    expect(endOf(twice, [refuses('b')], 2 * DAY)).toEqual({
      because: 'refused',
      reason: 'in 3 rounds, at least a day apart, every server that answered refused; the last said: b: forbidden',
    });
  });

  test('at once where whoever has the state has too much of it, with the figures', () => {
    const events = [isHuge('a'), refuses('b'), isSilent('c')];
    expect(endOf(given(joined()), events, HOUR)).toEqual({
      because: 'too-large',
      reason: 'a: over 512 MiB (federation.state_size_max and state_timeout are the limits)',
    });
    expect(endOf(given(joined()), [...events, isBusy('d')], HOUR)).toBeUndefined();
  });

  test('for age alone only where an operator has said so', () => {
    const state = after([0, isSilent('a')]);
    expect(endOf(state, [isSilent('a')], 400 * DAY)).toBeUndefined();
    const policy = { ...defaultParkPolicy, giveUpAfterMs: 7 * DAY };
    expect(endOf(state, [isSilent('a')], 7 * DAY - 1, policy)).toBeUndefined();
    expect(endOf(state, [isSilent('a')], 7 * DAY, policy)).toMatchObject({ because: 'gave-up' });
  });
});

describe('a parked room', () => {
  const room = evolve(after([0, refuses('a')], [DAY, refuses('a')], [2 * DAY, refuses('a')]), parked());

  test('has nobody to wake it and nothing to do, and says why', () => {
    expect(room).toMatchObject({ phase: 'parked', nextWakeAt: null });
    expect(nextAction(room, 100 * DAY)).toEqual({ type: 'park', since: 9_000 });
    expect(describeResync(room)).toContain('Parked since 1970-01-01T00:00:09.000Z: `nobody lets us in`');
    expect(explain(parked('too-large'))).toBe('Parked (too-large): nobody lets us in');
  });

  test('tries what gaps are due, which are given up some day', () => {
    const gaps = { open: 1, nextAt: 500, untried: 0, attempts: 1 };
    expect(nextAction(room, 500, gaps)).toEqual({ type: 'fetchGaps' });
    expect(nextAction(room, 499, gaps)).toMatchObject({ type: 'sleep', untilMs: 500 });
  });

  test('is resumed by a person, with nothing held against it', () => {
    const resumed = evolve(room, { type: 'ResyncResumed', at: 10 * DAY });
    expect(resumed).toMatchObject({ phase: 'fetching', parked: null, refusals: { rounds: 0 }, round: 1 });
    expect(resumed.failingSince).toBe(10 * DAY);
    expect(nextAction(resumed, 10 * DAY)).toMatchObject({ type: 'fetchState' });
  });

  test('is resumed by a further join, and by a server that speaks for the first time', () => {
    expect(nextAction(evolve(room, learned({ at: 10 * DAY })), 10 * DAY)).toMatchObject({ resident: 'd' });
    const spoke: ResyncEvent = { type: 'SpeakersLearned', servers: [server('e')], at: 10 * DAY };
    expect(evolve(room, spoke)).toMatchObject({ phase: 'fetching', refusals: { rounds: 0 } });
  });

  test('has its last round when everybody of us leaves', () => {
    const left = evolve(room, everybodyLeft(10 * DAY));
    expect(nextAction(left, 10 * DAY)).toMatchObject({ type: 'fetchState' });
  });

  test('is left by our users where that is the policy, and stays parked with whom the room keeps', () => {
    const leaving = evolve(room, parked('refused', { leaves: true }));
    expect(nextAction(leaving, 10 * DAY)).toEqual({ type: 'leaveRoom' });
    expect(nextAction(evolve(leaving, parked()), 10 * DAY)).toMatchObject({ type: 'park' });
  });
});

describe('a server that is back', () => {
  const back = (resident: string, at: number, because: 'answers' | 'sent' = 'answers'): ResyncEvent => ({
    type: 'ResidentBack',
    resident: server(resident),
    because,
    at,
  });
  const waiting = given(joined(), isSilent('a'), isSilent('b'), isSilent('c'), roundFailed(1, 40_000));

  test('is asked before the round that is waited for, and nobody else is', () => {
    const state = evolve(waiting, back('b', 6_000));
    expect(nextAction(state, 6_000)).toMatchObject({ type: 'fetchState', resident: 'b' });
    const failedAgain = evolve(state, isSilent('b'));
    expect(nextAction(failedAgain, 7_000)).toEqual({ type: 'endRound', round: 1 });
  });

  test('is asked with others that come back meanwhile', () => {
    const state = [back('b', 6_000), back('c', 6_100), isSilent('b')].reduce(evolve, waiting);
    expect(nextAction(state, 7_000)).toMatchObject({ resident: 'c' });
  });

  test('puts off no round of all, and counts as none, however often it is back and gone', () => {
    const once = [back('b', 6_000), isSilent('b'), roundFailed(1, 40_000)].reduce(evolve, waiting);
    expect(once).toMatchObject({ round: 2, failedRounds: 1, askingOnly: null, nextWakeAt: 40_000 });
    expect(evolve(waiting, back('b', 6_000)).askingOnly).toEqual({ residents: ['b'], pausedUntil: 40_000 });
  });

  test('does not keep one that turns up meanwhile from being asked', () => {
    const state = [back('b', 6_000), learned({ at: 6_100 })].reduce(evolve, waiting);
    expect(nextAction(state, 6_100)).toMatchObject({ resident: 'd' });
  });

  test('has another chance in a parked room, which is parked as before when it refuses still', () => {
    const refused = after([0, refuses('a')], [DAY, refuses('a')], [2 * DAY, refuses('a')]);
    const asked = [parked(), back('a', 3 * DAY, 'sent')].reduce(evolve, refused);
    expect(nextAction(asked, 3 * DAY)).toMatchObject({ resident: 'a' });
    const round = evolve(asked, refuses('a'));
    const ended = evolve(round, { ...roundFailed(round.round, 3 * DAY), at: 3 * DAY });
    expect(parkedAfter(round, ended, 3 * DAY)).toMatchObject({ because: 'refused' });
  });

  test('changes nothing in a room whose state is too large, or that our users are leaving', () => {
    for (const event of [parked('too-large'), parked('refused', { leaves: true })]) {
      const state = evolve(waiting, event);
      expect(evolve(state, back('a', DAY))).toEqual(state);
    }
  });

  test('changes nothing while all are asked', () => {
    const fetching = given(joined(), isSilent('a'));
    expect(evolve(fetching, back('a', 6_000))).toEqual(fetching);
  });
});
