import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { type ResyncEvent } from '../../src/resync/events.ts';
import { type NextAction, gapsEndAt, nextAction, noGaps } from '../../src/resync/next-action.ts';
import {
  type LeavePolicy,
  defaultResyncPolicy,
  everybodyLeft as everybodyLeftBy,
  nextRoundAt,
  settleLacking,
  settleLackingAtGap,
} from '../../src/resync/policy.ts';
import { evolve } from '../../src/resync/evolve.ts';
import { type ResyncState, initialResyncState, willingFrom } from '../../src/resync/state.ts';
import {
  anEvent,
  completed,
  eventId,
  everybodyLeft,
  failed,
  fetched,
  given,
  joined,
  learned,
  roundFailed,
  server,
  started,
  walked,
} from './events.ts';

const HOUR_MS = 3_600_000;

describe('what a resync does next', () => {
  test('nothing for a room that nobody joined, or that is whole', () => {
    expect(nextAction(given(), 0)).toEqual({ type: 'close', because: 'absent' });
    expect(nextAction(given(joined(), fetched(1, 'a'), completed), 0)).toEqual({ type: 'close', because: 'complete' });
  });

  test('looks at open gaps once before a walk, and lets nobody put it off by opening more', () => {
    const walking = given(joined(), fetched(1, 'a', { at: 2_000 }));
    const gaps = { open: 1, untried: 1, nextAt: 2_000, attempts: 0 };
    expect(nextAction(walking, 2_000, gaps)).toEqual({ type: 'fetchGaps' });
    expect(nextAction(walking, 2_000, { ...gaps, untried: 0 })).toEqual({ type: 'walk' });
    expect(nextAction(walking, 2_000 + 30_000, gaps)).toEqual({ type: 'walk' });
    expect(nextAction(evolve(walking, walked(1, 0)), 2_001, gaps)).toEqual({ type: 'walk' });
  });

  test('gives all gaps together half a minute before a walk, and as long as nothing else is due otherwise', () => {
    const walking = given(joined(), fetched(1, 'a', { at: 2_000 }));
    expect(gapsEndAt(walking, 20_000)).toBe(32_000);
    const waiting = given(joined(), failed(1, 'a'), roundFailed(1, 90_000));
    expect(gapsEndAt(waiting, 5_000)).toBe(90_000);
    expect(gapsEndAt(waiting, 89_000)).toBe(119_000);
    expect(gapsEndAt(given(joined(), fetched(1, 'a'), completed), 5_000)).toBeNull();
  });

  test('asks the server that let us in first, for the first state wanted', () => {
    expect(nextAction(given(joined()), 1_000)).toEqual({
      type: 'fetchState',
      attemptNo: 1,
      resident: 'a',
      atEventId: '$before',
    });
  });

  test('asks the next resident when one failed', () => {
    const state = given(joined(), started(1, 'a'), failed(1, 'a'));
    expect(nextAction(state, 4_000)).toMatchObject({ type: 'fetchState', attemptNo: 2, resident: 'b' });
  });

  test('asks residents learned later too', () => {
    const state = given(joined(), failed(1, 'a'), failed(2, 'b'), failed(3, 'c'), learned());
    expect(nextAction(state, 4_000)).toMatchObject({ type: 'fetchState', resident: 'd' });
  });

  test('asks whoever gave one state for the next one wanted', () => {
    const wanted = joined({ fetchAt: [eventId('before'), eventId('before2')] });
    const state = given(wanted, started(1, 'a'), failed(1, 'a'), started(2, 'b'), fetched(2, 'b'));
    expect(nextAction(state, 5_000)).toMatchObject({ attemptNo: 3, resident: 'b', atEventId: '$before2' });
  });

  test('leaves a resident alone that wants to be asked later', () => {
    const state = given(joined(), failed(1, 'a', { retryAt: 90_000 }), roundFailed(1, 35_000));
    expect(nextAction(state, 35_000)).toMatchObject({ resident: 'b' });
    expect(nextAction(state, 90_000)).toMatchObject({ resident: 'a' });
  });

  test('asks a server whose name every object has', () => {
    const state = given(joined({ joinedVia: server('constructor'), serversInRoom: [] }));
    expect(nextAction(state, 1_000)).toMatchObject({ type: 'fetchState', resident: 'constructor' });
    expect(nextRoundAt(state, defaultResyncPolicy, 1_000, 0)).toBe(31_000);
  });

  test('ends the round when nobody is left to ask', () => {
    const state = given(joined(), failed(1, 'a'), failed(2, 'b'), failed(3, 'c'));
    expect(nextAction(state, 4_000)).toEqual({ type: 'endRound', round: 1 });
  });

  test('sleeps until the next round, then asks again', () => {
    const state = given(joined(), started(1, 'a'), failed(1, 'a'), roundFailed(1, 40_000));
    expect(nextAction(state, 39_999)).toEqual({ type: 'sleep', untilMs: 40_000, round: 2 });
    expect(nextAction(state, 40_000)).toMatchObject({ type: 'fetchState', attemptNo: 2, resident: 'a' });
  });

  test('walks until the journal says complete', () => {
    expect(nextAction(given(joined(), fetched(1, 'a'), walked(200, 0)), 0)).toEqual({ type: 'walk' });
  });

  test('an attempt that was cut off goes on under its own number, whatever was journalled before', () => {
    fc.assert(
      fc.property(fc.array(anEvent, { maxLength: 20 }), fc.nat(), fc.nat(), (events, attempts, now) => {
        const before = given(...events, joined());
        const state = evolve(before, started(attempts + 1, 'b'));
        expect(nextAction(state, now)).toEqual({
          type: 'fetchState',
          attemptNo: attempts + 1,
          resident: 'b',
          atEventId: '$before',
        });
      }),
    );
  });
});

