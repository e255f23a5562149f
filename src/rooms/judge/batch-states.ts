/**
 * Room states while a batch of events is judged in memory. Most events of a batch build on one stored state, and change
 * nothing or one place of it; so a state is a stored snapshot with the state events of the batch that came on top. It is
 * written only where it has to be resolved with another, or once the batch is decided.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type AuthState } from '../../matrix/auth/auth-rules.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { invariant } from '../../invariant.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { IN_PASSING } from '../../store/events/auth-events.ts';
import { type OutlierVerdict, recordOutlierVerdicts } from '../../store/events/pdus.ts';
import { type Sql } from '../../store/open-store.ts';
import { type SnapshotStep, changeSnapshots } from '../../store/snapshots/snapshots.ts';
import { authStatesOf } from './auth-state.ts';
import { type AgainstPartialSnapshot, partialAuthStatesOf } from './partial-auth-state.ts';
import { type ResolvedGroups, resolveInSteps } from './resolve-in-steps.ts';
import { resolveSnapshots } from './resolve.ts';

/** Two are the same state if they are the same object; others may be equal once they are stored. */
export interface BatchState {
  /** The stored state below the changes. */
  readonly snapshot: SnapshotId;
  /** State events of the batch on top of it, by their place. */
  readonly changes: ReadonlyMap<string, Pdu>;
  /** The last of the changes, and the state before it; absent where there are none. */
  readonly last?: { readonly before: BatchState; readonly event: Pdu };
}

/** An event that is about to be judged against a state. */
export type PartiallyJudged = Omit<AgainstPartialSnapshot, 'snapshot'>;

const NO_CHANGES: ReadonlyMap<string, Pdu> = new Map();

export class BatchStates {
  readonly #sql: Sql;
  readonly #roomId: RoomId;
  readonly #rules: RoomVersionRules;
  readonly #resolve: typeof resolveInSteps;
  readonly #bySnapshot = new Map<SnapshotId, BatchState>();
  readonly #written = new Map<BatchState, SnapshotId>();
  readonly #resolvedGroups: ResolvedGroups = new Map();
  /** State events that were accepted and that the database does not know to be judged. */
  readonly #unrecorded: OutlierVerdict[] = [];
  /** By snapshot, then by event: what the rules read of the one for the other. */
  readonly #authStates = new Map<SnapshotId, Map<EventId, AuthState>>();
  readonly #partialAuthStates = new Map<SnapshotId, Map<EventId, AuthState>>();

  /** @param resolve how states that differ are resolved */
  constructor(sql: Sql, roomId: RoomId, rules: RoomVersionRules, resolve: typeof resolveInSteps = resolveSnapshots) {
    this.#sql = sql;
    this.#roomId = roomId;
    this.#rules = rules;
    this.#resolve = resolve;
  }

  stored(snapshot: SnapshotId): BatchState {
    const known = this.#bySnapshot.get(snapshot);
    if (known !== undefined) return known;
    const state = { snapshot, changes: NO_CHANGES };
    this.#bySnapshot.set(snapshot, state);
    return state;
  }

  /** The state after an accepted event. `authDepth`: absent of an event that the database knows to be accepted. */
  after(before: BatchState, event: Pdu, authDepth?: number | null): BatchState {
    if (event.stateKey === undefined) return before;
    if (authDepth !== undefined) {
      this.#unrecorded.push({ eventId: event.eventId, verdict: 'accepted', authDepth, rule: IN_PASSING });
    }
    const changes = new Map(before.changes).set(stateMapKey(event.type, event.stateKey), event);
    return { snapshot: before.snapshot, changes, last: { before, event } };
  }

  /** @throws ResolutionTooLarge unless it was given another way to resolve */
  resolve(states: Iterable<BatchState>): Promise<BatchState> {
    return this.#resolveBy(states, this.#resolve);
  }

  /**
   * As `resolve`, and never too large: of forward extremities, of which whoever may speak may leave as many as he likes. More than are
   * resolved at once are resolved in steps.
   */
  resolveAll(states: Iterable<BatchState>): Promise<BatchState> {
    return this.#resolveBy(states, (sql, roomId, rules, snapshots, known) =>
      resolveInSteps(sql, roomId, rules, snapshots, known, this.#resolve),
    );
  }

