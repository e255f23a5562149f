import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { type Pdu } from '../../../src/matrix/pdu.ts';
import { roomVersionRules } from '../../../src/matrix/room-versions.ts';
import { type StateMap, stateMapKey } from '../../../src/matrix/state-map.ts';
import { resolveState } from '../../../src/matrix/state-resolution/state-resolution.ts';
import { type SnapshotId } from '../../../src/resync/events.ts';
import { ResolutionTooLarge, resolveSnapshots } from '../../../src/rooms/judge/resolve.ts';
import { createCaches } from '../../../src/store/caches.ts';
import { type Store, withTransaction } from '../../../src/store/open-store.ts';
import { makeRandomRoom } from '../../differential/random-room.ts';
import { createRandom } from '../../differential/random.ts';
import { cite, opening, replacing } from '../../matrix/state-resolution/resolution-of-tests.ts';
import { ALICE, BOB, ROOM, event, member, rulesOf, stateMapOf } from '../../matrix/room-of-tests.ts';
import { openTestStore } from '../../support/postgres.ts';
import { type RoomOfEvents, counted, readState, storeRoom, storeState } from './stored-room.ts';

const VERSIONS = ['1', '2', '6', '10', '11', '12'];
const RUNS = { numRuns: 80 };
const ROOM_EVENTS = 40;

const { store } = await openTestStore();

/** A database without events, and nothing of the last one in memory: random rooms have ids in common. */
async function emptied(): Promise<Store> {
  await store.query('TRUNCATE pdus, outlier_verdicts, snapshot_chunks');
  return { ...store, caches: createCaches() };
}

function sorted(state: StateMap): [string, EventId][] {
  return [...state].sort(([a], [b]) => (a < b ? -1 : 1));
}

describe('the resolution of stored states', () => {
  const cases = fc.record({
    version: fc.constantFrom(...VERSIONS),
    seed: fc.integer({ min: 1, max: 1_000_000 }),
    withDepths: fc.boolean(),
  });

  test('is that of the states in memory, in random rooms, and again when a verdict has flipped', async () => {
    await fc.assert(
      fc.asyncProperty(cases, async ({ version, seed, withDepths }) => {
        const random = createRandom(seed);
        const room = makeRandomRoom(roomVersionRules(version)!, random, ROOM_EVENTS);
        const sql = await emptied();
        await storeRoom(sql, room, { withDepths });
        const all = [...room.stateAfter.values()];
        const states = Array.from({ length: 2 + random.integer(5) }, () => random.pick(all));
        const snapshots: SnapshotId[] = [];
        for (const state of states) snapshots.push(await storeState(sql, room, state));

        const resolve = async (): Promise<[string, EventId][]> =>
          sorted(await readState(sql, room, await resolveSnapshots(sql, room.roomId, room.rules, snapshots)));
        const expected = sorted(room.resolved(states));
        expect(await resolve()).toEqual(expected);
        expect(await resolve()).toEqual(expected);

        const flipped = random.pick([...room.events.keys()]);
        const isRejected = (id: EventId): boolean => room.rejected.has(id) !== (id === flipped);
        await store.query(
          `UPDATE outlier_verdicts SET verdict = $2 WHERE event_nid = (SELECT nid FROM pdus WHERE event_id = $1)`,
          [flipped, isRejected(flipped) ? 'rejected' : 'accepted'],
        );
        const { rules, roomId, events } = room;
        const input = { rules, roomId, stateSets: states, fetchEvent: (id: EventId) => events.get(id), isRejected };
        expect(await resolve()).toEqual(sorted(resolveState(input)));
      }),
      RUNS,
    );
  });

  test('is refused with its figures where it is larger than any room', async () => {
    const snapshots = Array.from({ length: 501 }, (_, i) => i.toString(16).padStart(32, '0') as SnapshotId);
    const refused = resolveSnapshots(store, ROOM, rulesOf('10'), snapshots);
    await expect(refused).rejects.toThrow(ResolutionTooLarge);
    await expect(refused).rejects.toMatchObject({ states: 501 });
  });
});

