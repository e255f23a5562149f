import { expect, test } from 'vitest';
import { type EventId, type UserId } from '../../../src/matrix/identifiers.ts';
import { readParents } from '../../../src/store/events/anchors.ts';
import { readEventStates } from '../../../src/store/events/event-states.ts';
import { isAnybodyIn, lockRoom, readStanding } from '../../../src/store/journal/rooms.ts';
import { withTransaction } from '../../../src/store/open-store.ts';
import { readSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { append } from '../../../src/store/journal/journal.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { honestScript, refuse, smallRoom, startScripted } from '../../support/scripted-room.ts';
import { openTestStore, openTestThreads } from '../../support/postgres.ts';
import { A, ALICE, B, BOB, SignedRoom, openPushedRoom } from './pushed-room.ts';

const { store } = await openTestStore();
const verification = openTestThreads();
const ZED = `@zed:${A}` as UserId;

async function dropped(roomId: string): Promise<Map<EventId, string>> {
  const rows = await store.query<{ eventId: EventId; reason: string }>(
    `SELECT event_id AS "eventId", reason FROM staged_pdus WHERE room_id = $1 AND dropped_at IS NOT NULL`,
    [roomId],
  );
  return new Map(rows.map(({ eventId, reason }) => [eventId, reason]));
}

for (const isPartial of [false, true]) {
  const kind = isPartial ? 'partial' : 'whole';

  test(`a second create event ends nobody's stay in a ${kind} room, whoever brings it, and takes no place`, async () => {
    const room = new SignedRoom();
    const here = openPushedRoom(store, verification, { room });
    const join = await here.join(isPartial);
    const content = { room_version: '11', 'm.federate': false };
    const other = room.say(ZED, 'm.room.create', content, { stateKey: '', prev: [], auth: [] });
    const orphan = room.say(BOB, 'm.room.message', { body: 'after nothing' }, { prev: [] });
    const auth = [room.create, room.power, room.bobJoin];
    const after = room.say(BOB, 'm.room.message', { body: 'as before' }, { prev: [join], auth });
    await here.push(B, [other, orphan, after]);
    await here.taken(after);

    const states = await readEventStates(store, room.roomId, [other, orphan, after]);
    expect([...states.values()].map(({ eventId, verdict, softFailed }) => [eventId, verdict, softFailed])).toEqual([
      [after, 'accepted', false],
    ]);
    const reason = 'it has no prev_events, and the room has begun';
    const both = new Map([
      [other, reason],
      [orphan, reason],
    ]);
    await expect.poll(() => dropped(room.roomId)).toEqual(both);
    expect(await isAnybodyIn(store, room.roomId)).toBe(true);
    const { extremities, currentState } = (await readStanding(store, room.roomId)) ?? {};
    expect(extremities).toEqual([after]);
    const keys = [{ type: 'm.room.create', stateKey: '' }];
    const [create] = await readSnapshot(store, room.roomId, currentState!, { keys });
    expect(create?.eventId).toBe(room.create);
    await expectFoldsRebuilt(store);
  });
}

test('a state that names another create event before ours is taken without it', async () => {
  const small = smallRoom();
  const { room, create, levels, aliceJoin, message } = small;
  const script = honestScript(small);
  const here = await startScripted(room, script);
  await here.join();
  expect((await here.resync()).phase).toBe('complete');
  const auth = [create, levels, aliceJoin];
  const said = room.make(ALICE, 'm.room.message', undefined, { body: 'x' }, { prev: [message], auth });
  const other = room.make(ZED, 'm.room.create', '', { room_version: '11' }, { prev: [], auth: [] });
  script.stateIds = (_server, at) =>
    at === said ? { state: [other, ...small.state], chain: [...small.auth, aliceJoin] } : refuse(B, 'not-found');
  await withTransaction(here.store, async (tx) => {
    const locked = await lockRoom(tx, room.roomId);
    const at = here.context.clock.now();
    await append(tx, locked!, [{ type: 'GapOpened', eventIds: [said], origin: B, assumedState: null, at }]);
  });
  await here.resync();
  const parent = (await readParents(here.store, room.roomId, [said])).get(said);
  const keys = [{ type: 'm.room.create', stateKey: '' }];
  const entries = await readSnapshot(here.store, room.roomId, parent!.stateAfter, { keys });
  expect(entries.map(({ eventId }) => eventId)).toEqual([create]);
});
