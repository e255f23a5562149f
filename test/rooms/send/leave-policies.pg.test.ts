/** What becomes of a partial room that the last of our users leaves, by each policy. */
import { describe, expect, test } from 'vitest';
import { type RoomId, type UserId } from '../../../src/matrix/identifiers.ts';
import { type LeaveDuringResync } from '../../../src/resync/room-policy.ts';
import { nextAction } from '../../../src/resync/next-action.ts';
import { type RoomsContext } from '../../../src/rooms/context.ts';
import { sendInvite } from '../../../src/rooms/invites/send-invite.ts';
import { goOnPurging, recordRequest } from '../../../src/rooms/purge/purge.ts';
import { purgeLeft, resumePurges } from '../../../src/rooms/purge/purges.ts';
import { endStay } from '../../../src/rooms/resync/end-stay.ts';
import { changeMembership, sendState } from '../../../src/rooms/send/change-membership.ts';
import { comeBack } from '../../../src/rooms/send/leave-silently.ts';
import { makeSilentLeaves } from '../../../src/rooms/send/make-silent-leaves.ts';
import { type SendContext, sendEvent } from '../../../src/rooms/send/send-event.ts';
import { readResyncEvents } from '../../../src/store/journal/journal.ts';
import { readTombstone } from '../../../src/store/journal/tombstones.ts';
import { readJoinedRooms, readLocalMember, readRoom, readStanding } from '../../../src/store/journal/rooms.ts';
import { createNotifier } from '../../../src/store/notify.ts';
import { createSync } from '../../../src/sync/sync.ts';
import { keyOf } from '../../matrix/sample-event.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore } from '../../support/postgres.ts';
import { FoldingClient } from '../../sync/folding-client.ts';
import { ADMIN, ME, PartialRoom, member } from '../resync/partial-room.ts';

const { store } = await openTestStore();
const SECOND = '@second:here.test';
const DAY = 86_400_000;
const me = ME as UserId;

interface Situation {
  readonly room: PartialRoom;
  readonly context: SendContext;
  readonly leave: (user?: string, isForced?: boolean) => Promise<void>;
}

async function situation(during: LeaveDuringResync, now = 1_000): Promise<Situation> {
  const room = new PartialRoom(store, '10', { leave: { during, purgeAfterMs: DAY } });
  await room.join();
  const context = { ...room.context, clock: { now: () => now }, signingKey: keyOf('here.test') };
  const leave = (user = ME, isForced = false): Promise<void> => {
    const userId = user as UserId;
    return changeMembership(context, {
      roomId: room.roomId,
      sender: userId,
      userId,
      act: 'leave',
      reason: undefined,
      isForced,
    });
  };
  return { room, context, leave };
}

const phaseOf = async (roomId: RoomId) => (await readRoom(store, roomId))?.resync;

describe('a policy of the room itself', () => {
  const own = async (leaveDuringResync: LeaveDuringResync): Promise<Situation> => {
    const given = await situation('abandon');
    await given.room.journal({ type: 'RoomPolicySet', policy: { leaveDuringResync }, by: 'me', at: 1 });
    return given;
  };

  test('counts in the place of what is so in all rooms, whichever way it is left', async () => {
    const longer = await own('finish_best_effort');
    await longer.leave();
    expect(await phaseOf(longer.room.roomId)).toMatchObject({ closesAt: 3_601_000, closesLate: true });
    const forbidden = await own('forbid_last_leave');
    await expect(forbidden.leave()).rejects.toMatchObject({ kind: 'last-leave' });
    const silent = await own('silent');
    await silent.leave();
    expect(await readLocalMember(store, silent.room.roomId, me)).toBe('leave');
    expect((await phaseOf(silent.room.roomId))?.closesAt).toBeNull();
  });
});

describe('finish_best_effort', () => {
  test('asks on for an hour, and says so in the journal', async () => {
    const { room, leave } = await situation('finish_best_effort');
    await leave();
    expect(await phaseOf(room.roomId)).toMatchObject({ phase: 'fetching', closesAt: 3_601_000, closesLate: true });
    await expectFoldsRebuilt(store, room.roomId);
  });
});

