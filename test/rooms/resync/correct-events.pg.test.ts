import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { type Journalled, type ResyncEvent, type TimelineEvent } from '../../../src/resync/events.ts';
import { countCorrectionsDue } from '../../../src/store/events/corrections.ts';
import { readParents } from '../../../src/store/events/anchors.ts';
import { readJournal } from '../../../src/store/journal/journal.ts';
import { type Store } from '../../../src/store/open-store.ts';
import { readSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { type TestDatabase, createTestDatabase } from '../../support/postgres.ts';
import { ADMIN, PartialRoom, member, message } from './partial-room.ts';

let database: TestDatabase;
let store: Store;
beforeAll(async () => {
  database = await createTestDatabase();
  store = database.openStore();
});
afterAll(async () => {
  await expectFoldsRebuilt(store);
  await database.drop();
});

const BOB = '@bob:there.test';
const AUTH = ['create', 'power', 'rules'];
const KNOWN = ['create', 'admin', 'power', 'rules'];
const bob = member('bob', BOB, 'join', { prev: ['elsewhere'], auth: AUTH });
const ofBob = { auth: ['create', 'power', 'bob'] };
const ofAdmin = { auth: ['create', 'power', 'admin'] };

/** A whole room whose state at the join, as it was fetched, holds Bob's membership. */
async function wholeRoom(version?: string): Promise<PartialRoom> {
  const room = new PartialRoom(store, version);
  await room.join();
  await room.hold(bob);
  await room.fetch(...KNOWN, 'bob');
  await room.walk();
  return room;
}

/** The verdict on an outlier turns, as a correction of something that it cites would turn it. */
async function turn(room: PartialRoom, name: string, is: 'accepted' | 'rejected'): Promise<void> {
  const was = is === 'accepted' ? 'rejected' : 'accepted';
  const why = is === 'rejected' ? { rule: 'auth-event-rejected', reason: 'it cites what is rejected' } : {};
  await room.journal({ type: 'VerdictChanged', eventId: room.id(name), was, is, cause: await positionOf(), ...why });
}

async function positionOf(): Promise<number> {
  const [head] = await store.query<{ position: number }>('SELECT position FROM journal_head');
  return head!.position;
}

async function entries(room: PartialRoom): Promise<Journalled[]> {
  return readJournal(store, { roomId: room.roomId, sincePosition: 0, limit: 10_000 });
}

async function entriesOf<Type extends (ResyncEvent | TimelineEvent)['type']>(room: PartialRoom, type: Type) {
  return (await entries(room)).flatMap(({ event }) =>
    event.type === type ? [event as Extract<ResyncEvent | TimelineEvent, { readonly type: Type }>] : [],
  );
}

async function stateAfter(room: PartialRoom, name: string): Promise<EventId[]> {
  const parents = await readParents(store, room.roomId, [room.id(name)]);
  return idsIn(room, parents.get(room.id(name))!.stateAfter);
}

async function idsIn(room: PartialRoom, snapshot: string): Promise<EventId[]> {
  const state = await readSnapshot(store, room.roomId, snapshot as never);
  return state.map(({ eventId }) => eventId).sort();
}

const ids = (room: PartialRoom, ...names: readonly string[]): EventId[] => names.map((name) => room.id(name)).sort();

describe('an event that an anchor’s state holds and that is rejected after all', () => {
  test('is taken out of the state, what stands on it is judged again, and comes back with its verdict', async () => {
    const room = await wholeRoom();
    await room.push(message('said', BOB, { prev: ['join'], ...ofBob }));
    await room.push(message('later', ADMIN, { prev: ['said'], ...ofAdmin }));
    expect(await room.event('said')).toMatchObject({ verdict: 'accepted', partial: false });

    await turn(room, 'bob', 'rejected');
    expect(await countCorrectionsDue(store, room.roomId)).toBeGreaterThan(0);
    const after = await room.correct();
    expect(await countCorrectionsDue(store, room.roomId)).toBe(0);
    expect(await stateAfter(room, 'before')).toEqual(ids(room, ...KNOWN));
    expect(await room.event('said')).toMatchObject({ verdict: 'rejected', rule: 'auth-event-rejected' });
    expect(await room.event('later')).toMatchObject({ verdict: 'accepted' });
    expect(await stateAfter(room, 'later')).toEqual(ids(room, ...KNOWN, 'join'));
    expect(await idsIn(room, after.currentState!)).toEqual(ids(room, ...KNOWN, 'join'));
    expect(after).toMatchObject({ partial: false, resync: { phase: 'complete', members: 2 } });
    expect(await entriesOf(room, 'AnchorCorrected')).toMatchObject([
      { eventId: room.id('before'), because: 'verdict-changed', putIn: [], takenOut: [room.id('bob')] },
    ]);

    await turn(room, 'bob', 'accepted');
    const again = await room.correct();
    expect(await stateAfter(room, 'before')).toEqual(ids(room, ...KNOWN, 'bob'));
    expect(await room.event('said')).toMatchObject({ verdict: 'accepted', rule: null });
    expect(await idsIn(room, again.currentState!)).toEqual(ids(room, ...KNOWN, 'join', 'bob'));
    expect(again.resync.members).toBe(3);
  });
});
