/**
 * Every metric of Rejoinder's own, in one place: name, meaning, labels, buckets. docs/METRICS.md is the same table for
 * people, and a test holds the two together. A label has a fixed set of values: never a room, a server, a user or
 * anything else that a stranger can make up (services are the operator's own), since each value is a series that is kept for ever.
 *
 * Source: https://prometheus.io/docs/practices/naming/
 */
import { Counter, Gauge, Histogram, Registry } from 'prom-client';
import { type FailureClass } from '../resync/events.ts';
import { type ResyncPhase } from '../resync/state.ts';
import { type RoomErrorKind } from '../rooms/error.ts';
import { type CheckOutcome } from '../verification/contract.ts';

/** The requests that Rejoinder makes of other homeservers. */
export type Endpoint =
  | 'directory'
  | 'profile'
  | 'public_rooms'
  | 'hierarchy'
  | 'timestamp_to_event'
  | 'make_join'
  | 'send_join'
  | 'make_leave'
  | 'make_knock'
  | 'send_knock'
  | 'invite'
  | 'exchange_third_party_invite'
  | 'identity_server'
  | 'send_leave'
  | 'state_ids'
  | 'state'
  | 'event'
  | 'event_auth'
  | 'backfill'
  | 'get_missing_events'
  | 'send'
  | 'user_devices'
  | 'keys_query'
  | 'keys_claim'
  | 'server_keys'
  | 'notary_query'
  | 'version';

/** `aborted`: whoever asked has gone away. `error`: a fault of ours. */
export type RequestOutcome = 'ok' | 'aborted' | 'error' | FailureClass;
/** `partial`, `whole`: the room as it is after the join. `held`: the user was in the room, nobody was asked. */
export type JoinOutcome = 'partial' | 'whole' | 'held' | 'aborted' | 'error' | RoomErrorKind;
export type StateFetchOutcome = 'fetched' | FailureClass;
/** `retried`: some attempt to fetch the state had failed before. */
export type ResyncOutcome = 'straight' | 'retried' | 'degraded';
/** `hollow`: passed redacted, for its content hash is wrong. `unfinished`: the check was aborted, or its thread died. */
export type VerificationOutcome = CheckOutcome['outcome'] | 'hollow' | 'unfinished';
export type PartialPhase = Exclude<ResyncPhase, 'absent' | 'complete' | 'ended'> | 'cancelled';

// Records, so that a new kind does not compile until it is here.
const FAILURES: Readonly<Record<FailureClass, true>> = {
  unreachable: true,
  timeout: true,
  'rate-limited': true,
  'server-error': true,
  forbidden: true,
  refused: true,
  'incompatible-version': true,
  'not-found': true,
  'partial-state-there': true,
  'too-large': true,
  malformed: true,
  incomplete: true,
  'keys-unobtainable': true,
  contradictory: true,
  abandoned: true,
  'refused-by-policy': true,
};
const JOIN_OUTCOMES: Readonly<Record<JoinOutcome, true>> = {
  partial: true,
  whole: true,
  held: true,
  aborted: true,
  error: true,
  'unknown-alias': true,
  'alias-in-use': true,
  'unknown-room': true,
  'unknown-event': true,
  'unknown-user': true,
  'last-leave': true,
  'needs-force': true,
  parked: true,
  inapplicable: true,
  forbidden: true,
  'no-resident': true,
  'unusable-answer': true,
  'unsupported-version': true,
  busy: true,
  'too-many': true,
  malformed: true,
  'too-large': true,
  invalid: true,
};
const VERIFICATION_OUTCOMES: Readonly<Record<VerificationOutcome, true>> = {
  passed: true,
  hollow: true,
  skipped: true,
  'key-missing': true,
  'bad-signature': true,
  malformed: true,
  unfinished: true,
};
const ENDPOINTS: Readonly<Record<Endpoint, { readonly carriesEvents: boolean }>> = {
  directory: { carriesEvents: false },
  profile: { carriesEvents: false },
  public_rooms: { carriesEvents: false },
  hierarchy: { carriesEvents: false },
  timestamp_to_event: { carriesEvents: false },
  make_join: { carriesEvents: false },
  send_join: { carriesEvents: true },
  make_leave: { carriesEvents: false },
  make_knock: { carriesEvents: false },
  send_knock: { carriesEvents: false },
  invite: { carriesEvents: false },
  exchange_third_party_invite: { carriesEvents: false },
  identity_server: { carriesEvents: false },
  send_leave: { carriesEvents: false },
  state_ids: { carriesEvents: false },
  state: { carriesEvents: true },
  event: { carriesEvents: true },
  event_auth: { carriesEvents: true },
  backfill: { carriesEvents: true },
  get_missing_events: { carriesEvents: true },
  user_devices: { carriesEvents: false },
  keys_query: { carriesEvents: false },
  keys_claim: { carriesEvents: false },
  send: { carriesEvents: false },
  server_keys: { carriesEvents: false },
  notary_query: { carriesEvents: false },
  version: { carriesEvents: false },
};
/** Those of `Activities` (src/temporal/contract.ts), which the metrics do not know. */
const ACTIVITIES = [
  'loadResync',
  'fetchState',
  'endRound',
  'endStay',
  'commandRoom',
  'resumeResync',
  'leaveRoom',
  'walkEvents',
  'correctEvents',
  'fetchGaps',
  'seekMissing',
  'sweep',
  'finishJoins',
  'maintain',
] as const;
const RESYNC_OUTCOMES: Readonly<Record<ResyncOutcome, true>> = { straight: true, retried: true, degraded: true };

