import { describe, expect, test } from 'vitest';
import { authStateOf } from '../../src/matrix/auth/auth-events.ts';
import { type AuthState } from '../../src/matrix/auth/auth-verdict.ts';
import { type Pdu } from '../../src/matrix/pdu.ts';
import {
  checkOutlier,
  checkReceived,
  checkUnPartialStated,
  stateSetsForPartialCheck,
} from '../../src/matrix/pdu-checks.ts';
import { resolveState } from '../../src/matrix/state-resolution/state-resolution.ts';
import { ALICE, ROOM, create, event, joinRules, member, powerLevels, rulesOf, stateMapOf } from './room-of-tests.ts';

const CREATOR = '@creator:one';
const cite = (...events: Pdu[]): { auth: string[] } => ({ auth: events.map(({ eventId }) => eventId) });
const root = create('11');
const creator = member(CREATOR, 'join', { prev: [root.eventId], ...cite(root) });
const power = powerLevels({ users: { [CREATOR]: 100 } }, cite(root, creator));
const open = joinRules('public', cite(root, creator, power));
const alice = member(ALICE, 'join', cite(root, power, open));
const ban = member(ALICE, 'ban', { sender: CREATOR, ...cite(root, power, creator, alice) });
const message = event({ type: 'm.room.message', sender: ALICE, auth: [root.eventId, alice.eventId] });

const joined = authStateOf([root, alice]);
const banned = authStateOf([root, ban]);

function judge(more: {
  judged?: Pdu;
  authEvents?: readonly Pdu[];
  rejected?: readonly Pdu[];
  stateBefore?: AuthState;
  currentState?: AuthState | undefined;
}) {
  const rejected = new Set((more.rejected ?? []).map(({ eventId }) => eventId));
  return {
    event: more.judged ?? message,
    rules: rulesOf('11'),
    authEvents: more.authEvents ?? [root, alice],
    isRejected: (id: Pdu['eventId']) => rejected.has(id),
    stateBefore: more.stateBefore ?? joined,
    currentState: 'currentState' in more ? more.currentState : joined,
  };
}

describe('an event received', () => {
  test('is accepted when its auth events, the state before it and the current state allow it', () => {
    expect(checkReceived(judge({}))).toEqual({ outcome: 'accept' });
  });

  test('is dropped, not judged, while an auth event is missing', () => {
    expect(checkReceived(judge({ authEvents: [root] }))).toMatchObject({
      outcome: 'drop',
      check: 4,
      rule: 'auth-event-missing',
    });
  });

  test('is rejected by its own auth events', () => {
    expect(checkReceived(judge({ rejected: [alice] }))).toMatchObject({
      outcome: 'reject',
      check: 4,
      rule: 'auth-event-rejected',
    });
    const byBan = event({ type: 'm.room.message', sender: ALICE, auth: [root.eventId, ban.eventId] });
    expect(checkReceived(judge({ judged: byBan, authEvents: [root, ban] }))).toMatchObject({
      outcome: 'reject',
      check: 4,
      rule: 'sender-not-joined',
    });
  });

  test('is rejected, not dropped, for a type or state key of more than 255 bytes, whatever it cites', () => {
    const long = 'é'.repeat(128);
    const byType = event({ type: long, sender: ALICE, auth: [root.eventId, alice.eventId] });
    const byStateKey = event({ type: 'a', stateKey: long, sender: ALICE, auth: ['$missing'] });
    const rejection = { outcome: 'reject', check: 4, rule: 'name-too-long' };
    for (const judged of [byType, byStateKey]) {
      expect(checkReceived(judge({ judged }))).toMatchObject(rejection);
      expect(checkOutlier(judge({ judged }))).toMatchObject(rejection);
    }
    const fitting = event({ type: 'é'.repeat(127), sender: ALICE, auth: [root.eventId, alice.eventId] });
    expect(checkReceived(judge({ judged: fitting }))).toEqual({ outcome: 'accept' });
  });

  test('is judged by the auth events it cites, whatever else was loaded', () => {
    expect(checkReceived(judge({ authEvents: [root, alice, ban] }))).toEqual({ outcome: 'accept' });
  });

  test('is rejected by the state before it', () => {
    expect(checkReceived(judge({ stateBefore: banned }))).toMatchObject({
      outcome: 'reject',
      check: 5,
      rule: 'sender-not-joined',
    });
  });

  test('is soft-failed by the current state', () => {
    expect(checkReceived(judge({ currentState: banned }))).toMatchObject({
      outcome: 'softFail',
      check: 6,
      rule: 'sender-not-joined',
    });
  });

  test('is not soft-failed while the room is partial', () => {
    expect(checkReceived(judge({ currentState: undefined }))).toEqual({ outcome: 'accept' });
  });
});

describe('an event whose state became full', () => {
  test('is judged by checks 4 and 5 only', () => {
    expect(checkUnPartialStated(judge({ currentState: banned }))).toEqual({ outcome: 'accept' });
    expect(checkUnPartialStated(judge({ stateBefore: banned }))).toMatchObject({ outcome: 'reject', check: 5 });
    expect(checkUnPartialStated(judge({ rejected: [alice] }))).toMatchObject({ outcome: 'reject', check: 4 });
  });
});

describe('an outlier', () => {
  test('is judged by check 4 only', () => {
    expect(checkOutlier(judge({ stateBefore: banned, currentState: banned }))).toEqual({ outcome: 'accept' });
    expect(checkOutlier(judge({ rejected: [root] }))).toMatchObject({ outcome: 'reject', check: 4 });
    const secondCreate = create('11', {}, { prev: ['$a'] });
    expect(checkOutlier(judge({ judged: secondCreate }))).toMatchObject({
      outcome: 'reject',
      rule: 'create-has-prev-events',
    });
  });
});

describe('an event in a partial room', () => {
  const events = new Map([root, creator, power, open, alice, ban].map((known) => [known.eventId, known]));
  const judged = (partial: Pdu[]) => {
    const state = resolveState({
      rules: rulesOf('11'),
      roomId: ROOM,
      stateSets: stateSetsForPartialCheck(stateMapOf(...partial), [root, alice]),
      fetchEvent: (id) => events.get(id),
    });
    const stateBefore = authStateOf([...state.values()].map((id) => events.get(id)!));
    return checkReceived(judge({ stateBefore, currentState: undefined })).outcome;
  };

  test('is taken at its word about memberships that are not known', () => {
    expect(judged([root, creator, power, open])).toBe('accept');
  });

  test('is rejected for a ban that is known, whatever it claims', () => {
    expect(judged([root, creator, power, open, ban])).toBe('reject');
  });
});
