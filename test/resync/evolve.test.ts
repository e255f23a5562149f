import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { type ResyncEvent, type SnapshotId } from '../../src/resync/events.ts';
import { nextAction } from '../../src/resync/next-action.ts';
import { CANDIDATES_MAX } from '../../src/resync/candidates.ts';
import { evolve } from '../../src/resync/evolve.ts';
import { type ResyncState, initialResyncState } from '../../src/resync/state.ts';
import { trimForTransport } from '../../src/resync/transport.ts';
import {
  ANY_STATE,
  anEvent,
  completed,
  eventId,
  failed,
  fetched,
  given,
  joined,
  learned,
  replayed,
  roundFailed,
  server,
  started,
  walked,
} from './events.ts';

/** DESIGN: what `loadResync` may answer. */
const STATE_BYTES_MAX = 16 * 1024;
/** The spec's own limit for a host, and a port. */
const longestName = (n: number): ServerName => server(`${String(n).padStart(3, '0')}.`.padEnd(230, 'x') + ':65535');

/** As many pins and bans as there are places for, of the longest names that have one. */
function filledControl(state: ResyncState): ResyncState {
  const names = Array.from({ length: 40 }, (_, n) => [longestName(n), server(`${n}.`.padEnd(40, 'y'))]).flat();
  const said = (type: 'ResidentPinned' | 'ResidentBanned') =>
    names.map((resident): ResyncEvent => ({ type, resident, by: 'me', at: 1 }));
  const full = [...said('ResidentBanned'), ...said('ResidentPinned')].reduce(evolve, state);
  expect(full.control.banned.length).toBeGreaterThan(3);
  expect(full.control.pinned.length).toBeGreaterThan(1);
  return full;
}

