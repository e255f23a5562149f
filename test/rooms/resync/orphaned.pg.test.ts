/** A partial room that every other server has left before anybody gave us its state. */
import { expect, test } from 'vitest';
import { type ServerName } from '../../../src/matrix/identifiers.ts';
import { describeResync } from '../../../src/resync/explain.ts';
import { shownPhase } from '../../../src/resync/state.ts';
import { endRound } from '../../../src/rooms/resync/end-round.ts';
import { seekMissing } from '../../../src/rooms/resync/seek-missing.ts';
import { type RoomRow, readRoom } from '../../../src/store/journal/rooms.ts';
import { learnServers } from '../../../src/store/tables/room-servers.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ADMIN, PartialRoom, member } from './partial-room.ts';

const { store } = await openTestStore();

const DAY = 24 * 3_600_000;
const THERE = 'there.test' as ServerName;
const progress = { signal: new AbortController().signal, heartbeat: () => undefined };

const rowOf = async ({ roomId }: PartialRoom): Promise<RoomRow> => (await readRoom(store, roomId))!;

/** A day later its resident cannot be reached, and the round ends. */
async function failRound(room: PartialRoom, day: number): Promise<RoomRow> {
  const { round } = (await rowOf(room)).resync;
  const now = day * DAY;
  const attempt = { attemptNo: day, resident: THERE, atEventId: room.id('before') };
  await room.journal(
    { type: 'StateFetchStarted', ...attempt, at: now },
    { type: 'StateFetchFailed', ...attempt, failure: 'unreachable', outcome: 'transient', reason: 'gone', at: now },
  );
  const context = { ...room.context, clock: { now: () => now } };
  await endRound(context, { roomId: room.roomId, epoch: 1, round });
  return rowOf(room);
}

async function joined(): Promise<PartialRoom> {
  const room = new PartialRoom(store);
  await room.join();
  return room;
}
const leave = member('gone', ADMIN, 'leave', { prev: ['join'], auth: ['create', 'power', 'admin'] });

test('is completed after three rounds, days apart, with what is known, and says for good that it is not whole', async () => {
  const room = await joined();
  await room.push(leave);
  expect((await failRound(room, 1)).resync).toMatchObject({ phase: 'waiting', departed: [THERE] });
  expect((await failRound(room, 2)).resync.phase).toBe('waiting');
  expect((await failRound(room, 3)).resync).toMatchObject({ phase: 'walking', degraded: { isOrphaned: true } });
  await room.walk();
  const whole = await rowOf(room);
  expect(whole).toMatchObject({ partial: false, resync: { phase: 'complete' } });
  expect(shownPhase(whole.resync)).toBe('degraded');
  expect(describeResync(whole.resync)).toContain('No server is left in the room but this one');

  await seekMissing(room.context, { roomId: room.roomId, epoch: 1 }, progress);
  await room.journal({ type: 'EventsCorrected', judged: 0, changed: 0, remaining: 0, at: 4 * DAY });
  const later = (await rowOf(room)).resync;
  expect(shownPhase(later)).toBe('degraded');
  expect(later.nextWakeAt).toBeNull();
  await expectFoldsRebuilt(store);
});

test('asks another server that is believed to be in it, and is not completed without its state', async () => {
  const room = await joined();
  await room.push(leave);
  await learnServers(store, room.roomId, ['other.test' as ServerName], 'hint', 1);
  for (const day of [1, 2, 3]) await failRound(room, day);
  expect((await rowOf(room)).resync).toMatchObject({ phase: 'fetching', degraded: null, departed: [THERE] });
});

test('is none where the server that cannot be reached has not been seen to leave', async () => {
  const room = await joined();
  for (const day of [1, 2, 3]) await failRound(room, day);
  expect((await rowOf(room)).resync).toMatchObject({ phase: 'waiting', degraded: null, departed: [] });
});
