import { describe, expect, test } from 'vitest';
import { type Pdu } from '../../../src/matrix/pdu.ts';
import { ROOM_VERSIONS } from '../../../src/matrix/room-versions.ts';
import { cite, ids, opening, replacing, resolved, topic } from './resolution-of-tests.ts';
import { ALICE, CREATOR, joinRules, member, powerLevels } from '../room-of-tests.ts';

const V2 = ROOM_VERSIONS.filter((version) => version !== '1' && version !== '12');
const BOTH = [...V2, '12'];

describe('version 2 and later', () => {
  test('replay changes of power and join rules before the rest, whoever was earlier', () => {
    for (const version of BOTH) {
      const { citable, creator, power, open, alice, all } = opening(version);
      const users = version === '12' ? {} : { [CREATOR]: 100 };
      const demoted = powerLevels({ users }, { ...cite(...citable, creator, power), ts: 9 });
      const closed = joinRules('invite', { sender: ALICE, ...cite(...citable, alice, power), ts: 7 });
      expect(resolved(version, [replacing(all, power, demoted), replacing(all, open, closed)])).toEqual(
        ids(...replacing(all, power, demoted)),
      );
    }
  });

  test('replay a kick before what the kicked one did earlier', () => {
    for (const version of BOTH) {
      const { citable, creator, power, alice, all } = opening(version);
      const kick = member(ALICE, 'leave', { sender: CREATOR, ...cite(...citable, power, creator, alice), ts: 9 });
      const said = topic(ALICE, { ...cite(...citable, power, alice), ts: 7 });
      expect(resolved(version, [replacing(all, alice, kick), [...all, said]])).toEqual(
        ids(...replacing(all, alice, kick)),
      );
    }
  });

  test('replay a departure in its turn, after what the leaver did before', () => {
    for (const version of BOTH) {
      const { citable, power, alice, all } = opening(version);
      const departure = member(ALICE, 'leave', { ...cite(...citable, power, alice), ts: 9 });
      const said = topic(ALICE, { ...cite(...citable, power, alice), ts: 7 });
      expect(resolved(version, [replacing(all, alice, departure), [...all, said]])).toEqual(
        ids(said, ...replacing(all, alice, departure)),
      );
    }
  });

  test('let the last of what is no matter of power stand, not that of the least powerful', () => {
    for (const version of BOTH) {
      const { citable, creator, power, alice, all } = opening(version);
      const byAlice = topic(ALICE, { ...cite(...citable, power, alice), ts: 7 });
      const byCreator = topic(CREATOR, { ...cite(...citable, power, creator), ts: 9 });
      expect(
        resolved(version, [
          [...all, byAlice],
          [...all, byCreator],
        ]),
      ).toEqual(ids(...all, byCreator));
    }
  });
});

describe('version 12', () => {
  /** MSC4297: alice's power goes and comes back; a fork from before must not bring the old state in again. */
  test('replays what lies between conflicted events', () => {
    const { root, creator, power, open, alice, bob } = opening('12');
    const none = powerLevels({ users: {} }, { ...cite(creator, power), depth: 7, ts: 7 });
    const again = powerLevels({ users: { [ALICE]: 50 } }, { ...cite(creator, none), depth: 8, ts: 8 });
    const stale = joinRules('invite', { ...cite(creator, power), depth: 7, ts: 6 });
    const states = [
      [root, creator, power, open, alice],
      [root, creator, again, stale, alice, bob],
    ];
    const outcome = resolved('12', states, { others: [none] });
    expect(outcome).toContain(again.eventId);
    expect(outcome).toContain(stale.eventId);
    expect(resolved('12', states.toReversed(), { others: [none] })).toEqual(outcome);
  });

  test('replays what lies between even when all states have it behind them, unlike the versions before', () => {
    for (const version of BOTH) {
      const { citable, creator, power, alice, all } = opening(version);
      const users = version === '12' ? {} : { [CREATOR]: 100 };
      const none = powerLevels({ users }, { ...cite(...citable, creator, power), ts: 7 });
      const between = powerLevels({ users: { ...users, [ALICE]: 50 } }, { ...cite(...citable, creator, none), ts: 8 });
      const byAlice = powerLevels(
        { users: { ...users, [ALICE]: 50 }, ban: 50 },
        { sender: ALICE, ...cite(...citable, alice, between), ts: 9 },
      );
      // The creator's new name was set after `between`, and nobody doubts it.
      const renamed = member(CREATOR, 'join', { ...cite(...citable, creator, between), ts: 9 });
      const agreed = replacing(all, creator, renamed);
      const states = [replacing(agreed, power, none), replacing(agreed, power, byAlice)];
      const winner: Pdu = version === '12' ? byAlice : none;
      expect([version, resolved(version, states, { others: [creator, power, between] })]).toEqual([
        version,
        ids(...replacing(agreed, power, winner)),
      ]);
    }
  });

  test('replays upon nothing, where the versions before replay upon what is agreed', () => {
    for (const version of BOTH) {
      const { citable, creator, power, alice, all } = opening(version);
      const banned = replacing(
        all,
        alice,
        member(ALICE, 'ban', { sender: CREATOR, ...cite(...citable, power, creator, alice), ts: 7 }),
      );
      const said = topic(ALICE, { ...cite(...citable, power, alice), ts: 9 });
      expect(resolved(version, [banned, [...banned, said]], { others: [alice] })).toEqual(
        ids(...banned, ...(version === '12' ? [said] : [])),
      );
    }
  });
});
