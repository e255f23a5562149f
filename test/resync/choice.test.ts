import { describe, expect, test } from 'vitest';
import { inOrder, reasonFor } from '../../src/resync/choice.ts';
import { evolve } from '../../src/resync/evolve.ts';
import { explain } from '../../src/resync/explain.ts';
import { nextAction } from '../../src/resync/next-action.ts';
import { eventId, failed, fetched, given, joined, learned, roundFailed, server, started } from './events.ts';

const notInRoom = (attemptNo: number, resident: string) =>
  failed(attemptNo, resident, { failure: 'forbidden', outcome: 'not-in-room' });
const spoke = (name: string) => ({ type: 'SpeakersLearned' as const, servers: [server(name)], at: 6_000 });

describe('the order in which residents are asked', () => {
  test('is: who let us in, whom the user named, who speaks, who is said to be there; each is told why', () => {
    const state = given(joined({ via: [server('named')] }), spoke('speaker'));
    expect(inOrder(state).map((name) => `${name} ${reasonFor(state, name)}`)).toEqual([
      'a let-us-in',
      'named named-by-user',
      'speaker spoke',
      'b said-to-be-in',
      'c said-to-be-in',
    ]);
  });

  test('has whoever says that we are not in the room last, and asks it still', () => {
    const state = given(joined(), notInRoom(1, 'a'), roundFailed(1, 10_000));
    expect(inOrder(state)).toEqual(['b', 'c', 'a']);
    expect(reasonFor(state, server('a'))).toBe('departed');
    const others = given(joined(), notInRoom(1, 'a'), roundFailed(1, 10_000), failed(2, 'b'), failed(3, 'c'));
    expect(nextAction(others, 10_000)).toMatchObject({ type: 'fetchState', resident: 'a' });
  });

  test('gives it its place again when it answers otherwise, speaks in the room or lets one of us in', () => {
    const gone = given(joined(), notInRoom(1, 'a'), notInRoom(2, 'b'));
    expect(inOrder(gone)).toEqual(['c', 'a', 'b']);
    expect(inOrder(evolve(gone, failed(3, 'b', { failure: 'not-found', outcome: 'unknown-event' })))).toEqual([
      'b',
      'c',
      'a',
    ]);
    expect(evolve(gone, spoke('b')).departed).toEqual(['a']);
    expect(evolve(gone, learned({ joinedVia: server('a') })).departed).toEqual(['b']);
    expect(evolve(gone, fetched(3, 'a')).departed).toEqual(['b']);
  });

  test('is not changed by one who is silent: it had said before that we are not in the room', () => {
    const gone = given(joined(), notInRoom(1, 'a'), failed(2, 'a', { failure: 'timeout', outcome: 'transient' }));
    expect(inOrder(gone)).toEqual(['b', 'c', 'a']);
  });

  test('has, of those that have answered, the newest first and then the quick', () => {
    const wanted = joined({ fetchAt: [eventId('before'), eventId('before2'), eventId('before3')] });
    const state = given(
      wanted,
      fetched(1, 'a', { latencyMs: 900 }),
      fetched(2, 'b', { latencyMs: 300, atEventId: eventId('before2') }),
      learned({ joinedVia: server('d') }),
    );
    expect(inOrder(state)).toEqual(['d', 'b', 'a', 'c']);
  });

  test('forgets the oldest of more departed servers than it has places for', () => {
    const names = Array.from({ length: 30 }, (_, n) => `s${n}`);
    const state = given(
      joined({ serversInRoom: names.map(server) }),
      ...names.map((name, n) => notInRoom(n + 1, name)),
    );
    expect(state.departed).toEqual(names.slice(10));
  });
});

test('an attempt is told with why its resident was chosen', () => {
  expect(explain(started(1, 'a', { because: 'let-us-in' }))).toBe(
    'Attempt 1: asked a, which let us in, for the state before $before',
  );
});
