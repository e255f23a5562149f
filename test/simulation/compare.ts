/**
 * What our database holds after a run, beside what the oracle makes of the run's own log: the events that were delivered, each
 * one's verdict and the state before it, the newest events of the room, and its state. Also whether the journal, folded once
 * more, makes the same tables; of every other room the states that nothing needs any more are deleted before.
 */
import { type EventId } from '../../src/matrix/identifiers.ts';
import { type StateMap, stateMapKey } from '../../src/matrix/state-map.ts';
import { type SnapshotId } from '../../src/resync/events.ts';
import { readPartialAnchors } from '../../src/store/events/anchors.ts';
import { type StoredEventState, readEventStates } from '../../src/store/events/event-states.ts';
import { readJournal } from '../../src/store/journal/journal.ts';
import { readRoom, readStanding } from '../../src/store/journal/rooms.ts';
import { rebuildFolds } from '../../src/store/journal/rebuild.ts';
import { type Store, openStore } from '../../src/store/open-store.ts';
import { collectChunks } from '../../src/store/snapshots/collect-chunks.ts';
import { readSnapshot } from '../../src/store/snapshots/snapshots.ts';
import { type Oracle } from './oracle.ts';
import { type Play } from './play.ts';

export interface Comparison {
  /** In words, each; empty: all is equal. */
  readonly differences: readonly string[];
  readonly delivered: number;
  readonly oracle: Oracle;
}

const DAY_MS = 86_400_000;
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
  return { differences: comparing.differences, delivered: comparing.delivered.size, oracle: comparing.oracle };
}

/** Entries by which what was judged before may have been judged by something else. */
const CORRECTIONS: ReadonlySet<string> = new Set(['VerdictChanged', 'StatesChanged', 'AnchorCorrected']);

class Comparing {
  readonly differences: string[] = [];
  readonly #play: Play;
  readonly #store: Store;
  /** Delivered to us, and none of what lies before our join: the set that everything is a function of. */
  readonly delivered = new Set<EventId>();
  readonly oracle: Oracle;
  /** Delivered, and anchors already: they have no place of their own. */
  readonly #tolerated = new Set<EventId>();
  readonly #snapshots = new Map<SnapshotId, Promise<StateMap>>();

  constructor(play: Play, store: Store) {
    const { world } = play;
    this.#play = play;
    this.#store = store;
    this.oracle = world.oracle(
      (eventId) => this.delivered.has(eventId),
      (eventId) => world.truth.stateAfter(eventId),
    );
  }

