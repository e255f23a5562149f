import { describe, expect, test } from 'vitest';
import { ROOM_VERSIONS } from '../../src/matrix/room-versions.ts';
import { rulesOf } from './room-of-tests.ts';

/** The first version with each change, as the pages of the versions tell it. */
const INTRODUCED = {
  enforceKeyValidity: 5,
  strictCanonicalJson: 6,
  notificationsPowerLevelsChecked: 6,
  knocking: 7,
  restrictedJoins: 8,
  knockRestricted: 10,
  integerPowerLevels: 10,
  creatorIsSender: 11,
  strictByteLimits: 11,
  roomIdIsCreateHash: 12,
  privilegedCreators: 12,
} as const;
/** The last version with what was dropped. */
const LAST = { redactionsJudgedByAuthRules: 2, aliasesSpecialCase: 5 } as const;

describe('room versions', () => {
  test('are 1 to 12, oldest first', () => {
    expect(ROOM_VERSIONS).toEqual(Array.from({ length: 12 }, (_, i) => String(i + 1)));
    for (const version of ROOM_VERSIONS) expect(rulesOf(version).version).toBe(version);
  });

  test.each(ROOM_VERSIONS)('%s has what was introduced until then, and what was not yet dropped', (version) => {
    const rules = rulesOf(version);
    const switches = Object.fromEntries(Object.entries(rules).filter(([, value]) => typeof value === 'boolean'));
    expect(switches).toEqual({
      ...Object.fromEntries(Object.entries(INTRODUCED).map(([name, first]) => [name, Number(version) >= first])),
      ...Object.fromEntries(Object.entries(LAST).map(([name, last]) => [name, Number(version) <= last])),
    });
  });

  test('resolve state by v1, by v2 from version 2 and by v2.1 from version 12', () => {
    expect(ROOM_VERSIONS.map((version) => rulesOf(version).stateResolution)).toEqual([
      'v1',
      ...ROOM_VERSIONS.slice(1, -1).map(() => 'v2'),
      'v2.1',
    ]);
  });
});