describe('the fold of control events', () => {
  test('a room nobody joined has nothing to do', () => {
    expect(initialResyncState.phase).toBe('absent');
  });

  test('a partial join wants the state before the events that the join follows', () => {
    expect(given(joined())).toMatchObject({
      phase: 'fetching',
      joinEventId: '$join',
      joinedVia: 'a',
      roomVersion: '11',
      joinedAt: 1_000,
      candidates: ['a', 'b', 'c'],
      fetchAt: ['$before'],
      round: 1,
      nextWakeAt: 1_000,
    });
  });

  test('a partial join that follows nothing unknown has events to judge and no state to fetch', () => {
    expect(given(joined({ fetchAt: [] })).phase).toBe('walking');
  });

  test('a full join is complete at once', () => {
    const full: ResyncEvent = {
      type: 'FullStateJoined',
      joinEventId: eventId('join'),
      userId: '@joiner:here.test' as never,
      roomVersion: '11',
      joinedVia: server('a'),
      anchors: [eventId('before')],
      stateBefore: ANY_STATE,
      members: 3,
      at: 1_000,
    };
    expect(given(full)).toMatchObject({ phase: 'complete', members: 3, completedAt: 1_000, nextWakeAt: null });
  });

  test('the server that let us in is asked first, whatever place it has in the list or none', () => {
    const servers = ['b', 'c', 'a'].map(server);
    expect(given(joined({ serversInRoom: servers })).candidates).toEqual(['a', 'b', 'c']);
    expect(given(joined({ serversInRoom: [server('b')] })).candidates).toEqual(['a', 'b']);
  });

  test('the server that answers a second join is asked before all others, and for the states that this one needs too', () => {
    const state = given(joined(), learned({ fetchAt: [eventId('before'), eventId('later')] }));
    expect(state.candidates).toEqual(['d', 'a', 'b', 'c']);
    expect(state.fetchAt).toEqual(['$before', '$later']);
  });

  test('of what a degraded room lacks no fewer than none were found, however many states lacked what', () => {
    const missing = (name: string) => ({
      listed: [{ eventId: eventId(name), why: 'not-delivered' as const }],
      count: 2,
      fell: 0,
    });
    const wanted = joined({ fetchAt: [eventId('before'), eventId('before2')] });
    const degraded = given(
      wanted,
      fetched(1, 'a', { missing: missing('x') }),
      fetched(2, 'a', { atEventId: eventId('before2'), missing: missing('y') }),
      completed,
      { type: 'MissingSought', found: 0, left: 4, wakeAt: 9_000, at: 8_000 },
    );
    expect(degraded.degraded).toMatchObject({ count: 4, found: 0 });
  });

  test('what two joins want is fetched once', () => {
    const state = given(joined(), learned({ fetchAt: [eventId('before'), eventId('beside')] }));
    expect(state).toMatchObject({ phase: 'fetching', fetchAt: ['$before', '$beside'] });
  });

  test('a second join in the middle of the walk leads back to fetching when it needs a state', () => {
    const state = given(joined(), fetched(1, 'a'), learned({ fetchAt: [eventId('later')] }));
    expect(state).toMatchObject({ phase: 'fetching', fetchAt: ['$later'] });
  });

  test('an attempt is open until it fails or fetches', () => {
    const open = { attemptNo: 1, resident: 'a', atEventId: '$before' };
    expect(given(joined(), started(1, 'a'))).toMatchObject({ attempts: 1, attempt: open });
    expect(given(joined(), started(1, 'a'), failed(1, 'a')).attempt).toBeNull();
    expect(given(joined(), started(1, 'a'), fetched(1, 'a')).attempt).toBeNull();
  });

  test('a failure is remembered with its reason, and its resident is tried in this round', () => {
    expect(given(joined(), started(1, 'a'), failed(1, 'a'))).toMatchObject({
      phase: 'fetching',
      triedThisRound: ['a'],
      notBefore: {},
      lastFailure: {
        ...{ resident: 'a', failure: 'server-error', outcome: 'transient' },
        ...{ reason: 'a answered 500', at: 3_000 },
      },
    });
  });

  test('a resident is left alone until the time it named in its latest answer', () => {
    const patient = given(joined(), failed(1, 'a', { retryAt: 9_000 }));
    expect(patient.notBefore).toEqual({ a: 9_000 });
    expect(evolve(patient, failed(2, 'a')).notBefore).toEqual({});
  });

  test('the walk begins when the last wanted state is fetched', () => {
    const wanted = joined({ fetchAt: [eventId('before'), eventId('before2')] });
    expect(given(wanted, fetched(1, 'a'))).toMatchObject({ phase: 'fetching', fetchAt: ['$before2'] });
    const both = given(wanted, fetched(1, 'a'), fetched(2, 'a', { atEventId: eventId('before2') }));
    expect(both).toMatchObject({ phase: 'walking', fetchAt: [] });
  });

  test('a success starts counting rounds anew', () => {
    const state = given(joined(), failed(1, 'a'), roundFailed(1, 40_000), started(2, 'a'), fetched(2, 'a'));
    expect(state).toMatchObject({ round: 1, triedThisRound: [] });
  });

  test('a failed round waits until the journalled time, and the next one asks everybody again', () => {
    expect(given(joined(), failed(1, 'a'), roundFailed(1, 40_000))).toMatchObject({
      phase: 'waiting',
      round: 2,
      triedThisRound: [],
      nextWakeAt: 40_000,
    });
  });

  test('how far check 6 was made again is kept until the end, and holds where the walk reverses verdicts on what comes later', () => {
    const at = given(joined(), fetched(1, 'a'), replayed(70, 5));
    expect(at.replay).toEqual({ position: 70, stateVersion: 5, begun: 1 });
    expect(given(joined(), fetched(1, 'a'), replayed(70, 5), walked(10, 3)).replay).toMatchObject({ stateVersion: 8 });
    expect(given(joined(), fetched(1, 'a'), replayed(70, 5), completed).replay).toBeNull();
    expect(given(joined(), fetched(1, 'a'), walked(10, 3)).replay).toBeNull();
  });

  test('what was walked and corrected adds up', () => {
    expect(given(joined(), fetched(1, 'a'), walked(200, 3), walked(50, 1))).toMatchObject({
      walked: 250,
      corrected: 4,
    });
  });

  test('a complete room has its members and nobody to wake', () => {
    expect(given(joined(), fetched(1, 'a'), walked(1, 0), completed)).toMatchObject({
      phase: 'complete',
      members: 180,
      completedAt: 7_000,
      nextWakeAt: null,
    });
  });

  test('a new stay begins from nothing', () => {
    const again = joined({ joinEventId: eventId('again'), at: 9_000 });
    expect(given(joined(), failed(1, 'a'), completed, again)).toEqual(given(again));
  });

  test('any events in any order fold to a state that has a next action and travels as JSON', () => {
    fc.assert(
      fc.property(fc.array(anEvent, { maxLength: 30 }), fc.nat(), (events, now) => {
        const state = given(...events);
        expect(JSON.parse(JSON.stringify(state))).toEqual(state);
        expect(nextAction(state, now).type).toMatch(
          /^(fetchState|endRound|endStay|sleep|park|leaveRoom|walk|fetchGaps|seekMissing|close)$/,
        );
        if (state.joinedVia !== null) expect(state.candidates.length).toBeGreaterThan(0);
        expect(new Set(state.candidates).size).toBe(state.candidates.length);
      }),
    );
  });

  test('folding in two halves, the first of which has travelled, gives the same state', () => {
    fc.assert(
      fc.property(fc.array(anEvent, { maxLength: 20 }), fc.array(anEvent, { maxLength: 20 }), (early, late) => {
        const travelled = JSON.parse(JSON.stringify(given(...early))) as typeof initialResyncState;
        expect(late.reduce(evolve, travelled)).toEqual(given(...early, ...late));
      }),
    );
  });
});

