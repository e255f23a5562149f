import { expect, test } from 'vitest';
import { type RoomAlias, type RoomId } from '../../../src/matrix/identifiers.ts';
import { type SnapshotId } from '../../../src/resync/events.ts';
import { insertPdus } from '../../../src/store/events/pdus.ts';
import { append } from '../../../src/store/journal/journal.ts';
import { findRoomByAlias, summaryOf } from '../../../src/store/journal/room-summaries.ts';
import {
  type RoomRow,
  type RoomSummary,
  createRoom,
  listRooms,
  lockRoom,
  openEpoch,
  readRoom,
} from '../../../src/store/journal/rooms.ts';
import { withTransaction } from '../../../src/store/open-store.ts';
import { changeSnapshot, createSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { type CheckedPdu } from '../../../src/verification/contract.ts';
import { openTestStore } from '../../support/postgres.ts';
import { statementsOf } from '../../support/statements.ts';
import { member, state } from '../events.ts';

const { store } = await openTestStore();

let made = 0;

/** A room whose current state is set from one to the next, as events and resolutions do. */
class ChangingRoom {
  readonly roomId = `!summary-${String((made += 1)).padStart(3, '0')}:there.test` as RoomId;

  /** With two members, one of them local. */
  async open(): Promise<SnapshotId> {
    const events = [
      this.event('m.room.create', '', {}),
      this.membership('@me:here.test', 'join'),
      this.membership('@a:there.test', 'join'),
    ];
    await insertPdus(store, events);
    const first = await createSnapshot(
      store,
      this.roomId,
      events.map(({ eventId }) => eventId),
    );
    await withTransaction(store, async (tx) => {
      await openEpoch(tx, await createRoom(tx, this.roomId, '11'));
    });
    return this.become(first);
  }

  async become(currentState: SnapshotId): Promise<SnapshotId> {
    await withTransaction(store, async (tx) => {
      await append(tx, (await lockRoom(tx, this.roomId))!, [{ type: 'CurrentStateResolved', currentState }]);
    });
    return currentState;
  }

  /** The current state with these events in their places, or with these places empty. */
  async change(...changes: (CheckedPdu | { type: string; stateKey: string })[]): Promise<SnapshotId> {
    await insertPdus(
      store,
      changes.filter((change) => 'eventId' in change),
    );
    const { currentState } = await this.row();
    return this.become(await changeSnapshot(store, this.roomId, currentState!, changes));
  }

  event(type: string, stateKey: string, content: unknown, hollow = false): CheckedPdu {
    const json = JSON.stringify({ type, state_key: stateKey, content });
    return state(`$summary-${(made += 1)}`, type, stateKey, { roomId: this.roomId, json, hollow });
  }

  membership(userId: string, membership: string): CheckedPdu {
    return member(`$summary-${(made += 1)}`, userId, membership, { roomId: this.roomId });
  }

  alias(alias: unknown): CheckedPdu {
    return this.event('m.room.canonical_alias', '', { alias });
  }

  name(name: unknown): CheckedPdu {
    return this.event('m.room.name', '', { name });
  }

  async row(): Promise<RoomRow> {
    return (await readRoom(store, this.roomId))!;
  }

  /** As a row from before the columns is. */
  async forget(): Promise<void> {
    await store.query(`UPDATE rooms SET members = NULL, name = NULL, canonical_alias = NULL WHERE room_id = $1`, [
      this.roomId,
    ]);
  }
}

const summary = (members: number, name: string | null, canonicalAlias: string | null): RoomSummary => ({
  members,
  name,
  canonicalAlias: canonicalAlias as RoomAlias | null,
});

/** What the row says, held against what the trie of the current state says. */
async function kept(room: ChangingRoom): Promise<RoomSummary | null> {
  const row = await room.row();
  if (row.summary !== null) expect(row.summary).toEqual(await summaryOf(store, { ...row, summary: null }));
  return row.summary;
}

test('the row of a room follows its members, its name and its alias, as its current state changes', async () => {
  const room = new ChangingRoom();
  await room.open();
  expect(await kept(room)).toEqual(summary(2, null, null));
  await room.change(room.membership('@b:there.test', 'join'), room.membership('@c:there.test', 'invite'));
  expect(await kept(room)).toEqual(summary(3, null, null));
  const named = await room.change(room.alias('#one:there.test'), room.name('One'));
  expect(await kept(room)).toEqual(summary(3, 'One', '#one:there.test'));
  // A new profile, a ban, an invitation that is taken, and a leave.
  await room.change(
    room.membership('@a:there.test', 'join'),
    room.membership('@b:there.test', 'ban'),
    room.membership('@c:there.test', 'join'),
    room.membership('@me:here.test', 'leave'),
  );
  expect(await kept(room)).toEqual(summary(2, 'One', '#one:there.test'));
  await room.change(room.alias('#two:there.test'));
  expect(await kept(room)).toEqual(summary(2, 'One', '#two:there.test'));
  await room.change({ type: 'm.room.name', stateKey: '' }, { type: 'm.room.member', stateKey: '@c:there.test' });
  expect(await kept(room)).toEqual(summary(1, null, '#two:there.test'));
  await room.change(room.event('m.room.name', 'other', { name: 'not the name' }));
  expect(await kept(room)).toEqual(summary(1, null, '#two:there.test'));
  // As a resolution that takes much of it back.
  await room.become(named);
  expect(await kept(room)).toEqual(summary(3, 'One', '#one:there.test'));
});

test('names and aliases are a stranger’s words: any that are valid are kept as they are, others are none', async () => {
  const room = new ChangingRoom();
  await room.open();
  const odd = '#\u0001 and \ud800:there.test';
  await room.change(room.name('a \u0000 and \ud800'), room.alias(odd));
  expect(await kept(room)).toEqual(summary(2, 'a \u0000 and \ud800', odd));
  expect(await findRoomByAlias(store, odd as RoomAlias)).toBe(room.roomId);
  for (const alias of [
    '#nul\u0000:there.test',
    'no alias',
    `#${'a'.repeat(300)}:there.test`,
    5,
    null,
    ['#a:there.test'],
  ]) {
    await room.change(room.alias(alias), room.name(alias));
    expect(await kept(room)).toEqual(summary(2, typeof alias === 'string' ? alias : null, null));
  }
  for (const content of [null, 'text', 5, []]) {
    await room.change(room.event('m.room.canonical_alias', '', content), room.event('m.room.name', '', content));
    expect(await kept(room)).toEqual(summary(2, null, null));
  }
});

test('of a room from before the columns nothing is known until somebody reads it, and all from then on', async () => {
  const room = new ChangingRoom();
  await room.open();
  await room.change(room.alias('#old:there.test'));
  await room.forget();
  await room.change(room.membership('@b:there.test', 'join'), room.name('Old'));
  const before = await room.row();
  expect(before.summary).toBeNull();
  expect(await summaryOf(store, before)).toEqual(summary(3, 'Old', '#old:there.test'));
  expect(await kept(room)).toEqual(summary(3, 'Old', '#old:there.test'));
  await room.change(room.membership('@b:there.test', 'leave'));
  expect(await kept(room)).toEqual(summary(2, 'Old', '#old:there.test'));
});

test('what was read of a state that is no longer the current one is not written down', async () => {
  const room = new ChangingRoom();
  await room.open();
  await room.forget();
  const before = await room.row();
  await room.change(room.membership('@b:there.test', 'join'));
  expect(await summaryOf(store, before)).toEqual(summary(2, null, null));
  expect((await room.row()).summary).toBeNull();
});

test('who reads a room that somebody has locked does not wait for him', async () => {
  const room = new ChangingRoom();
  await room.open();
  await room.forget();
  await withTransaction(store, async (tx) => {
    await lockRoom(tx, room.roomId);
    expect(await summaryOf(store, await room.row())).toEqual(summary(2, null, null));
    expect((await room.row()).summary).toBeNull();
  });
});

test('a name whose event is hollow is not taken for known, so that its body, when it comes, is what is read', async () => {
  const room = new ChangingRoom();
  await room.open();
  await room.change(room.alias('#hollow:there.test'));
  const hollow = room.event('m.room.name', '', {}, true);
  await room.change(hollow);
  expect(await summaryOf(store, await room.row())).toEqual(summary(2, null, '#hollow:there.test'));
  expect((await room.row()).summary).toBeNull();
  const json = Buffer.from(JSON.stringify({ type: 'm.room.name', state_key: '', content: { name: 'Whole' } }));
  await insertPdus(store, [{ ...hollow, json, hollow: false }]);
  expect(await summaryOf(store, await room.row())).toEqual(summary(2, 'Whole', '#hollow:there.test'));
  expect(await kept(room)).toEqual(summary(2, 'Whole', '#hollow:there.test'));
});

test('an alias finds the first room that has it, also among those of which it is not known yet', async () => {
  const alias = '#shared:there.test' as RoomAlias;
  const [first, second] = [new ChangingRoom(), new ChangingRoom()];
  for (const room of [first, second]) {
    await room.open();
    await room.change(room.alias(alias));
  }
  expect(await findRoomByAlias(store, alias)).toBe(first.roomId);
  await first.change(first.alias('#gone:there.test'));
  expect(await findRoomByAlias(store, alias)).toBe(second.roomId);
  await second.forget();
  expect(await findRoomByAlias(store, alias)).toBe(second.roomId);
  expect(await findRoomByAlias(store, '#nobody:there.test' as RoomAlias)).toBeUndefined();
});

test('joins and leaves take no statement more than any change of the state, a new alias one', async () => {
  const room = new ChangingRoom();
  const first = await room.open();
  const stateWith = async (event: CheckedPdu) => {
    await insertPdus(store, [event]);
    return changeSnapshot(store, room.roomId, first, [event]);
  };
  const topic = await stateWith(room.event('m.room.topic', '', {}));
  const joined = await stateWith(room.membership('@b:there.test', 'join'));
  const aliased = await stateWith(room.alias('#a:there.test'));
  for (const known of [topic, joined, aliased, first]) await room.become(known);
  const statementsTo = async (next: SnapshotId) => {
    const { length } = await statementsOf(() => room.become(next));
    await room.become(first);
    return length;
  };
  const usual = await statementsTo(topic);
  expect(await statementsTo(joined)).toBe(usual);
  expect(await statementsTo(aliased)).toBe(usual + 1);
});

test('a list of rooms holds their summaries, in one statement', async () => {
  const room = new ChangingRoom();
  await room.open();
  await room.change(room.alias('#listed:there.test'));
  expect(await statementsOf(() => listRooms(store))).toHaveLength(1);
  const listed = (await listRooms(store)).find(({ roomId }) => roomId === room.roomId);
  expect(listed?.summary).toEqual(summary(2, null, '#listed:there.test'));
});