/** From an answer of the same house to the minute at which a small request is given up. */
const REQUEST_SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];
/** The promise is half a second; a classic join takes minutes. */
const JOIN_SECONDS = [0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60, 120, 300, 600];
/** The promise is ten seconds for 13,000 members; a room whose residents are down for a night is complete next morning. */
const RESYNC_SECONDS = [0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600, 1_800, 3_600, 14_400, 43_200, 86_400];
const STATE_FETCH_SECONDS = [0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120, 300, 600, 1_800];
/** A batch of 400 events takes some 30 ms, and longer while its keys are fetched. */
const VERIFICATION_SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30];

export type Instruments = ReturnType<typeof createInstruments>;

/** What of `Backlog` a gauge tells: a number, or the age in seconds of what is oldest. */
export type BacklogNumber =
  | 'staged'
  | 'stagedAge'
  | 'gaps'
  | 'gapsAge'
  | 'lacking'
  | 'lackingAge'
  | 'degraded'
  | 'corrections'
  | 'correctionsAge';

/** How far an application service is behind: what it has not been told of, or for how long. */
export type LagNumber = 'positions' | 'age';

export interface InstrumentSources {
  readonly version: string;
  readonly role: string;
  /** Sets the gauge of partial rooms; called at each scrape. */
  readonly collectPartialRooms: (gauge: Gauge<'phase'>) => Promise<void>;
  /** Sets a gauge of what waits to be judged; called at each scrape. */
  readonly collectBacklog: (gauge: Gauge, number: BacklogNumber) => Promise<void>;
  /** The same of application services. */
  readonly collectLags: (gauge: Gauge<'service'>, number: LagNumber) => Promise<void>;
  /** Sets the gauge of open joins; called at each scrape. */
  readonly collectOpenJoins: (gauge: Gauge<'phase'>) => void;
}

