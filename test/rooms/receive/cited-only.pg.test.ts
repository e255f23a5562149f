/** What pushed events cite is chosen by who pushes them: it proves nothing against a guessed state. */
import { expect, test } from 'vitest';
import { type EventId, type UserId } from '../../../src/matrix/identifiers.ts';
import { checkEvents, passed } from '../../../src/rooms/judge/check-events.ts';
import { judgeOutliers } from '../../../src/rooms/judge/judge-outliers.ts';
import { walkPartialEvents } from '../../../src/rooms/resync/walk.ts';
import { insertPdus } from '../../../src/store/events/pdus.ts';
import { readKnownOtherwise } from '../../../src/store/events/guessed-states.ts';
import { append } from '../../../src/store/journal/journal.ts';
import { lockRoom, readRoom } from '../../../src/store/journal/rooms.ts';
import { withTransaction } from '../../../src/store/open-store.ts';
import { createSnapshot, readSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { openTestStore, openTestThreads } from '../../support/postgres.ts';
import { A, ALICE, B, BOB, SignedRoom, openPushedRoom } from './pushed-room.ts';

const { store } = await openTestStore();
const verification = openTestThreads();

const EVE = '@eve:b.test' as UserId;
const MISSED = `$${'nothing'.padEnd(43, '_')}` as EventId;

test('who is banned does not come back by what his server cites, though all stands on a gap that nobody closes', async () => {
  const room = new SignedRoom();
  const eveJoin = room.join(EVE);
  const asState = { stateKey: EVE };
  const ban = { membership: 'ban' };
  room.say(ALICE, 'm.room.member', ban, { ...asState, auth: [...room.authOf(ALICE), eveJoin] });
  const atEventId = room.last;
  const stateBefore = room.state().filter((eventId) => eventId !== eveJoin);
  const here = openPushedRoom(store, verification, { room });
  here.answers.getMissingEvents = () => Promise.resolve([]);
  const { roomId, rules } = room;
  const joined = await here.join();
  const over = room.message(BOB, 'over', [MISSED]);
  await here.push(B, [over]);
  await here.gaps(1);
  await here.taken(over);
  const events = stateBefore.map((eventId) => room.raw(eventId));
  const signal = new AbortController().signal;
  await insertPdus(store, passed(await checkEvents(here.context, { roomId, rules, events, asker: 'pushed', signal })));
  await judgeOutliers(store, roomId, rules, stateBefore, () => undefined);
  const snapshotId = await createSnapshot(store, roomId, stateBefore);
  const attempt = { attemptNo: 1, resident: A, atEventId, at: 2 };
  const counts = { state: stateBefore.length, authChain: 0, members: 1, fetched: 0, alreadyHeld: 0, dropped: 0 };
  await withTransaction(store, async (tx) =>
    append(tx, (await lockRoom(tx, roomId))!, [
      { type: 'StateFetchStarted', ...attempt },
      { type: 'StateFetched', ...attempt, snapshotId, counts, digest: 'd'.repeat(64) },
    ]),
  );
  const progress = { signal, heartbeat: () => undefined };
  await walkPartialEvents(here.context, roomId, 1, progress);
  expect((await readRoom(store, roomId))?.partial).toBe(false);
  await here.giveUpGap(MISSED, 'nobody has it');

  const first = room.message(ALICE, 'first', [over, joined]);
  await here.push(A, [first]);
  await here.taken(first);
  const base = [room.create, room.power, room.joinRules];
  const ours = { ...asState, prev: [first] };
  const back = room.say(EVE, 'm.room.member', { membership: 'join' }, { ...ours, auth: [...base, eveJoin] });
  const bobJoin = room.authOf(BOB).at(-1)!;
  const invite = room.say(BOB, 'm.room.member', { membership: 'invite' }, { ...ours, auth: [...base, bobJoin, back] });
  await here.push(B, [invite]);
  expect(await here.taken(invite)).toMatchObject([{ verdict: 'rejected' }]);
  await here.push(B, [back]);
  expect(await here.taken(back)).toMatchObject([{ verdict: 'rejected', rule: 'join-banned' }]);
  const after = room.message(BOB, 'after', [back]);
  await here.push(B, [after]);
  await here.taken(after);
  const keys = [{ type: 'm.room.member', stateKey: EVE }];
  const [eve] = await readSnapshot(store, roomId, (await readRoom(store, roomId))!.currentState!, { keys });
  expect(eve?.membership).toBe('ban');

  // A resident that names it has a say in it.
  expect(await readKnownOtherwise(store, roomId, [back])).toEqual(new Set());
  await judgeOutliers(store, roomId, rules, [...base, eveJoin, back], () => undefined);
  expect(await readKnownOtherwise(store, roomId, [back])).toEqual(new Set([back]));
});