describe('forbid_last_leave', () => {
  test('refuses the last of our users while the room is partial, by whichever request, and nobody else', async () => {
    const { room, context, leave } = await situation('forbid_last_leave');
    await expect(leave()).rejects.toMatchObject({ kind: 'last-leave' });
    const content = { membership: 'leave' };
    const asState = sendState(context, room.roomId, { sender: me, type: 'm.room.member', stateKey: ME, content });
    await expect(asState).rejects.toMatchObject({ kind: 'last-leave' });
    expect(await readLocalMember(store, room.roomId, me)).toBe('join');
    await room.push(member('second', SECOND, 'join', { prev: ['join'], auth: ['create', 'power', 'rules'] }));
    await leave(SECOND);
    await expect(leave()).rejects.toMatchObject({ kind: 'last-leave' });
  });

  test('lets him go when he insists, when the room is whole, and when he is kicked', async () => {
    const forced = await situation('forbid_last_leave');
    await forced.leave(ME, true);
    expect(await phaseOf(forced.room.roomId)).toMatchObject({ closesAt: 61_000 });
    const whole = await situation('forbid_last_leave');
    await whole.room.fetch('create', 'admin', 'power', 'rules');
    await whole.room.walk();
    await whole.leave();
    expect(await phaseOf(whole.room.roomId)).toMatchObject({ phase: 'ended' });
    const kicked = await situation('forbid_last_leave');
    const kick = member('out', ME, 'leave', {
      sender: ADMIN,
      prev: ['join'],
      auth: ['create', 'power', 'admin', 'join'],
    });
    await kicked.room.push(kick);
    expect((await phaseOf(kicked.room.roomId))?.closesAt).not.toBeNull();
  });
});

describe('purge', () => {
  test('purges the room some time after the leave, when its last round is over', async () => {
    const { room, context, leave } = await situation('purge');
    await leave();
    const at = (now: number): SendContext => ({ ...context, clock: { now: () => now } });
    await purgeLeft(context, 2 * DAY);
    expect(await resumePurges(at(2 * DAY), new AbortController().signal)).toBe(0);
    await endStay({ ...room.context, clock: { now: () => 61_000 } }, { roomId: room.roomId, epoch: 1 });
    expect(await phaseOf(room.roomId)).toMatchObject({ phase: 'ended', purgeAt: DAY + 1_000 });
    await expectFoldsRebuilt(store, room.roomId);
    await purgeLeft(context, DAY);
    expect(await resumePurges(at(DAY), new AbortController().signal)).toBe(0);
    await purgeLeft(context, DAY + 1_000);
    // Nobody is there to be sent the leave.
    await goOnPurging(at(DAY + 100_000), room.roomId, AbortSignal.abort());
    await store.query(`UPDATE outgoing_rooms SET shared_out = position`);
    await resumePurges(at(DAY + 100_000), new AbortController().signal);
    expect((await readTombstone(store, room.roomId))?.event).toMatchObject({ users: [ME], putOut: [] });
  });

  test('is off when somebody of us has joined the room again', async () => {
    const { room, context, leave } = await situation('purge');
    await leave();
    await endStay({ ...room.context, clock: { now: () => 61_000 } }, { roomId: room.roomId, epoch: 1 });
    await room.joinAgain();
    const late = { ...context, clock: { now: () => 9 * DAY } };
    await purgeLeft(late, 9 * DAY);
    expect(await resumePurges(late, new AbortController().signal)).toBe(0);
    expect(await phaseOf(room.roomId)).toMatchObject({ phase: 'fetching', purgeAt: null });
  });
});

