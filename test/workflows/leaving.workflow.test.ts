/** What becomes of the run of a partial room that the last of us leaves, by each policy, and of one whose room is purged, on a real Temporal server. */
import { expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { type LeaveDuringResync } from '../../src/resync/room-policy.ts';
import { goOnPurging, recordRequest } from '../../src/rooms/purge/purge.ts';
import { readRoom } from '../../src/store/journal/rooms.ts';
import { readTombstone } from '../../src/store/journal/tombstones.ts';
import { eventually } from '../support/processes.ts';
import { MEMBERS, type Running, ended, leaveRoom, record, start, untilItWaits, withoutLooks } from './running.ts';

/** A room that waits for a round, with a policy for leaving it; the resident is as it is told to be from then on. */
async function waiting(during: LeaveDuringResync, firstRetryMs = 300_000): Promise<Running> {
  const leave = { during, purgeAfterMs: 86_400_000 };
  const running = await start({ policy: { firstRetryMs, longestRetryMs: firstRetryMs, leave } });
  running.resident.isWilling = false;
  await running.joinRoom();
  await untilItWaits(running.run);
  return running;
}

test('a run of a room that is left and still wanted asks who does not refuse in further rounds, and walks what is had', async () => {
  const running = await waiting('finish_best_effort', 1_000);
  const { run, resident } = running;
  await leaveRoom(running);
  await eventually('a round has failed after the leave', async () => {
    const room = await readRoom(running.context.store, resident.roomId);
    return room?.resync.closesLate === true && room.resync.phase === 'waiting' ? true : undefined;
  });
  resident.isWilling = true;
  expect(await run.result()).toEqual({ ...ended(resident.roomId), members: MEMBERS, walked: 2 });
  const done = await withoutLooks(run);
  expect(done.slice(-2)).toEqual(['fetchState', 'walkEvents']);
  expect(done.filter((name) => name === 'endRound').length).toBeGreaterThanOrEqual(2);
  await record('left-finish-best-effort', run);
});

test('and ends when all refuse', async () => {
  const running = await waiting('finish_best_effort');
  const { run, resident } = running;
  resident.forbids = true;
  await leaveRoom(running);
  expect(await run.result()).toEqual({ ...ended(resident.roomId), members: null, walked: 0 });
  await record('left-finish-best-effort-refused', run);
});

test('a run of a room that is to be purged some time after it was left ends as any other', async () => {
  const running = await waiting('purge');
  const { run, resident, context } = running;
  await leaveRoom(running);
  expect(await run.result()).toEqual({ ...ended(resident.roomId), members: null, walked: 0 });
  expect((await readRoom(context.store, resident.roomId))?.resync.purgeAt).toBeGreaterThan(systemClock.now());
  await record('left-to-be-purged', run);
});

test('a run of a room that must not be left yet goes on when somebody tries, and ends when he insists', async () => {
  const running = await waiting('forbid_last_leave');
  const { run, resident, context } = running;
  await expect(leaveRoom(running)).rejects.toMatchObject({ kind: 'last-leave' });
  await leaveRoom(running, { isForced: true });
  expect(await run.result()).toEqual({ ...ended(resident.roomId), members: null, walked: 0 });
  expect((await readRoom(context.store, resident.roomId))?.partial).toBe(true);
  await record('left-by-force', run);
});

test('a run of a room that was left silently makes the room whole, and then the leave', async () => {
  const running = await waiting('silent', 1_000);
  const { run, resident, context } = running;
  await leaveRoom(running);
  resident.isWilling = true;
  expect(await run.result()).toMatchObject({ phase: 'ended', walked: 1 });
  expect((await withoutLooks(run)).slice(-3)).toEqual(['fetchState', 'walkEvents', 'leaveRoom']);
  expect(await readRoom(context.store, resident.roomId)).toMatchObject({ partial: false });
  await record('left-silently', run);
});

test('a run of a room that is purged closes, and writes nothing more of it', async () => {
  const running = await waiting('abandon');
  const { run, resident, context } = running;
  await recordRequest(context, { roomId: resident.roomId, isForced: true });
  // Nothing is sent here: whoever looks finds that the time for it is over.
  let looks = 0;
  const clock = { now: () => systemClock.now() + 61_000 * looks++ };
  await goOnPurging({ ...context, clock }, resident.roomId, new AbortController().signal);
  expect(await run.result()).toMatchObject({ phase: 'absent' });
  expect(await readRoom(context.store, resident.roomId)).toBeUndefined();
  expect((await readTombstone(context.store, resident.roomId))?.event.putOut).toEqual([`@me:${context.serverName}`]);
  await record('purged', run);
});