describe('several states that are wanted', () => {
  const ids = [eventId('before'), eventId('before2'), eventId('before3')];
  const wanted = joined({ fetchAt: ids });
  const notFound = (attemptNo: number, resident: string, atEventId = ids[0]!) =>
    failed(attemptNo, resident, { atEventId, failure: 'not-found' });

  test('are asked of a resident one after the other, whatever it lacks: one that cannot be had blocks no other', () => {
    const state = given(wanted, started(1, 'a'), notFound(1, 'a'));
    expect(nextAction(state, 4_000)).toMatchObject({ resident: 'a', atEventId: '$before2' });
    const had = evolve(state, fetched(2, 'a', { atEventId: ids[1]! }));
    expect(nextAction(had, 4_000)).toMatchObject({ resident: 'a', atEventId: '$before3' });
  });

  test('are not asked of a resident that cannot be reached', () => {
    const state = given(wanted, started(1, 'a'), failed(1, 'a', { failure: 'unreachable' }));
    expect(nextAction(state, 4_000)).toMatchObject({ resident: 'b', atEventId: '$before' });
  });

  test('that nobody knows are stood in for by the state before the join that cites them, once everybody was asked', () => {
    const one = joined({ fetchAt: [ids[0]!] });
    const nobody = given(
      one,
      notFound(1, 'a'),
      failed(2, 'b', { failure: 'forbidden' }),
      started(3, 'c'),
      failed(3, 'c'),
    );
    const action = { type: 'fetchState', attemptNo: 4, resident: 'a', atEventId: '$before', atJoin: true };
    expect(nextAction(nobody, 4_000)).toEqual(action);
    const begun = evolve(nobody, started(4, 'a', { atJoin: true }));
    expect(nextAction(begun, 4_000)).toEqual(action);
    const refused = evolve(begun, notFound(4, 'a'));
    expect(nextAction(refused, 4_000)).toEqual({ ...action, attemptNo: 5, resident: 'b' });
    const all = [
      started(5, 'b', { atJoin: true }),
      notFound(5, 'b'),
      started(6, 'c', { atJoin: true }),
      failed(6, 'c'),
    ];
    expect(nextAction(all.reduce(evolve, refused), 4_000)).toEqual({ type: 'endRound', round: 1 });
  });

  test('that are only late are not stood in for', () => {
    const state = given(joined({ fetchAt: [ids[0]!] }), failed(1, 'a'), failed(2, 'b'), failed(3, 'c'));
    expect(nextAction(state, 4_000)).toEqual({ type: 'endRound', round: 1 });
  });

  test('end a round after 200 failures, and the next one begins with a server that it did not reach', () => {
    const many = Array.from({ length: 20 }, (_, n) => eventId(`e${n}`));
    const servers = Array.from({ length: 30 }, (_, n) => server(`s${n}`));
    let state = given(joined({ joinedVia: servers[0]!, serversInRoom: servers, fetchAt: many }));
    let asked = 0;
    for (let action = nextAction(state, 0); action.type === 'fetchState'; action = nextAction(state, 0)) {
      const { attemptNo, resident, atEventId } = action;
      state = [started(attemptNo, resident, { atEventId }), notFound(attemptNo, resident, atEventId)].reduce(
        evolve,
        state,
      );
      asked += 1;
    }
    expect(asked).toBe(200);
    expect(nextAction(state, 0)).toEqual({ type: 'endRound', round: 1 });
    expect(nextAction(evolve(state, roundFailed(1, 10)), 10)).toMatchObject({ resident: 's10' });
  });
});

