import { describe, expect, test } from 'vitest';
import { type AttemptOutcome } from '../../src/resync/attempts.ts';
import { type FailureClass } from '../../src/resync/events.ts';
import { explain } from '../../src/resync/explain.ts';
import { outcomeOf } from '../../src/resync/outcomes.ts';
import { asResyncState } from '../../src/resync/state.ts';
import { failed, given, joined, server } from './events.ts';

const MINUTE = 60_000;

describe('what a failed attempt means', () => {
  test.each<[FailureClass, AttemptOutcome]>([
    ['unreachable', 'transient'],
    ['timeout', 'transient'],
    ['server-error', 'transient'],
    ['rate-limited', 'rate-limited'],
    ['not-found', 'unknown-event'],
    ['partial-state-there', 'partial-there'],
    ['too-large', 'too-large'],
    ['malformed', 'invalid'],
    ['incomplete', 'invalid'],
    ['refused', 'invalid'],
    ['keys-unobtainable', 'keys-unobtainable'],
    ['contradictory', 'contradictory'],
    ['abandoned', 'ours'],
    ['refused-by-policy', 'ours'],
  ])('%s is %s, whoever fails and when', (failure, outcome) => {
    expect(outcomeOf(failure)).toBe(outcome);
    expect(outcomeOf(failure, { hasAnswered: false, sinceJoinMs: 0 })).toBe(outcome);
  });

  test('a server that refuses us soon after the join may not have heard of it', () => {
    const other = { hasAnswered: false, sinceJoinMs: 10 * MINUTE - 1 };
    expect(outcomeOf('forbidden', other)).toBe('not-yet-joined-there');
  });

  test('a server that refuses us later, or took the join itself, says that we are not in the room', () => {
    expect(outcomeOf('forbidden', { hasAnswered: false, sinceJoinMs: 10 * MINUTE })).toBe('not-in-room');
    expect(outcomeOf('forbidden', { hasAnswered: true, sinceJoinMs: 0 })).toBe('not-in-room');
  });
});

test('an answer that time cuts off where it was cut off before is too large for the time that there is', () => {
  const circumstances = { hasAnswered: true, sinceJoinMs: 0 };
  expect(outcomeOf('timeout', { ...circumstances, oldBytes: 16 * 1024 * 1024 })).toBe('too-large');
  expect(outcomeOf('timeout', { ...circumstances, oldBytes: 16 * 1024 * 1024 - 1 })).toBe('transient');
  expect(outcomeOf('unreachable', { ...circumstances, oldBytes: 16 * 1024 * 1024 })).toBe('transient');
});

describe('an entry from before outcomes were kept', () => {
  test('folds to what its failure means, and so does a state that was stored then', () => {
    const old = given(joined(), failed(1, 'a', { failure: 'forbidden' }));
    expect(old.lastFailure).toMatchObject({ failure: 'forbidden', outcome: 'not-in-room' });
    const stored = { resident: server('a'), failure: 'timeout', reason: 'late', at: 1 } as const;
    expect(asResyncState({ lastFailure: stored } as never).lastFailure).toEqual({ ...stored, outcome: 'transient' });
  });
});

test('an attempt is told with what it ended as, its last request, and what it took', () => {
  const event = failed(3, 'a', {
    ...{ failure: 'forbidden', outcome: 'not-yet-joined-there', reason: 'a: state_ids answered 403' },
    ...{ endpoint: 'state_ids', latencyMs: 200, bytes: 41, tookMs: 250 },
  });
  expect(explain(event)).toBe(
    'Attempt 3 at a failed (not-yet-joined-there: forbidden, /state_ids, 41 bytes, 0.3 s): a: state_ids answered 403',
  );
});
