import { readFile } from 'node:fs/promises';
import pg from 'pg';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { type EventId, type RoomId, type ServerName } from '../../src/matrix/identifiers.ts';
import { nextAction } from '../../src/resync/next-action.ts';
import { defaultResyncPolicy } from '../../src/resync/policy.ts';
import { type RoomsContext } from '../../src/rooms/context.ts';
import { reopenAnchors } from '../../src/rooms/resync/reopen-anchors.ts';
import { walkPartialEvents } from '../../src/rooms/resync/walk.ts';
import { readParents } from '../../src/store/events/anchors.ts';
import { countPartial } from '../../src/store/events/event-states.ts';
import { readGaps } from '../../src/store/events/gaps.ts';
import { readPdus } from '../../src/store/events/pdus.ts';
import { summaryOf } from '../../src/store/journal/room-summaries.ts';
import { type RoomRow, listRooms, readLocalMembers, readRoom } from '../../src/store/journal/rooms.ts';
import { readMigrations } from '../../src/store/migration-files.ts';
import { migrate } from '../../src/store/migrate.ts';
import { type Store } from '../../src/store/open-store.ts';
import { readSnapshot } from '../../src/store/snapshots/snapshots.ts';
import { rebuilt } from '../support/folds.ts';
import { type TestDatabase, createTestDatabase } from '../support/postgres.ts';

/**
 * A dump of what the first three migrations and the code of their time left behind: rooms of versions 11, 10, 1 and 12, whole,
 * walking, in the middle of a fetch, and waiting for the next round, all with events pushed since the join.
 */
const DUMP = new URL('../fixtures/database-of-the-first-schema.sql', import.meta.url);

