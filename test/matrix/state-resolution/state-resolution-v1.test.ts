import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { type Pdu } from '../../../src/matrix/pdu.ts';
import { cite, ids, opening, replacing, resolved, topic } from './resolution-of-tests.ts';
import { ALICE, BOB, CAROL, CREATOR, joinRules, member, powerLevels } from '../room-of-tests.ts';

const { citable, power, open, alice, all } = opening('1');

/** Resolves the opening with each of the candidates added to a state of its own. */
const among = (...candidates: Pdu[]): readonly string[] =>
  resolved(
    '1',
    candidates.map((candidate) => [...all, candidate]),
  );

describe('version 1', () => {
  test('does not count absence as a conflict', () => {
    const lonely = topic(BOB, { ...cite(...citable, power), ts: 7 });
    expect(resolved('1', [all, [...all, lonely]])).toEqual(ids(...all, lonely));
    expect(resolved('2', [all, [...all, lonely]])).toEqual(ids(...all));
  });

  test('takes the deepest event that the auth rules allow, or the shallowest when they allow none', () => {
    const at = (sender: string, depth: number): Pdu => topic(sender, { ...cite(...citable, power, alice), depth });
    const [shallow, allowed, forbidden, deeper] = [at(CREATOR, 6), at(ALICE, 7), at(BOB, 8), at(BOB, 9)];
    expect(among(shallow, allowed, forbidden)).toEqual(ids(...all, allowed));
    expect(among(forbidden, allowed, shallow)).toEqual(ids(...all, allowed));
    expect(among(deeper, forbidden)).toEqual(ids(...all, forbidden));
  });

  test('tells depths apart that only 64 bits can', () => {
    const at = (depth: bigint): Pdu => ({ ...topic(ALICE, cite(...citable, power, alice)), depth });
    const [deep, deeper] = [at(2n ** 63n - 2n), at(2n ** 63n - 1n)];
    expect(among(deep, deeper)).toEqual(ids(...all, deeper));
    expect(among(deeper, deep)).toEqual(ids(...all, deeper));
  });

  test('takes, of equally deep events, that whose id has the smallest SHA-1', () => {
    const sha1 = ({ eventId }: Pdu): string => createHash('sha1').update(eventId).digest('hex');
    const candidates = Array.from({ length: 8 }, (_, i) => topic(ALICE, { id: `$topic${String(i)}:one`, depth: 7 }));
    const [smallest] = candidates.toSorted((a, b) => (sha1(a) < sha1(b) ? -1 : 1));
    expect(among(...candidates)).toEqual(ids(...all, smallest!));
    expect(among(...candidates.toReversed())).toEqual(ids(...all, smallest!));
  });

  test('takes of a line of power levels the last before the first that may not follow', () => {
    const byAlice = powerLevels({ users: { [CREATOR]: 100, [ALICE]: 50, [BOB]: 50 } }, { sender: ALICE, depth: 7 });
    const byBob = powerLevels({ users: { [CREATOR]: 100, [BOB]: 50 } }, { sender: BOB, depth: 7 });
    const later = powerLevels({ users: { [CREATOR]: 100 } }, { depth: 9 });
    const line = (...candidates: Pdu[]): readonly string[] =>
      resolved(
        '1',
        candidates.map((candidate) => replacing(all, power, candidate)),
      );
    expect(line(power, byAlice)).toEqual(ids(...replacing(all, power, byAlice)));
    expect(line(power, byBob, later)).toEqual(ids(...all));
    // What bob may do is judged by what alice made of him, not by what was agreed before.
    const byRaisedBob = { ...byBob, depth: 8n };
    expect(line(power, byAlice, byRaisedBob)).toEqual(ids(...replacing(all, power, byAlice)));
    const modest = powerLevels(byAlice.content, { sender: BOB, depth: 8 });
    expect(line(power, byAlice, modest)).toEqual(ids(...replacing(all, power, modest)));
  });

  test('settles power before what needs it', () => {
    const swapped = powerLevels({ users: { [CREATOR]: 100, [BOB]: 50 } }, { depth: 7 });
    const [byCreator, byBob, byAlice] = [
      topic(CREATOR, { depth: 2 }),
      topic(BOB, { depth: 8 }),
      topic(ALICE, { depth: 9 }),
    ];
    const states = [
      [byAlice, ...all],
      [byBob, ...replacing(all, power, swapped)],
      [byCreator, ...all],
    ];
    expect(resolved('1', states)).toEqual(ids(byBob, ...replacing(all, power, swapped)));
  });

  test('settles join rules before memberships, and these before the rest', () => {
    const closed = joinRules('invite', { depth: 3 });
    const [left, joined] = [
      member(CAROL, 'leave', { sender: CREATOR, depth: 6 }),
      member(CAROL, 'join', { ...cite(...citable, power, open), depth: 8 }),
    ];
    const carolMay = powerLevels({ users: { [CREATOR]: 100, [CAROL]: 50 } }, { depth: 3 });
    const [byCreator, byCarol] = [topic(CREATOR, { depth: 2 }), topic(CAROL, { depth: 9 })];
    const agreed = replacing(all, power, carolMay);
    const states = [
      [byCarol, joined, ...agreed],
      [byCreator, left, ...replacing(agreed, open, closed)],
    ];
    expect(resolved('1', states)).toEqual(ids(byCarol, joined, ...agreed));
    expect(resolved('1', states.toReversed())).toEqual(ids(byCarol, joined, ...agreed));
  });

  test('takes power levels at another state key for an event like any other', () => {
    const odd = (sender: string, depth: number): Pdu => ({ ...powerLevels({}, { sender, depth }), stateKey: 'odd' });
    const [byCreator, byBob, byAlice] = [odd(CREATOR, 2), odd(BOB, 7), odd(ALICE, 9)];
    // A line would end where bob's fails.
    expect(among(byCreator, byBob, byAlice)).toEqual(ids(...all, byAlice));
  });
});