describe('whoever turns up', () => {
  const waiting = given(joined(), failed(1, 'a'), failed(2, 'b'), failed(3, 'c'), roundFailed(1, 40_000));

  test('by a further join ends the wait, and is asked first', () => {
    const state = evolve(waiting, learned({ at: 6_000 }));
    expect(nextAction(state, 6_000)).toMatchObject({ type: 'fetchState', resident: 'd' });
    expect(state).toMatchObject({ round: 1, nextWakeAt: 6_000 });
  });

  test('by speaking in the room ends the wait, once', () => {
    const spoke = { type: 'SpeakersLearned' as const, servers: [server('d')], at: 6_000 };
    const state = evolve(waiting, spoke);
    expect(state).toMatchObject({ phase: 'fetching', round: 1, candidates: ['a', 'd', 'b', 'c'] });
    const again = [failed(4, 'a'), roundFailed(1, 80_000), { ...spoke, at: 7_000 }].reduce(evolve, state);
    expect(nextAction(again, 7_000)).toMatchObject({ type: 'sleep', untilMs: 80_000 });
  });

  test('cannot keep a room awake by names made up: so many are taken up, and no more', () => {
    let wakes = 0;
    let state = waiting;
    for (let n = 0; n < 100; n += 1) {
      state = evolve(state, { type: 'SpeakersLearned', servers: [server(`made-up-${n}`)], at: 6_000 });
      if (state.phase === 'fetching') wakes += 1;
      state = evolve(state, roundFailed(state.round, 40_000));
    }
    expect(wakes).toBe(20);
  });

  test('is asked before 59 names that a liar gave, as those are that the user names', () => {
    const dead = Array.from({ length: 59 }, (_, n) => server(`dead${n}.test`));
    const lie = joined({ joinedVia: server('liar'), serversInRoom: dead, via: [server('named')] });
    expect(given(lie).candidates.slice(0, 2)).toEqual(['liar', 'named']);
    const state = given(lie, failed(1, 'liar'), learned({ joinedVia: server('honest'), via: [server('other')] }));
    expect(state.candidates.slice(0, 4)).toEqual(['honest', 'liar', 'other', 'named']);
    expect(nextAction(state, 4_000)).toMatchObject({ resident: 'honest' });
  });

  test('in a list of thousands is asked in some round', () => {
    const state = evolve(given(joined(), failed(1, 'a')), {
      ...roundFailed(1, 40_000),
      hints: [server('fresh'), server('b')],
    } as ResyncEvent);
    expect(state.candidates).toEqual(['a', 'fresh', 'b']);
  });
});

