import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { type Pdu } from '../../../src/matrix/pdu.ts';
import { ROOM_VERSIONS } from '../../../src/matrix/room-versions.ts';
import { type StateMap, stateMapKey } from '../../../src/matrix/state-map.ts';
import {
  type ResolutionInput,
  resolveConflicts,
  resolveState,
} from '../../../src/matrix/state-resolution/state-resolution.ts';
import { separate } from '../../../src/matrix/state-resolution/separate.ts';
import { authEventIdsOf } from '../../../src/matrix/auth/auth-events.ts';
import { makeRandomRoom } from '../../differential/random-room.ts';
import { createRandom } from '../../differential/random.ts';
import { cite, ids, opening, replacing, resolved } from './resolution-of-tests.ts';
import { ALICE, BOB, CREATOR, ROOM, event, member, powerLevels, rulesOf, stateMapOf } from '../room-of-tests.ts';

const V2 = '10';
describe('one state', () => {
  test('is its own resolution, and so are equal ones', () => {
    for (const version of ROOM_VERSIONS) {
      const { all } = opening(version);
      expect(resolved(version, [all])).toEqual(ids(...all));
      expect(resolved(version, [all, [...all]])).toEqual(ids(...all));
    }
    expect(resolveState({ rules: rulesOf(V2), roomId: ROOM, stateSets: [], fetchEvent: () => undefined })).toEqual(
      new Map(),
    );
  });
});

describe('conflicting states', () => {
  const versions = ROOM_VERSIONS.filter((version) => version !== '1');

  test('end with a ban standing against what the banned one did meanwhile', () => {
    for (const version of versions) {
      const { root, citable, creator, power, open, alice, bob, all } = opening(version);
      const ban = member(ALICE, 'ban', {
        sender: CREATOR,
        ...cite(...citable, power, creator, alice),
        depth: 7,
        ts: 9,
      });
      const topic = event({
        type: 'm.room.topic',
        stateKey: '',
        sender: ALICE,
        ...cite(...citable, power, alice),
        depth: 7,
        ts: 7,
      });
      const outcome = resolved(version, [replacing(all, alice, ban), [...all, topic]]);
      expect(outcome).toEqual(ids(root, creator, power, open, ban, bob));
    }
  });

  test('settle a fight over power for whoever had more', () => {
    for (const version of versions) {
      const { citable, creator, power, alice, all } = opening(version);
      const users = version === '12' ? {} : { [CREATOR]: 100 };
      const byCreator = powerLevels({ users }, { ...cite(...citable, creator, power), depth: 7, ts: 9 });
      const byAlice = powerLevels(
        { users: { ...users, [ALICE]: 50, [BOB]: 50 } },
        { sender: ALICE, ...cite(...citable, alice, power), depth: 7, ts: 7 },
      );
      const outcome = resolved(version, [replacing(all, power, byCreator), replacing(all, power, byAlice)]);
      expect(outcome).toEqual(ids(...replacing(all, power, byCreator)));
    }
  });

  test('take the newest of what nobody forbids, and of equally old ones that with the greatest id', () => {
    for (const version of versions) {
      const { citable, power, alice, all } = opening(version);
      const topic = (id: string, ts: number): Pdu =>
        event({
          type: 'm.room.topic',
          id,
          stateKey: '',
          sender: ALICE,
          ...cite(...citable, power, alice),
          depth: 7,
          ts,
        });
      const [older, newer] = [topic('$z', 7), topic('$a', 8)];
      expect(
        resolved(version, [
          [...all, older],
          [...all, newer],
        ]),
      ).toEqual(ids(...all, newer));
      const [first, second] = [topic('$\u{ffff}', 7), topic('$\u{10000}', 7)];
      expect(
        resolved(version, [
          [...all, second],
          [...all, first],
        ]),
      ).toEqual(ids(...all, second));
    }
  });

  test('never admit a rejected event', () => {
    for (const version of versions) {
      const { citable, power, alice, all } = opening(version);
      const topic = event({
        type: 'm.room.topic',
        stateKey: '',
        sender: ALICE,
        ...cite(...citable, power, alice),
        ts: 9,
      });
      expect(resolved(version, [[...all, topic], all])).toEqual(ids(...all, topic));
      expect(resolved(version, [[...all, topic], all], { rejected: [topic] })).toEqual(ids(...all));
    }
  });

  test('give no event the power that a rejected auth event claims', () => {
    for (const version of versions) {
      const { citable, power, bob, all } = opening(version);
      const claimed = powerLevels({ users: { [BOB]: 100 } }, cite(...citable, power));
      const topic = event({ type: 'm.room.topic', stateKey: '', sender: BOB, ...cite(...citable, claimed, bob) });
      const powerless = all.filter((each) => each !== power);
      const states = [powerless, [...powerless, topic]];
      expect(resolved(version, states, { others: [power, claimed] })).toContain(topic.eventId);
      expect(resolved(version, states, { others: [power, claimed], rejected: [claimed] })).not.toContain(topic.eventId);
    }
  });

  test('resolve without events that are missing or of another room', () => {
    for (const version of ROOM_VERSIONS) {
      const { citable, power, alice, all } = opening(version);
      const topic = event({
        type: 'm.room.topic',
        stateKey: '',
        sender: ALICE,
        ...cite(...citable, power, alice),
        ts: 7,
      });
      const other = event({
        type: 'm.room.topic',
        stateKey: '',
        sender: ALICE,
        ...cite(...citable, power, alice),
        ts: 9,
      });
      expect(
        resolved(
          version,
          [
            [...all, topic],
            [...all, other],
          ],
          { missing: [other] },
        ),
      ).toEqual(ids(...all, topic));
      const foreign = { ...other, roomId: '!elsewhere:one' as Pdu['roomId'] };
      expect(
        resolved(version, [
          [...all, topic],
          [...all, foreign],
        ]),
      ).toEqual(ids(...all, topic));
    }
  });
});