  async run(): Promise<void> {
    const { world, residents, pushed } = this.#play;
    const joins = await this.#joinsOfOurs();
    const [first] = joins;
    if (first === undefined) return;
    const before = world.ancestorsOf([first]);
    for (const eventId of [...joins, ...pushed, ...residents.given]) {
      if (!before.has(eventId)) this.delivered.add(eventId);
    }
    const room = await readRoom(this.#store, world.roomId);
    if (room === undefined) {
      this.#differ('there is no room');
      return;
    }
    if (room.partial) this.#differ('the room is still partial');
    if (this.#play.plan.seed % 2 === 0) await this.#collect();
    const rows = await readEventStates(this.#store, world.roomId, [...this.delivered]);
    for (const eventId of this.delivered) await this.#compareEvent(eventId, rows.get(eventId));
    const partial = await readPartialAnchors(this.#store, world.roomId);
    if (partial.length > 0) this.#differ(`anchors are still partial: ${partial.join()}`);
    await this.#compareRoom(rows);
    await this.#compareFolds();
  }

  /** Deletes what no event, no anchor and not the room names any more, as the maintenance does within some days. */
  async #collect(): Promise<void> {
    const heartbeat = (): void => undefined;
    const { roomId } = this.#play.world;
    await collectChunks(this.#store, roomId, { now: 0, heartbeat });
    const deleted = await collectChunks(this.#store, roomId, { now: 2 * DAY_MS, heartbeat });
    this.#play.coverage.count('chunks of states collected', deleted);
  }

  async #compareFolds(): Promise<void> {
    const { roomId } = this.#play.world;
    const query = { roomId, rowsMax: ROWS_SHOWN, signal: new AbortController().signal };
    for await (const { differences, unfoldable } of rebuildFolds(this.#store, query)) {
      if (unfoldable !== undefined) this.#differ(`the journal cannot be folded again: ${unfoldable}`);
      for (const { table, rows, first } of differences) {
        this.#differ(`${table} differs from its journal in ${rows} rows: ${JSON.stringify(first)}`);
      }
    }
  }

  /** Those that succeeded; of one that was cut off and finished later nobody was told, and only the journal knows. */
  async #joinsOfOurs(): Promise<EventId[]> {
    const { residents, world, joined } = this.#play;
    const ids = residents.joins.map(({ eventId }) => eventId);
    const rows = await readEventStates(this.#store, world.roomId, ids);
    return ids.filter((id) => joined.has(id) || rows.has(id));
  }

  async #compareEvent(eventId: EventId, row: StoredEventState | undefined): Promise<void> {
    const name = this.#nameOf(eventId);
    if (row === undefined) {
      if (!(await this.#isAnchor(eventId))) {
        this.#differ(`${name} has no place in the timeline${await this.#whyNot(eventId)}`);
      } else {
        this.#tolerated.add(eventId);
      }
      return;
    }
    if (row.partial) this.#differ(`${name} is still partial`);
    const { verdict, rule } = this.oracle.judgementOf(eventId);
    if (verdict !== row.verdict) {
      this.#differ(`${name} is ${row.verdict} (${row.rule ?? ''}), and should be ${verdict} (${rule ?? ''})`);
    }
    this.#play.coverage.count(`verdict ${verdict}${rule === undefined ? '' : ` by ${rule}`}`);
    this.#compareStates(
      `the state before ${name}`,
      await this.#stateOf(row.stateBefore),
      this.oracle.stateBefore(eventId),
    );
  }

  async #compareRoom(rows: ReadonlyMap<EventId, StoredEventState>): Promise<void> {
    const { world } = this.#play;
    const standing = await readStanding(this.#store, world.roomId);
    if (standing === undefined) return;
    const softFailed = await this.#softFailed(rows);
    for (const eventId of this.delivered) {
      const row = rows.get(eventId);
      const should = softFailed.has(eventId);
      if (row === undefined || row.softFailed === should || row.verdict === 'rejected') continue;
      this.#differ(`${this.#nameOf(eventId)} is ${row.softFailed ? '' : 'not '}soft-failed, and should not be so`);
    }
    const tips = this.#extremities(new Set(this.delivered), softFailed);
    const optional = this.#reachedBeyond(tips);
    const missing = [...tips].filter((id) => !standing.extremities.includes(id) && !optional.has(id));
    const extra = standing.extremities.filter((id) => !tips.has(id));
    if (this.#tolerated.size > 0) {
      this.#play.coverage.count('tolerated: pushed anchor');
      return;
    }
    if (missing.length > 0) {
      this.#differ(`no extremities, and should be: ${missing.map((id) => this.#nameOf(id)).join()}`);
    }
    if (extra.length > 0) this.#differ(`extremities, and should not be: ${extra.map((id) => this.#nameOf(id)).join()}`);
    if (standing.currentState === null) {
      this.#differ('the room has no state');
      return;
    }
    const resolved = [...tips].filter((id) => !optional.has(id) || standing.extremities.includes(id));
    const current = this.oracle.resolve(resolved.map((id) => this.oracle.stateAfter(id)));
    this.#compareStates('the current state', await this.#stateOf(standing.currentState), current);
  }

  /** What nothing that is accepted and not soft-failed reaches, of those of `among` that are so themselves. */
  #extremities(among: ReadonlySet<EventId>, softFailed: ReadonlySet<EventId>): Set<EventId> {
    const { world } = this.#play;
    const isSolid = (id: EventId): boolean => among.has(id) && !softFailed.has(id) && !this.oracle.isRejected(id);
    const solid = [...among].filter(isSolid);
    const reached = new Set<EventId>();
    const toLook = solid.flatMap((id) => world.truth.event(id).prevEvents);
    for (let id = toLook.pop(); id !== undefined; id = toLook.pop()) {
      if (reached.has(id)) continue;
      reached.add(id);
      // An edge out of what was delivered ends where it leads.
      if (among.has(id)) toLook.push(...world.truth.event(id).prevEvents);
    }
    return new Set(solid.filter((id) => !reached.has(id)));
  }

  /** Of extremities, those that others reach through events that were not delivered to us: whether they are is our choice. */
  #reachedBeyond(tips: ReadonlySet<EventId>): Set<EventId> {
    const { world } = this.#play;
    return new Set([...tips].filter((tip) => [...tips].some((other) => other !== tip && world.isAncestor(tip, other))));
  }

  /** Replays check 6 in the order in which the journal took the events in. */
  async #softFailed(rows: ReadonlyMap<EventId, StoredEventState>): Promise<Set<EventId>> {
    const { world } = this.#play;
    const softFailed = new Set<EventId>();
    const journal = await readJournal(this.#store, { roomId: world.roomId, sincePosition: 0, limit: 10_000 });
    const whole = journal.flatMap(({ position, event }) =>
      event.type === 'ResyncCompleted' || event.type === 'FullStateJoined' ? [position] : [],
    );
    const completedAt = Math.min(Infinity, ...whole);
    // What came into the whole room was judged by the current state of then, and a correction does not judge it again.
    const correctedAt = Math.max(
      0,
      ...journal.flatMap(({ position, event }) => (CORRECTIONS.has(event.type) ? [position] : [])),
    );
    // A join into a whole room brings parents that we do not hold, and what is newest then depends on how far these are known. So it
    // does while an event that is delivered later stands as an anchor: the product follows its edges, the replay here does not.
    const isUnsettled = ({ event }: (typeof journal)[number]): boolean =>
      event.type === 'ParentsLearned' ||
      (event.type === 'GapClosed' && rows.has(event.eventId)) ||
      (event.type === 'ResidentsLearned' && event.fetchAt.some((id) => rows.has(id)));
    if (journal.some(isUnsettled)) {
      this.#play.coverage.count('check 6 not compared');
      return new Set([...rows.values()].filter((row) => row.softFailed).map(({ eventId }) => eventId));
    }
    const ordered = [...rows.values()].sort((a, b) => a.position - b.position);
    const takenIn = new Set<EventId>();
    for (const { eventId, position, softFailed: isSoftFailed } of ordered) {
      const wasPartial = position < completedAt;
      if (!wasPartial && position < correctedAt) {
        this.#play.coverage.count('check 6 not compared: corrected since');
        if (isSoftFailed) softFailed.add(eventId);
        takenIn.add(eventId);
        continue;
      }
      const isJudged = !this.#play.isOurs(eventId) && (!wasPartial || this.#play.plan.retroSoftFail);
      if (isJudged && takenIn.size > 0 && !this.oracle.isRejected(eventId)) {
        const tips = this.#extremities(takenIn, softFailed);
        const states = [...tips].map((id) => this.oracle.stateAfter(id));
        const beyondGap = world.truth.event(eventId).prevEvents.some((id) => !takenIn.has(id));
        if (beyondGap) states.push(this.oracle.stateBefore(eventId));
        if (!this.oracle.isAllowedBy(eventId, this.oracle.resolve(states))) softFailed.add(eventId);
      }
      takenIn.add(eventId);
    }
    if (softFailed.size > 0) this.#play.coverage.count('soft-failed', softFailed.size);
    return softFailed;
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

  #stateOf(id: SnapshotId): Promise<StateMap> {
    const known = this.#snapshots.get(id);
    if (known !== undefined) return known;
    const reading = readSnapshot(this.#store, this.#play.world.roomId, id).then(
      (entries) => new Map(entries.map(({ type, stateKey, eventId }) => [stateMapKey(type, stateKey), eventId])),
    );
    this.#snapshots.set(id, reading);
    return reading;
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

  async #isAnchor(eventId: EventId): Promise<boolean> {
    const { roomId } = this.#play.world;
    const rows = await this.#store.query(`SELECT FROM anchors WHERE room_id = $1 AND event_id = $2`, [roomId, eventId]);
    return rows.length > 0;
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