describe('silent', () => {
  const silentAt = async (during: LeaveDuringResync = 'silent') => {
    const left = await situation(during);
    await left.leave();
    return left;
  };
  const membership = (room: PartialRoom) => readLocalMember(store, room.roomId, me);
  const typesOf = async (room: PartialRoom): Promise<string[]> =>
    (await readResyncEvents(store, room.roomId, 1, 0)).map(({ event }) => event.type).slice(1);
  const kick = member('out', ME, 'leave', {
    sender: ADMIN,
    prev: ['join'],
    auth: ['create', 'power', 'admin', 'join'],
  });
  const stay = (room: PartialRoom) => ({ roomId: room.roomId, epoch: 1 });

  test('the last of our users is out here at once, and the room has him as joined until the resync is done', async () => {
    const { room, context } = await silentAt();
    expect(await membership(room)).toBe('leave');
    expect(await readJoinedRooms(store, me)).not.toContain(room.roomId);
    expect((await readStanding(store, room.roomId))?.isAnybodyIn).toBe(true);
    expect(await phaseOf(room.roomId)).toMatchObject({ phase: 'fetching', closesAt: null, silentLeaves: 1 });
    const say = sendEvent(context, room.roomId, { sender: me, type: 'm.room.message', content: { body: 'x' } });
    await expect(say).rejects.toMatchObject({ kind: 'forbidden' });
    const invitation = { roomId: room.roomId, sender: me, userId: '@bob:b.test' as UserId };
    await expect(sendInvite(context as RoomsContext, invitation)).rejects.toMatchObject({ kind: 'forbidden' });
    await room.fetch('create', 'admin', 'power', 'rules');
    await room.walk();
    const whole = (await phaseOf(room.roomId))!;
    expect(nextAction(whole, 9_000)).toEqual({ type: 'leaveRoom' });
    await makeSilentLeaves(context, stay(room));
    expect(await typesOf(room)).toEqual([
      ...['LeftSilently', 'StateFetchStarted', 'StateFetched', 'EventsWalked', 'ResyncCompleted'],
      ...['SilentLeaveSettled', 'StayEnded'],
    ]);
    expect(await phaseOf(room.roomId)).toMatchObject({ phase: 'ended', silentLeaves: 0 });
    expect(await membership(room)).toBe('leave');
    await expectFoldsRebuilt(store, room.roomId);
  });

  test('who comes back before that has never been away, and no leave is made for him', async () => {
    const { room, context } = await silentAt();
    await comeBack(context, room.roomId, me);
    await comeBack(context, room.roomId, me);
    expect(await membership(room)).toBe('join');
    await makeSilentLeaves(context, stay(room));
    expect(await typesOf(room)).toEqual(['LeftSilently', 'SilentLeaveSettled']);
    expect(await phaseOf(room.roomId)).toMatchObject({ phase: 'fetching', silentLeaves: 0 });
    await expectFoldsRebuilt(store, room.roomId);
  });

  test('who is kicked meanwhile is out by that, and the last round begins', async () => {
    const { room, context } = await silentAt();
    await room.push(kick);
    expect(await typesOf(room)).toEqual(['LeftSilently', 'SilentLeaveSettled', 'EverybodyLeft']);
    await makeSilentLeaves(context, stay(room));
    expect((await typesOf(room)).length).toBe(3);
    await expectFoldsRebuilt(store, room.roomId);
  });

  test('who leaves again changes nothing, and who is not the last leaves as ever', async () => {
    const { room, leave } = await silentAt();
    await leave();
    expect(await typesOf(room)).toEqual(['LeftSilently']);
    const two = await situation('silent');
    await two.room.push(member('second', SECOND, 'join', { prev: ['join'], auth: ['create', 'power', 'rules'] }));
    await two.leave();
    expect(await typesOf(two.room)).toEqual([]);
    expect(await membership(two.room)).toBe('leave');
    expect((await readStanding(store, two.room.roomId))?.isLeftSilently).toBe(false);
  });

  test('a room that is given up is left at once', async () => {
    const { room, context } = await silentAt();
    await room.journal({ type: 'ResyncParked', because: 'refused', reason: 'all refuse', at: 5_000 });
    expect(nextAction((await phaseOf(room.roomId))!, 6_000)).toEqual({ type: 'leaveRoom' });
    await makeSilentLeaves(context, stay(room));
    expect(await phaseOf(room.roomId)).toMatchObject({ closesAt: 61_000, silentLeaves: 0 });
  });

  test('his client is told once that he is out, and when he is back, of a new room', async () => {
    const { room, context, leave } = await situation('silent');
    const notifier = createNotifier(store);
    const sync = createSync({ store, notifier, clock: { now: () => 5_000 } });
    const client = new FoldingClient(sync, { userId: ME, rooms: [room.roomId], lazy: true });
    expect((await client.sync()).joined.has(room.roomId)).toBe(true);
    await leave();
    expect([...(await client.sync()).left.keys()]).toEqual([room.roomId]);
    const next = await client.sync();
    expect(next.left.size + next.joined.size).toBe(0);
    await comeBack(context, room.roomId, me);
    const back = (await client.sync()).joined.get(room.roomId);
    expect(back?.state.length).toBeGreaterThan(0);
    await notifier.close();
  });

  test('a purge has him leave for all others, too', async () => {
    const { room, context } = await silentAt();
    await recordRequest(context, { roomId: room.roomId, isForced: true });
    let now = 0;
    await goOnPurging({ ...context, clock: { now: () => (now += 61_000) } }, room.roomId, new AbortController().signal);
    expect((await readTombstone(store, room.roomId))?.event.putOut).toEqual([ME]);
  });
});
