/** Events that are their own ancestors, as they may be where senders choose ids: nothing waits for them for ever. */
import { afterAll, expect, test } from 'vitest';
import { type ServerName } from '../../../src/matrix/identifiers.ts';
import { admitEvents } from '../../../src/rooms/judge/admit.ts';
import { createCaches } from '../../../src/store/caches.ts';
import { readRoom } from '../../../src/store/journal/rooms.ts';
import { resolutionName } from '../../../src/store/snapshots/resolution-cache.ts';
import { stagePdus } from '../../../src/store/tables/staged-pdus.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ADMIN, PartialRoom, message } from '../resync/partial-room.ts';

const THERE = 'there.test' as ServerName;
const OF_ADMIN = { auth: ['create', 'power', 'admin'] };
const KNOWN = ['create', 'power', 'rules', 'admin'];
const REFUSED = { verdict: 'rejected', rule: 'graph-cycle', partial: false };

const { store } = await openTestStore({ serverName: 'here.test' });
afterAll(() => expectFoldsRebuilt(store));

async function wholeRoom(version: string): Promise<PartialRoom> {
  const room = new PartialRoom(store, version);
  await room.join();
  await room.fetch(...KNOWN);
  await room.walk();
  return room;
}

const said = (id: string, ...prev: readonly string[]) => message(id, ADMIN, { prev, ...OF_ADMIN });

test.each(['1', '2'])(
  'that come together are refused, and what builds on them goes on, in version %s',
  async (version) => {
    const room = await wholeRoom(version);
    const pushed = await room.push(said('first', 'join', 'second'), said('second', 'third'), said('third', 'first'));
    expect(pushed.map((admission) => admission.outcome)).toEqual(['admitted', 'admitted', 'admitted']);
    for (const id of ['first', 'second', 'third']) expect(await room.event(id)).toMatchObject(REFUSED);
    expect(await room.extremities()).toEqual([room.id('join')]);
    expect(await room.push(said('after', 'third'))).toMatchObject([{ verdict: 'accepted' }]);
    // Over an event that is refused as its own ancestor nothing is reached.
    expect(await room.extremities()).toEqual([room.id('after'), room.id('join')].sort());
  },
);

test('whose circle builds on states that take long to resolve wait for these, and nothing beside them does', async () => {
  const room = await wholeRoom('1');
  const topic = (id: string) => ({
    ...{ id, type: 'm.room.topic', stateKey: '', sender: ADMIN, content: { topic: id }, prev: ['join'], ...OF_ADMIN },
  });
  await room.push(topic('left'), topic('right'));
  const states = await Promise.all(['left', 'right'].map((name) => room.state(...KNOWN, 'join', name)));
  await room.insert(said('first', 'left', 'right', 'second'), said('second', 'first'));
  // As another process is that is at it.
  const { longResolution, ...caches } = createCaches();
  longResolution.name = resolutionName(room.roomId, states.sort());
  const context = { ...room.context, store: { ...store, caches: { ...caches, longResolution } } };
  const ids = [room.id('first'), room.id('second')];
  const outcomes = async () => [...(await admitEvents(context, room.roomId, ids, { msMax: 60_000 })).values()];
  expect(new Set((await outcomes()).map(({ outcome }) => outcome))).toContain('unresolved');
  longResolution.name = null;
  expect(await outcomes()).toMatchObject([{ verdict: 'rejected' }, { verdict: 'rejected' }]);
});

test.each(['1', '2'])(
  'that come one turn after the other are refused when the last of them does, in version %s',
  async (version) => {
    const room = await wholeRoom(version);
    const waits = async (name: string): Promise<void> => {
      const staged = { roomId: room.roomId, eventId: room.id(name), raw: Buffer.from('{}'), waitsFor: [] };
      await stagePdus(store, THERE, [staged]);
    };
    expect(await room.push(said('first', 'join', 'second'))).toMatchObject([{ outcome: 'waits' }]);
    await waits('first');
    expect(await room.push(said('second', 'third'))).toMatchObject([{ outcome: 'waits' }]);
    await waits('second');
    expect(await room.push(said('third', 'first'))).toMatchObject([{ outcome: 'admitted', verdict: 'rejected' }]);
    expect(await room.event('third')).toMatchObject(REFUSED);
    // What is refused is an event of the timeline still, and the last one closes the circle through it.
    expect(await room.push(said('second', 'third'))).toMatchObject([{ outcome: 'admitted' }]);
    expect(await room.push(said('first', 'join', 'second'))).toMatchObject([{ verdict: 'rejected' }]);
    expect(await room.event('first')).toMatchObject(REFUSED);
    expect(await room.push(said('after', 'first'))).toMatchObject([{ verdict: 'accepted' }]);
  },
);

test.each([
  { how: 'together', batches: [['first', 'second']] },
  { how: 'together and backwards', batches: [['second', 'first']] },
  { how: 'one after the other', batches: [['first'], ['second']] },
])(
  'in a partial room, that come $how, stay refused by the full state, which is that before their circle',
  async ({ batches }) => {
    const room = new PartialRoom(store, '1');
    await room.join();
    const circle = { first: said('first', 'join', 'second'), second: said('second', 'first') };
    if (batches.length > 1) {
      const assumedState = await room.state(...KNOWN, 'join');
      await room.journal({ type: 'GapOpened', eventIds: [room.id('second')], origin: THERE, assumedState, at: 3 });
    }
    for (const batch of batches) await room.push(...batch.map((id) => circle[id as keyof typeof circle]));
    expect(await room.event('second')).toMatchObject({ verdict: 'rejected', rule: 'graph-cycle', partial: true });
    await room.push(said('after', 'second'));
    await room.fetch(...KNOWN);
    expect(await room.walk()).toMatchObject({ partial: false });
    const before = (await room.event('join'))?.stateAfter;
    expect(await room.event('second')).toMatchObject({ ...REFUSED, stateBefore: before, stateAfter: before });
    expect(await room.event('first')).toMatchObject({ stateBefore: before, stateAfter: before });
    expect(await room.event('after')).toMatchObject({ verdict: 'accepted', stateBefore: before });
  },
);

