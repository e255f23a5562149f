/** Control events for tests of the fold, and arbitrary ones for its properties. */
import fc from 'fast-check';
import { type EventId, type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { type MissingWhy } from '../../src/resync/degraded.ts';
import { type AttemptOutcome } from '../../src/resync/attempts.ts';
import { type FailureClass, type ResyncEvent, type SnapshotId } from '../../src/resync/events.ts';
import { evolve } from '../../src/resync/evolve.ts';
import { type ResyncState, initialResyncState } from '../../src/resync/state.ts';

type Of<Type extends ResyncEvent['type']> = Extract<ResyncEvent, { readonly type: Type }>;

export const server = (name: string): ServerName => name as ServerName;
export const eventId = (name: string): EventId => `$${name}` as EventId;

/** The fold looks into no state. */
export const ANY_STATE = '0'.repeat(32) as SnapshotId;

/** The state after these events. */
export const given = (...events: readonly ResyncEvent[]): ResyncState => events.reduce(evolve, initialResyncState);

/** A partial join through `a`, with `b` and `c` in the room and the state wanted before `$before`, at 1,000 ms. */
export function joined(about: Partial<Of<'PartialStateJoined'>> = {}): ResyncEvent {
  return {
    type: 'PartialStateJoined',
    joinEventId: eventId('join'),
    userId: '@joiner:here.test' as UserId,
    roomVersion: '11',
    joinedVia: server('a'),
    serversInRoom: [server('a'), server('b'), server('c')],
    fetchAt: [eventId('before')],
    stateBefore: ANY_STATE,
    at: 1_000,
    ...about,
  };
}

export function learned(about: Partial<Of<'ResidentsLearned'>> = {}): ResyncEvent {
  return {
    type: 'ResidentsLearned',
    joinEventId: eventId('join2'),
    userId: '@second:here.test' as UserId,
    joinedVia: server('d'),
    serversInRoom: [server('a'), server('d')],
    fetchAt: [],
    stateBefore: ANY_STATE,
    at: 1_500,
    ...about,
  };
}

export function started(
  attemptNo: number,
  resident: string,
  about: Partial<Of<'StateFetchStarted'>> = {},
): ResyncEvent {
  return {
    type: 'StateFetchStarted',
    attemptNo,
    resident: server(resident),
    atEventId: eventId('before'),
    at: 2_000,
    ...about,
  };
}

export function failed(attemptNo: number, resident: string, about: Partial<Of<'StateFetchFailed'>> = {}): ResyncEvent {
  return {
    type: 'StateFetchFailed',
    attemptNo,
    resident: server(resident),
    atEventId: eventId('before'),
    failure: 'server-error',
    reason: `${resident} answered 500`,
    at: 3_000,
    ...about,
  };
}

export function fetched(attemptNo: number, resident: string, about: Partial<Of<'StateFetched'>> = {}): ResyncEvent {
  return {
    type: 'StateFetched',
    attemptNo,
    resident: server(resident),
    atEventId: eventId('before'),
    snapshotId: '0'.repeat(32) as SnapshotId,
    counts: { state: 200, authChain: 40, members: 180, fetched: 230, alreadyHeld: 8, dropped: 2 },
    digest: 'd'.repeat(64),
    at: 4_000,
    ...about,
  };
}

export function roundFailed(round: number, wakeAt: number): ResyncEvent {
  return { type: 'RoundFailed', round, wakeAt, reason: 'every resident failed', at: 5_000 };
}

export const walked = (count: number, corrected: number): ResyncEvent => ({
  type: 'EventsWalked',
  walked: count,
  corrected,
  remaining: 0,
  at: 6_000,
});

export const replayed = (position: number, stateVersion: number): ResyncEvent => ({
  type: 'Check6Replayed',
  ...{ position, stateVersion, begun: 1, softFailed: 2, lifted: 0 },
  at: 6_500,
});

/** Everybody of us has left, and residents are asked for a minute. */
export const everybodyLeft = (at: number, about: Partial<Of<'EverybodyLeft'>> = {}): ResyncEvent => ({
  ...{ type: 'EverybodyLeft', until: at + 60_000, at },
  ...about,
});

export const completed: ResyncEvent = { type: 'ResyncCompleted', members: 180, at: 7_000 };

const aServer = fc.constantFrom('a', 'b', 'c', 'd', 'constructor', '__proto__', 'e.test:8448').map(server);
const anEventId = fc.constantFrom('join', 'before', 'before2', 'before3').map(eventId);
const aTime = fc.nat({ max: 10_000_000 });
const aCount = fc.nat({ max: 1_000 });
const aFailure = fc.constantFrom<FailureClass>(
  'unreachable',
  'timeout',
  'rate-limited',
  'forbidden',
  'incomplete',
  'not-found',
);
const anOutcome = fc.constantFrom<AttemptOutcome>(
  'transient',
  'rate-limited',
  'not-yet-joined-there',
  'not-in-room',
  'unknown-event',
  'partial-there',
  'too-large',
  'invalid',
  'contradictory',
  'keys-unobtainable',
  'ours',
);
const aWhy = fc.constantFrom<MissingWhy>('not-delivered', 'key-missing', 'badly-signed', 'malformed');
const someMissing = fc.record({
  listed: fc.array(fc.record({ eventId: anEventId, why: aWhy }), { maxLength: 7 }),
  count: aCount,
  fell: aCount,
});
const attempt = {
  attemptNo: fc.integer({ min: 1, max: 9 }),
  resident: aServer,
  atEventId: anEventId,
  atJoin: fc.boolean(),
  at: aTime,
};
const join = {
  joinEventId: anEventId,
  userId: fc.constant('@joiner:here.test' as UserId),
  joinedVia: aServer,
  at: aTime,
};
const someCounts = fc.record({
  state: aCount,
  authChain: aCount,
  members: aCount,
  fetched: aCount,
  alreadyHeld: aCount,
  dropped: aCount,
});
const stateBefore = fc.constant(ANY_STATE);
const hint = {
  serversInRoom: fc.array(aServer, { maxLength: 6 }),
  fetchAt: fc.array(anEventId, { maxLength: 3 }),
  stateBefore,
};
const roomVersion = fc.constantFrom('10', '11');

/** Any control event, whether or not it fits what was journalled before. */
export const anEvent: fc.Arbitrary<ResyncEvent> = fc.oneof(
  fc.record({ type: fc.constant('PartialStateJoined' as const), roomVersion, ...join, ...hint }),
  fc.record({
    type: fc.constant('FullStateJoined' as const),
    roomVersion,
    members: aCount,
    anchors: hint.fetchAt,
    stateBefore,
    ...join,
  }),
  fc.record({ type: fc.constant('ResidentsLearned' as const), ...join, ...hint }),
  fc.record({ type: fc.constant('ParentsLearned' as const), anchors: hint.fetchAt, stateBefore, ...join }),
  fc.record({ type: fc.constant('StateFetchStarted' as const), ...attempt }),
  fc.record(
    {
      type: fc.constant('StateFetchFailed' as const),
      failure: aFailure,
      outcome: anOutcome,
      latencyMs: aCount,
      reason: fc.string(),
      retryAt: aTime,
      ...attempt,
    },
    { requiredKeys: ['type', 'failure', 'reason', 'attemptNo', 'resident', 'atEventId', 'at'] },
  ) as fc.Arbitrary<ResyncEvent>,
  fc.record({
    type: fc.constant('StateFetchHindered' as const),
    attemptNo: attempt.attemptNo,
    resident: aServer,
    reason: fc.string(),
    at: aTime,
  }),
  fc.record({
    type: fc.constant('StateFetched' as const),
    snapshotId: fc.constant(ANY_STATE),
    counts: someCounts,
    digest: fc.constant('d'.repeat(64)),
    ...attempt,
  }),
  fc.record({
    type: fc.constant('StateFetched' as const),
    snapshotId: fc.constant(ANY_STATE),
    counts: fc.constant({ state: 1, authChain: 1, members: 1, fetched: 1, alreadyHeld: 1, dropped: 1 }),
    digest: fc.constant('d'.repeat(64)),
    missing: someMissing,
    further: fc.array(anEventId, { maxLength: 3 }),
    ...attempt,
  }),
  fc.record({
    type: fc.constant('RoundFailed' as const),
    round: fc.integer({ min: 1, max: 40 }),
    wakeAt: aTime,
    reason: fc.string(),
    hints: fc.array(aServer, { maxLength: 6 }),
    left: fc.array(aServer, { maxLength: 6 }),
    at: aTime,
  }),
  fc.record({
    type: fc.constant('RoomOrphaned' as const),
    eventIds: fc.array(anEventId, { maxLength: 3 }),
    assumedState: fc.constant(ANY_STATE),
    at: aTime,
  }),
  fc.record({
    type: fc.constant('ResidentBack' as const),
    resident: aServer,
    because: fc.constantFrom('answers' as const, 'sent' as const),
    at: aTime,
  }),
  fc.record(
    {
      type: fc.constant('ResyncParked' as const),
      because: fc.constantFrom('refused' as const, 'too-large' as const, 'gave-up' as const, 'cancelled' as const),
      reason: fc.string(),
      leaves: fc.constant(true as const),
      at: aTime,
    },
    { requiredKeys: ['type', 'because', 'reason', 'at'] },
  ),
  fc.record({ type: fc.constant('ResyncResumed' as const), at: aTime }),
  fc.record({
    type: fc.constantFrom(
      'ResidentPinned' as const,
      'PinLifted' as const,
      'ResidentBanned' as const,
      'BanLifted' as const,
    ),
    resident: aServer,
    by: fc.string(),
    at: aTime,
  }),
  fc.record({
    type: fc.constant('CommandRefused' as const),
    command: fc.string(),
    because: fc.string(),
    by: fc.string(),
    at: aTime,
  }),
  fc.record({
    type: fc.constant('RoomPolicySet' as const),
    policy: fc.record(
      { givenUp: fc.constantFrom('park' as const, 'leave' as const, null), stateQuorum: fc.constantFrom(2, null) },
      { requiredKeys: [] },
    ),
    by: fc.string(),
    at: aTime,
  }),
  fc.record({
    type: fc.constant('EventsWalked' as const),
    walked: aCount,
    corrected: aCount,
    remaining: aCount,
    at: aTime,
  }),
  fc.record({
    type: fc.constant('Check6Replayed' as const),
    position: aTime,
    stateVersion: aCount,
    begun: aCount,
    softFailed: aCount,
    lifted: aCount,
    at: aTime,
  }),
  fc.record({ type: fc.constant('EverybodyLeft' as const), until: aTime, at: aTime }),
  fc.record({
    type: fc.constant('StayEnded' as const),
    because: fc.constantFrom<Of<'StayEnded'>['because']>('join-rejected', 'left'),
    at: aTime,
  }),
  fc.record({
    type: fc.constant('LeftSilently' as const),
    userId: fc.constant('@joiner:here.test' as UserId),
    at: aTime,
  }),
  fc.record({
    type: fc.constant('SilentLeaveSettled' as const),
    userId: fc.constant('@joiner:here.test' as UserId),
    because: fc.constantFrom<Of<'SilentLeaveSettled'>['because']>('returned', 'out'),
    at: aTime,
  }),
  fc.record({
    type: fc.constant('RoomPurged' as const),
    purgeId: fc.string(),
    users: fc.constant([]),
    putOut: fc.constant([]),
    entries: aCount,
    eventsTo: aCount,
    requestedAt: aTime,
    at: aTime,
  }),
  fc.record({ type: fc.constant('ResyncCompleted' as const), members: aCount, at: aTime }),
  fc.record({
    type: fc.constant('GapOpened' as const),
    eventIds: fc.array(anEventId, { maxLength: 20 }),
    assumedState: fc.constantFrom(ANY_STATE, null),
    origin: aServer,
    at: aTime,
  }),
  fc.record(
    {
      type: fc.constant('GapClosed' as const),
      eventId: anEventId,
      resident: aServer,
      snapshotId: fc.constant(ANY_STATE),
      counts: someCounts,
      digest: fc.constant('d'.repeat(64)),
      missing: someMissing,
      at: aTime,
    },
    { requiredKeys: ['type', 'eventId', 'resident', 'snapshotId', 'counts', 'digest', 'at'] },
  ),
  fc.record(
    {
      type: fc.constant('GapFilled' as const),
      eventId: anEventId,
      wasGivenUp: fc.boolean(),
      at: aTime,
    },
    { requiredKeys: ['type', 'eventId', 'at'] },
  ),
  fc.record({ type: fc.constant('GapGivenUp' as const), eventId: anEventId, reason: fc.string(), at: aTime }),
  fc.record({
    type: fc.constant('AnchorCorrected' as const),
    eventId: anEventId,
    was: fc.constant(ANY_STATE),
    snapshotId: fc.constant(ANY_STATE),
    because: fc.constantFrom('found' as const, 'verdict-changed' as const),
    putIn: fc.array(anEventId, { maxLength: 300 }),
    takenOut: fc.array(anEventId, { maxLength: 300 }),
    cause: aCount,
    at: aTime,
  }),
  fc.record(
    {
      type: fc.constant('EventsCorrected' as const),
      judged: aCount,
      changed: aCount,
      remaining: aCount,
      members: aCount,
      at: aTime,
    },
    { requiredKeys: ['type', 'judged', 'changed', 'remaining', 'at'] },
  ),
  fc.record({
    type: fc.constant('SpeakersLearned' as const),
    servers: fc.array(aServer, { maxLength: 3 }),
    at: aTime,
  }),
  fc.record(
    {
      type: fc.constant('MissingSought' as const),
      found: aCount,
      foundIds: fc.array(anEventId, { maxLength: 100 }),
      left: aCount,
      wakeAt: fc.option(aTime),
      at: aTime,
    },
    { requiredKeys: ['type', 'found', 'left', 'wakeAt', 'at'] },
  ),
);
