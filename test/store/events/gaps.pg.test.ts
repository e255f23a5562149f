import { expect, test } from 'vitest';
import { type EventId, type RoomId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { type ResyncEvent, type SnapshotId } from '../../../src/resync/events.ts';
import { readParents, readPartialAnchors } from '../../../src/store/events/anchors.ts';
import { readGaps } from '../../../src/store/events/gaps.ts';
import { append } from '../../../src/store/journal/journal.ts';
import { createRoom, lockRoom, openEpoch, overdueResyncs, readResync } from '../../../src/store/journal/rooms.ts';
import { withTransaction } from '../../../src/store/open-store.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ids } from '../events.ts';

const { store } = await openTestStore();

const at = 1_700_000_000_000;
const assumed = 'a'.repeat(32) as SnapshotId;
const fetched = 'b'.repeat(32) as SnapshotId;
const counts = { state: 1, authChain: 1, members: 1, fetched: 1, alreadyHeld: 0, dropped: 0 };
let rooms = 0;

async function openRoom(): Promise<RoomId> {
  const roomId = `!room-${(rooms += 1)}:there.test` as RoomId;
  await withTransaction(store, async (tx) => openEpoch(tx, await createRoom(tx, roomId, '11')));
  return roomId;
}

async function overdueIds(query: Parameters<typeof overdueResyncs>[1]): Promise<RoomId[]> {
  return (await overdueResyncs(store, query)).map(({ roomId }) => roomId);
}

async function journalled(roomId: RoomId, ...events: readonly ResyncEvent[]): Promise<void> {
  await withTransaction(store, async (tx) => append(tx, (await lockRoom(tx, roomId))!, events));
}

const opened = (eventIds: readonly EventId[], assumedState: SnapshotId | null): ResyncEvent => ({
  type: 'GapOpened',
  eventIds,
  assumedState,
  origin: 'sender.test' as ServerName,
  at,
});
const closed = (eventId: string): ResyncEvent => ({
  type: 'GapClosed',
  eventId: eventId as EventId,
  resident: 'there.test' as ServerName,
  snapshotId: fetched,
  counts,
  digest: 'd'.repeat(64),
  at,
});

test('in a whole room a missing parent is nothing to build on until its gap is closed, and then has full state', async () => {
  const roomId = await openRoom();
  await journalled(roomId, opened(ids('$p', '$q'), null));
  expect(await readParents(store, roomId, ids('$p', '$q'))).toEqual(new Map());
  expect(await readGaps(store, roomId)).toMatchObject([{ eventId: '$p', attempts: 0, wakeAt: at }, { eventId: '$q' }]);
  expect((await readResync(store, roomId))?.state.gapsOpen).toBe(2);

  await journalled(roomId, closed('$p'));
  expect(await readParents(store, roomId, ids('$p', '$q'))).toEqual(
    new Map([
      [
        '$p',
        { eventId: '$p', stateAfter: fetched, partial: false, isAnchor: true, isHistory: false, isRefused: false },
      ],
    ]),
  );
  expect(await readGaps(store, roomId)).toMatchObject([{ eventId: '$q' }]);
  expect((await readResync(store, roomId))?.state.gapsOpen).toBe(1);
});

test('in a partial room a missing parent is an anchor at once, with the state that is assumed, and is mended by the fetched one', async () => {
  const roomId = await openRoom();
  await journalled(roomId, opened(ids('$p'), assumed));
  expect((await readParents(store, roomId, ids('$p'))).get('$p' as EventId)).toMatchObject({
    stateAfter: assumed,
    partial: true,
  });
  await journalled(roomId, closed('$p'));
  expect((await readParents(store, roomId, ids('$p'))).get('$p' as EventId)).toMatchObject({
    stateAfter: fetched,
    partial: false,
  });
});

test('a missing event that came by itself is a gap no longer, nor an anchor of its own', async () => {
  const roomId = await openRoom();
  await journalled(roomId, opened(ids('$p'), assumed), { type: 'GapFilled', eventId: '$p' as EventId, at });
  expect(await readGaps(store, roomId)).toEqual([]);
  expect(await readPartialAnchors(store, roomId)).toEqual([]);
});

test('a gap that was given up says why, is nobody’s to try, and is opened anew when an event cites it again', async () => {
  const roomId = await openRoom();
  const givenUp: ResyncEvent = { type: 'GapGivenUp', eventId: '$p' as EventId, reason: 'nobody \u0000 has it', at };
  await journalled(roomId, opened(ids('$p'), null), givenUp);
  expect(await readGaps(store, roomId)).toMatchObject([{ wakeAt: null, lastReason: 'nobody \ufffd has it' }]);
  expect(await overdueIds({ now: at + 1, overdueMs: 1, limit: 10 })).not.toContain(roomId);
  await journalled(roomId, opened(ids('$p'), null));
  expect(await readGaps(store, roomId)).toMatchObject([{ wakeAt: at }]);
});

test('the sweep finds a whole room for its gap, once, and a new stay forgets what the last one lacked', async () => {
  const roomId = await openRoom();
  await journalled(roomId, opened(ids('$p', '$q'), null));
  const due = await overdueIds({ now: at + 1_000, overdueMs: 1_000, limit: 10 });
  expect(due.filter((found) => found === roomId)).toHaveLength(1);
  expect(await overdueIds({ now: at + 1_500, overdueMs: 1_000, limit: 10 })).not.toContain(roomId);
  await withTransaction(store, async (tx) => openEpoch(tx, (await lockRoom(tx, roomId))!));
  expect(await readGaps(store, roomId)).toEqual([]);
  expect(await overdueIds({ now: at * 2, overdueMs: 1_000, limit: 10 })).not.toContain(roomId);
});