describe('hostile input', () => {
  test('with cycles of auth events ends', () => {
    for (const version of ROOM_VERSIONS) {
      const { all } = opening(version);
      const one = powerLevels({}, { id: '$one', auth: ['$two'] });
      const two = powerLevels({}, { id: '$two', auth: ['$one'] });
      const self = event({ type: 'm.room.topic', stateKey: '', id: '$self', auth: ['$self', '$one'] });
      const states = [replacing(all, all[2]!, one), [...replacing(all, all[2]!, two), self]];
      expect(resolved(version, states).length).toBeGreaterThan(0);
      // And where the mainline itself is a cycle.
      const agreed = [...replacing(all, all[2]!, one)];
      expect(resolved(version, [agreed, [...agreed, self]], { others: [two] }).length).toBeGreaterThan(0);
    }
  });

  test('with wrong types everywhere ends', () => {
    fc.assert(
      fc.property(fc.constantFrom(...ROOM_VERSIONS), fc.jsonValue(), fc.jsonValue(), (version, first, second) => {
        const { root, creator, all } = opening(version);
        const odd = (value: unknown, type: string): Pdu =>
          event({
            type,
            stateKey: '',
            content: { users: value, events: value, join_rule: value, membership: value } as Pdu['content'],
            ...cite(root, creator),
          });
        const states = ['m.room.power_levels', 'm.room.join_rules'].map((type) => [
          odd(first, type),
          odd(second, type),
        ]);
        const lists = [0, 1].map((side) => [
          ...all.filter(({ type }) => type !== 'm.room.power_levels' && type !== 'm.room.join_rules'),
          ...states.map((pair) => pair[side]!),
        ]);
        expect(resolved(version, lists).length).toBeGreaterThan(0);
      }),
      { seed: 1, numRuns: 200 },
    );
  });

  /** Seconds even under load; what is quadratic takes minutes. */
  const LARGE_CONFLICT_MS_MAX = 10_000;

  for (const version of ['1', V2, '12']) {
    test(`of 10,000 conflicted events is resolved in seconds in version ${version}`, { timeout: 30_000 }, () => {
      const { citable, creator, all } = opening(version);
      const left = [...all];
      const right = [...all];
      let power = all[2]!;
      const others: Pdu[] = [];
      for (let i = 0; i < 5_000; i++) {
        // A line of power levels as long as the conflict, so that no walk may start over for every event.
        if (i % 5 === 0) {
          power = powerLevels(power.content, { ...cite(...citable, creator, power), depth: 10 + i, ts: 10 + i });
          others.push(power);
        }
        const user = `@user${String(i)}:one`;
        const join = member(user, 'join', { ...cite(...citable, power, all[3]!), depth: 10 + i, ts: 10 + i });
        left.push(join);
        right.push(
          member(user, 'ban', {
            sender: CREATOR,
            ...cite(...citable, power, creator, join),
            depth: 11 + i,
            ts: 20_000 - i,
          }),
        );
      }
      right[2] = power;
      const started = performance.now();
      expect(resolved(version, [left, right], { others }).length).toBe(5_006);
      expect(performance.now() - started).toBeLessThan(LARGE_CONFLICT_MS_MAX);
    });
  }
});