describe('going on without events that cannot be had', () => {
  const HOUR = 3_600_000;
  const state = { known: 4, failedRounds: 2 };
  const lone = { answers: 3, since: 0, isNeeded: false, isUnusable: false };
  const bad = { ...lone, isUnusable: true };

  test.each([
    ['after two rounds and ten minutes, when three servers did not have it', state, lone, HOUR / 6, 'gone-without'],
    ['not before ten minutes since it was first missing', state, { ...lone, since: 1 }, HOUR / 6, 'awaited'],
    ['not before two rounds', { ...state, failedRounds: 1 }, lone, 48 * HOUR, 'awaited'],
    ['not before three servers have answered', state, { ...lone, answers: 2 }, 23 * HOUR, 'awaited'],
    [
      'where two servers are known, when both lacked it',
      { ...state, known: 2 },
      { ...lone, answers: 2 },
      HOUR,
      'gone-without',
    ],
    [
      'not within a day, when others are judged by it',
      state,
      { ...lone, answers: 9, isNeeded: true },
      23 * HOUR,
      'awaited',
    ],
    [
      'after a day, whatever it is and whoever answers',
      state,
      { ...lone, answers: 0, isNeeded: true },
      24 * HOUR,
      'gone-without',
    ],
    ['not in the first round, though every copy is bad', { ...state, failedRounds: 0 }, bad, 0, 'awaited'],
    [
      'by dropping it from the second round on, when three servers gave bad copies',
      { ...state, failedRounds: 1 },
      bad,
      0,
      'dropped',
    ],
    ['not when one server of several gave a bad copy', state, { ...bad, answers: 1 }, HOUR, 'awaited'],
    [
      'not within a day, when others are judged by what is bad',
      state,
      { ...bad, isNeeded: true },
      23 * HOUR,
      'awaited',
    ],
    [
      'after a day as degraded, when one server alone gave a bad copy',
      state,
      { ...bad, answers: 1 },
      24 * HOUR,
      'gone-without',
    ],
  ])('%s', (_, resync, lacking, now, expected) => {
    expect(settleLacking(resync, lacking, now)).toBe(expected);
  });
});

describe('what the state at a gap lacks', () => {
  const gap = { attempts: 3, known: 4 };
  const lacking = { answers: 3, since: 0, isNeeded: true, isUnusable: false };
  const TEN_MINUTES = 600_000;

  test.each([
    [
      'after two attempts and ten minutes is gone without, though others are judged by it',
      gap,
      lacking,
      TEN_MINUTES,
      'gone-without',
    ],
    ['is awaited before that', { ...gap, attempts: 2 }, lacking, TEN_MINUTES, 'awaited'],
    [
      'is awaited while three of those known have not answered',
      gap,
      { ...lacking, answers: 2 },
      TEN_MINUTES,
      'awaited',
    ],
    [
      'is gone without in the last attempt, whoever answered',
      { ...gap, attempts: 8 },
      { ...lacking, answers: 1 },
      0,
      'gone-without',
    ],
    [
      'is never dropped where others are judged by it',
      gap,
      { ...lacking, isUnusable: true },
      TEN_MINUTES,
      'gone-without',
    ],
  ])('%s', (_, at, lacked, now, expected) => {
    expect(settleLackingAtGap(at, lacked, now)).toBe(expected);
  });
});

