import { expect, test } from 'vitest';
import { type EventId, type RoomId, type ServerName } from '../../src/matrix/identifiers.ts';
import { createMetrics } from '../../src/metrics.ts';
import { type ResyncEvent, type SnapshotId } from '../../src/resync/events.ts';
import { evolve } from '../../src/resync/evolve.ts';
import { initialResyncState } from '../../src/resync/state.ts';
import { silent } from '../federation/tls-server.ts';
import { nonZero } from './series.ts';

const JOINED_AT = 1_700_000_000_000;
const ROOM = '!room:there.test' as RoomId;
const atEventId = '$before' as EventId;
const resident = 'there.test' as ServerName;
const counts = { state: 9, authChain: 4, members: 5, fetched: 9, alreadyHeld: 0, dropped: 0 };

const joined: ResyncEvent = {
  type: 'PartialStateJoined',
  joinEventId: '$join' as EventId,
  userId: '@me:here.test' as never,
  roomVersion: '11',
  joinedVia: resident,
  serversInRoom: [resident],
  fetchAt: [atEventId],
  stateBefore: '0'.repeat(32) as SnapshotId,
  at: JOINED_AT,
};
const started = (attemptNo: number, seconds: number): ResyncEvent => ({
  type: 'StateFetchStarted',
  attemptNo,
  resident,
  atEventId,
  at: JOINED_AT + seconds * 1000,
});
const failed = (attemptNo: number, seconds: number): ResyncEvent => ({
  type: 'StateFetchFailed',
  attemptNo,
  resident,
  atEventId,
  failure: 'timeout',
  reason: 'no answer',
  at: JOINED_AT + seconds * 1000,
});
const fetched = (attemptNo: number, seconds: number): ResyncEvent => ({
  type: 'StateFetched',
  attemptNo,
  resident,
  atEventId,
  snapshotId: '00'.repeat(16) as SnapshotId,
  counts,
  digest: '',
  at: JOINED_AT + seconds * 1000,
});
const walked = (corrected: number): ResyncEvent => ({
  type: 'EventsWalked',
  walked: 7,
  corrected,
  remaining: 0,
  at: JOINED_AT,
});
const completed = (seconds: number): ResyncEvent => ({
  type: 'ResyncCompleted',
  members: 5,
  at: JOINED_AT + seconds * 1000,
});

/** What a scrape shows after these were appended one by one; `ours`: those that this process appended itself. */
async function after(events: readonly ResyncEvent[], ours: readonly ResyncEvent[] = events) {
  const metrics = createMetrics({ version: 'test', role: 'test', clock: { now: () => JOINED_AT }, logger: silent });
  let resync = initialResyncState;
  events.forEach((event, at) => {
    resync = evolve(resync, event);
    const entry = { position: at + 1, roomId: ROOM, epoch: 1, stream: 'resync' as const, seq: at + 1, event };
    if (ours.includes(event)) metrics.onAppended({ entries: [entry], resync });
  });
  const { 'rejoinder_info{version="test",role="test"}': info, ...rest } = await nonZero(metrics);
  expect(info).toBe(1);
  return rest;
}

test('a resync that goes straight through is one fetch, its walk, and the time from the join', async () => {
  expect(await after([joined, started(1, 1), fetched(1, 3), walked(2), completed(4)])).toEqual({
    'rejoinder_state_fetch_total{outcome="fetched"}': 1,
    rejoinder_state_fetch_seconds_sum: 2,
    rejoinder_state_fetch_seconds_count: 1,
    rejoinder_walked_events_total: 7,
    rejoinder_corrected_events_total: 2,
    'rejoinder_resync_seconds_sum{outcome="straight"}': 4,
    'rejoinder_resync_seconds_count{outcome="straight"}': 1,
  });
});

test('events of which every copy was bad are counted, of joins and of gaps', async () => {
  const unusable = { listed: [{ eventId: atEventId, why: 'badly-signed', from: [resident] }], count: 2 } as const;
  const about = { resident, snapshotId: '00'.repeat(16) as SnapshotId, counts: { ...counts, unusable }, digest: '' };
  const at = JOINED_AT;
  const forJoin: ResyncEvent = { type: 'StateFetched', attemptNo: 1, atEventId, ...about, at };
  const forGap: ResyncEvent = { type: 'GapClosed', eventId: atEventId, ...about, at };
  expect(await after([joined, forJoin, forGap])).toMatchObject({ rejoinder_unusable_events_total: 4 });
});

test('a resync that ended as degraded is counted apart from those that made their rooms whole', async () => {
  const degraded: ResyncEvent = { type: 'ResyncCompleted', members: 5, lacking: 2, at: JOINED_AT + 4_000 };
  expect(await after([joined, started(1, 1), fetched(1, 3), degraded])).toMatchObject({
    'rejoinder_resync_seconds_count{outcome="degraded"}': 1,
  });
});

test('failed attempts are counted by kind, and a resync that had one is a retried one', async () => {
  const round: ResyncEvent = { type: 'RoundFailed', round: 1, wakeAt: 0, reason: 'timeout', at: JOINED_AT };
  const events = [joined, started(1, 1), failed(1, 2), round, started(2, 30), fetched(2, 35), completed(40)];
  expect(await after(events)).toEqual({
    'rejoinder_state_fetch_total{outcome="timeout"}': 1,
    'rejoinder_state_fetch_total{outcome="fetched"}': 1,
    rejoinder_state_fetch_seconds_sum: 5,
    rejoinder_state_fetch_seconds_count: 1,
    rejoinder_rounds_failed_total: 1,
    'rejoinder_resync_seconds_sum{outcome="retried"}': 40,
    'rejoinder_resync_seconds_count{outcome="retried"}': 1,
  });
});

test('an attempt that another process began is counted by the one that ends it, without a time that it does not know', async () => {
  const end = fetched(1, 3);
  expect(await after([joined, started(1, 1), end], [end])).toEqual({
    'rejoinder_state_fetch_total{outcome="fetched"}': 1,
  });
});

test('soft failures are counted by when they were found, with or without a control event beside them', async () => {
  const metrics = createMetrics({ version: 'test', role: 'test', clock: { now: () => JOINED_AT }, logger: silent });
  const snapshot = '00'.repeat(16) as SnapshotId;
  const states = { stateBefore: snapshot, stateAfter: snapshot, currentState: snapshot };
  const taken = { type: 'PduAccepted', eventId: atEventId, partial: false, ...states } as const;
  const late = {
    type: 'EventSoftFailed',
    eventId: atEventId,
    rule: 'sender-not-joined',
    reason: '',
    authState: [],
  } as const;
  const entries = [{ ...taken, softFailed: true }, { ...taken, softFailed: false }, late, late].map((event, i) => {
    return { position: i + 1, roomId: ROOM, epoch: 1, stream: 'timeline' as const, seq: i + 1, event };
  });
  metrics.onAppended({ entries, resync: null });
  expect(await nonZero(metrics)).toMatchObject({
    'rejoinder_soft_failed_events_total{found="receipt"}': 1,
    'rejoinder_soft_failed_events_total{found="completion"}': 2,
  });
});

test('a clock that went back makes no negative time', async () => {
  expect(await after([joined, completed(-5)])).toMatchObject({
    'rejoinder_resync_seconds_count{outcome="straight"}': 1,
  });
});