test('an event that was deleted and stored again is taken as it is now, though it is in memory', async () => {
  const { room, state, crowd, renamed } = bigRoom('10');
  const sql = await emptied();
  const snapshots = async (): Promise<SnapshotId[]> => {
    const ids: SnapshotId[] = [];
    for (const i of [0, 1]) {
      ids.push(await storeState(sql, room, stateMapOf(...replacing(state, crowd[i]!, renamed[i]!))));
    }
    return ids;
  };
  await storeRoom(sql, room);
  await resolveSnapshots(sql, room.roomId, room.rules, await snapshots());
  await store.query('TRUNCATE pdus, outlier_verdicts');
  await storeRoom(sql, room);
  const resolved = await resolveSnapshots(sql, room.roomId, room.rules, await snapshots());
  expect((await readState(sql, room, resolved)).size).toBe(state.length);
});

/** A room of thousands of members, and the state in which one of them has another name. */
function bigRoom(version: string) {
  const { root, citable, power, open, alice, bob, all } = opening(version);
  const joined = (user: string, ts: number, ...more: Pdu[]): Pdu =>
    member(user, 'join', { ...cite(...citable, power, open, ...more), ts });
  const crowd = Array.from({ length: 3_000 }, (_, i) => joined(`@user${String(i)}:one`, 10 + i));
  const renamed = crowd.slice(0, 60).map((old, i) => joined(old.sender, 5_000 + i, old));
  const state = [...all, ...crowd];
  const events = new Map([...state, ...renamed].map((known) => [known.eventId, known]));
  const room: RoomOfEvents & { events: Map<EventId, Pdu> } = {
    ...{ roomId: root.roomId, rules: rulesOf(version), events, rejected: new Set<EventId>() },
  };
  return { room, state, crowd, renamed, joined, citable, power, open, alice, bob };
}

describe('a small conflict in a room of thousands', () => {
  for (const version of ['1', '10', '12']) {
    test(`reads a handful of events and chunks in version ${version}, and nothing the next time`, async () => {
      const { room, state, crowd, renamed } = bigRoom(version);
      await storeRoom(await emptied(), room);
      const forks = renamed.slice(0, 2).map((event, i) => stateMapOf(...replacing(state, crowd[i]!, event)));
      const { sql, statements, rows } = counted(store);
      const snapshots: SnapshotId[] = [];
      for (const fork of forks) snapshots.push(await storeState(store, room, fork));

      const resolved = await resolveSnapshots(sql, room.roomId, room.rules, snapshots);
      expect(statements.length).toBeLessThanOrEqual(20);
      expect(rows.count).toBeLessThanOrEqual(60);
      const { rules, roomId, events } = room;
      const expected = resolveState({ rules, roomId, stateSets: forks, fetchEvent: (id) => events.get(id) });
      expect(sorted(await readState(sql, room, resolved))).toEqual(sorted(expected));

      statements.length = 0;
      expect(await resolveSnapshots(sql, room.roomId, room.rules, snapshots.toReversed())).toBe(resolved);
      expect(statements).toHaveLength(2);
    });
  }

  test('costs little more with sixty forks, and another one costs what is new in it', async () => {
    const { room, state, crowd, renamed } = bigRoom('10');
    await storeRoom(await emptied(), room);
    const { sql, statements, rows } = counted(store);
    const snapshots: SnapshotId[] = [];
    for (const [i, event] of renamed.entries()) {
      snapshots.push(await storeState(store, room, stateMapOf(...replacing(state, crowd[i]!, event))));
    }
    await resolveSnapshots(sql, room.roomId, room.rules, snapshots.slice(0, 59));
    expect(statements.length).toBeLessThanOrEqual(20);

    statements.length = 0;
    rows.count = 0;
    const resolved = await resolveSnapshots(sql, room.roomId, room.rules, snapshots);
    expect(statements.length).toBeLessThanOrEqual(12);
    // Its chunks, the two events that contradict each other, and the verdicts on all that take part.
    expect(rows.count).toBeLessThanOrEqual(150);
    let expected = state;
    renamed.forEach((event, i) => (expected = replacing(expected, crowd[i]!, event)));
    expect(sorted(await readState(sql, room, resolved))).toEqual(sorted(stateMapOf(...expected)));
  });

  test('is found again when the transaction that stored its outcome was rolled back', async () => {
    const { room, state, crowd, renamed } = bigRoom('10');
    const sql = await emptied();
    await storeRoom(sql, room);
    const snapshots: SnapshotId[] = [];
    for (const i of [0, 1]) {
      snapshots.push(await storeState(sql, room, stateMapOf(...replacing(state, crowd[i]!, renamed[i]!))));
    }
    const rolledBack = withTransaction(sql, async (tx) => {
      await resolveSnapshots(tx, room.roomId, room.rules, snapshots);
      throw new Error('rolled back');
    });
    await expect(rolledBack).rejects.toThrow('rolled back');
    const resolved = await resolveSnapshots(sql, room.roomId, room.rules, snapshots);
    expect((await readState(counted(store).sql, room, resolved)).size).toBe(state.length);
  });
});