  async #resolveBy(states: Iterable<BatchState>, resolve: typeof resolveInSteps): Promise<BatchState> {
    const distinct = [...new Set(states)];
    const [only, ...others] = distinct;
    if (only !== undefined && others.length === 0) return only;
    const snapshots = new Set(await this.write(distinct));
    if (only !== undefined && snapshots.size === 1) return only;
    await this.#record();
    return this.stored(await resolve(this.#sql, this.#roomId, this.#rules, [...snapshots], this.#resolvedGroups));
  }

  /** Stores states that are not yet, all in the same few statements; gives their ids in order. */
  async write(states: readonly BatchState[]): Promise<SnapshotId[]> {
    const steps: SnapshotStep[] = [];
    const ordered = new Map<BatchState, number>();
    const idOf = (state: BatchState): SnapshotId | undefined =>
      state.last === undefined ? state.snapshot : this.#written.get(state);
    for (const state of states) {
      const unwritten: BatchState[] = [];
      for (let at = state; at.last !== undefined && idOf(at) === undefined && !ordered.has(at); at = at.last.before) {
        unwritten.push(at);
      }
      for (const at of unwritten.reverse()) {
        invariant(at.last, 'what is not written has a last change');
        const base = idOf(at.last.before) ?? ordered.get(at.last.before);
        invariant(base !== undefined, 'states are written from below');
        ordered.set(at, steps.length);
        steps.push({ base, eventId: at.last.event.eventId });
      }
    }
    const ids = await changeSnapshots(this.#sql, this.#roomId, steps);
    for (const [state, i] of ordered) {
      const id = ids[i];
      invariant(id, 'each step gives a state');
      this.#written.set(state, id);
    }
    return states.map((state) => {
      const id = idOf(state);
      invariant(id, 'the state is written');
      return id;
    });
  }

  /** What the rules read of `state` for `event`. `alike`: events that are likely asked for next, on the same stored state. */
  async authState(state: BatchState, event: Pdu, alike: readonly Pdu[]): Promise<AuthState> {
    const { snapshot, changes } = state;
    const known = this.#of(this.#authStates, snapshot);
    if (!known.has(event.eventId)) {
      await this.#record();
      const events = distinctEvents([event, ...alike]).filter(({ eventId }) => !known.has(eventId));
      const wanted = events.map((one) => ({ snapshot, event: one }));
      const read = await authStatesOf(this.#sql, this.#roomId, this.#rules, wanted);
      read.forEach((authState, i) => known.set(events[i]?.eventId ?? event.eventId, authState));
    }
    const below = known.get(event.eventId);
    invariant(below, 'a state was read for each event');
    if (changes.size === 0) return below;
    return (type, stateKey) => changes.get(stateMapKey(type, stateKey)) ?? below(type, stateKey);
  }

  /** As `authState`, of a state that is partial. `alike`: events that are likely asked for next, on this very state. */
  async partialAuthState(
    state: BatchState,
    judged: PartiallyJudged,
    alike: readonly PartiallyJudged[],
  ): Promise<AuthState> {
    const [snapshot] = await this.write([state]);
    invariant(snapshot, 'the state is written');
    const known = this.#of(this.#partialAuthStates, snapshot);
    const { eventId } = judged.event;
    if (!known.has(eventId)) {
      await this.#record();
      const byId = new Map([judged, ...alike].map((one) => [one.event.eventId, one]));
      const events = [...byId.values()].filter((one) => !known.has(one.event.eventId));
      const wanted = events.map((one) => ({ snapshot, ...one }));
      const read = await partialAuthStatesOf(this.#sql, this.#roomId, this.#rules, wanted);
      read.forEach((authState, i) => known.set(events[i]?.event.eventId ?? eventId, authState));
    }
    const authState = known.get(eventId);
    invariant(authState, 'a state was read for each event');
    return authState;
  }

  #of(cache: Map<SnapshotId, Map<EventId, AuthState>>, snapshot: SnapshotId): Map<EventId, AuthState> {
    const known = cache.get(snapshot) ?? new Map<EventId, AuthState>();
    cache.set(snapshot, known);
    return known;
  }

  /**
   * Resolution reads events from the database, and takes for a proof only what is judged there. An accepted event of the
   * batch has passed check 4, and that is what is recorded of it. A rejected one is in no state, nor cited by what is.
   */
  async #record(): Promise<void> {
    await recordOutlierVerdicts(this.#sql, this.#roomId, this.#unrecorded.splice(0));
  }
}

function distinctEvents(events: readonly Pdu[]): Pdu[] {
  return [...new Map(events.map((event) => [event.eventId, event])).values()];
}