/** A registry of its own with all of them in it; nothing is shared between two. */
export function createInstruments({
  version,
  role,
  collectPartialRooms,
  collectBacklog,
  collectLags,
  collectOpenJoins,
}: InstrumentSources) {
  const registry = new Registry();
  const registers = [registry];
  const instruments = {
    registry,
    info: new Gauge({
      name: 'rejoinder_info',
      help: 'Always 1; which version runs, and as what.',
      labelNames: ['version', 'role'],
      registers,
    }),
    partialRooms: new Gauge({
      name: 'rejoinder_partial_rooms',
      help: 'Rooms without full state in the database, by what their resync is at. Every process tells the same number.',
      labelNames: ['phase'],
      registers,
      async collect() {
        await collectPartialRooms(this);
      },
    }),
    ...backlogGauges(collectBacklog, registers),
    ...lagGauges(collectLags, registers),
    serviceFailures: new Counter({
      name: 'rejoinder_app_service_failures_total',
      help: 'Transactions that an application service did not take, each try counted.',
      labelNames: ['service'],
      registers,
    }),
    joins: new Counter({
      name: 'rejoinder_joins_total',
      help: 'Joins asked of this process, by how they ended.',
      labelNames: ['outcome'],
      registers,
    }),
    openJoins: new Gauge({
      name: 'rejoinder_open_joins',
      help: 'Joins that this process has under way, and those that wait for their turn.',
      labelNames: ['phase'],
      registers,
      collect() {
        collectOpenJoins(this);
      },
    }),
    joinSeconds: new Histogram({
      name: 'rejoinder_join_seconds',
      help: 'Time from the request to the room being usable, of joins that a resident answered.',
      buckets: JOIN_SECONDS,
      registers,
    }),
    journalReaders: new Gauge({
      name: 'rejoinder_journal_readers',
      help: 'Readers that follow the journal in this process now.',
      registers,
    }),
    journalEntriesSent: new Counter({
      name: 'rejoinder_journal_entries_sent_total',
      help: 'Entries handed to readers that follow the journal.',
      registers,
    }),
    journalReadersCut: new Counter({
      name: 'rejoinder_journal_readers_cut_total',
      help: 'Readers of the journal that took nothing for too long and lost their connection.',
      registers,
    }),
    resyncSeconds: new Histogram({
      name: 'rejoinder_resync_seconds',
      help: 'Time from the join until the room was whole; retried: an attempt had failed before; degraded: it is not whole.',
      labelNames: ['outcome'],
      buckets: RESYNC_SECONDS,
      registers,
    }),
    stateFetches: new Counter({
      name: 'rejoinder_state_fetch_total',
      help: 'Attempts to fetch a full state from one resident, by outcome: fetched, or the kind of failure.',
      labelNames: ['outcome'],
      registers,
    }),
    stateFetchSeconds: new Histogram({
      name: 'rejoinder_state_fetch_seconds',
      help: 'Time of attempts that fetched a state, from the request to the stored and judged state.',
      buckets: STATE_FETCH_SECONDS,
      registers,
    }),
    roundsFailed: new Counter({
      name: 'rejoinder_rounds_failed_total',
      help: 'Rounds in which every resident of a room failed, so that the room waits.',
      registers,
    }),
    walkedEvents: new Counter({
      name: 'rejoinder_walked_events_total',
      help: 'Events judged again with full state.',
      registers,
    }),
    unusableEvents: new Counter({
      name: 'rejoinder_unusable_events_total',
      help: 'Events that a state was taken without, because every copy of them that came was badly signed or malformed.',
      registers,
    }),
    correctedEvents: new Counter({
      name: 'rejoinder_corrected_events_total',
      help: 'Events whose verdict by partial state turned out to be wrong.',
      registers,
    }),
    softFailedEvents: new Counter({
      name: 'rejoinder_soft_failed_events_total',
      help: 'Events that the current state refuses (check 6), by when that was found: on receipt, or at the completion of a resync.',
      labelNames: ['found'],
      registers,
    }),
    changedEvents: new Counter({
      name: 'rejoinder_changed_events_total',
      help: 'Events judged for good that got another verdict or other states, since something that they rest on had changed.',
      registers,
    }),
    droppedEdus: new Counter({
      name: 'rejoinder_dropped_edus_total',
      help: 'EDUs of other servers, or single receipts and presences of them, of no form, not theirs to say, or too many.',
      registers,
    }),
    fetchedEvents: new Counter({
      name: 'rejoinder_fetched_events_total',
      help: 'Events received in answers of other servers.',
      labelNames: ['endpoint'],
      registers,
    }),
    fetchedBytes: new Counter({
      name: 'rejoinder_fetched_bytes_total',
      help: 'Bytes of those events, without what is around them in the answers.',
      labelNames: ['endpoint'],
      registers,
    }),
    requests: new Counter({
      name: 'rejoinder_federation_requests_total',
      help: 'Requests made of other servers, by outcome: ok, aborted by us, or the kind of failure.',
      labelNames: ['endpoint', 'outcome'],
      registers,
    }),
    requestSeconds: new Histogram({
      name: 'rejoinder_federation_request_seconds',
      help: 'Time of requests made of other servers until their answer is read, our work on streamed events included.',
      labelNames: ['endpoint'],
      buckets: REQUEST_SECONDS,
      registers,
    }),
    keys: new Counter({
      name: 'rejoinder_keys_total',
      help: 'Keys of other servers that signatures needed, by whether they could be had from anywhere.',
      labelNames: ['outcome'],
      registers,
    }),
    verifications: new Counter({
      name: 'rejoinder_verifications_total',
      help: 'Events given to verification (format, signatures, content hash), by outcome.',
      labelNames: ['outcome'],
      registers,
    }),
    verificationSeconds: new Histogram({
      name: 'rejoinder_verification_seconds',
      help: 'Time of batches in verification, waiting for a thread and for keys included.',
      buckets: VERIFICATION_SECONDS,
      registers,
    }),
    verificationQueue: new Gauge({
      name: 'rejoinder_verification_queue_events',
      help: 'Events in verification now, waiting or being verified.',
      registers,
    }),
    retries: new Counter({
      name: 'rejoinder_activity_retries_total',
      help: 'Attempts of activities after the first, by trouble of our own: what residents do wrong is no such failure.',
      labelNames: ['activity'],
      registers,
    }),
    lateAttempts: new Counter({
      name: 'rejoinder_activity_late_attempts_total',
      help: 'Of these, attempts from the tenth on: somebody has to mend something.',
      labelNames: ['activity'],
      registers,
    }),
  } as const;
  instruments.info.set({ version, role }, 1);
  startAtZero(instruments);
  return instruments;
}