describe('a long chain of auth events', () => {
  test('is loaded by few statements, though each name cites the one before', async () => {
    const { room, state, joined, bob } = bigRoom('10');
    const names = [bob];
    for (let i = 0; i < 1_600; i++) names.push(joined(BOB, 6_000 + i, names.at(-1)!));
    const fork = joined(BOB, 5_999, bob);
    for (const known of [...names, fork]) room.events.set(known.eventId, known);
    await storeRoom(await emptied(), room, { withDepths: false });
    const { sql, statements } = counted(store);
    const states = [names.at(-1)!, fork].map((name) => stateMapOf(...replacing(state, bob, name)));
    const snapshots: SnapshotId[] = [];
    for (const each of states) snapshots.push(await storeState(store, room, each));
    const resolved = await resolveSnapshots(sql, room.roomId, room.rules, snapshots);
    expect(statements.length).toBeLessThanOrEqual(40);
    const { rules, roomId, events } = room;
    const expected = resolveState({ rules, roomId, stateSets: states, fetchEvent: (id) => events.get(id) });
    expect(sorted(await readState(sql, room, resolved))).toEqual(sorted(expected));
  });
});

describe('an old membership that only one state names', () => {
  test('is looked for in the chains of the whole state by one statement, which gives no rows of it', async () => {
    for (const version of ['10', '12']) {
      const { room, state, joined, citable, power, alice } = bigRoom(version);
      // Alice changed her name on two branches; one of the names won long ago, and a topic was set under the other.
      const [lost, won] = [joined(ALICE, 6_000, alice), joined(ALICE, 6_001, alice)];
      const topic = (by: Pdu, ts: number): Pdu =>
        event({ type: 'm.room.topic', stateKey: '', sender: ALICE, ...cite(...citable, power, by), ts });
      const topics = [topic(lost, 7_000), topic(won, 7_001)];
      for (const known of [lost, won, ...topics]) room.events.set(known.eventId, known);
      await storeRoom(await emptied(), room);
      const now = replacing(state, alice, won);
      const states = topics.map((each) => stateMapOf(...now, each));
      const snapshots: SnapshotId[] = [];
      for (const each of states) snapshots.push(await storeState(store, room, each));
      const { sql, statements, rows } = counted(store);
      const resolved = await resolveSnapshots(sql, room.roomId, room.rules, snapshots);
      expect(statements.length).toBeLessThanOrEqual(30);
      expect(statements.filter((text) => text.includes('FROM reached')).length).toBeGreaterThan(0);
      // The chunks of the state, and no events.
      expect(rows.count).toBeLessThanOrEqual(200);
      const { rules, roomId, events } = room;
      const expected = resolveState({ rules, roomId, stateSets: states, fetchEvent: (id) => events.get(id) });
      expect(sorted(await readState(sql, room, resolved))).toEqual(sorted(expected));
      expect(expected.get(stateMapKey('m.room.member', ALICE))).toBe(won.eventId);
    }
  });
});
