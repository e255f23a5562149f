/** Rooms in which somebody brings something to correct whenever it is looked for: it keeps nothing else waiting for ever. */
import { afterAll, describe, expect, test } from 'vitest';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { addFirstVerdicts, countCorrectionsDue, readCorrectionTargets } from '../../../src/store/events/corrections.ts';
import { type Store } from '../../../src/store/open-store.ts';
import { readJournal } from '../../../src/store/journal/journal.ts';
import { isAnybodyIn, readRoom } from '../../../src/store/journal/rooms.ts';
import { readSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { correctEvents } from '../../../src/rooms/resync/correct-events.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ADMIN, type EventInTest, ME, PartialRoom, member, message } from './partial-room.ts';

const { store } = await openTestStore();
afterAll(() => expectFoldsRebuilt(store));

const EVE = '@eve:evil.test';
const eve = member('eve', EVE, 'join', { prev: ['elsewhere'], auth: ['create', 'power', 'rules'] });

const dave = member('dave', '@dave:there.test', 'join', { prev: ['elsewhere'], auth: ['create', 'power', 'rules'] });

function named(id: string, prev: string): EventInTest {
  const content = { membership: 'join', displayname: id };
  return member(id, EVE, 'join', { prev: [prev], auth: ['create', 'power', 'rules', 'eve'], content });
}

/** Merges of states that differ, one upon the other: what changes of memberships has them judged again. */
async function merge(room: PartialRoom, root: string, count: number): Promise<void> {
  const merges = Array.from({ length: count }, (_, i) => {
    const [at, left, right] = [i === 0 ? root : `${root}-m${i - 1}`, `${root}-a${i}`, `${root}-b${i}`];
    const merge = message(`${root}-m${i}`, EVE, { prev: [left, right], auth: ['create', 'power', left] });
    return [named(left, at), named(right, at), merge];
  });
  await room.push(...merges.flat());
}

/** A store in which, whenever somebody looks how things stand, there is a membership by which the merges may turn out otherwise. */
function supplied(room: PartialRoom): Store {
  let supply = 0;
  const query: Store['query'] = async (text, values) => {
    if (text.includes(HOW_THINGS_STAND)) {
      supply += 1;
      const found = named(`found-${supply}`, 'elsewhere');
      await room.hold(found);
      await addFirstVerdicts(store, room.roomId, [{ eventId: room.id(found.id), cause: supply }]);
    }
    return store.query(text, values);
  };
  return { ...store, query };
}

/** What only `readResync` says, by which each step of a correction and each round of a walk begins. */
const HOW_THINGS_STAND = 'FROM rooms r LEFT JOIN resyncs s';

async function judgedAgain(room: PartialRoom): Promise<number> {
  const [{ judged } = { judged: 0 }] = await store.query<{ judged: number }>(
    `SELECT coalesce(sum((data ->> 'judged')::int), 0)::int AS judged FROM journal WHERE type = 'EventsCorrected' AND room_id = $1`,
    [room.roomId],
  );
  return judged;
}

const KNOWN = ['create', 'admin', 'power', 'rules', 'eve'];

test('a partial room is walked and completed, and what is left to correct is corrected in the whole room', async () => {
  const room = new PartialRoom(store);
  await room.join();
  await room.hold(eve);
  await room.push(message('pushed', EVE, { prev: ['join'], auth: ['create', 'power', 'eve'] }));
  await room.fetch(...KNOWN);
  // Beside our join, and so by its full state at once.
  await merge(room, 'before', 3);
  const { partial, resync } = await room.walk(supplied(room));
  expect({ partial, phase: resync.phase }).toEqual({ partial: false, phase: 'complete' });
  expect(await judgedAgain(room)).toBeGreaterThan(9);
  expect(await countCorrectionsDue(store, room.roomId)).toBeGreaterThan(0);
  await room.correct();
  expect(await countCorrectionsDue(store, room.roomId)).toBe(0);
}, 120_000);

test('a whole room corrects for a while, the current state too, and others have their turn', async () => {
  const room = new PartialRoom(store);
  await room.join();
  await room.hold(eve, dave);
  await room.fetch(...KNOWN, 'dave');
  await room.walk();
  await merge(room, 'join', 3);
  const why = { rule: 'auth-event-rejected', reason: 'it cites what is rejected' };
  await room.journal({
    type: 'VerdictChanged',
    eventId: room.id('dave'),
    was: 'accepted',
    is: 'rejected',
    cause: 1,
    ...why,
  });
  const membersNow = async (): Promise<readonly EventId[]> => {
    const { currentState } = (await readRoom(store, room.roomId))!;
    return (await readSnapshot(store, room.roomId, currentState!)).map(({ eventId }) => eventId);
  };
  expect(await membersNow()).toContain(room.id('dave'));
  let now = Date.now();
  const clock = { now: () => (now += 300) };
  const progress = { signal: new AbortController().signal, heartbeat: () => undefined };
  const stay = { roomId: room.roomId, epoch: 1 };
  expect(await correctEvents({ ...room.context, store: supplied(room), clock }, stay, progress)).toBe(false);
  expect(await judgedAgain(room)).toBeGreaterThan(9);
  expect(await countCorrectionsDue(store, room.roomId)).toBeGreaterThan(0);
  expect(await membersNow()).not.toContain(room.id('dave'));
  await room.correct();
});

describe('a join of ours that is refused when a room is completed in which something is always due', () => {
  const ofAdmin = { auth: ['create', 'power', 'admin'] };
  const renamed = member('renamed', ADMIN, 'join', { prev: ['elsewhere'], ...ofAdmin });
  const ban = { ...member('ban', ME, 'ban', { auth: ['create', 'power', 'renamed'] }), sender: ADMIN };

  /** Of what the walk is given at last, somebody reads where the stay begins. */
  const COMPLETES = 'AS "stateAfter"\n       FROM rooms r JOIN event_states e';

  async function banned(atCompletion: (room: PartialRoom) => Promise<void>): Promise<PartialRoom> {
    const room = new PartialRoom(store);
    await room.join();
    await room.hold(eve, renamed, ban);
    await room.fetch('create', 'renamed', 'power', 'rules', 'eve', 'ban');
    await merge(room, 'before', 2);
    const always = supplied(room);
    let isCompleting = false;
    const watching: Store['query'] = async (text, values) => {
      if (!isCompleting && text.includes(COMPLETES)) {
        isCompleting = true;
        await atCompletion(room);
      }
      return always.query(text, values);
    };
    const { partial, resync } = await room.walk({ ...always, query: watching });
    expect({ partial, phase: resync.phase, isCompleting }).toEqual({
      ...{ partial: false, phase: 'complete', isCompleting: true },
    });
    expect(await told(room)).toEqual([]);
    return room;
  }

  async function told(room: PartialRoom): Promise<readonly string[]> {
    const journal = await readJournal(store, { roomId: room.roomId, sincePosition: 0, limit: 10_000 });
    return journal
      .map(({ event }) => event.type)
      .filter((type) => ['JoinRejected', 'JoinRestored', 'StayEnded'].includes(type));
  }

  test('has not failed where a correction that is due lets it stand', async () => {
    const why = { rule: 'auth-event-rejected', reason: 'it cites what is rejected' };
    const turned = { type: 'VerdictChanged', cause: 1, was: 'accepted', is: 'rejected', ...why } as const;
    const room = await banned((here) => here.journal({ ...turned, eventId: here.id('renamed') }));
    await room.correct();
    expect(await room.event('join')).toMatchObject({ verdict: 'accepted' });
    expect(await told(room)).toEqual([]);
    expect(await isAnybodyIn(store, room.roomId)).toBe(true);
  }, 120_000);

  test('has failed when all corrections are through and it is refused still, and the stay ends', async () => {
    const room = await banned(() => Promise.resolve());
    expect((await room.correct()).resync.phase).toBe('ended');
    expect(await told(room)).toEqual(['JoinRejected', 'StayEnded']);
  }, 120_000);
});

test('an event that has waited for a minute has its turn, though what comes before it is due again and again', async () => {
  const room = new PartialRoom(store);
  const [again, waiting] = [room.id('again'), room.id('waiting')];
  await store.query(
    `INSERT INTO correction_targets (room_id, event_id, cause, through, states, rank, since)
     SELECT $1, e, 1, e, true, rank, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint - waited
       FROM (VALUES ($2, 1, 0), ($3, 2, 61000)) AS t(e, rank, waited)`,
    [room.roomId, again, waiting],
  );
  expect(await readCorrectionTargets(store, room.roomId, 1)).toMatchObject([{ eventId: again }]);
  expect(await readCorrectionTargets(store, room.roomId, 1, 60_000)).toMatchObject([{ eventId: waiting }]);
  await store.query(`DELETE FROM correction_targets WHERE room_id = $1`, [room.roomId]);
});