/** A series that begins at 1 hides its first event from rate(). Requests have too many pairs for that: only `ok` begins. */
function startAtZero(instruments: Omit<Instruments, 'registry'>): void {
  for (const outcome of Object.keys(JOIN_OUTCOMES)) instruments.joins.inc({ outcome }, 0);
  for (const outcome of ['fetched', ...Object.keys(FAILURES)]) instruments.stateFetches.inc({ outcome }, 0);
  for (const outcome of Object.keys(VERIFICATION_OUTCOMES)) instruments.verifications.inc({ outcome }, 0);
  for (const outcome of Object.keys(RESYNC_OUTCOMES)) instruments.resyncSeconds.zero({ outcome });
  for (const outcome of ['found', 'missing']) instruments.keys.inc({ outcome }, 0);
  for (const found of ['receipt', 'completion']) instruments.softFailedEvents.inc({ found }, 0);
  for (const activity of ACTIVITIES) {
    instruments.retries.inc({ activity }, 0);
    instruments.lateAttempts.inc({ activity }, 0);
  }
  for (const [endpoint, { carriesEvents }] of Object.entries(ENDPOINTS)) {
    instruments.requests.inc({ endpoint, outcome: 'ok' }, 0);
    if (!carriesEvents) continue;
    instruments.fetchedEvents.inc({ endpoint }, 0);
    instruments.fetchedBytes.inc({ endpoint }, 0);
  }
}

/** In the database, too. */
function lagGauges(collectLags: InstrumentSources['collectLags'], registers: Registry[]) {
  const gauge = (name: string, help: string, number: LagNumber): Gauge<'service'> =>
    new Gauge({
      name,
      help,
      labelNames: ['service'],
      registers,
      async collect() {
        await collectLags(this, number);
      },
    });
  return {
    serviceLag: gauge(
      'rejoinder_app_service_lag_entries',
      'Positions that an application service has not been told of, and of which it is not known that they do not concern it.',
      'positions',
    ),
    serviceLagAge: gauge(
      'rejoinder_app_service_lag_age_seconds',
      'How long ago the first of them was written; 0: there is none.',
      'age',
    ),
  };
}

/** Of all rooms, in the database: every process tells the same numbers. */
function backlogGauges(collectBacklog: InstrumentSources['collectBacklog'], registers: Registry[]) {
  const gauge = (name: string, help: string, number: BacklogNumber): Gauge =>
    new Gauge({
      name,
      help,
      registers,
      async collect() {
        await collectBacklog(this, number);
      },
    });
  return {
    stagedEvents: gauge('rejoinder_staged_events', 'Events other servers sent that have no verdict yet.', 'staged'),
    stagedAge: gauge(
      'rejoinder_staged_age_seconds',
      'How long the oldest of them has been here; 0: there is none.',
      'stagedAge',
    ),
    openGaps: gauge('rejoinder_open_gaps', 'Missing events at which the state is looked for.', 'gaps'),
    gapsAge: gauge(
      'rejoinder_open_gaps_age_seconds',
      'How long the oldest of them is open; 0: there is none.',
      'gapsAge',
    ),
    degradedRooms: gauge('rejoinder_degraded_rooms', 'Rooms whose state lacks events that nobody gave.', 'degraded'),
    lackingEvents: gauge('rejoinder_lacking_events', 'Events that degraded rooms go on without.', 'lacking'),
    lackingAge: gauge(
      'rejoinder_lacking_age_seconds',
      'How long the oldest of them is looked for; 0: there is none.',
      'lackingAge',
    ),
    correctionsDue: gauge(
      'rejoinder_corrections_due',
      'Events to be looked at again, since something that they rest on has changed.',
      'corrections',
    ),
    correctionsAge: gauge(
      'rejoinder_corrections_due_age_seconds',
      'How long the oldest of them is due; 0: there is none.',
      'correctionsAge',
    ),
  };
}
