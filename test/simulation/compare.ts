/**
 * What our database holds after a run, beside what the oracle makes of the run's own log: the events that were delivered, each
 * one's verdict and the state before it, the newest events of the room, and its state. Also whether the journal, folded once
 * more, makes the same tables; of every other room the states that nothing needs any more are deleted before.
 */
import { type EventId, type UserId, domainOf } from '../../src/matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../../src/matrix/pdu.ts';
import { type StateMap } from '../../src/matrix/state-map.ts';
import { type SnapshotId } from '../../src/resync/events.ts';
import { readAssumedGaps, readPartialAnchors } from '../../src/store/events/anchors.ts';
import { countCorrectionsDue, isCurrentStateDue } from '../../src/store/events/corrections.ts';
import { CYCLE, type StoredEventState, readEventStates } from '../../src/store/events/event-states.ts';
import { readJournal } from '../../src/store/journal/journal.ts';
import { readLocalMembers, readRoom, readStanding } from '../../src/store/journal/rooms.ts';
import { type Store, openStore } from '../../src/store/open-store.ts';
import { collectChunks } from '../../src/store/snapshots/collect-chunks.ts';
import { type Check6Outcome, check6, extremitiesOf } from './check-6.ts';
import { coverJournal } from './cover-journal.ts';
import { type Oracle } from './oracle.ts';
import { compareOwed } from './owed.ts';
import { type Play } from './play.ts';
import { type TakenJoin } from './residents.ts';
import { StoredStates } from './stored-states.ts';
import { resolveBySynapse } from './synapse.ts';

export interface Comparison {
  /** In words, each; empty: all is equal. */
  readonly differences: readonly string[];
  readonly delivered: number;
  readonly oracle: Oracle;
  /** The current state as it should be; absent where nobody of us was left before all was judged. */
  readonly current?: StateMap;
}

const DAY_MS = 86_400_000;
/** Starting Synapse's code takes as long as some runs. */
const RUNS_A_SYNAPSE = 20;
/** Rows shown of a table that is not what its journal says. */
const ROWS_SHOWN = 2;

/** Reads as a process does that has nothing in memory yet. */
export async function compare(play: Play): Promise<Comparison> {
  const { connection, serverName } = play.process.fragile.store;
  const databaseUrl = connection.connectionString ?? '';
  const store = openStore({ databaseUrl, serverName, poolSizeMax: 2, applicationName: 'rejoinder comparison' });
  play.process.connections.lendTo(store);
  const comparing = new Comparing(play, store);
  try {
    await comparing.run();
  } finally {
    await store.close();
  }
  const { differences, delivered, oracle, current } = comparing;
  return { differences, delivered: delivered.size, oracle, ...(current === undefined ? {} : { current }) };
}

class Comparing {
  readonly differences: string[] = [];
  readonly #play: Play;
  readonly #store: Store;
  /** Delivered to us, and none of what lies before our join: the set that everything is a function of. */
  readonly delivered = new Set<EventId>();
  readonly oracle: Oracle;
  current: StateMap | undefined;
  #states: StoredStates | undefined;
  /** Those that are refused as their own ancestors: where a circle is cut is nowhere said, only that it has to be. An edge to one ends there. */
  readonly #cut = new Set<EventId>();

  constructor(play: Play, store: Store) {
    const { world } = play;
    this.#play = play;
    this.#store = store;
    this.oracle = world.oracle(
      (eventId) => this.delivered.has(eventId),
      (eventId) => world.truth.stateBefore(eventId),
      (eventId) => this.#cut.has(eventId),
    );
  }