describe('random rooms', () => {
  /** Some states of a random room, and how to resolve any of them. */
  function someStates(version: string, seed: number) {
    const random = createRandom(seed);
    const room = makeRandomRoom(rulesOf(version), random, 40);
    const states = Array.from({ length: 3 }, () => random.pick([...room.stateAfter.values()]));
    const input = (stateSets: readonly StateMap[]) => ({
      rules: room.rules,
      roomId: room.roomId,
      stateSets,
      fetchEvent: (id: EventId) => room.events.get(id),
      isRejected: (id: EventId) => room.rejected.has(id),
    });
    return { room, states, input };
  }
  const sorted = (state: StateMap): [string, EventId][] => [...state].sort(([a], [b]) => (a < b ? -1 : 1));
  const cases = fc.record({ version: fc.constantFrom(...ROOM_VERSIONS), seed: fc.nat(1_000_000) });
  const RUNS = { seed: 1, numRuns: 150 };

  test('resolve alike whatever the order of the states', () => {
    fc.assert(
      fc.property(cases, ({ version, seed }) => {
        const { states, input } = someStates(version, seed);
        const forwards = resolveState(input(states));
        expect(sorted(resolveState(input(states.toReversed())))).toEqual(sorted(forwards));
        expect(sorted(resolveState(input([...states.slice(1), ...states])))).toEqual(sorted(forwards));
      }),
      RUNS,
    );
  });

  test('resolve to a state that resolves to itself', () => {
    fc.assert(
      fc.property(cases, ({ version, seed }) => {
        const { states, input } = someStates(version, seed);
        const once = resolveState(input(states));
        expect(sorted(resolveState(input([once, new Map(once)])))).toEqual(sorted(once));
      }),
      RUNS,
    );
  });

  test('resolve alike with trusted auth depths, which let the walks stop early', () => {
    fc.assert(
      fc.property(cases, ({ version, seed }) => {
        const { room, states, input } = someStates(version, seed);
        const citedBy = (id: EventId): readonly EventId[] | undefined => {
          const known = room.events.get(id);
          if (known === undefined) return undefined;
          const isRoot = version !== '12' || known.type === 'm.room.create';
          return isRoot ? known.authEvents : [...known.authEvents, `$${known.roomId.slice(1)}` as EventId];
        };
        const depths = new Map<EventId, number>();
        for (const id of room.events.keys()) {
          depths.set(id, Math.max(0, ...(citedBy(id) ?? []).map((cited) => 1 + (depths.get(cited) ?? 0))));
        }
        const authDepthOf = (id: EventId): number | undefined => depths.get(id);
        expect(sorted(resolveState({ ...input(states), authDepthOf }))).toEqual(sorted(resolveState(input(states))));
      }),
      RUNS,
    );
  });

  test('can be loaded in rounds until nothing more is needed, and then resolve as with everything at hand', () => {
    fc.assert(
      fc.property(cases, ({ version, seed }) => {
        const { room, states, input } = someStates(version, seed);
        const { loaded } = loadInRounds(input(states), (id) => room.events.get(id));
        const partly = { ...input(states), fetchEvent: (id: EventId) => loaded.get(id) };
        expect(sorted(resolveState(partly))).toEqual(sorted(resolveState(input(states))));
      }),
      RUNS,
    );
  });
});

/** Loads what a resolution needs, each event when it is named; the number of rounds is bounded. */
function loadInRounds(
  input: ResolutionInput,
  find: (id: EventId) => Pdu | undefined,
): { loaded: Map<EventId, Pdu>; rounds: number } {
  const loaded = new Map<EventId, Pdu>();
  const tried = new Set<EventId>();
  for (let rounds = 0; ; rounds++) {
    expect(rounds).toBeLessThan(100);
    const needed = new Set<EventId>();
    const fetchEvent = (id: EventId): Pdu | undefined => {
      if (!tried.has(id)) needed.add(id);
      return loaded.get(id);
    };
    resolveState({ ...input, fetchEvent });
    if (needed.size === 0) return { loaded, rounds };
    for (const id of needed) {
      tried.add(id);
      const found = find(id);
      if (found !== undefined) loaded.set(id, found);
    }
  }
}

