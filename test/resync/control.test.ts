/** What operators say of a room, in the fold and in what is decided by it. */
import { describe, expect, test } from 'vitest';
import { inOrder, mayBeAsked, reasonFor } from '../../src/resync/choice.ts';
import { type RoomCommand, decideCommand } from '../../src/resync/commands.ts';
import { BANNED_MAX, PINNED_MAX } from '../../src/resync/control.ts';
import { type ResyncEvent } from '../../src/resync/events.ts';
import { evolve } from '../../src/resync/evolve.ts';
import { explain } from '../../src/resync/explain.ts';
import { nextAction } from '../../src/resync/next-action.ts';
import { defaultResyncPolicy, nextRoundAt, policyFor } from '../../src/resync/policy.ts';
import { type ResyncState } from '../../src/resync/state.ts';
import { failed, given, joined, roundFailed, server, started } from './events.ts';

const said = { by: 'me', reason: 'since I say so', at: 7_000 };
const pin = (name: string): ResyncEvent => ({ type: 'ResidentPinned', resident: server(name), ...said });
const ban = (name: string): ResyncEvent => ({ type: 'ResidentBanned', resident: server(name), ...said });
const decide = (state: ResyncState, command: RoomCommand, isBelievedIn = true) =>
  decideCommand(state, command, { ourServer: server('ours'), isBelievedIn }, said);

describe('a pinned server', () => {
  test('is asked before all others, of several in the order of the pins, and the others after it', () => {
    const state = given(joined(), pin('c'), pin('d'));
    expect(inOrder(state)).toEqual(['c', 'd', 'a', 'b']);
    expect(reasonFor(state, server('c'))).toBe('pinned');
    expect(nextAction(state, 2_000)).toMatchObject({ type: 'fetchState', resident: 'c' });
    expect(inOrder(given(joined(), pin('c'), pin('d'), { ...pin('c'), type: 'PinLifted' } as ResyncEvent))).toEqual([
      'd',
      'a',
      'b',
      'c',
    ]);
  });

  test('keeps its place when it says that we are not in the room, and is asked once a round as all are', () => {
    const refused = failed(1, 'c', { failure: 'forbidden', outcome: 'not-in-room' });
    const state = given(joined(), pin('c'), started(1, 'c'), refused);
    expect(nextAction(state, 3_000)).toMatchObject({ resident: 'a' });
    expect(inOrder(evolve(state, roundFailed(1, 9_000)))).toEqual(['c', 'a', 'b']);
  });

  test('is not asked before it wants to be', () => {
    const state = given(
      joined(),
      pin('c'),
      started(1, 'c'),
      failed(1, 'c', { retryAt: 90_000 }),
      roundFailed(1, 9_000),
    );
    expect(nextAction(state, 9_000)).toMatchObject({ resident: 'a' });
  });
});

describe('a banned server', () => {
  test('is never asked, whoever it is and whatever is heard of it', () => {
    const state = given(joined(), pin('c'), ban('a'), ban('c'));
    expect(inOrder(state)).toEqual(['b']);
    expect(state.control.pinned).toEqual([]);
    const waiting = given(joined(), ban('a'), started(1, 'b'), failed(1, 'b'), failed(2, 'c'), roundFailed(1, 9_000));
    for (const because of ['answers', 'sent'] as const) {
      expect(evolve(waiting, { type: 'ResidentBack', resident: server('a'), because, at: 8_000 })).toBe(waiting);
    }
    expect(evolve(waiting, { type: 'ResidentBack', resident: server('b'), because: 'sent', at: 8_000 }).phase).toBe(
      'fetching',
    );
    const back = evolve(waiting, { type: 'ResidentBack', resident: server('b'), because: 'sent', at: 8_000 });
    expect(nextAction(evolve(back, ban('b')), 8_000)).toMatchObject({ type: 'endRound' });
  });

  test('that is being asked is asked no more: the attempt ends without an outcome, and the next one is begun', () => {
    const state = given(joined(), started(1, 'a'), ban('a'));
    expect(state).toMatchObject({ phase: 'fetching', attempt: null, attempts: 1 });
    expect(nextAction(state, 7_000)).toMatchObject({ attemptNo: 2, resident: 'b' });
    expect(given(joined(), started(1, 'a'), ban('b')).attempt).toMatchObject({ resident: 'a' });
  });

  test('has its place again when the ban is lifted', () => {
    const lifted: ResyncEvent = { type: 'BanLifted', resident: server('a'), ...said };
    expect(inOrder(given(joined(), ban('a'), lifted))).toEqual(['a', 'b', 'c']);
  });

  test('does not end a room whose every server is banned: its rounds go on, asking nobody', () => {
    const state = given(joined(), ban('a'), ban('b'), ban('c'));
    expect(mayBeAsked(state)).toEqual([]);
    expect(nextAction(state, 7_000)).toMatchObject({ type: 'endRound', round: 1 });
    expect(nextRoundAt(state, defaultResyncPolicy, 7_000, 0)).toBe(37_000);
  });
});