let database: TestDatabase;
let store: Store;
beforeAll(async () => {
  database = await createTestDatabase('empty');
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  await client.query(await readFile(DUMP, 'utf8'));
  await client.end();
  await migrate(database.url);
  const serverName = /@me:([^"\s]+)/.exec(await readFile(DUMP, 'utf8'))?.[1];
  store = database.openStore({ serverName: serverName! });
});
afterAll(() => database.drop());

async function roomIn(phase: string): Promise<RoomRow> {
  const found = (await listRooms(store)).find(({ resync }) => resync.phase === phase);
  return found!;
}

async function walk(room: RoomRow): Promise<RoomRow> {
  const used: Pick<RoomsContext, 'store' | 'clock' | 'serverName' | 'policy'> = {
    store,
    clock: systemClock,
    policy: defaultResyncPolicy,
    serverName: 'here.test' as ServerName,
  };
  const progress = { signal: new AbortController().signal, heartbeat: () => undefined };
  await walkPartialEvents(used as RoomsContext, room.roomId, room.epoch, progress);
  return (await readRoom(store, room.roomId))!;
}

test('a database of the first schema, with rooms in the middle of a resync, is brought to this one', async () => {
  const rooms = await listRooms(store);
  expect(rooms.map(({ resync }) => resync.phase).sort()).toEqual(['complete', 'fetching', 'waiting', 'walking']);
  expect(await migrate(database.url)).toBe(0);
});

test('what the migrations fill in is what the journal says: folded once more by the code of today, nothing differs', async () => {
  // Joins of then do not say which state the resident told, which is what the anchors were filled in from; a rebuild names that.
  expect((await rebuilt(store)).every(({ unfoldable }) => unfoldable?.startsWith('PartialStateJoined'))).toBe(true);
  await store.query(
    `UPDATE journal j SET data = jsonb_set(j.data::jsonb, '{stateBefore}', to_jsonb(encode(e.state_before, 'hex')))::json
       FROM event_states e WHERE j.type = 'PartialStateJoined' AND e.event_id = j.data ->> 'joinEventId'`,
  );
  const rooms = await rebuilt(store);
  expect(rooms.flatMap(({ unfoldable }) => unfoldable ?? [])).toEqual([]);
  // Who has spoken, and what a resync remembers of whom it asked, was not kept then: it is learned again. And what was worked out
  // is void by a comparison of `state_version` with itself only.
  const differences = rooms.flatMap((room) => room.differences);
  expect([...new Set(differences.map(({ table }) => table))].sort()).toEqual(['resyncs', 'room_servers', 'rooms']);
  const ofRooms = differences.flatMap(({ table, first }) => (table === 'rooms' ? first : []));
  expect(new Set(ofRooms.flatMap(({ columns = {} }) => Object.keys(columns)))).toEqual(new Set(['state_version']));
  // And there is something of it: a state at each position where it changed, and a place for each event that clients are shown.
  const [filled] = await store.query<{ states: number; shown: number; hidden: number }>(
    `SELECT (SELECT count(DISTINCT room_id) FROM current_states) AS states,
            (SELECT count(*) FROM event_states WHERE shown_at IS NOT NULL) AS shown,
            (SELECT count(*) FROM event_states WHERE shown_at IS NULL) AS hidden`,
  );
  expect(filled!.states).toBe(rooms.length);
  expect(filled!.shown).toBeGreaterThan(0);
  const applied = await store.query('SELECT FROM drizzle.__drizzle_migrations');
  expect(applied).toHaveLength(readMigrations().length);
});

test('how many are in a room from before is counted when somebody asks, and known from then on', async () => {
  for (const room of await listRooms(store)) {
    expect(room.summary).toBeNull();
    const told = await summaryOf(store, room);
    const places = await readSnapshot(store, room.roomId, room.currentState!);
    expect(told.members).toBe(places.filter(({ membership }) => membership === 'join').length);
    expect((await readRoom(store, room.roomId))?.summary).toEqual(told);
  }
});

test('a room that was walking walks on, and becomes whole', async () => {
  const room = await roomIn('walking');
  expect(await countPartial(store, room.roomId)).toBe(6);
  const after = await walk(room);
  expect(after).toMatchObject({ partial: false, resync: { phase: 'complete', walked: 6, corrected: 0 } });
  const state = await readSnapshot(store, room.roomId, after.currentState!);
  expect(state.filter(({ membership }) => membership === 'join')).toHaveLength(after.resync.members!);
  expect(await readLocalMembers(store, room.roomId)).toMatchObject([{ membership: 'join' }]);
});

test.each(['fetching', 'waiting'])(
  'in a room that was %s, parents of the join are anchors, still to be fetched',
  async (phase) => {
    const { roomId, resync } = await roomIn(phase);
    const anchors = await readParents(store, roomId, resync.fetchAt);
    expect([...anchors.keys()]).toEqual(resync.fetchAt);
    for (const { partial, isAnchor, stateAfter } of anchors.values()) {
      expect({ partial, isAnchor }).toEqual({ partial: true, isAnchor: true });
      expect(await readSnapshot(store, roomId, stateAfter)).not.toEqual([]);
    }
    expect(nextAction(resync, resync.nextWakeAt!)).toMatchObject({ type: 'fetchState', atEventId: resync.fetchAt[0] });
  },
);

test('what counted as proof before the migration still does', async () => {
  const { roomId, currentState } = await roomIn('complete');
  const state = await readSnapshot(store, roomId, currentState!);
  const pdus = await readPdus(
    store,
    roomId,
    state.map(({ eventId }) => eventId),
  );
  expect(new Set(pdus.map(({ verdict }) => verdict))).toEqual(new Set(['accepted']));
});

test('children of events are found from before the migration, too', async () => {
  const { roomId, joinEventId } = await roomIn('complete');
  const children = await store.query<{ eventId: EventId }>(
    `SELECT event_id AS "eventId" FROM event_edges WHERE room_id = $1 AND prev_event_id = $2`,
    [roomId satisfies RoomId, joinEventId],
  );
  expect(children).toHaveLength(1);
});

test('no room that is whole is left with an anchor that has no full state and no gap', async () => {
  await reopenAnchors({ store, clock: systemClock }, () => false);
  const holes = await store.query(
    `SELECT FROM anchors a JOIN rooms r ON r.room_id = a.room_id
      WHERE a.partial AND NOT r.partial
        AND NOT EXISTS (SELECT FROM gaps g WHERE g.room_id = a.room_id AND g.event_id = a.event_id)`,
  );
  expect(holes).toEqual([]);
});

test('a room that was made whole around a parent without a state after it has that asked for, and is whole meanwhile', async () => {
  const { roomId, epoch } = await roomIn('complete');
  const [event] = await store.query<{ state: string }>(
    `SELECT encode(state_before, 'hex') AS state FROM event_states WHERE room_id = $1 ORDER BY position LIMIT 1`,
    [roomId],
  );
  await store.query(
    `INSERT INTO anchors (room_id, event_id, epoch, state_after, partial) VALUES ($1, '$hole', $2, decode($3, 'hex'), true)`,
    [roomId, epoch, event!.state],
  );
  expect(await reopenAnchors({ store, clock: systemClock }, () => false)).toBe(1);
  expect((await readGaps(store, roomId)).map(({ eventId, wakeAt }) => [eventId, wakeAt !== null])).toEqual([
    ['$hole', true],
  ]);
  expect(await readRoom(store, roomId)).toMatchObject({ partial: false });
});
