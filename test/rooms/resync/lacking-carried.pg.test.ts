/** A stay that stands on states of an earlier one: what these lack is told and looked for on. */
import { expect, test } from 'vitest';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { shownPhase } from '../../../src/resync/state.ts';
import { admitEvents } from '../../../src/rooms/judge/admit.ts';
import { countLacking, readGivenUp } from '../../../src/store/events/missing-events.ts';
import { insertPdus } from '../../../src/store/events/pdus.ts';
import { readRoom } from '../../../src/store/journal/rooms.ts';
import { readSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { ALICE, B, ME, honestScript, refuse, smallRoom, startScripted } from '../../support/scripted-room.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';

const HOUR = 3_600_000;

/** A room that lacks Carol's membership, from which we were kicked. */
async function kickedFromDegraded() {
  const small = smallRoom();
  const { room } = small;
  const carol = `@carol:${B}`;
  const lost = room.make(
    carol,
    'm.room.member',
    carol,
    { membership: 'join' },
    { prev: [small.bobJoin], auth: small.auth },
  );
  const state = [...small.state, lost];
  const script = { ...honestScript(small), stateIds: () => ({ state, chain: [...small.auth, small.aliceJoin] }) };
  const { event } = script;
  script.event = (server, wanted) => (wanted === lost ? refuse(server, 'not-found') : event(server, wanted));
  const here = await startScripted(room, script);
  const joinId = await here.join();
  let resync = await here.resync();
  for (let passed = 0; passed < 50 && resync.phase !== 'complete'; passed += 1) {
    here.wait(HOUR / 2);
    resync = await here.resync();
  }
  expect(resync).toMatchObject({ phase: 'complete', degraded: { count: 1 } });
  const auth = [small.create, small.levels, small.aliceJoin, joinId];
  const kick = room.make(ALICE, 'm.room.member', ME, { membership: 'leave' }, { prev: [joinId], auth });
  await insertPdus(here.store, [
    {
      ...{ eventId: kick, roomId: room.roomId, type: 'm.room.member', sender: ALICE, depth: 60n, originServerTs: 1 },
      ...{ stateKey: ME, prevEvents: [joinId], authEvents: auth, hollow: false, membership: 'leave' },
      json: room.raw(kick),
    },
  ]);
  await admitEvents(here.context, room.roomId, [kick]);
  const inState = async (): Promise<EventId[]> => {
    const { currentState } = (await readRoom(here.store, room.roomId))!;
    return (await readSnapshot(here.store, room.roomId, currentState!)).map(({ eventId }) => eventId);
  };
  return { here, script, room, lost, kick, auth, event, inState, since: resync.degraded!.since };
}

test('a rejoin over held states is as degraded as they are, and whole once what they lack is found', async () => {
  const { here, script, room, lost, kick, event, inState, since } = await kickedFromDegraded();
  script.prev = [kick];
  await here.join();
  const again = await here.resync();
  expect(shownPhase(again)).toBe('degraded');
  expect(again.degraded).toMatchObject({ count: 1, since, missing: [{ eventId: lost }] });
  expect(await countLacking(here.store, room.roomId)).toEqual({ ofRoom: 1, atGaps: 0 });
  expect(await inState()).not.toContain(lost);
  await expectFoldsRebuilt(here.store, room.roomId);

  script.event = event;
  here.wait(100 * HOUR);
  expect(await here.resync()).toMatchObject({ phase: 'complete', degraded: null });
  expect(await inState()).toContain(lost);
});

test('a rejoin with a state from a resident finds out anew what it lacks', async () => {
  const { here, script, room, lost, kick, auth, event, inState } = await kickedFromDegraded();
  script.event = event;
  const beyond = room.make(ALICE, 'm.room.message', undefined, { body: 'later' }, { prev: [kick], auth });
  script.prev = [beyond];
  await here.join();
  expect(await here.resync()).toMatchObject({ phase: 'complete', degraded: null });
  expect(await readGivenUp(here.store, room.roomId, 10)).toEqual([]);
  expect(await inState()).toContain(lost);
});
