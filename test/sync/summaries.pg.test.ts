/** What a sync says of a room as a whole, and of the user's own part in an event. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type UserId } from '../../src/matrix/identifiers.ts';
import { changePushRules } from '../../src/accounts/account-data.ts';
import { type AccountsContext } from '../../src/accounts/context.ts';
import { withRule } from '../../src/matrix/client/push-rules.ts';
import { type Notifier, createNotifier } from '../../src/store/notify.ts';
import { recordClientTransaction } from '../../src/store/tables/client-transactions.ts';
import { type RoomCounts, type Sync } from '../../src/sync/contract.ts';
import { createSync } from '../../src/sync/sync.ts';
import { ADMIN, ME, PartialRoom, member, message } from '../rooms/resync/partial-room.ts';
import { openTestStore } from '../support/postgres.ts';
import { FoldingClient, type FoldingOptions } from './folding-client.ts';

const { store } = await openTestStore();
let notifier: Notifier;
let sync: Sync;
beforeEach(() => {
  notifier = createNotifier(store);
  sync = createSync({ store, notifier, clock: { now: () => 5_000 } });
});
afterEach(() => notifier.close());

const AUTH = ['create', 'power', 'rules'];
const BY_ADMIN = { sender: ADMIN, auth: ['create', 'power', 'admin'] };
const userOf = (name: string): string => `@${name}:there.test`;
const clientIn = (room: PartialRoom, options: Partial<FoldingOptions> = {}): FoldingClient =>
  new FoldingClient(sync, { userId: ME, rooms: [room.roomId], lazy: true, ...options });
const summaryIn = async (room: PartialRoom, client = clientIn(room)): Promise<RoomCounts | null | undefined> =>
  (await client.sync()).joined.get(room.roomId)?.summary;

/** Whole, with these joined besides the administrator and the user. */
async function roomWith(...names: readonly string[]): Promise<PartialRoom> {
  const room = new PartialRoom(store);
  await room.join();
  await room.hold(...names.map((name) => member(name, userOf(name), 'join', { auth: AUTH })));
  await room.fetch('create', 'admin', 'power', 'rules', ...names);
  await room.walk();
  return room;
}

test('a room without a name is called after the first five others, who are in the state of a lazy client, too', async () => {
  const room = await roomWith('a', 'b', 'c', 'd', 'e', 'f');
  const client = clientIn(room);
  const heroes = [ADMIN, ...['a', 'b', 'c', 'd'].map(userOf)];
  expect(await summaryIn(room, client)).toEqual({ heroes, joined: 8, invited: 0 });
  for (const user of heroes) expect(client.rooms.get(room.roomId)!.state.has(`m.room.member ${user}`)).toBe(true);
  expect(client.rooms.get(room.roomId)!.state.has(`m.room.member ${userOf('e')}`)).toBe(false);
  // Only what changes it says it again.
  await room.push(message('said', ADMIN, { prev: ['join'], auth: BY_ADMIN.auth }));
  expect(await summaryIn(room, client)).toBeNull();
  await room.push(member('left', userOf('a'), 'leave', { prev: ['said'], auth: ['create', 'power', 'a'] }));
  const others = [ADMIN, ...['b', 'c', 'd', 'e'].map(userOf)];
  expect(await summaryIn(room, client)).toEqual({ heroes: others, joined: 7, invited: 0 });
});

test('a room that all others have left is called after who was there, and one with a name after nobody', async () => {
  const room = await roomWith();
  await room.push(member('gone', ADMIN, 'leave', { prev: ['join'], auth: BY_ADMIN.auth }));
  expect(await summaryIn(room)).toEqual({ heroes: [ADMIN], joined: 1, invited: 0 });
  const named = await roomWith('a');
  await named.push({
    ...{ id: 'name', type: 'm.room.name', stateKey: '', content: { name: 'Room' }, prev: ['join'], ...BY_ADMIN },
  });
  expect(await summaryIn(named)).toEqual({ heroes: null, joined: 3, invited: 0 });
});

test('a room without a name and with more than a thousand members is called after those who have a say in it', async () => {
  const many = Array.from({ length: 1_000 }, (_, i) => `m${i}`);
  const room = await roomWith(...many);
  await room.push({
    ...{ id: 'levels', type: 'm.room.power_levels', stateKey: '', prev: ['join'], ...BY_ADMIN },
    content: { users: { [ADMIN]: 100, [userOf('m700')]: 50, [userOf('stranger')]: 50, [ME]: 50 } },
  });
  const client = clientIn(room);
  const heroes = [ADMIN, userOf('m700')];
  expect(await summaryIn(room, client)).toEqual({ heroes, joined: 1_002, invited: 0 });
  for (const user of heroes) expect(client.rooms.get(room.roomId)!.state.has(`m.room.member ${user}`)).toBe(true);
});

test('a partial room is counted by who is known there, and rules that count members go by that', async () => {
  const room = new PartialRoom(store);
  await room.join();
  await room.push(member('bob', userOf('bob'), 'join', { prev: ['join'], auth: AUTH }));
  await room.push(message('said', userOf('bob'), { prev: ['bob'], auth: ['create', 'power', 'bob'] }));
  await store.query(`INSERT INTO users (user_id, is_admin, created_at) VALUES ($1, false, 0)`, [ME]);
  const alone = {
    ...{ ruleId: 'two', actions: ['notify', { set_tweak: 'highlight' }] },
    conditions: [{ kind: 'room_member_count', is: '2' }],
  };
  await changePushRules({ store } as AccountsContext, ME as UserId, (changes) =>
    withRule(changes, 'override', alone, undefined),
  );
  const part = (await clientIn(room).sync()).joined.get(room.roomId)!;
  expect(part.summary).toEqual({ heroes: [userOf('bob')], joined: 2, invited: 0 });
  // His join, too, which no other rule tells of.
  expect(part.unread).toMatchObject({ notified: 2, highlighted: 2 });
});

test('an event says under which transaction it was sent, to the device that sent it', async () => {
  const room = await roomWith();
  const [sender, other] = [clientIn(room, { deviceId: 'SENDER' }), clientIn(room, { deviceId: 'OTHER' })];
  await sender.catchUp();
  await other.catchUp();
  await room.push(message('said', ME, { prev: ['join'], auth: ['create', 'power', 'join'] }));
  const transaction = { userId: ME as UserId, deviceId: 'SENDER', roomId: room.roomId, txnId: 'txn 1' };
  await store.inTransaction((tx) => recordClientTransaction(tx, transaction, room.id('said'), 1));
  const unsignedOf = async (client: FoldingClient): Promise<unknown> =>
    (await client.sync()).joined.get(room.roomId)!.timeline.map(({ unsigned }) => unsigned);
  expect(await unsignedOf(sender)).toEqual([expect.objectContaining({ transaction_id: 'txn 1' })]);
  expect(await unsignedOf(other)).toEqual([
    expect.not.objectContaining({ transaction_id: expect.anything() as unknown }),
  ]);
});
