/** A resync that an operator has stopped. */
import { describe, expect, test } from 'vitest';
import { type RoomCommand, decideCommand } from '../../src/resync/commands.ts';
import { type ResyncEvent } from '../../src/resync/events.ts';
import { evolve } from '../../src/resync/evolve.ts';
import { nextAction } from '../../src/resync/next-action.ts';
import { type ResyncState } from '../../src/resync/state.ts';
import {
  completed,
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

const said = { by: 'me', reason: 'enough', at: 9_000 };
const decide = (state: ResyncState, type: 'retry' | 'resume' | 'cancel') =>
  decideCommand(state, { type } satisfies RoomCommand, { ourServer: server('ours'), isBelievedIn: true }, said);
const done = (state: ResyncState, type: 'retry' | 'resume' | 'cancel'): ResyncState => {
  const decision = decide(state, type);
  if (decision.type !== 'append') throw new Error(decision.because);
  return evolve(state, decision.event);
};

const fetching = given(joined(), started(1, 'a'));
const waiting = given(joined(), failed(1, 'a'), failed(2, 'b'), failed(3, 'c'), roundFailed(1, 20_000));
const walking = given(joined(), started(1, 'a'), fetched(1, 'a'));
const refused: ResyncEvent = { type: 'ResyncParked', because: 'refused', reason: 'all of them', at: 8_000 };

describe('a room that is cancelled', () => {
  test.each([
    ['fetched', fetching],
    ['waits for a round', waiting],
    ['walked', walking],
    ['parked for another reason', evolve(waiting, refused)],
  ])('while it is %s is parked, driven by nobody and due at no time', (_what, state) => {
    const cancelled = done(state, 'cancel');
    expect(cancelled).toMatchObject({
      ...{ phase: 'parked', attempt: null, nextWakeAt: null },
      parked: { because: 'cancelled', reason: 'cancelled by me: enough', at: 9_000 },
    });
    expect(nextAction(cancelled, 10_000, { open: 1, nextAt: 1, untried: 1, attempts: 0 }, 5)).toEqual({
      type: 'close',
      because: 'cancelled',
    });
  });

  test.each<[string, ResyncEvent]>([
    ['a server that speaks', { type: 'SpeakersLearned', servers: [server('new')], at: 9_500 }],
    ['a server that is back', { type: 'ResidentBack', resident: server('b'), because: 'answers', at: 9_500 }],
    ['a server that sends something', { type: 'ResidentBack', resident: server('b'), because: 'sent', at: 9_500 }],
    ['a batch of a walk that was under way', walked(3, 0)],
  ])('stays so whatever comes: %s', (_what, event) => {
    expect(evolve(done(walking, 'cancel'), event)).toMatchObject({
      phase: 'parked',
      parked: { because: 'cancelled' },
      nextWakeAt: null,
    });
  });

  test('goes on where it was when it is resumed, or when somebody of us joins', () => {
    const resumed = done(done(waiting, 'cancel'), 'resume');
    expect(resumed).toMatchObject({ phase: 'fetching', parked: null, round: 1, nextWakeAt: 9_000 });
    expect(done(done(walking, 'cancel'), 'resume')).toMatchObject({ phase: 'walking', parked: null });
    expect(evolve(done(waiting, 'cancel'), learned())).toMatchObject({ phase: 'fetching', parked: null });
    expect(evolve(done(walking, 'cancel'), learned())).toMatchObject({ phase: 'walking', parked: null });
  });

  test('is ended at once when everybody of us leaves', () => {
    const left = evolve(done(waiting, 'cancel'), everybodyLeft(9_500));
    expect(left).toMatchObject({ phase: 'parked', closesAt: 9_500, nextWakeAt: 9_500 });
    expect(nextAction(left, 9_500)).toEqual({ type: 'endStay' });
  });

  test('that completes by a walk that was at its end is whole', () => {
    expect(evolve(done(walking, 'cancel'), completed)).toMatchObject({ phase: 'complete', parked: null });
  });

  test('is not cancelled twice, nor retried', () => {
    const cancelled = done(waiting, 'cancel');
    expect(decide(cancelled, 'cancel')).toEqual({ type: 'unchanged', because: 'it is cancelled already' });
    expect(decide(cancelled, 'retry')).toEqual({
      type: 'refused',
      because: 'it was stopped on purpose (cancelled by me: enough): resume takes it up again',
    });
  });
});

describe('retrying and resuming', () => {
  test('ends a pause and takes up what was given up', () => {
    expect(done(waiting, 'retry')).toMatchObject({ phase: 'fetching', round: 1, nextWakeAt: 9_000 });
    expect(done(evolve(waiting, refused), 'retry')).toMatchObject({ phase: 'fetching', parked: null });
  });

  test('of a degraded room has it look for what it lacks', () => {
    const missing = { listed: [], count: 2, fell: 0 };
    const degraded = given(joined(), started(1, 'a'), fetched(1, 'a', { missing }), completed);
    const later = evolve(degraded, { type: 'MissingSought', found: 0, left: 2, wakeAt: 90_000, at: 8_000 });
    expect(nextAction(later, 9_000)).toMatchObject({ type: 'close' });
    expect(nextAction(done(later, 'retry'), 9_000)).toEqual({ type: 'seekMissing' });
  });

  test('of a room that is at it changes nothing, and of one that is whole or left is refused', () => {
    expect(decide(fetching, 'retry')).toEqual({ type: 'unchanged', because: 'a is asked now' });
    expect(decide(walking, 'resume')).toMatchObject({ type: 'unchanged' });
    const whole = evolve(walking, completed);
    for (const type of ['retry', 'resume', 'cancel'] as const) {
      expect(decide(whole, type)).toMatchObject({
        type: 'refused',
        because: expect.stringContaining('whole') as string,
      });
      const ended = evolve(whole, { type: 'StayEnded', because: 'left', at: 9_000 });
      expect(decide(ended, type)).toEqual({ type: 'refused', because: 'nobody of this server is in the room' });
    }
  });
});