test('that build on something which waits itself are refused once it has its place, by the state after it', async () => {
  const room = await wholeRoom('1');
  const named = { id: 'named', type: 'm.room.name', stateKey: '', sender: ADMIN, content: { name: 'Room' } };
  const beside = { ...named, prev: ['join'], ...OF_ADMIN };
  await room.insert(beside);
  const staged = { roomId: room.roomId, eventId: room.id('named'), raw: Buffer.from('{}'), waitsFor: [] };
  await stagePdus(store, THERE, [staged]);
  const circle = [said('first', 'named', 'second'), said('second', 'first')];
  const waits = { outcome: 'waits', missingParents: [room.id('named')] };
  expect(await room.push(...circle)).toMatchObject([waits, waits]);
  await room.push(beside);
  await room.push(...circle);
  const stateBefore = (await room.event('named'))?.stateAfter;
  for (const id of ['first', 'second']) expect(await room.event(id)).toMatchObject({ ...REFUSED, stateBefore });
});

test('that came beside something else that is missing wait for that', async () => {
  const room = await wholeRoom('1');
  const pushed = await room.push(said('first', 'elsewhere', 'second'), said('second', 'first'));
  expect(pushed).toMatchObject([{ outcome: 'waits' }, { outcome: 'waits' }]);
});

test('one that was missed, and builds on what builds on it, is refused when it comes, and leaves the room its newest event', async () => {
  const room = await wholeRoom('1');
  const snapshotId = await room.state(...KNOWN, 'join');
  const counts = { state: 5, authChain: 0, members: 2, fetched: 0, alreadyHeld: 0, dropped: 0 };
  const closed = { resident: THERE, snapshotId, counts, digest: 'd'.repeat(64), at: 4 };
  await room.journal(
    { type: 'GapOpened', eventIds: [room.id('missed')], origin: THERE, assumedState: null, at: 3 },
    { type: 'GapClosed', eventId: room.id('missed'), ...closed },
  );
  await room.push(said('over', 'join', 'missed'), said('next', 'over'));
  expect(await room.push(said('missed', 'beside'), said('beside', 'next'))).toMatchObject([
    { verdict: 'rejected' },
    { verdict: 'accepted' },
  ]);
  expect(await room.event('missed')).toMatchObject(REFUSED);
  expect(await room.event('over')).toMatchObject({ verdict: 'accepted' });
  expect(await room.extremities()).toEqual([room.id('beside')]);
  const whole = await readRoom(store, room.roomId);
  expect(whole?.currentState).toBe((await room.event('beside'))?.stateAfter);
});

test('one that was missed is refused by what it builds on, where the state given at it has it', async () => {
  const room = await wholeRoom('1');
  const named = { id: 'named', type: 'm.room.name', stateKey: '', sender: ADMIN, content: { name: 'Room' } };
  const missed = { ...named, prev: ['join', 'over'], ...OF_ADMIN };
  await room.insert(missed);
  const snapshotId = await room.state(...KNOWN, 'join', 'named');
  const counts = { state: 6, authChain: 0, members: 2, fetched: 0, alreadyHeld: 0, dropped: 0 };
  const closed = { resident: THERE, snapshotId, counts, digest: 'd'.repeat(64), at: 4 };
  await room.journal(
    { type: 'GapOpened', eventIds: [room.id('named')], origin: THERE, assumedState: null, at: 3 },
    { type: 'GapClosed', eventId: room.id('named'), ...closed },
  );
  expect(await room.push(said('over', 'named'))).toMatchObject([{ verdict: 'accepted' }]);
  expect(await room.push(missed)).toMatchObject([{ verdict: 'rejected' }]);
  const stateBefore = (await room.event('join'))?.stateAfter;
  expect(await room.event('named')).toMatchObject({ ...REFUSED, stateBefore, stateAfter: stateBefore });
});

test('the last one of a circle has the state that the circle builds on, whatever the room has become by then', async () => {
  const room = await wholeRoom('1');
  await room.insert(said('second', 'first'));
  const staged = { roomId: room.roomId, eventId: room.id('second'), raw: Buffer.from('{}'), waitsFor: [] };
  await stagePdus(store, THERE, [staged]);
  expect(await room.push(said('first', 'join', 'second'))).toMatchObject([{ verdict: 'rejected' }]);
  const named = { id: 'named', type: 'm.room.name', stateKey: '', sender: ADMIN, content: { name: 'Room' } };
  await room.push({ ...named, prev: ['join'], ...OF_ADMIN });
  expect(await room.push(said('second', 'first'))).toMatchObject([{ verdict: 'rejected' }]);
  const stateBefore = (await room.event('join'))?.stateAfter;
  for (const id of ['first', 'second']) expect(await room.event(id)).toMatchObject({ ...REFUSED, stateBefore });
});