  async run(): Promise<void> {
    const { world } = this.#play;
    await this.#findDelivered();
    if (this.delivered.size === 0) return;
    const room = await readRoom(this.#store, world.roomId);
    if (room === undefined) {
      this.#differ('there is no room');
      return;
    }
    if (room.resync.phase === 'ended' && (room.partial || !(await this.#isJudged()))) {
      // Nobody of us was left, so nobody judged any more by what was to come.
      this.#play.coverage.count('left before all was judged');
      await this.#compareFolds();
      return;
    }
    if (room.partial) this.#differ('the room is still partial');
    this.#states = await StoredStates.read(this.#store, world.roomId);
    const rows = await readEventStates(this.#store, world.roomId, [...this.delivered]);
    this.#readCircles(rows);
    // By states of then, too, which nothing needs any more.
    const outcome = await this.#check6();
    if (this.#play.plan.seed % 2 === 0) {
      await this.#collect();
      this.#states = await StoredStates.read(this.#store, world.roomId);
    }
    for (const eventId of this.delivered) await this.#compareEvent(eventId, rows.get(eventId), outcome.softFailed);
    const partial = await readPartialAnchors(this.#store, world.roomId);
    if (partial.length > 0) this.#differ(`anchors are still partial: ${partial.join()}`);
    await this.#compareRoom(outcome);
    await this.#compareFolds();
    if (this.#play.plan.seed % RUNS_A_SYNAPSE === 1) await this.#compareResolutions();
  }

  /**
   * What was pushed or given, but for what nobody can take, and for what lies before a join that began a stay: where
   * that had no place by then, it is history. It counts, as what came while nobody of ours was in, if we took it in. So does what was
   * given and claims to lie below our joins: who has no more of it than what it builds on cannot always tell it from history.
   */
  async #findDelivered(): Promise<void> {
    const { world, residents, pushed, unsure } = this.#play;
    const begun = await this.#joinsThatBegan();
    const stays = residents.joins.filter(({ eventId }) => begun.has(eventId));
    const before = stays.map(({ eventId }) => world.ancestorsOf([eventId]));
    const isBefore = (id: EventId): boolean => before.some((ancestors) => ancestors.has(id));
    const joins = await this.#joinsOfOurs(isBefore);
    const [first] = joins;
    if (first === undefined) return;
    const ids = [...pushed, ...residents.given].filter((id) => !world.unusable.has(id));
    const held = await readEventStates(this.#store, world.roomId, ids);
    const depth = Math.max(...stays.map(({ eventId }) => Number(world.events.get(eventId)?.depth)));
    const isLow = (id: EventId): boolean => !pushed.has(id) && Number(world.events.get(id)?.depth) < depth;
    const isSure = (id: EventId): boolean => !unsure.has(id) && !isBefore(id) && !isLow(id);
    for (const eventId of await this.#said()) this.delivered.add(eventId);
    for (const eventId of [...joins, ...ids]) {
      if (joins.includes(eventId) || isSure(eventId) || held.has(eventId)) this.delivered.add(eventId);
    }
    if (begun.size > 1) this.#play.coverage.count('two stays');
  }

  /** What our users said, which nobody else may have heard of. */
  async #said(): Promise<EventId[]> {
    const { world } = this.#play;
    const rows = await this.#store.query<{ json: string }>(
      `SELECT p.json::text AS json FROM outgoing_events o JOIN pdus p ON p.event_id = o.event_id AND p.room_id = o.room_id
        WHERE o.room_id = $1 ORDER BY o.position`,
      [world.roomId],
    );
    return rows.map(({ json }) => {
      const event = world.read(JSON.parse(json) as JsonObject);
      if (!world.events.has(event.eventId)) world.events.set(event.eventId, event);
      return event.eventId;
    });
  }

  /** Whether nothing waits to be looked at again, and no verdict is by a guess: what is decided by one is no function of what was delivered. */
  async #isJudged(): Promise<boolean> {
    const { roomId } = this.#play.world;
    if ((await readAssumedGaps(this.#store, roomId)).length > 0) return false;
    return (await countCorrectionsDue(this.#store, roomId)) === 0 && !(await isCurrentStateDue(this.#store, roomId));
  }

  /**
   * What is refused as its own ancestor has to be on a circle by prev edges, and of each circle the event that came last is. Of events that
   * cite each other as auth events one at least is refused, as the oracle says by itself.
   */
  #readCircles(rows: ReadonlyMap<EventId, StoredEventState>): void {
    const { world, coverage } = this.#play;
    for (const { eventId, rule } of rows.values()) {
      if (rule === CYCLE && this.oracle.circleOf(eventId).length > 0) this.#cut.add(eventId);
    }
    for (const { by, eventIds } of world.circles) {
      const held = eventIds.flatMap((id) => (this.delivered.has(id) ? (rows.get(id) ?? []) : []));
      if (held.length < eventIds.length) continue;
      coverage.count(`${by} edges in a circle`);
      const [last] = held.toSorted((a, b) => b.position - a.position);
      if (by === 'auth' || last === undefined || this.#cut.has(last.eventId)) continue;
      this.#differ(`${this.#nameOf(last.eventId)} is its own ancestor and came last, and is not refused for it`);
      this.#cut.add(last.eventId);
    }
  }

  async #joinsThatBegan(): Promise<Set<EventId>> {
    const journal = await readJournal(this.#store, {
      roomId: this.#play.world.roomId,
      sincePosition: 0,
      limit: 100_000,
    });
    const epochs = new Map<number, EventId>();
    for (const { epoch, event } of journal) {
      const begins = event.type === 'PartialStateJoined' || event.type === 'FullStateJoined';
      if (begins && !epochs.has(epoch)) epochs.set(epoch, event.joinEventId);
    }
    return new Set(epochs.values());
  }

  /** Deletes what no event, no anchor and not the room names any more, as the maintenance does within some days. */
  async #collect(): Promise<void> {
    const heartbeat = (): void => undefined;
    const { roomId } = this.#play.world;
    await collectChunks(this.#store, roomId, { now: 0, heartbeat });
    const deleted = await collectChunks(this.#store, roomId, { now: 2 * DAY_MS, heartbeat });
    this.#play.coverage.count('chunks of states collected', deleted);
  }

  async #compareResolutions(): Promise<void> {
    const { world, coverage } = this.#play;
    const bySynapse = await resolveBySynapse(world, this.oracle.resolutions);
    const { compared = 0, differences = [] } = bySynapse ?? {};
    if (bySynapse === undefined) coverage.count('resolutions not made by Synapse, which is not here');
    coverage.count('resolutions made by Synapse, too', compared);
    for (const difference of differences) this.#differ(difference);
  }

  async #compareFolds(): Promise<void> {
    const { roomId } = this.#play.world;
    const query = { roomId, rowsMax: ROWS_SHOWN, signal: new AbortController().signal };
    for await (const { differences, unfoldable } of this.#play.shadows.rebuild(this.#store, query)) {
      if (unfoldable !== undefined) this.#differ(`the journal cannot be folded again: ${unfoldable}`);
      for (const { table, rows, first } of differences) {
        this.#differ(`${table} differs from its journal in ${rows} rows: ${JSON.stringify(first)}`);
      }
    }
  }

  /**
   * Those that succeeded; of one that was cut off and finished later nobody was told, and only the journal knows. One of which the
   * answer was of no use may be in the state that a later one of the same user builds on, in this stay or a later one: he is told to be in
   * by that, which is no event of the timeline.
   */
  async #joinsOfOurs(isBefore: (eventId: EventId) => boolean): Promise<EventId[]> {
    const { residents, world, joined } = this.#play;
    const ids = residents.joins.map(({ eventId }) => eventId);
    const rows = await readEventStates(this.#store, world.roomId, ids);
    const isFollowed = ({ eventId, userId }: TakenJoin): boolean =>
      residents.joins.some(
        (later) => later.userId === userId && rows.has(later.eventId) && world.isAncestor(eventId, later.eventId),
      );
    return residents.joins.flatMap((join) => {
      const { eventId } = join;
      return rows.has(eventId) || (joined.has(eventId) && !isBefore(eventId) && !isFollowed(join)) ? [eventId] : [];
    });
  }

  async #compareEvent(
    eventId: EventId,
    row: StoredEventState | undefined,
    softFailed: ReadonlySet<EventId>,
  ): Promise<void> {
    const name = this.#nameOf(eventId);
    if (row === undefined) {
      this.#differ(`${name} has no place in the timeline${await this.#whyNot(eventId)}`);
      return;
    }
    if (row.partial) this.#differ(`${name} is still partial`);
    const { verdict, rule } = this.oracle.judgementOf(eventId);
    if (verdict !== row.verdict) {
      this.#differ(`${name} is ${row.verdict} (${row.rule ?? ''}), and should be ${verdict} (${rule ?? ''})`);
    }
    this.#play.coverage.count(`verdict ${verdict}${rule === undefined ? '' : ` by ${rule}`}`);
    const isSoftFailed = softFailed.has(eventId);
    if (row.softFailed !== isSoftFailed && verdict === 'accepted') {
      this.#differ(`${name} is ${isSoftFailed ? 'not ' : ''}soft-failed, and should not be so`);
    }
    this.#compareStates(`the state before ${name}`, this.#stateOf(row.stateBefore), this.oracle.stateBefore(eventId));
  }

  async #check6(): Promise<Check6Outcome> {
    const { world, plan, coverage } = this.#play;
    const journal = await readJournal(this.#store, { roomId: world.roomId, sincePosition: 0, limit: 100_000 });
    coverJournal(coverage, journal, (eventId) => world.truth.event(eventId));
    const outcome = await check6({
      oracle: this.oracle,
      journal,
      isOurs: (eventId) => this.#play.isOurs(eventId),
      isCut: (eventId) => this.#cut.has(eventId),
      isReplayed: plan.retroSoftFail,
      readState: (id) => Promise.resolve(this.#stateOf(id)),
    });
    const { talk } = this.#play;
    const stateOf = (id: SnapshotId): StateMap => this.#stateOf(id);
    for (const difference of compareOwed({ world, oracle: this.oracle, journal, talk, stateOf })) {
      this.#differ(difference);
    }
    coverage.count('check 6 by verdicts of then', outcome.judgedByThen);
    coverage.count('soft-failed', outcome.softFailed.size);
    return outcome;
  }

  async #compareRoom({ softFailed, ofLastStay, ofEarlierStays }: Check6Outcome): Promise<void> {
    const { world } = this.#play;
    const standing = await readStanding(this.#store, world.roomId);
    if (standing === undefined) return;
    const isSolid = (id: EventId): boolean => !softFailed.has(id) && !this.oracle.isRejected(id);
    const prevEventsOf = (id: EventId): readonly EventId[] =>
      this.#cut.has(id) ? [] : this.oracle.event(id).prevEvents;
    const tipsBeside = (earlier: Iterable<EventId>): Set<EventId> =>
      extremitiesOf(ofLastStay, { further: this.delivered, earlier }, prevEventsOf, isSolid);
    const tips = tipsBeside(ofEarlierStays);
    if (tips.size < tipsBeside([]).size) this.#play.coverage.count('late before an earlier stay');
    const missing = [...tips].filter((id) => !standing.extremities.includes(id));
    const extra = standing.extremities.filter((id) => !tips.has(id));
    if (missing.length > 0) {
      this.#differ(`no extremities, and should be: ${missing.map((id) => this.#nameOf(id)).join()}`);
    }
    if (extra.length > 0) this.#differ(`extremities, and should not be: ${extra.map((id) => this.#nameOf(id)).join()}`);
    if (standing.currentState === null) {
      this.#differ('the room has no state');
      return;
    }
    // Where nothing of the stay stands, its join among that, the state is the one that the join was made on.
    const [opening] = ofLastStay;
    const standingOn = tips.size === 0 && opening !== undefined ? [opening] : [...tips];
    const current = this.oracle.resolve(standingOn.map((id) => this.oracle.stateAfter(id)));
    this.current = current;
    this.#compareStates('the current state', this.#stateOf(standing.currentState), current);
    await this.#compareMembers(current);
  }

  /** What lists say of the room. */
  async #compareMembers(current: StateMap): Promise<void> {
    const { world } = this.#play;
    const members = [...current.values()].map((id) => this.oracle.event(id)).filter(isMember);
    const ours = members.filter(({ stateKey }) => domainOf(stateKey as UserId) === world.us);
    const local = await readLocalMembers(this.#store, world.roomId);
    const tell = (rows: readonly { readonly userId: string; readonly membership: unknown }[]): string =>
      rows
        .map(({ userId, membership }) => `${userId} ${String(membership)}`)
        .sort()
        .join();
    const is = tell(local);
    const should = tell(
      ours.map(({ stateKey, content }) => ({ userId: stateKey ?? '', membership: content['membership'] })),
    );
    if (is !== should) this.#differ(`our users are ${is}, and should be ${should}`);
    const [row] = await this.#store.query<{ count: number | null }>(
      `SELECT members AS count FROM rooms WHERE room_id = $1`,
      [world.roomId],
    );
    const joined = members.filter(({ content }) => content['membership'] === 'join').length;
    const count = row?.count ?? joined;
    if (count !== joined) this.#differ(`${count} members are counted, and there are ${joined}`);
  }

  #compareStates(what: string, is: StateMap, should: StateMap): void {
    const places = [...new Set([...is.keys(), ...should.keys()])].filter(
      (place) => is.get(place) !== should.get(place),
    );
    if (places.length === 0) return;
    const told = places.slice(0, 3).map((place) => {
      const tell = (id: EventId | undefined): string => (id === undefined ? 'nothing' : this.#nameOf(id));
      return `${place}: ${tell(is.get(place))}, and should be ${tell(should.get(place))}`;
    });
    this.#differ(`${what} differs in ${places.length} places: ${told.join('; ')}`);
  }

  #stateOf(id: SnapshotId): StateMap {
    if (this.#states === undefined) throw new Error('states are read before they are compared');
    return this.#states.stateOf(id);
  }

  async #whyNot(eventId: EventId): Promise<string> {
    const { roomId } = this.#play.world;
    const staged = await this.#store.query<{ reason: string }>(
      `SELECT coalesce(reason, '') AS reason FROM staged_pdus WHERE room_id = $1 AND event_id = $2`,
      [roomId, eventId],
    );
    const how = this.#play.pushed.has(eventId) ? 'pushed' : 'given';
    const reasons = staged.map(({ reason }) => reason).join();
    return ` (${how}${reasons === '' ? '' : `, staged: ${reasons}`})`;
  }

  #nameOf(eventId: EventId): string {
    const { type, sender, stateKey, content } = this.#play.world.truth.event(eventId);
    const what = type === 'm.room.member' ? `${JSON.stringify(content['membership'])} of ${stateKey ?? ''}` : type;
    return `${eventId.slice(0, 8)} (${what} by ${sender})`;
  }

  #differ(difference: string): void {
    this.differences.push(difference);
  }
}

function isMember({ type, stateKey }: Pdu): boolean {
  return type === 'm.room.member' && stateKey !== undefined;
}