describe('the size of the state', () => {
  test('an event trimmed for transport folds to the same state', () => {
    const name = fc.nat({ max: 200 }).map((n) => server(`s${n}.test`));
    fc.assert(
      fc.property(fc.array(name, { maxLength: 200 }), fc.array(name, { maxLength: 200 }), (servers, more) => {
        const events = [joined({ serversInRoom: servers }), learned({ serversInRoom: more })];
        const trimmed = events.map(trimForTransport);
        expect(given(...trimmed)).toEqual(given(...events));
        for (const event of trimmed) expect(JSON.stringify(event).length).toBeLessThan(4_096);
      }),
    );
  });

  test(`at most ${CANDIDATES_MAX} servers are kept, the one that let us in always`, () => {
    const servers = Array.from({ length: 5_000 }, (_, n) => server(`s${n}.test`));
    const { candidates } = given(joined({ joinedVia: server('last.test'), serversInRoom: servers }));
    expect(candidates).toHaveLength(CANDIDATES_MAX);
    expect(candidates[0]).toBe('last.test');
  });

  test('16 KiB hold it with the longest names, all of them tried and asking for patience, and 20 states wanted', () => {
    const names = Array.from({ length: CANDIDATES_MAX }, (_, n) => longestName(n));
    const ids = Array.from({ length: 20 }, (_, n) => eventId(String(n).padStart(43, 'e')));
    const reason = '…'.repeat(300);
    let state = given(joined({ joinedVia: longestName(0), serversInRoom: names, fetchAt: ids }));
    ids.slice(1).forEach((atEventId, n) => {
      const snapshotId = 'f'.repeat(32) as SnapshotId;
      state = evolve(state, fetched(n + 1, state.candidates[0]!, { atEventId, snapshotId }));
    });
    expect(state.candidates.length).toBeGreaterThan(5);
    state = filledControl(state);
    state.candidates.forEach((name, n) => {
      state = evolve(
        state,
        failed(n + 1, name, { reason, retryAt: 1_800_000_000_000, outcome: 'not-in-room', latencyMs: 600_000 }),
      );
    });
    const back = (resident: ServerName): ResyncEvent => ({ type: 'ResidentBack', resident, because: 'answers', at: 1 });
    const parked: ResyncEvent = { type: 'ResyncParked', because: 'refused', reason: `${reason}${reason}`, at: 1 };
    const full = [{ ...roundFailed(1, 1) }, ...state.candidates.map(back)].reduce(evolve, state);
    expect(Buffer.byteLength(JSON.stringify(full))).toBeLessThan(STATE_BYTES_MAX);
    expect(Buffer.byteLength(JSON.stringify(evolve(state, parked)))).toBeLessThan(STATE_BYTES_MAX);
    state = evolve(state, started(99, state.candidates[0]!));
    expect(Buffer.byteLength(JSON.stringify(state))).toBeLessThan(STATE_BYTES_MAX);
  });

  test('16 KiB hold it with as many servers as are kept', () => {
    const names = Array.from({ length: CANDIDATES_MAX }, (_, n) => server(`${n}.`.padEnd(40, 'x')));
    let state = given(joined({ joinedVia: names[0]!, serversInRoom: names }));
    expect(state.candidates).toHaveLength(CANDIDATES_MAX);
    state = filledControl(state);
    const asked = { retryAt: 1_800_000_000_000, outcome: 'not-in-room', latencyMs: 600_000 } as const;
    names.forEach((name, n) => {
      state = evolve(state, failed(n + 1, name, { ...asked, reason: '…'.repeat(300) }));
    });
    expect(Buffer.byteLength(JSON.stringify(state))).toBeLessThan(STATE_BYTES_MAX);
  });
});