describe('the pause between rounds', () => {
  const policy = defaultResyncPolicy;
  const failedRounds = (count: number): ResyncState =>
    Array.from({ length: count }, (_, round) => roundFailed(round + 1, 0)).reduce(evolve, given(joined()));

  test('is 30 seconds, doubles with each round, and stays at an hour', () => {
    const pauses = [0, 1, 2, 6, 7, 8, 5_000].map((count) => nextRoundAt(failedRounds(count), policy, 0, 0));
    expect(pauses).toEqual([30_000, 60_000, 120_000, 1_920_000, HOUR_MS, HOUR_MS, HOUR_MS]);
  });

  test('may be a day once rounds have failed for three', () => {
    const state = failedRounds(80);
    expect(state.failingSince).toBe(5_000);
    expect(nextRoundAt(state, policy, 5_000 + 72 * HOUR_MS - 1, 0) - (5_000 + 72 * HOUR_MS - 1)).toBe(HOUR_MS);
    expect(nextRoundAt(state, policy, 5_000 + 72 * HOUR_MS, 0) - (5_000 + 72 * HOUR_MS)).toBe(24 * HOUR_MS);
  });

  test('grows by at most a tenth, so that rooms which failed together come back apart', () => {
    const state = given(joined());
    fc.assert(
      fc.property(fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (jitter) => {
        const pauseMs = nextRoundAt(state, policy, 0, jitter);
        expect(pauseMs).toBeGreaterThanOrEqual(30_000);
        expect(pauseMs).toBeLessThanOrEqual(33_000);
        expect(Number.isInteger(pauseMs)).toBe(true);
      }),
    );
  });

  test('lasts until somebody is willing when everybody asked for patience', () => {
    const all = [
      failed(1, 'a', { retryAt: 900_000 }),
      failed(2, 'b', { retryAt: 600_000 }),
      failed(3, 'c', { retryAt: 700_000 }),
    ];
    expect(nextRoundAt(given(joined(), ...all), policy, 4_000, 0)).toBe(600_000);
  });

  test('is not made longer by one who asked for patience when others did not', () => {
    const state = given(joined(), failed(1, 'a', { retryAt: 900_000 }), failed(2, 'b'));
    expect(nextRoundAt(state, policy, 4_000, 0)).toBe(34_000);
  });
});

describe('a resync among residents that fail as they like', () => {
  type Answer = { readonly retryAfterMs: number | null } | 'state';
  const anAnswer: fc.Arbitrary<Answer> = fc.oneof(
    { weight: 8, arbitrary: fc.record({ retryAfterMs: fc.option(fc.nat({ max: 100_000_000 })) }) },
    { weight: 1, arbitrary: fc.constant('state' as const) },
  );

  /** Does what `nextAction` says and journals as the activities do; tells of every request. */
  function run(answers: readonly Answer[], onAsk: (state: ResyncState, resident: ServerName, now: number) => void) {
    let state = given(joined({ fetchAt: [eventId('before'), eventId('before2')] }));
    let now = 1_000;
    const left = [...answers];
    const journal = (event: ResyncEvent): void => {
      state = evolve(state, event);
    };
    for (let step = 0; step < 1_000; step += 1) {
      const action = nextAction(state, now);
      if (action.type === 'walk') return { state, left };
      if (action.type === 'sleep') {
        now = action.untilMs;
      } else if (action.type === 'endRound') {
        journal(roundFailed(action.round, nextRoundAt(state, defaultResyncPolicy, now, 0.5)));
      } else if (action.type === 'fetchState') {
        const { attemptNo, resident, atEventId } = action;
        onAsk(state, resident, now);
        journal(started(attemptNo, resident, { atEventId, at: now }));
        expect(nextAction(state, now)).toEqual(action);
        now += 10;
        const answer = left.shift() ?? 'state';
        if (answer === 'state') {
          journal(fetched(attemptNo, resident, { atEventId, at: now }));
        } else {
          const patience = answer.retryAfterMs === null ? {} : { retryAt: now + answer.retryAfterMs };
          journal(failed(attemptNo, resident, { atEventId, at: now, ...patience }));
        }
      }
    }
    throw new Error('the resync did not come to its walk');
  }

  test('comes to the walk as soon as two have answered, with attempts numbered without a gap', () => {
    fc.assert(
      fc.property(fc.array(anAnswer, { maxLength: 60 }), (answers) => {
        let asked = 0;
        const { state, left } = run(answers, ({ attempts }) => {
          expect(attempts).toBe(asked);
          asked += 1;
        });
        expect(state.fetchAt).toEqual([]);
        expect(state.attempts).toBe(asked);
        expect(left.length).toBe(Math.max(0, answers.length - asked));
      }),
    );
  });

  test('asks nobody before the time they named, and nobody twice in a round', () => {
    fc.assert(
      fc.property(fc.array(anAnswer, { maxLength: 60 }), (answers) => {
        run(answers, (state, resident, now) => {
          expect(willingFrom(state, resident)).toBeLessThanOrEqual(now);
          expect(state.triedThisRound).not.toContain(resident);
        });
      }),
    );
  });
});

