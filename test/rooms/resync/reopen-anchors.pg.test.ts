/** Rooms that code of before left whole with an anchor without full state. */
import { expect, test } from 'vitest';
import { reopenAnchors } from '../../../src/rooms/resync/reopen-anchors.ts';
import { readParents } from '../../../src/store/events/anchors.ts';
import { readResyncEvents } from '../../../src/store/journal/journal.ts';
import { overdueResyncs, readRoom } from '../../../src/store/journal/rooms.ts';
import { readSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { ALICE, honestScript, refuse, smallRoom, startScripted } from '../../support/scripted-room.ts';

const never = (): boolean => false;

/** The join cites a topic that the state it was judged by lacks, and the anchor there is as if it were still to be fetched. */
async function strandedRoom() {
  const small = smallRoom();
  const { room, create, levels, aliceJoin, message } = small;
  const auth = [create, levels, aliceJoin];
  const topic = room.make(ALICE, 'm.room.topic', '', { topic: 'told late' }, { prev: [message], auth });
  const chain = [...small.auth, aliceJoin];
  const script = { ...honestScript(small), prev: [topic], isWhole: true, returned: small.state, returnedChain: chain };
  const here = await startScripted(room, script);
  await here.join();
  here.changedByHand();
  await here.store.query(`UPDATE anchors SET partial = true WHERE event_id = $1`, [topic]);
  script.stateIds = (server, at) => (at === topic ? { state: small.state, chain } : refuse(server, 'not-found'));
  const { roomId } = room;
  const standing = async () => (await readRoom(here.store, roomId))!;
  const topics = async () => {
    const state = await readSnapshot(here.store, roomId, (await standing()).currentState!);
    return state.filter(({ type }) => type === 'm.room.topic').map(({ eventId }) => eventId);
  };
  return { here, roomId, topic, standing, topics };
}

test('the state at it is asked for, and what it changes is a correction: the room is never partial again', async () => {
  const { here, roomId, topic, standing, topics } = await strandedRoom();
  expect(await standing()).toMatchObject({ partial: false, resync: { phase: 'complete' } });
  expect(await topics()).toEqual([]);
  expect(await overdueResyncs(here.store, { now: here.context.clock.now() + 60_000, overdueMs: 0, limit: 9 })).toEqual(
    [],
  );

  expect(await reopenAnchors(here.context, never)).toBe(1);
  expect(await standing()).toMatchObject({ partial: false, resync: { phase: 'complete', gapsOpen: 1 } });
  expect((await readParents(here.store, roomId, [topic])).get(topic)).toMatchObject({ partial: false });
  const overdue = await overdueResyncs(here.store, { now: here.context.clock.now() + 60_000, overdueMs: 0, limit: 9 });
  expect(overdue).toEqual([{ roomId, wasRung: false }]);

  expect(await here.resync()).toMatchObject({ phase: 'complete', gapsOpen: 0 });
  expect(await standing()).toMatchObject({ partial: false });
  expect(await topics()).toEqual([topic]);
  const entries = await readResyncEvents(here.store, roomId, 1, 0);
  const types = entries.map(({ event }) => event.type);
  expect(types.slice(0, 4)).toEqual(['FullStateJoined', 'GapOpened', 'GapsAssumed', 'GapClosed']);
  expect(types.at(-1)).toBe('EventsCorrected');
});

test('it is found once: a second pass has nothing to do, whether the gap is open, closed or given up', async () => {
  const { here } = await strandedRoom();
  expect(await reopenAnchors(here.context, never)).toBe(1);
  expect(await reopenAnchors(here.context, never)).toBe(0);
  await here.resync();
  expect(await reopenAnchors(here.context, never)).toBe(0);
});

test('anchors of a room that is partial are left to its resync', async () => {
  const { room, ...small } = smallRoom();
  const here = await startScripted(room, honestScript({ room, ...small }));
  await here.join();
  expect(await reopenAnchors(here.context, never)).toBe(0);
  expect(await here.resync()).toMatchObject({ phase: 'complete' });
});
