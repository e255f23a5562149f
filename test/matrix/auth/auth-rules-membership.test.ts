import { describe, test } from 'vitest';
import { authStateOf } from '../../../src/matrix/auth/auth-events.ts';
import { type JsonObject, type Pdu } from '../../../src/matrix/pdu.ts';
import {
  ALICE,
  BOB,
  CAROL,
  CREATE_ID,
  CREATOR,
  create,
  event,
  joinRules,
  member,
  powerLevels,
} from '../room-of-tests.ts';
import { ALL, expectVerdict, from, until, withMembers } from '../verdicts.ts';

const join = member(BOB, 'join');
const ofBob = (membership: string, fields = {}): Pdu => member(BOB, membership, { sender: ALICE, ...fields });
const alice = (level: number, content: JsonObject = {}): Pdu[] => [
  member(ALICE, 'join'),
  powerLevels({ users: { [ALICE]: level }, ...content }),
];

describe('a membership', () => {
  test('needs a target and a known membership', () => {
    const state = withMembers(joinRules('public'));
    expectVerdict(ALL, 'member-malformed', event({ type: 'm.room.member', content: { membership: 'join' } }), state);
    expectVerdict(ALL, 'member-malformed', event({ type: 'm.room.member', stateKey: BOB, sender: BOB }), state);
    expectVerdict(ALL, 'member-malformed', member(BOB, 'join', { content: { membership: 1 } }), state);
    expectVerdict(ALL, 'member-malformed', member('bob', 'invite', { sender: CREATOR }), state);
    expectVerdict(ALL, 'membership-unknown', member(BOB, 'sulk'), withMembers(join));
    expectVerdict(until(6), 'membership-unknown', member(BOB, 'knock'), withMembers(joinRules('knock')));
  });

  test('does not change while the power it depends on cannot be read', () => {
    const unreadable: JsonObject[] = [{ ban: 'x' }, { invite: [] }, { users: 1 }, { users: { [BOB]: {} } }];
    for (const content of unreadable) {
      expectVerdict(ALL, 'power-levels-unreadable', join, withMembers(joinRules('public'), powerLevels(content)));
    }
  });

  test('does not change while only its sender’s or only its target’s power can be read', () => {
    for (const user of [ALICE, BOB]) {
      const state = withMembers(member(ALICE, 'join'), powerLevels({ users: { [user]: 'x' } }));
      expectVerdict(ALL, 'power-levels-unreadable', ofBob('invite'), state);
    }
  });

  test('does not follow on one that says nothing', () => {
    const silent = event({ type: 'm.room.member', sender: BOB, stateKey: BOB });
    expectVerdict(ALL, 'member-malformed', join, withMembers(joinRules('public'), silent));
  });
});

