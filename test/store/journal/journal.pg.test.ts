import { spawn } from 'node:child_process';
import { expect, test } from 'vitest';
import { type EventId, type RoomId, type ServerName, type UserId, domainOf } from '../../../src/matrix/identifiers.ts';
import { learnServers } from '../../../src/store/tables/room-servers.ts';
import { type ResyncEvent, type SnapshotId, type TimelineEvent } from '../../../src/resync/events.ts';
import { countPartial, readEventStates, readPartialEvents } from '../../../src/store/events/event-states.ts';
import { append, readHead, readJournal, readResyncEvents } from '../../../src/store/journal/journal.ts';
import { AlreadyJournalledError } from '../../../src/store/journal/write-entries.ts';
import { type Appended, withTransaction } from '../../../src/store/open-store.ts';
import { insertPdus } from '../../../src/store/events/pdus.ts';
import {
  countPartialRooms,
  createRoom,
  isAnybodyIn,
  listRooms,
  lockResync,
  lockRoom,
  openEpoch,
  overdueResyncs,
  readLocalMembers,
  readResync,
  readRoom,
} from '../../../src/store/journal/rooms.ts';
import { changeSnapshot, createSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { type CheckedPdu } from '../../../src/verification/contract.ts';
import { CONNECTION_LIMITS, limitedConnection } from '../../../src/store/connection-limits.ts';
import { journal } from '../../../src/store/schema/journal.ts';
import { openTestStore } from '../../support/postgres.ts';
import { statementsOf } from '../../support/statements.ts';
import { ids, member, message, state } from '../events.ts';

const { database, store } = await openTestStore();

const resident = 'there.test' as ServerName;
const at = 1_700_000_000_000;
let rooms = 0;

/** A room of its own with an open epoch, its create event and one local join, as a joined room has them. */
async function openRoom(): Promise<{ roomId: RoomId; create: EventId; join: EventId; joined: SnapshotId }> {
  rooms += 1;
  const roomId = `!room-${rooms}:there.test` as RoomId;
  const create = `$create-${rooms}` as EventId;
  const join = `$join-${rooms}` as EventId;
  await insertPdus(store, [
    state(create, 'm.room.create', '', { roomId }),
    member(join, '@me:here.test', 'join', { roomId, prevEvents: [create] }),
  ]);
  const joined = await createSnapshot(store, roomId, [create, join]);
  await withTransaction(store, async (tx) => {
    await openEpoch(tx, await createRoom(tx, roomId, '11'));
  });
  return { roomId, create, join, joined };
}

async function appendTo(roomId: RoomId, events: readonly (ResyncEvent | TimelineEvent)[]) {
  return withTransaction(store, async (tx) => append(tx, (await lockRoom(tx, roomId))!, events));
}

async function overdueIds(query: Parameters<typeof overdueResyncs>[1]): Promise<RoomId[]> {
  return (await overdueResyncs(store, query)).map(({ roomId }) => roomId);
}

function joinedPartially(join: EventId): ResyncEvent {
  return {
    type: 'PartialStateJoined',
    joinEventId: join,
    userId: '@me:here.test' as UserId,
    roomVersion: '11',
    joinedVia: resident,
    serversInRoom: [resident],
    fetchAt: ids('$before'),
    stateBefore: '0'.repeat(32) as SnapshotId,
    at,
  };
}

/** Takes `pdu` in without a change of state. */
function accepted(eventId: string, snapshot: SnapshotId, about: { partial?: boolean; softFailed?: boolean } = {}) {
  return {
    type: 'PduAccepted',
    eventId: eventId as EventId,
    partial: about.partial ?? true,
    softFailed: about.softFailed ?? false,
    stateBefore: snapshot,
    stateAfter: snapshot,
    currentState: snapshot,
  } as const satisfies TimelineEvent;
}

function rejected(eventId: string, snapshot: SnapshotId): TimelineEvent {
  return {
    type: 'PduRejected',
    eventId: eventId as EventId,
    partial: true,
    stateBefore: snapshot,
    rule: 'sender-not-joined',
    reason: 'quotes \u0000 and \ud800',
  };
}

function unPartialStated(
  eventId: string,
  snapshot: SnapshotId,
  was: 'accepted' | 'rejected',
  is: typeof was,
): TimelineEvent {
  return {
    type: 'EventUnPartialStated',
    eventId: eventId as EventId,
    stateBefore: snapshot,
    stateAfter: snapshot,
    was,
    is,
  };
}

async function extremities(roomId: RoomId): Promise<readonly string[]> {
  return withTransaction(store, async (tx) => (await lockRoom(tx, roomId))!.extremities);
}

async function take(
  roomId: RoomId,
  snapshot: SnapshotId,
  ...events: (CheckedPdu & { verdict?: string })[]
): Promise<void> {
  await insertPdus(
    store,
    events.map((event) => ({ ...event, roomId })),
  );
  await appendTo(
    roomId,
    events.map(({ eventId, verdict }) =>
      verdict === 'rejected'
        ? rejected(eventId, snapshot)
        : accepted(eventId, snapshot, { softFailed: verdict === 'softFailed' }),
    ),
  );
}

const after = (eventId: string, prev: string[], verdict = 'accepted') => ({
  ...message(eventId, { prevEvents: prev }),
  verdict,
});

test('a partial join is folded into the room, its resync, its timeline and the local members', async () => {
  const { roomId, join, joined } = await openRoom();
  await appendTo(roomId, [joinedPartially(join), { ...accepted(join, joined) }]);
  const entries = await readJournal(store, { roomId, sincePosition: 0, limit: 10 });
  expect(entries.map(({ stream, seq, epoch }) => [stream, seq, epoch])).toEqual([
    ['resync', 1, 1],
    ['timeline', 1, 1],
  ]);
  expect(await readRoom(store, roomId)).toMatchObject({
    roomVersion: '11',
    epoch: 1,
    stateVersion: 0,
    partial: true,
    currentState: joined,
    joinEventId: join,
    joinedVia: resident,
    resync: { phase: 'fetching', candidates: [resident] },
  });
  expect(await readResync(store, roomId)).toMatchObject({ epoch: 1, seq: 1, state: { phase: 'fetching' } });
  expect((await listRooms(store)).map((room) => room.roomId)).toContain(roomId);
  expect(await isAnybodyIn(store, roomId)).toBe(true);
  expect(await readLocalMembers(store, roomId)).toEqual([
    { userId: '@me:here.test', membership: 'join', eventId: join, isSilent: false },
  ]);
  expect(await extremities(roomId)).toEqual([join]);
  expect(await countPartial(store, roomId)).toBe(1);
  expect((await readEventStates(store, roomId, [join])).get(join)).toMatchObject({
    verdict: 'accepted',
    partial: true,
    stateAfter: joined,
    position: entries[1]!.position,
  });
});

test('positions have no gap and follow the order of commits, whoever appends at once', async () => {
  const opened = await Promise.all(Array.from({ length: 8 }, openRoom));
  const before = await readHead(store);
  const seen: number[] = [];
  const watch = (async () => {
    for (let last = before; last < before + 8 * 20;) {
      const rows = await readJournal(store, { sincePosition: last, limit: 1_000 });
      seen.push(...rows.map(({ position }) => position));
      last = seen.at(-1) ?? last;
    }
  })();
  await Promise.all(
    opened.map(async ({ roomId }) => {
      for (let i = 0; i < 10; i += 1) {
        const done = { type: 'ResyncCompleted', members: i, at } as const;
        await appendTo(roomId, [done, done]);
      }
    }),
  );
  await watch;
  expect(seen).toEqual(Array.from({ length: 160 }, (_, i) => before + 1 + i));
});

test('an append holds the head of the journal for no round trip: its last statement takes COMMIT with it', async () => {
  const { roomId } = await openRoom();
  const statements = await statementsOf(() => appendTo(roomId, [{ type: 'ResyncCompleted', members: 1, at }]));
  const takers = statements.filter((text) => text.includes('UPDATE journal_head'));
  expect(takers).toEqual([statements.at(-1)]);
  expect(statements).not.toContain('COMMIT');
});

test('to append takes as many statements for a message as for fifty, and few more for a change of the state', async () => {
  const { roomId, create, join, joined } = await openRoom();
  const named = await createSnapshot(store, roomId, [create, join]);
  await appendTo(roomId, [accepted(join, joined, { partial: false })]);
  const said = Array.from({ length: 51 }, (_, i) =>
    message(`$said-${roomId}-${i}`, { roomId, prevEvents: [i === 0 ? join : `$said-${roomId}-${i - 1}`] }),
  );
  const name = state(`$name-${roomId}`, 'm.room.name', '', { roomId, prevEvents: [said.at(-1)!.eventId] });
  await insertPdus(store, [...said, name]);
  // One more the first time that a server speaks.
  const speakers = [...new Set(said.map(({ sender }) => domainOf(sender)))];
  await learnServers(store, roomId, speakers, 'spoke', at);
  const entryOf = ({ eventId }: CheckedPdu) => accepted(eventId, named, { partial: false });
  const [first, ...others] = said;
  // BEGIN, the lock and the extremities, what is appended, the room, the edges, the extremities, and the entries with COMMIT.
  expect(await statementsOf(() => appendTo(roomId, [entryOf(first!)]))).toHaveLength(STATEMENTS_AN_APPEND);
  expect(await statementsOf(() => appendTo(roomId, others.map(entryOf)))).toHaveLength(STATEMENTS_AN_APPEND);
  const changed = await changeSnapshot(store, roomId, named, [name]);
  const change = { ...entryOf(name), stateAfter: changed, currentState: changed };
  // Besides: the differing chunks that are not in memory, one a state, and the folds of what differs.
  expect((await statementsOf(() => appendTo(roomId, [change]))).length).toBeLessThanOrEqual(STATEMENTS_AN_APPEND + 4);
});

const STATEMENTS_AN_APPEND = 8;

test('what follows an append in its transaction sees it, a second append too', async () => {
  const { roomId, join, joined } = await openRoom();
  const head = await readHead(store);
  await withTransaction(store, async (tx) => {
    const room = (await lockRoom(tx, roomId))!;
    await append(tx, room, [joinedPartially(join), accepted(join, joined)]);
    expect((await readEventStates(tx, roomId, [join])).get(join)).toMatchObject({ position: head + 2 });
    await append(tx, room, [{ type: 'ResyncCompleted', members: 1, at }]);
    await tx.db.select().from(journal).limit(1);
    expect(await readHead(tx)).toBe(head + 3);
    await append(tx, room, [{ type: 'ResyncCompleted', members: 2, at }]);
  });
  const entries = await readJournal(store, { roomId, sincePosition: head, limit: 10 });
  expect(entries.map(({ position, seq }) => [position - head, seq])).toEqual([
    [1, 1],
    [2, 1],
    [3, 2],
    [4, 3],
  ]);
});

test('a verdict journalled before fails the transaction also where a statement follows', async () => {
  const { roomId, join, joined } = await openRoom();
  await appendTo(roomId, [joinedPartially(join), accepted(join, joined)]);
  const head = await readHead(store);
  const again = withTransaction(store, async (tx) => {
    await append(tx, (await lockRoom(tx, roomId))!, [accepted(join, joined)]);
    await readHead(tx);
  });
  await expect(again).rejects.toThrow(AlreadyJournalledError);
  expect(await readHead(store)).toBe(head);
});

test('a process that stops while it holds the head of the journal keeps nobody from appending', async () => {
  const { roomId } = await openRoom();
  const head = await readHead(store);
  const limits = limitedConnection({ ...CONNECTION_LIMITS, idleInTransactionMs: 300 });
  const holder = spawn(process.execPath, ['--input-type=module', '-e', HOLD_HEAD], {
    env: { ...process.env, CONNECTION: JSON.stringify({ connectionString: database.url, ...limits }) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const ended = new Promise((resolve) => holder.once('exit', resolve));
  try {
    await new Promise((resolve) => holder.stdout.once('data', resolve));
    holder.kill('SIGSTOP');
    await appendTo(roomId, [{ type: 'ResyncCompleted', members: 1, at }]);
    expect(await readHead(store)).toBe(head + 1);
  } finally {
    holder.kill('SIGKILL');
    await ended;
  }
});

/** A process of its own, which takes the head of the journal and says so. */
const HOLD_HEAD = `
  import pg from 'pg';
  const client = new pg.Client(JSON.parse(process.env.CONNECTION));
  await client.connect();
  await client.query('BEGIN');
  await client.query('UPDATE journal_head SET position = position + 100');
  console.log('held');
  setInterval(() => undefined, 1_000);
`;

test('an append that fails leaves no gap and no trace', async () => {
  const { roomId, joined } = await openRoom();
  const before = await readHead(store);
  await expect(appendTo(roomId, [accepted('$never-stored', joined)])).rejects.toThrow(
    '$never-stored is not a stored event',
  );
  await expect(
    withTransaction(store, async (tx) => {
      await append(tx, (await lockRoom(tx, roomId))!, [joinedPartially('$x' as EventId)]);
      throw new Error('the caller changed its mind');
    }),
  ).rejects.toThrow('changed its mind');
  expect(await readHead(store)).toBe(before);
  expect(await readRoom(store, roomId)).toMatchObject({ partial: false, resync: { phase: 'absent' } });
});

test('the start and the outcome of an attempt, and the verdict on an event, are journalled once', async () => {
  const { roomId, join, joined } = await openRoom();
  const started = { type: 'StateFetchStarted', attemptNo: 1, resident, atEventId: '$before' as EventId, at } as const;
  const failed = { ...started, type: 'StateFetchFailed', failure: 'timeout', reason: 'it took too long' } as const;
  await appendTo(roomId, [joinedPartially(join), started, failed, accepted(join, joined)]);
  await expect(appendTo(roomId, [started])).rejects.toThrow(AlreadyJournalledError);
  await expect(appendTo(roomId, [failed])).rejects.toThrow(AlreadyJournalledError);
  await expect(appendTo(roomId, [rejected(join, joined)])).rejects.toThrow('one verdict an event');
  await appendTo(roomId, [unPartialStated(join, joined, 'accepted', 'accepted')]);
  await expect(appendTo(roomId, [unPartialStated(join, joined, 'accepted', 'accepted')])).rejects.toThrow(
    AlreadyJournalledError,
  );
  await appendTo(roomId, [{ ...started, attemptNo: 2 }]);
  const events = await readResyncEvents(store, roomId, 1, 1);
  expect(events.map(({ seq, event }) => [seq, event.type])).toEqual([
    [2, 'StateFetchStarted'],
    [3, 'StateFetchFailed'],
    [4, 'StateFetchStarted'],
  ]);
});

test('an accepted event takes the place of its parents, also through rejected and soft-failed ones', async () => {
  const { roomId, join, joined } = await openRoom();
  await take(roomId, joined, after(join, []));
  await take(roomId, joined, after('$e-a', [join]), after('$e-b', [join]));
  expect(await extremities(roomId)).toEqual(['$e-a', '$e-b']);
  await take(roomId, joined, after('$e-refused', ['$e-a'], 'rejected'));
  await take(roomId, joined, after('$e-soft', ['$e-refused'], 'softFailed'));
  expect(await extremities(roomId)).toEqual(['$e-a', '$e-b']);
  await take(roomId, joined, after('$e-c', ['$e-soft']));
  expect(await extremities(roomId)).toEqual(['$e-b', '$e-c']);
  await take(
    roomId,
    joined,
    after('$e-d', ['$e-b']),
    after('$e-no', ['$e-d'], 'rejected'),
    after('$e-e', ['$e-no', '$e-c']),
  );
  expect(await extremities(roomId)).toEqual(['$e-e']);
});

test('a flip moves the extremities and the state version; a confirmation moves neither', async () => {
  const { roomId, join, joined } = await openRoom();
  await take(roomId, joined, after(join, []));
  await take(roomId, joined, after('$f-a', [join]), after('$f-b', ['$f-a']), after('$f-no', ['$f-a'], 'rejected'));
  expect(await extremities(roomId)).toEqual(['$f-b']);

  await appendTo(roomId, [unPartialStated('$f-a', joined, 'accepted', 'accepted')]);
  expect(await readRoom(store, roomId)).toMatchObject({ stateVersion: 0 });
  expect(await countPartial(store, roomId)).toBe(3);

  await appendTo(roomId, [
    {
      ...unPartialStated('$f-b', joined, 'accepted', 'rejected'),
      rule: 'banned',
      reason: 'of \u0000 old',
    } as TimelineEvent,
    unPartialStated('$f-no', joined, 'rejected', 'accepted'),
  ]);
  expect(await extremities(roomId)).toEqual(['$f-no']);
  expect(await readRoom(store, roomId)).toMatchObject({ stateVersion: 2 });
  expect([...(await readEventStates(store, roomId, ids('$f-b', '$f-no'))).values()]).toEqual(
    expect.arrayContaining([
      expect.objectContaining({ eventId: '$f-b', verdict: 'rejected', rule: 'banned', partial: false }),
      expect.objectContaining({ eventId: '$f-no', verdict: 'accepted', rule: null, partial: false }),
    ]),
  );

  await take(roomId, joined, after('$f-c', ['$f-no']));
  await appendTo(roomId, [unPartialStated('$f-c', joined, 'accepted', 'rejected')]);
  expect(await extremities(roomId)).toEqual(['$f-no']);
});

test('completion makes the room full and ends what the sweep looks for', async () => {
  const { roomId, join, joined } = await openRoom();
  await appendTo(roomId, [joinedPartially(join), accepted(join, joined)]);
  const { create } = { create: join.replace('join', 'create') as EventId };
  const alone = await createSnapshot(store, roomId, [create]);
  expect(await overdueIds({ now: at + 1_000, overdueMs: 1_001, limit: 10 })).not.toContain(roomId);
  expect(await overdueIds({ now: at + 1_000, overdueMs: 1_000, limit: 10 })).toContain(roomId);
  // Rung just now: not again before the same time has passed once more.
  expect(await overdueIds({ now: at + 1_500, overdueMs: 1_000, limit: 10 })).toEqual([]);
  expect(await overdueIds({ now: at + 2_000, overdueMs: 1_000, limit: 10 })).toContain(roomId);
  await appendTo(roomId, [
    { type: 'CurrentStateResolved', currentState: alone },
    { type: 'ResyncCompleted', members: 0, at },
  ]);
  expect(await readRoom(store, roomId)).toMatchObject({ partial: false, stateVersion: 1, currentState: alone });
  // The current state lost the membership, and so did the fold.
  expect(await readLocalMembers(store, roomId)).toEqual([]);
  expect(await isAnybodyIn(store, roomId)).toBe(false);
  expect(await overdueIds({ now: at * 2, overdueMs: 1, limit: 100 })).not.toContain(roomId);
});

test('a new epoch carries partial events over, ends the old resync, and refuses late writers of the old one', async () => {
  const { roomId, join, joined } = await openRoom();
  await appendTo(roomId, [joinedPartially(join), accepted(join, joined)]);
  await withTransaction(store, async (tx) => {
    const old = (await lockRoom(tx, roomId))!;
    const opened = await openEpoch(tx, old);
    expect(opened).toMatchObject({ epoch: 2, extremities: [] });
    await expect(append(tx, old, [joinedPartially(join)])).rejects.toThrow('locked in epoch 1');
  });
  expect(await readResync(store, roomId)).toMatchObject({ epoch: 2, state: { phase: 'absent' } });
  expect([...(await readEventStates(store, roomId, [join])).values()]).toMatchObject([{ epoch: 2, partial: true }]);
  expect(await overdueIds({ now: at * 2, overdueMs: 1, limit: 100 })).not.toContain(roomId);
  await appendTo(roomId, [joinedPartially(join)]);
  expect(await readResyncEvents(store, roomId, 1, 0)).toHaveLength(1);
  expect(await readResyncEvents(store, roomId, 2, 0)).toMatchObject([{ seq: 2, epoch: 2 }]);
});

test('a resync is locked in its own stay only', async () => {
  const { roomId, join, joined } = await openRoom();
  await appendTo(roomId, [joinedPartially(join), accepted(join, joined)]);
  await withTransaction(store, async (tx) => {
    expect(await lockResync(tx, roomId, 1)).toMatchObject({
      room: { roomId, epoch: 1 },
      resync: { phase: 'fetching' },
    });
    expect(await lockResync(tx, roomId, 2)).toBeUndefined();
    expect(await lockResync(tx, '!nowhere:test' as RoomId, 0)).toBeUndefined();
  });
});

test('partial events come parents first, even where a parent arrived after its children', async () => {
  const { roomId, join, joined } = await openRoom();
  await take(
    roomId,
    joined,
    after('$p-child', ['$p-late']),
    { ...message('$p-citing', { authEvents: ['$p-child'] }), verdict: 'accepted' },
    after(join, []),
    after('$p-late', [join]),
  );
  expect((await readPartialEvents(store, roomId, 10)).map(({ eventId }) => eventId)).toEqual([
    join,
    '$p-late',
    '$p-child',
    '$p-citing',
  ]);
  expect((await readPartialEvents(store, roomId, 1)).map(({ eventId }) => eventId)).toEqual([join]);
});

test('the observer is told of an append once it is durable, with the resync after it, and never of one rolled back', async () => {
  const told: Appended[] = [];
  const observed = database.openStore({ onAppended: (appended) => told.push(appended) });
  const { roomId, join, joined } = await openRoom();
  const events = [joinedPartially(join), accepted(join, joined)];
  const appendAnd = (then: () => void) =>
    withTransaction(observed, async (tx) => {
      await append(tx, (await lockRoom(tx, roomId))!, events);
      expect(told).toEqual([]);
      then();
    });

  await expect(
    appendAnd(() => {
      throw new Error('thought better of it');
    }),
  ).rejects.toThrow('thought better of it');
  expect(told).toEqual([]);

  await appendAnd(() => undefined);
  expect(told).toMatchObject([
    { entries: [{ roomId, epoch: 1, seq: 1, event: events[0] }, { stream: 'timeline' }], resync: { joinedAt: at } },
  ]);
});

test('an observer that fails is no failure of what was appended', async () => {
  const failing = database.openStore({
    onAppended: () => {
      throw new Error('a fault of the observer');
    },
  });
  const { roomId, join, joined } = await openRoom();
  await withTransaction(failing, async (tx) => {
    await append(tx, (await lockRoom(tx, roomId))!, [joinedPartially(join), accepted(join, joined)]);
  });
  expect(await readResyncEvents(store, roomId, 1, 0)).toHaveLength(1);
});

test('partial rooms are counted by phase, and whole ones are not', async () => {
  const before = await countPartialRooms(store);
  const { roomId, join, joined } = await openRoom();
  await appendTo(roomId, [joinedPartially(join), accepted(join, joined)]);
  const during = await countPartialRooms(store);
  expect(during.get('fetching')).toBe((before.get('fetching') ?? 0) + 1);
  await appendTo(roomId, [{ type: 'ResyncCompleted', members: 1, at }]);
  expect(await countPartialRooms(store)).toEqual(before);
});
