/**
 * Fetches the full state before one event from one resident: `/state_ids` first, then whichever of `/state` and `/event`
 * costs less. The body is streamed: checked, verified and stored in batches in bounded memory. What is stored is never
 * verified or written again, so a kill costs at most one more `/state` body.
 */
import { createHash } from 'node:crypto';
import pLimit from 'p-limit';
import { FederationError } from '../federation/error.ts';
import { type EventId, type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { stateMapKey } from '../matrix/state-map.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { type ResyncEvent, type SnapshotId, type StateFetchCounts } from '../resync/events.ts';
import { append } from '../store/journal.ts';
import { withTransaction } from '../store/open-store.ts';
import { heldEventIds, insertPdus } from '../store/pdus.ts';
import { lockRoom, readResync } from '../store/rooms.ts';
import { countMembers, createSnapshot } from '../store/snapshots.ts';
import { type CheckOutcome, type CheckedPdu } from '../verification/contract.ts';
import { type RoomsContext } from './context.ts';
import { judgeOutliers } from './judge-outliers.ts';
import { rulesOfJoined } from './load-pdus.ts';

/** Below this share of unknown events single `/event` requests move less than a whole `/state` body (Synapse's rule). */
const WHOLE_STATE_SHARE_MIN = 0.1;
/** And never more single requests than this. */
const SINGLE_EVENTS_MAX = 100;
const SINGLE_EVENTS_IN_FLIGHT = 8;
/** Batches of raw events between the socket and the database: two a verification thread. */
const BATCHES_IN_FLIGHT = 4;
/** From this round on an event that is badly signed or malformed everywhere is dropped instead of failing the whole answer. */
const DROP_UNUSABLE_FROM_ROUND = 2;
/** An event of another room is that whoever gives it: there is nothing to wait for (FACTS E7). */
const OTHER_ROOM = 'event.room';
/** Ids named in a failure reason. */
const IDS_NAMED_MAX = 3;

export interface StateFetch {
  readonly roomId: RoomId;
  readonly epoch: number;
  readonly attemptNo: number;
  readonly resident: ServerName;
  readonly atEventId: EventId;
}

export interface Progress {
  readonly signal: AbortSignal;
  readonly heartbeat: () => void;
}

/**
 * Runs one attempt and journals its outcome, `StateFetched` or `StateFetchFailed`. Does nothing when the outcome is
 * journalled already or the epoch has changed. Throws only for faults of ours (database, cancellation), which are retried.
 */
export async function fetchState(context: RoomsContext, fetch: StateFetch, progress: Progress): Promise<void> {
  const round = await begin(context, fetch);
  if (round === null) return;
  let outcome: ResyncEvent;
  try {
    outcome = await new Attempt(context, fetch, round, progress).run();
  } catch (error) {
    if (!(error instanceof FederationError) || progress.signal.aborted) throw error;
    const at = context.clock.now();
    outcome = {
      type: 'StateFetchFailed',
      attemptNo: fetch.attemptNo,
      resident: fetch.resident,
      atEventId: fetch.atEventId,
      failure: error.kind,
      reason: error.message,
      ...(error.retryAfterMs === undefined ? {} : { retryAt: at + error.retryAfterMs }),
      at,
    };
  }
  await withTransaction(context.store, async (tx) => {
    const room = await lockRoom(tx, fetch.roomId);
    const resync = await readResync(tx, fetch.roomId);
    if (room?.epoch !== fetch.epoch || resync?.state.attempt?.attemptNo !== fetch.attemptNo) return;
    await append(tx, room, [outcome]);
  });
}

/** Journals the start, once, and tells the round; `null` when there is nothing (left) to do. */
async function begin(context: RoomsContext, fetch: StateFetch): Promise<number | null> {
  return withTransaction(context.store, async (tx) => {
    const room = await lockRoom(tx, fetch.roomId);
    const resync = await readResync(tx, fetch.roomId);
    if (room?.epoch !== fetch.epoch || resync === undefined) return null;
    const { state } = resync;
    if (state.attempt?.attemptNo === fetch.attemptNo) return state.round;
    if (state.attempts >= fetch.attemptNo || state.attempt !== null) return null;
    const { attemptNo, resident, atEventId } = fetch;
    await append(tx, room, [{ type: 'StateFetchStarted', attemptNo, resident, atEventId, at: context.clock.now() }]);
    return state.round;
  });
}

class Attempt {
  private readonly context: RoomsContext;
  private readonly fetch: StateFetch;
  private readonly round: number;
  private readonly progress: Progress;
  private readonly held = new Set<EventId>();
  private readonly badlySigned = new Map<EventId, ServerName>();
  private readonly keysMissing = new Map<EventId, string>();
  private wanted = new Set<EventId>();
  private roomVersion = '';
  private readonly malformed = new Map<EventId, string>();
  private readonly dropped = new Set<EventId>();
  private fetched = 0;

  constructor(context: RoomsContext, fetch: StateFetch, round: number, progress: Progress) {
    this.context = context;
    this.fetch = fetch;
    this.round = round;
    this.progress = progress;
  }

  async run(): Promise<ResyncEvent> {
    const { context, fetch, progress } = this;
    const { roomId, resident, atEventId, attemptNo } = fetch;
    const rules = await this.readRules();
    const ids = await context.federation.stateIds(resident, roomId, atEventId, { signal: progress.signal });
    progress.heartbeat();
    this.wanted = new Set([...ids.stateIds, ...ids.authChainIds, atEventId]);
    for (const eventId of await heldEventIds(context.store, [...this.wanted])) this.held.add(eventId);
    const alreadyHeld = this.held.size;

    const missing = this.missing();
    if (missing.length > SINGLE_EVENTS_MAX || missing.length > WHOLE_STATE_SHARE_MIN * this.wanted.size) {
      await this.takeWholeState();
    }
    await this.takeSingly(this.missing(), () => resident);
    await this.takeSingly([...this.badlySigned.keys()], (eventId) => this.badlySigned.get(eventId));
    this.requireComplete();

    const state = await this.buildState(rules, ids.stateIds);
    const counts: StateFetchCounts = {
      state: ids.stateIds.length,
      authChain: ids.authChainIds.length,
      members: await countMembers(context.store, roomId, state.snapshotId),
      fetched: this.fetched,
      alreadyHeld,
      dropped: this.dropped.size,
    };
    const { snapshotId, digest } = state;
    return {
      type: 'StateFetched',
      attemptNo,
      resident,
      atEventId,
      snapshotId,
      counts,
      digest,
      at: context.clock.now(),
    };
  }

  private async readRules(): Promise<RoomVersionRules> {
    const resync = await readResync(this.context.store, this.fetch.roomId);
    this.roomVersion = resync?.state.roomVersion ?? '';
    return rulesOfJoined(this.roomVersion);
  }

  private missing(): EventId[] {
    return [...this.wanted].filter((eventId) => !this.held.has(eventId));
  }

  /** Streams `/state` through verification into the store; the socket is read only as fast as the database takes it. */
  private async takeWholeState(): Promise<void> {
    const { roomId, resident, atEventId } = this.fetch;
    const inFlight = new Set<Promise<void>>();
    const failed = new AbortController();
    const signal = AbortSignal.any([this.progress.signal, failed.signal]);
    const answer = await this.context.federation.state(resident, roomId, atEventId, { signal });
    try {
      for await (const { events } of answer) {
        const taking = this.take(events, signal).finally(() => inFlight.delete(taking));
        taking.catch((error: unknown) => failed.abort(error));
        inFlight.add(taking);
        if (inFlight.size >= BATCHES_IN_FLIGHT) await Promise.race(inFlight);
      }
      await Promise.all(inFlight);
    } catch (error) {
      await Promise.allSettled(inFlight);
      // The first failure of a batch is the cause; the abort of the request is its consequence.
      throw failed.signal.aborted ? failed.signal.reason : error;
    }
  }

  /** Fetches events one by one from the server named for each; one that cannot be had stays missing. */
  private async takeSingly(
    eventIds: readonly EventId[],
    serverFor: (eventId: EventId) => ServerName | undefined,
  ): Promise<void> {
    if (eventIds.length === 0 || eventIds.length > SINGLE_EVENTS_MAX) return;
    const limit = pLimit(SINGLE_EVENTS_IN_FLIGHT);
    const { signal } = this.progress;
    const fetchOne = async (eventId: EventId): Promise<Uint8Array | undefined> => {
      const server = serverFor(eventId);
      if (server === undefined || server === this.context.serverName) return undefined;
      try {
        return await this.context.federation.event(server, eventId, { signal });
      } catch (error) {
        if (error instanceof FederationError && !signal.aborted) return undefined;
        throw error;
      }
    };
    const bodies = await Promise.all(eventIds.map((eventId) => limit(() => fetchOne(eventId))));
    await this.take(
      bodies.filter((body) => body !== undefined),
      signal,
    );
  }

  /** Checks 1 to 3 on raw events and stores those that pass; nothing that we hold or did not ask for is verified. */
  private async take(events: readonly Uint8Array[], signal: AbortSignal): Promise<void> {
    if (events.length === 0) return;
    const { context, fetch, roomVersion } = this;
    const outcomes = await context.verification.check({
      roomVersion,
      roomId: fetch.roomId,
      events,
      resolveKeys: context.keyRing.resolve,
      isHeld: (given) => Promise.resolve(new Set(given.filter((id) => this.held.has(id) || !this.wanted.has(id)))),
      // Old events may cite more parents than new ones are allowed to.
      capReferences: false,
      signal,
    });
    const passed = outcomes.flatMap((outcome) => this.sort(outcome));
    if (passed.length === 0) return;
    await insertPdus(context.store, passed);
    for (const { eventId } of passed) {
      this.held.add(eventId);
      this.badlySigned.delete(eventId);
      this.keysMissing.delete(eventId);
      this.malformed.delete(eventId);
    }
    this.fetched += passed.length;
    this.progress.heartbeat();
  }

  private sort(outcome: CheckOutcome): CheckedPdu[] {
    switch (outcome.outcome) {
      case 'passed':
        return [outcome.pdu];
      case 'bad-signature':
        this.badlySigned.set(outcome.eventId, outcome.serverName);
        return [];
      case 'key-missing':
        this.keysMissing.set(outcome.eventId, `${outcome.serverName} ${outcome.keyId ?? ''}`.trim());
        return [];
      case 'malformed':
        if (outcome.eventId === null) return [];
        if (outcome.rule === OTHER_ROOM) this.drop(outcome.eventId);
        else this.malformed.set(outcome.eventId, outcome.reason);
        return [];
      case 'skipped':
        return [];
    }
  }

  /** Goes on without an event, and counts it. */
  private drop(eventId: EventId): void {
    this.wanted.delete(eventId);
    this.dropped.add(eventId);
  }

  /** The room stays partial rather than wrong: an answer with holes is a failed attempt, and says which. */
  private requireComplete(): void {
    if (this.round >= DROP_UNUSABLE_FROM_ROUND) {
      for (const id of [...this.badlySigned.keys(), ...this.malformed.keys()]) if (!this.held.has(id)) this.drop(id);
    }
    const missing = this.missing();
    if (missing.length === 0) return;
    const keyless = missing.filter((id) => this.keysMissing.has(id));
    const wrong = missing.filter((id) => this.badlySigned.has(id));
    const reasons: string[] = [];
    if (keyless.length > 0) {
      const servers = [...new Set(keyless.map((id) => this.keysMissing.get(id)))].slice(0, IDS_NAMED_MAX).join(', ');
      reasons.push(`${keyless.length} events signed with keys that cannot be had (${servers})`);
    }
    if (wrong.length > 0) reasons.push(`${wrong.length} events with a wrong signature (${named(wrong)})`);
    const malformed = missing.find((id) => this.malformed.has(id));
    if (malformed !== undefined)
      reasons.push(`malformed events (${malformed}: ${this.malformed.get(malformed) ?? ''})`);
    const absent = missing.filter(
      (id) => !this.keysMissing.has(id) && !this.badlySigned.has(id) && !this.malformed.has(id),
    );
    if (absent.length > 0) reasons.push(`${absent.length} events named but not delivered (${named(absent)})`);
    throw new FederationError(this.fetch.resident, 'incomplete', reasons.join('; '));
  }

  /** Auth-checks everything fetched and folds what is accepted, one event a (type, state_key), into a snapshot. */
  private async buildState(
    rules: RoomVersionRules,
    stateIds: readonly EventId[],
  ): Promise<{ snapshotId: SnapshotId; digest: string }> {
    const { store } = this.context;
    const { roomId, atEventId } = this.fetch;
    const judged = await judgeOutliers(store, roomId, rules, [...this.wanted], this.progress.heartbeat);
    const byKey = new Map<string, EventId>();
    for (const eventId of stateIds) {
      const event = judged.get(eventId);
      if (event?.stateKey === undefined || event.verdict !== 'accepted') {
        this.dropped.add(eventId);
        continue;
      }
      const key = stateMapKey(event.type, event.stateKey);
      if (byKey.has(key)) this.dropped.add(eventId);
      else byKey.set(key, eventId);
    }
    // The answer is the state before the event; the join comes after it.
    const at = judged.get(atEventId);
    if (at?.stateKey !== undefined && at.verdict === 'accepted')
      byKey.set(stateMapKey(at.type, at.stateKey), atEventId);

    const eventIds = [...byKey.values()].sort();
    const digest = createHash('sha256').update(eventIds.join('\n')).digest('hex');
    return { snapshotId: await createSnapshot(store, roomId, eventIds), digest };
  }
}

function named(ids: readonly EventId[]): string {
  return `${ids.slice(0, IDS_NAMED_MAX).join(', ')}${ids.length > IDS_NAMED_MAX ? ', …' : ''}`;
}