describe('a small conflict in a room of thousands', () => {
  for (const version of [V2, '12']) {
    test(`is resolved from a handful of events in version ${version}`, () => {
      const { root, citable, creator, power, open, all } = opening(version);
      const joined = (user: string, ts: number, ...more: Pdu[]): Pdu =>
        member(user, 'join', { ...cite(...citable, power, open, ...more), ts });
      const crowd = Array.from({ length: 5_000 }, (_, i) => joined(`@user${String(i)}:one`, 10 + i));
      const banned = member('@user7:one', 'ban', {
        sender: CREATOR,
        ...cite(...citable, power, creator, crowd[7]!),
        ts: 6_000,
      });
      const renamed = joined('@user7:one', 5_999, crowd[7]!);
      const newcomer = joined('@newcomer:one', 6_001);
      const events = new Map([...all, ...crowd, banned, renamed, newcomer].map((known) => [known.eventId, known]));
      const stateSets = [stateMapOf(...all, ...crowd, banned), stateMapOf(...all, ...crowd, renamed, newcomer)];
      const input = { rules: rulesOf(version), roomId: ROOM, stateSets, fetchEvent: (id: EventId) => events.get(id) };
      const { loaded, rounds } = loadInRounds(input, input.fetchEvent);
      expect(loaded.size).toBeLessThanOrEqual(9);
      expect(rounds).toBeLessThanOrEqual(4);
      const outcome = resolveState({ ...input, fetchEvent: (id) => loaded.get(id) });
      expect(outcome).toEqual(resolveState(input));
      expect(outcome.get(stateMapKey('m.room.member', '@user7:one'))).toBe(banned.eventId);
      expect(outcome.get(stateMapKey('m.room.create', ''))).toBe(root.eventId);
    });
  }
});

describe('thousands of conflicts', () => {
  /** Two states that differ in `count` members: kicked in one, renamed in the other. */
  function apart(version: string, count: number) {
    const { citable, creator, power, open, all } = opening(version);
    const users = Array.from({ length: count }, (_, i) => `@user${String(i)}:one`);
    const joins = users.map((user, i) => member(user, 'join', { ...cite(...citable, power, open), ts: 10 + i }));
    const renamed = users.map((user, i) =>
      member(user, 'join', { ...cite(...citable, power, open, joins[i]!), ts: 20_000 + i }),
    );
    const kicked = users.map((user, i) =>
      member(user, 'leave', { sender: CREATOR, ...cite(...citable, power, creator, joins[i]!), ts: 30_000 + i }),
    );
    const events = new Map([...all, ...joins, ...renamed, ...kicked].map((known) => [known.eventId, known]));
    let asked = 0;
    const input = {
      ...{
        rules: rulesOf(version),
        roomId: ROOM,
        stateSets: [stateMapOf(...all, ...renamed), stateMapOf(...all, ...kicked)],
      },
      fetchEvent: (id: EventId) => {
        asked += 1;
        return events.get(id);
      },
    };
    const authEventsOf = (id: EventId) => {
      const known = events.get(id);
      return known && authEventIdsOf(known, input.rules);
    };
    const placeOf = (id: EventId) => {
      const known = events.get(id);
      return known?.stateKey === undefined ? undefined : stateMapKey(known.type, known.stateKey);
    };
    const conflicts = separate(input.stateSets, { authEventsOf }, placeOf);
    const parts: number[] = [];
    const resolution = resolveConflicts(conflicts, input);
    for (;;) {
      asked = 0;
      const { done, value } = resolution.next();
      parts.push(asked);
      if (done === true) return { parts, resolved: value, input, conflicts };
    }
  }

  test.each(['1', V2, '12'])('are resolved in parts of bounded work in version %s, as they are at once', (version) => {
    const { parts, resolved, input, conflicts } = apart(version, 3_000);
    expect(Math.max(...parts)).toBeLessThan(8_000);
    expect(parts.length).toBeGreaterThan(20);
    expect(new Map([...conflicts.unconflicted, ...resolved])).toEqual(resolveState(input));
  });

  test.each(['1', V2, '12'])('take parts, and a few dozen are one part in version %s', (version) => {
    expect(apart(version, 50).parts).toHaveLength(1);
  });
});