test('a room has its own policies where it has some, and those of all rooms beside', () => {
  const all = {
    ...defaultResyncPolicy,
    stateQuorum: 3,
    park: { refusedRounds: 5, giveUpAfterMs: 9, then: 'park' as const },
    leave: { during: 'purge' as const, purgeAfterMs: 7 },
  };
  const set = (policy: object): ResyncEvent => ({ type: 'RoomPolicySet', policy, ...said });
  const own = given(
    joined(),
    set({ givenUp: 'leave', giveUpAfterMs: 'never' }),
    set({ stateQuorum: 2, leaveDuringResync: 'silent' }),
  ).control.policy;
  expect(policyFor(all, own)).toEqual({
    ...all,
    stateQuorum: 2,
    park: { refusedRounds: 5, giveUpAfterMs: null, then: 'leave' },
    leave: { during: 'silent', purgeAfterMs: 7 },
  });
  const back = given(joined(), set({ givenUp: 'leave', stateQuorum: 2 }), set({ givenUp: null, stateQuorum: null }));
  expect(policyFor(all, back.control.policy)).toEqual(all);
  expect(explain(set({ givenUp: null, giveUpAfterMs: 86_400_000 }))).toBe(
    'The room has policies of its own: given_up as in all rooms, give_up_after 24 hours (by me: since I say so)',
  );
});

test('what was said of a room outlasts its stays', () => {
  const { control } = given(joined(), pin('c'), ban('b'));
  expect(inOrder(given(joined({ control })))).toEqual(['c', 'a']);
});

describe('a command', () => {
  test('that is so already changes nothing, and says so', () => {
    const state = given(joined(), pin('b'), ban('c'), { type: 'RoomPolicySet', policy: { stateQuorum: 2 }, ...said });
    const because = (command: RoomCommand) => decide(state, command);
    expect(because({ type: 'pin-resident', resident: server('b') })).toEqual({
      type: 'unchanged',
      because: 'b is pinned already',
    });
    expect(because({ type: 'unpin-resident', resident: server('a') })).toMatchObject({ type: 'unchanged' });
    expect(because({ type: 'ban-resident', resident: server('c') })).toMatchObject({ type: 'unchanged' });
    expect(because({ type: 'unban-resident', resident: server('a') })).toMatchObject({ type: 'unchanged' });
    expect(because({ type: 'set-policy', policy: { stateQuorum: 2 } })).toMatchObject({ type: 'unchanged' });
    expect(because({ type: 'set-policy', policy: { givenUp: null } })).toMatchObject({ type: 'unchanged' });
    expect(because({ type: 'set-policy', policy: { stateQuorum: null } })).toMatchObject({ type: 'append' });
  });

  test('that cannot be is refused with what is in the way', () => {
    const state = given(joined(), ban('c'));
    expect(decide(state, { type: 'pin-resident', resident: server('elsewhere') }, false)).toEqual({
      type: 'refused',
      because: 'elsewhere is not known to be in the room: only a server that is may be pinned',
    });
    expect(decide(state, { type: 'pin-resident', resident: server('c') })).toMatchObject({ type: 'refused' });
    expect(decide(state, { type: 'ban-resident', resident: server('ours') })).toMatchObject({ type: 'refused' });
  });

  test('for which there is no place is refused, and folds to nothing where it is journalled all the same', () => {
    const pins = Array.from({ length: PINNED_MAX }, (_, n) => pin(`p${n}`));
    const bans = Array.from({ length: BANNED_MAX }, (_, n) => ban(`b${n}`));
    const full = given(joined(), ...pins, ...bans);
    expect(decide(full, { type: 'pin-resident', resident: server('a') })).toMatchObject({ type: 'refused' });
    expect(decide(full, { type: 'ban-resident', resident: server('a') })).toMatchObject({ type: 'refused' });
    expect(evolve(evolve(full, pin('a')), ban('a')).control).toEqual(full.control);
  });
});