describe('when everybody has left', () => {
  const END = { type: 'endStay' };

  test('an attempt under way goes on, and when it fails the others of the round are asked, each once', () => {
    const asked = given(joined(), started(1, 'a'), everybodyLeft(3_000));
    expect(nextAction(asked, 3_000)).toMatchObject({ type: 'fetchState', attemptNo: 1, resident: 'a' });
    const failedOnce = evolve(asked, failed(1, 'a'));
    expect(nextAction(failedOnce, 5_000)).toMatchObject({ type: 'fetchState', attemptNo: 2, resident: 'b' });
    const all = [failed(2, 'b'), failed(3, 'c')].reduce(evolve, failedOnce);
    expect(nextAction(all, 5_000)).toEqual(END);
  });

  test('a round begins at once in a room that waited for one, and where none had begun', () => {
    const waiting = given(joined(), failed(1, 'a'), failed(2, 'b'), failed(3, 'c'), roundFailed(1, 900_000));
    const left = evolve(waiting, everybodyLeft(10_000));
    expect(left).toMatchObject({ phase: 'fetching', closesAt: 70_000, nextWakeAt: 10_000 });
    expect(nextAction(left, 10_000)).toMatchObject({ type: 'fetchState', resident: 'a' });
    expect(nextAction(given(joined(), everybodyLeft(1_000)), 1_000)).toMatchObject({ type: 'fetchState' });
  });

  test('the round is over after its time, whoever is being asked then', () => {
    const asked = given(joined(), started(1, 'a'), everybodyLeft(3_000));
    expect(nextAction(asked, 62_999)).toMatchObject({ type: 'fetchState' });
    expect(nextAction(asked, 63_000)).toEqual(END);
  });

  test('a state that was had by then is walked to its end, and waits for no gap', () => {
    const walking = given(joined(), started(1, 'a'), everybodyLeft(3_000), fetched(1, 'a', { at: 4_000 }));
    const gaps = { open: 1, untried: 1, nextAt: 0, attempts: 0 };
    expect(nextAction(walking, 4_000, gaps)).toEqual({ type: 'walk' });
    expect(nextAction(walking, 900_000, gaps)).toEqual({ type: 'walk' });
    expect(evolve(walking, completed)).toMatchObject({ phase: 'complete', closesAt: null });
  });

  test('the stay that ended says so, and the next one knows nothing of it', () => {
    const left = given(joined(), everybodyLeft(3_000), { type: 'StayEnded', because: 'left', at: 63_000 });
    expect(left).toMatchObject({ phase: 'ended', closesAt: null, nextWakeAt: null });
    expect(nextAction(left, 63_000)).toEqual({ type: 'close', because: 'ended' });
    expect(evolve(left, joined())).toEqual(given(joined()));
  });
});