describe('joining', () => {
  test('is the creator’s to do first', () => {
    const first = member(CREATOR, 'join', { prev: [CREATE_ID] });
    const onlyCreate = (version: string) => authStateOf([create(version)]);
    expectVerdict(ALL, 'allowed', first, onlyCreate);
    expectVerdict(ALL, 'join-not-invited', member(ALICE, 'join', { prev: [CREATE_ID] }), onlyCreate);
    expectVerdict(ALL, 'join-not-invited', member(CREATOR, 'join', { prev: [CREATE_ID, '$other'] }), onlyCreate);
    expectVerdict(ALL, 'join-not-invited', member(CREATOR, 'join', { prev: ['$other'] }), onlyCreate);
    const invited = member(CREATOR, 'invite', { prev: [CREATE_ID] });
    expectVerdict(ALL, 'sender-not-joined', invited, onlyCreate);
  });

  test('is for oneself', () => {
    expectVerdict(ALL, 'join-for-another', ofBob('join'), withMembers(joinRules('public'), member(ALICE, 'join')));
  });

  test('needs an invite while the join rule is invite, or there is none', () => {
    for (const rule of [[], [joinRules('invite')], [{ ...joinRules('x'), content: {} }]]) {
      expectVerdict(ALL, 'join-not-invited', join, withMembers(...rule));
      expectVerdict(ALL, 'allowed', join, withMembers(...rule, member(BOB, 'invite')));
      expectVerdict(ALL, 'allowed', join, withMembers(...rule, join));
      expectVerdict(ALL, 'join-not-invited', join, withMembers(...rule, member(BOB, 'leave')));
    }
  });

  test('is open to all but the banned while the join rule is public', () => {
    expectVerdict(ALL, 'allowed', join, withMembers(joinRules('public')));
    expectVerdict(ALL, 'join-banned', join, withMembers(joinRules('public'), member(BOB, 'ban')));
  });

  test('needs an invite while the join rule is knock, from version 7', () => {
    expectVerdict(from(7), 'join-not-invited', join, withMembers(joinRules('knock')));
    expectVerdict(from(7), 'join-not-invited', join, withMembers(joinRules('knock'), member(BOB, 'knock')));
    expectVerdict(from(7), 'allowed', join, withMembers(joinRules('knock'), member(BOB, 'invite')));
    expectVerdict(until(6), 'join-rule-unknown', join, withMembers(joinRules('knock'), member(BOB, 'invite')));
  });

  test('is for nobody under a join rule the version does not know', () => {
    const invited = member(BOB, 'invite');
    expectVerdict(ALL, 'join-rule-unknown', join, withMembers(joinRules('private'), invited));
    expectVerdict(
      ALL,
      'join-rule-unknown',
      join,
      withMembers({ ...joinRules('x'), content: { join_rule: 1 } }, invited),
    );
    expectVerdict(until(7), 'join-rule-unknown', join, withMembers(joinRules('restricted'), invited));
    expectVerdict(until(9), 'join-rule-unknown', join, withMembers(joinRules('knock_restricted'), invited));
  });

  for (const [rule, first] of [
    ['restricted', 8],
    ['knock_restricted', 10],
  ] as const) {
    test(`is authorised by a member with the power to invite while the join rule is ${rule}`, () => {
      const authorised = member(BOB, 'join', { content: { join_authorised_via_users_server: ALICE } });
      const state = (level: number) => withMembers(joinRules(rule), ...alice(level, { invite: 50 }));
      expectVerdict(from(first), 'allowed', authorised, state(50));
      expectVerdict(from(first), 'join-not-authorised', authorised, state(49));
      expectVerdict(from(first), 'join-not-authorised', authorised, withMembers(joinRules(rule)));
      expectVerdict(
        from(first),
        'join-not-authorised',
        authorised,
        withMembers(joinRules(rule), member(ALICE, 'invite')),
      );
      expectVerdict(from(first), 'join-not-authorised', join, state(50));
      const nonsense = member(BOB, 'join', { content: { join_authorised_via_users_server: [ALICE] } });
      expectVerdict(from(first), 'join-not-authorised', nonsense, state(50));
      expectVerdict(
        from(first),
        'join-banned',
        authorised,
        withMembers(joinRules(rule), ...alice(50), member(BOB, 'ban')),
      );
    });

    test(`needs nobody’s authority for those invited or joined while the join rule is ${rule}`, () => {
      expectVerdict(from(first), 'allowed', join, withMembers(joinRules(rule), member(BOB, 'invite')));
      expectVerdict(from(first), 'allowed', join, withMembers(joinRules(rule), join));
    });
  }
});

describe('inviting', () => {
  test('is for members with the power, and asks none by default', () => {
    expectVerdict(ALL, 'allowed', ofBob('invite'), withMembers(member(ALICE, 'join')));
    expectVerdict(ALL, 'allowed', ofBob('invite'), withMembers(...alice(50, { invite: 50 })));
    expectVerdict(ALL, 'invite-power', ofBob('invite'), withMembers(...alice(49, { invite: 50 })));
    expectVerdict(ALL, 'sender-not-joined', ofBob('invite'), withMembers());
    expectVerdict(ALL, 'sender-not-joined', ofBob('invite'), withMembers(member(ALICE, 'invite')));
  });

  test('is not for members and the banned', () => {
    expectVerdict(ALL, 'invite-target-joined', ofBob('invite'), withMembers(member(ALICE, 'join'), join));
    expectVerdict(ALL, 'invite-target-banned', ofBob('invite'), withMembers(...alice(100), member(BOB, 'ban')));
    for (const membership of ['leave', 'invite', 'knock']) {
      expectVerdict(ALL, 'allowed', ofBob('invite'), withMembers(member(ALICE, 'join'), member(BOB, membership)));
    }
  });
});

