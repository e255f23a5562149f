import { afterAll, beforeAll, expect, test } from 'vitest';
import { systemClock } from '../../../src/clock.ts';
import {
  type EventId,
  type RoomAlias,
  type RoomId,
  type ServerName,
  type UserId,
} from '../../../src/matrix/identifiers.ts';
import { type RoomsContext } from '../../../src/rooms/context.ts';
import { type NotReady, type Ready, type RoomReads } from '../../../src/rooms/contract.ts';
import { type SnapshotId } from '../../../src/resync/events.ts';
import { operatorReads } from '../../../src/rooms/read/for-operators.ts';
import { append } from '../../../src/store/journal/journal.ts';
import { type Notifier, createNotifier } from '../../../src/store/notify.ts';
import { type Store, withTransaction } from '../../../src/store/open-store.ts';
import { insertPdus } from '../../../src/store/events/pdus.ts';
import { createRoom, openEpoch } from '../../../src/store/journal/rooms.ts';
import { createSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { recordJoinIntent } from '../../../src/store/tables/intents.ts';
import { type CheckedPdu } from '../../../src/verification/contract.ts';
import { ROOM, member, state } from '../../store/events.ts';
import { type TestDatabase, createTestDatabase } from '../../support/postgres.ts';
import { statementsOf } from '../../support/statements.ts';

let database: TestDatabase;
let store: Store;
let notifier: Notifier;
let reads: RoomReads;
const signal = new AbortController().signal;

/** A membership with a body, as the parser of events takes it apart. */
function memberWith(eventId: string, userId: string, content: Record<string, unknown>): CheckedPdu {
  const json = JSON.stringify({ type: 'm.room.member', state_key: userId, sender: userId, content });
  const { membership } = content;
  return member(eventId, userId, '', { json, membership: typeof membership === 'string' ? membership : null });
}

const users = Array.from({ length: 1_200 }, (_, i) => `@user-${i}:there.test`);
const events: CheckedPdu[] = [
  state('$create', 'm.room.create', '', { json: '{"type":"m.room.create","state_key":"","n":1e3}' }),
  memberWith('$nul', '@nul:there.test', { membership: 'join', displayname: 'a \u0000 and \ud800' }),
  memberWith('$number', '@number:there.test', { membership: 'join', displayname: 5 }),
  memberWith('$nothing', '@nothing:there.test', { membership: ['join'] }),
  ...users.map((user, i) =>
    memberWith(`$m${i}`, user, { membership: i % 3 === 0 ? 'leave' : 'join', displayname: user }),
  ),
];

beforeAll(async () => {
  database = await createTestDatabase();
  store = database.openStore();
  notifier = createNotifier(store);
  const used: Pick<RoomsContext, 'store' | 'notifier' | 'clock' | 'serverName'> = {
    store,
    notifier,
    clock: systemClock,
    serverName: 'here.test' as ServerName,
  };
  reads = operatorReads(used as RoomsContext);
  await insertPdus(store, events);
  const currentState = await createSnapshot(
    store,
    ROOM,
    events.map(({ eventId }) => eventId),
  );
  await openRoom(ROOM, currentState);
});
afterAll(async () => {
  await notifier.close();
  await database.drop();
});

async function openRoom(roomId: RoomId, currentState: SnapshotId): Promise<void> {
  await withTransaction(store, async (tx) => {
    const room = await openEpoch(tx, await createRoom(tx, roomId, '11'));
    await append(tx, room, [{ type: 'CurrentStateResolved', currentState }]);
  });
}

async function rowsOf<Row>(answer: Ready<Row> | NotReady): Promise<Row[]> {
  if (!answer.ready) throw new Error(answer.reason);
  const rows: Row[] = [];
  for await (const page of answer.pages) rows.push(...page);
  return rows;
}

const members = async (membership: string | null) =>
  rowsOf(await reads.members(ROOM, { waitMs: 0, membership, signal }));

test('members of a whole room are given with the names they chose, and without events that say of no membership what it is', async () => {
  const all = await members(null);
  expect(all).toHaveLength(users.length + 2);
  const byId = new Map(all.map((row) => [row.eventId as string, row]));
  expect(byId.get('$m1')).toEqual({
    userId: '@user-1:there.test',
    eventId: '$m1',
    membership: 'join',
    displayName: '@user-1:there.test',
  });
  expect(byId.get('$nul')).toMatchObject({ displayName: 'a \u0000 and \ud800' });
  expect(byId.get('$number')).toMatchObject({ displayName: null });
  expect(byId.has('$nothing')).toBe(false);
});

test('members are given by their membership', async () => {
  expect((await members('leave')).map(({ userId }) => userId).sort()).toEqual(
    users.filter((_, i) => i % 3 === 0).sort(),
  );
  expect(await members('join')).toHaveLength(802);
  expect(await members('knock')).toEqual([]);
});

test('in a room that has no redaction a whole state is looked through for one once, not a page at a time', async () => {
  const statements = await statementsOf(async () => expect(await members(null)).toHaveLength(users.length + 2));
  expect(statements.filter((text) => text.includes('m.room.redaction'))).toHaveLength(1);
});

test('the state is given as it was received, with memberships or without', async () => {
  const whole = await rowsOf(await reads.state(ROOM, { waitMs: 0, members: true, signal }));
  const bodies = new Map(events.map(({ eventId, json }) => [eventId, Buffer.from(json).toString()]));
  expect(new Map(whole.map(({ eventId, json }) => [eventId, json]))).toEqual(bodies);
  expect(whole).toHaveLength(events.length);
  expect(await rowsOf(await reads.state(ROOM, { waitMs: 0, members: false, signal }))).toEqual([
    { eventId: '$create', json: '{"type":"m.room.create","state_key":"","n":1e3}' },
  ]);
});

test('all rooms are listed, and an alias among them is found, with as many statements for many rooms as for one', async () => {
  const few = await statementsOf(async () => expect(await reads.listRooms()).toMatchObject([{ membersKnown: 802 }]));
  expect(few).toHaveLength(1);
  for (let i = 0; i < 20; i += 1) {
    const roomId = `!listed-${i}:there.test` as RoomId;
    const json = JSON.stringify({ content: { alias: `#listed-${i}:there.test` } });
    const create = state(`$create-${i}`, 'm.room.create', '', { roomId });
    const alias = state(`$alias-${i}`, 'm.room.canonical_alias', '', { roomId, json });
    await insertPdus(store, [create, alias]);
    await openRoom(roomId, await createSnapshot(store, roomId, [create.eventId, alias.eventId]));
  }
  const many = await statementsOf(async () => expect(await reads.listRooms()).toHaveLength(21));
  expect(many).toHaveLength(1);
  const found = await statementsOf(async () =>
    expect(await reads.resolveRoom('#listed-19:there.test' as RoomAlias, signal)).toBe('!listed-19:there.test'),
  );
  expect(found).toHaveLength(1);
});

test('a room that nobody is in yet is described by the joins of it that are open, without their events', async () => {
  const roomId = '!open:there.test' as RoomId;
  await expect(reads.describeRoom(roomId)).rejects.toMatchObject({ kind: 'unknown-room' });
  const intent = {
    ...{ what: 'join' as const, roomId, roomVersion: '11', via: [], event: {}, attempts: 2, notBefore: 9 },
    ...{ userId: '@me:here.test' as UserId, eventId: '$open' as EventId, resident: 'there.test' as ServerName },
    ...{ createdAt: 5, lastReason: 'no answer within 60 s' },
  };
  await recordJoinIntent(store, intent);
  const { openIntents, epoch, resync } = await reads.describeRoom(roomId);
  expect({ epoch, phase: resync.phase }).toEqual({ epoch: 0, phase: 'absent' });
  expect(openIntents).toEqual([
    {
      ...{ what: 'join', userId: '@me:here.test', eventId: '$open', resident: 'there.test', createdAt: 5, attempts: 2 },
      ...{ notBefore: 9, lastReason: 'no answer within 60 s' },
    },
  ]);
});