describe('when everybody has left, and what can be had is still wanted', () => {
  const END = { type: 'endStay' };
  const left = (...before: readonly ResyncEvent[]): ResyncState =>
    given(...before, everybodyLeft(3_000, { until: 3_603_000, goesOn: true }));
  const refused = (attemptNo: number, resident: string): ResyncEvent =>
    failed(attemptNo, resident, { failure: 'forbidden', outcome: 'not-in-room' });

  test('a round that failed is followed by others, until the time is over', () => {
    const round = [failed(1, 'a'), failed(2, 'b'), failed(3, 'c')].reduce(evolve, left(joined()));
    expect(nextAction(round, 5_000)).toEqual({ type: 'endRound', round: 1 });
    const waiting = evolve(round, roundFailed(1, 35_000));
    expect(nextAction(waiting, 6_000)).toEqual({ type: 'sleep', untilMs: 35_000, round: 2 });
    expect(nextAction(waiting, 35_000)).toMatchObject({ type: 'fetchState', resident: 'a' });
    const late = evolve(round, roundFailed(1, 9_000_000));
    expect(nextAction(late, 6_000)).toEqual({ type: 'sleep', untilMs: 3_603_000, round: 2 });
    expect(nextAction(late, 3_603_000)).toEqual(END);
  });

  test('whoever says that we are not in the room is asked no more, and when all say so it is over', () => {
    const one = left(joined(), started(1, 'a'), refused(1, 'a'));
    expect(nextAction(one, 4_000)).toMatchObject({ type: 'fetchState', resident: 'b' });
    const round = [failed(2, 'b'), failed(3, 'c'), roundFailed(1, 35_000)].reduce(evolve, one);
    expect(nextAction(round, 35_000)).toMatchObject({ type: 'fetchState', resident: 'b' });
    const all = [started(4, 'b'), refused(4, 'b'), started(5, 'c'), refused(5, 'c')].reduce(evolve, round);
    expect(nextAction(all, 36_000)).toEqual(END);
  });

  test('it is over as well when the room would be parked, for nobody is to be asked any more then', () => {
    const parked = { type: 'ResyncParked', because: 'refused', reason: 'all refuse', at: 5_000 } as const;
    expect(nextAction(evolve(left(joined()), parked), 5_000)).toEqual(END);
  });

  test('a state that is had is walked, and the next stay is as any other', () => {
    const walking = evolve(left(joined(), started(1, 'a')), fetched(1, 'a', { at: 4_000 }));
    expect(nextAction(walking, 4_000_000)).toEqual({ type: 'walk' });
    expect(evolve(walking, completed)).toMatchObject({ phase: 'complete', closesAt: null, closesLate: false });
    expect(evolve(walking, joined())).toEqual(given(joined()));
  });
});

test('each policy says what is journalled when the last of our users leaves a partial room', () => {
  const day = 86_400_000;
  const entry = (during: LeavePolicy['during']) => everybodyLeftBy(1_000, { during, purgeAfterMs: day });
  const oneRound = { type: 'EverybodyLeft', until: 61_000, at: 1_000 };
  expect(everybodyLeftBy(1_000)).toEqual(oneRound);
  expect(entry('abandon')).toEqual(oneRound);
  expect(entry('forbid_last_leave')).toEqual(oneRound);
  expect(entry('purge')).toEqual({ ...oneRound, purgeAt: day + 1_000 });
  expect(entry('finish_best_effort')).toEqual({ ...oneRound, until: 3_601_000, goesOn: true });
});

test('what is to be corrected comes before a walk goes on, and in a complete room before anything else', () => {
  for (const phase of ['walking', 'complete'] as const) {
    const state = { ...initialResyncState, phase };
    expect(nextAction(state, 0, noGaps, 1)).toEqual({ type: 'correct' });
    expect(nextAction(state, 0, noGaps, 0)).not.toEqual({ type: 'correct' });
  }
  expect(nextAction({ ...initialResyncState, phase: 'ended' }, 0, noGaps, 1)).toMatchObject({ type: 'close' });
});

test('what is due all the time takes turns in a whole room, and keeps no walk waiting', () => {
  const gaps = { open: 1, untried: 1, nextAt: 0, attempts: 0 };
  const lacking = { ...initialResyncState.degraded, missing: [], count: 1, found: 0, sought: 0 };
  const whole = {
    ...initialResyncState,
    phase: 'complete',
    degraded: lacking,
    nextWakeAt: 0,
  } as unknown as ResyncState;
  const done: NextAction['type'][] = [];
  while (done.length < 6) done.push(nextAction(whole, 0, gaps, 1, done.at(-1)).type);
  expect(done).toEqual(['correct', 'fetchGaps', 'seekMissing', 'correct', 'fetchGaps', 'seekMissing']);
  expect(nextAction({ ...whole, degraded: null }, 0, noGaps, 1, 'correct')).toEqual({ type: 'correct' });
  expect(nextAction(whole, 0, noGaps, 1, 'fetchGaps')).toEqual({ type: 'seekMissing' });
  const walking = given(joined(), fetched(1, 'a', { at: 2_000 }), walked(1, 5));
  expect(nextAction(walking, 2_000, noGaps, 1)).toEqual({ type: 'correct' });
  expect(nextAction(walking, 2_000, noGaps, 1, 'correct')).toEqual({ type: 'walk' });
});