describe('leaving', () => {
  const leave = member(BOB, 'leave');

  test('is for those joined or invited, and from version 7 for those who knocked', () => {
    expectVerdict(ALL, 'allowed', leave, withMembers(join));
    expectVerdict(ALL, 'allowed', leave, withMembers(member(BOB, 'invite')));
    expectVerdict(from(7), 'allowed', leave, withMembers(member(BOB, 'knock')));
    expectVerdict(until(6), 'sender-not-joined', leave, withMembers(member(BOB, 'knock')));
    for (const state of [withMembers(), withMembers(member(BOB, 'leave')), withMembers(member(BOB, 'ban'))]) {
      expectVerdict(ALL, 'sender-not-joined', leave, state);
    }
  });

  test('is forced on others by members who stand above them and may kick', () => {
    const kick = ofBob('leave');
    expectVerdict(ALL, 'allowed', kick, withMembers(...alice(50), join));
    expectVerdict(ALL, 'kick-power', kick, withMembers(...alice(49), join));
    expectVerdict(ALL, 'allowed', kick, withMembers(...alice(5, { kick: 5 }), join));
    expectVerdict(ALL, 'kick-power', kick, withMembers(...alice(50, { users: { [ALICE]: 50, [BOB]: 50 } }), join));
    expectVerdict(ALL, 'kick-power', kick, withMembers(...alice(50, { users_default: 50 }), join));
    expectVerdict(ALL, 'sender-not-joined', kick, withMembers(powerLevels({ users: { [ALICE]: 100 } }), join));
  });

  test('ends a ban where the sender may ban and kick', () => {
    const banned = member(BOB, 'ban');
    expectVerdict(ALL, 'allowed', ofBob('leave'), withMembers(...alice(50), banned));
    expectVerdict(ALL, 'unban-power', ofBob('leave'), withMembers(...alice(50, { ban: 51 }), banned));
    expectVerdict(ALL, 'kick-power', ofBob('leave'), withMembers(...alice(50, { kick: 51 }), banned));
  });

  test('cannot be forced on creators in version 12, whatever their level', () => {
    const kick = member(CREATOR, 'leave', { sender: ALICE });
    expectVerdict(until(11), 'allowed', kick, withMembers(...alice(100)));
    expectVerdict(['12'], 'kick-power', kick, withMembers(...alice(100)));
    const ofCreator = member(ALICE, 'leave', { sender: CREATOR });
    const twoCreators = (version: string) =>
      authStateOf([create(version, { additional_creators: [ALICE] }), member(CREATOR, 'join'), ...alice(0)]);
    expectVerdict(['12'], 'kick-power', ofCreator, twoCreators);
    expectVerdict(['12'], 'allowed', ofCreator, withMembers(...alice(100)));
  });
});

describe('banning', () => {
  test('is for members who stand above the target and may ban', () => {
    const ban = ofBob('ban');
    expectVerdict(ALL, 'allowed', ban, withMembers(...alice(50), join));
    expectVerdict(ALL, 'allowed', ban, withMembers(...alice(50)));
    expectVerdict(ALL, 'ban-power', ban, withMembers(...alice(49), join));
    expectVerdict(ALL, 'ban-power', ban, withMembers(...alice(50, { users_default: 50 }), join));
    expectVerdict(ALL, 'ban-power', ban, withMembers(...alice(50, { ban: 51 }), join));
    expectVerdict(ALL, 'sender-not-joined', ban, withMembers(powerLevels({ users: { [ALICE]: 100 } })));
  });
});

describe('knocking', () => {
  const knock = member(BOB, 'knock');

  test('is for those outside, from version 7', () => {
    for (const state of [[], [member(BOB, 'leave')], [knock]]) {
      expectVerdict(from(7), 'allowed', knock, withMembers(joinRules('knock'), ...state));
    }
    for (const membership of ['join', 'invite']) {
      expectVerdict(from(7), 'knock-already-in', knock, withMembers(joinRules('knock'), member(BOB, membership)));
    }
    expectVerdict(from(7), 'knock-banned', knock, withMembers(joinRules('knock'), member(BOB, 'ban')));
    const forBob = member(BOB, 'knock', { sender: CAROL });
    expectVerdict(from(7), 'knock-for-another', forBob, withMembers(joinRules('knock')));
  });

  test('needs a join rule that takes knocks', () => {
    for (const rule of ['public', 'invite', 'restricted']) {
      expectVerdict(from(7), 'knock-join-rule', knock, withMembers(joinRules(rule)));
    }
    expectVerdict(from(10), 'allowed', knock, withMembers(joinRules('knock_restricted')));
    expectVerdict(['7', '8', '9'], 'knock-join-rule', knock, withMembers(joinRules('knock_restricted')));
  });
});
