import { afterAll, expect, test } from 'vitest';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore, openTestThreads } from '../../support/postgres.ts';
import { type EventId, type ServerName, type UserId, domainOf } from '../../../src/matrix/identifiers.ts';
import { joinRoom } from '../../../src/rooms/join/join.ts';
import { startReceiver } from '../../../src/rooms/receive/receive.ts';
import { readParents } from '../../../src/store/events/anchors.ts';
import { readCorrectionCauses } from '../../../src/store/events/expand-causes.ts';
import { readEventStates } from '../../../src/store/events/event-states.ts';
import { readGaps } from '../../../src/store/events/gaps.ts';
import { readResync } from '../../../src/store/journal/rooms.ts';
import { stagePdus } from '../../../src/store/tables/staged-pdus.ts';
import { A, ALICE, B, BOB, SignedRoom, isPartial, openPushedRoom, signal } from './pushed-room.ts';

const { store } = await openTestStore();
const verification = openTestThreads();
afterAll(() => expectFoldsRebuilt(store));

test('an event that was made beside our join is taken in, and everything that builds on it', async () => {
  const here = openPushedRoom(store, verification);
  const { room } = here;
  const parent = room.message(ALICE, 'before the join');
  const join = await here.join();
  const beside = room.message(BOB, 'beside the join', [parent]);
  const both = room.message(ALICE, 'after both', [join, beside]);
  const later = room.message(BOB, 'later', [both]);
  expect(await here.push(B, [beside])).toEqual({ [beside]: {} });
  expect(await here.push(A, [both])).toEqual({ [both]: {} });
  await here.push(B, [later]);
  const taken = await here.taken(beside, both, later);
  expect(taken.map(({ verdict, partial }) => `${verdict} ${String(partial)}`)).toEqual(Array(3).fill('accepted true'));
  expect(await here.extremities()).toEqual([later]);
  expect(here.asked).toEqual(['sendJoin a.test']);
});

/** A chain of messages after what is newest, alternating between Alice and Bob, oldest first. */
function chain(room: SignedRoom, length: number): EventId[] {
  return Array.from({ length }, (_, i) => room.message(i % 2 === 0 ? ALICE : BOB, `message ${i}`));
}

/** Of a room without memberships left out, which is whole at once. */
async function openWholeRoom(room = new SignedRoom()) {
  const here = openPushedRoom(store, verification, { room });
  const join = await here.join(false);
  expect(await isPartial(store, room.roomId)).toBe(false);
  return { ...here, join };
}

test('in a whole room a gap of a few events is filled from who sent the event after it, oldest first', async () => {
  const { room, push, taken, asked, extremities } = await openWholeRoom();
  const missed = chain(room, 15);
  const last = room.message(BOB, 'last');
  await push(B, [last]);
  expect((await taken(...missed, last)).every(({ verdict, partial }) => verdict === 'accepted' && !partial)).toBe(true);
  expect(await extremities()).toEqual([last]);
  expect(asked).toEqual(['sendJoin a.test', 'getMissingEvents b.test']);
});

test('a gap of more than 100 events is closed in rounds', async () => {
  const { room, push, taken, asked, extremities } = await openWholeRoom();
  const missed = chain(room, 110);
  const last = room.message(BOB, 'last');
  await push(B, [last]);
  await taken(...missed, last);
  expect(await extremities()).toEqual([last]);
  expect(asked.filter((what) => what.startsWith('getMissingEvents'))).toHaveLength(6);
});

test('in a whole room what lies over a wider gap waits for the state there, and the room stays whole', async () => {
  const { room, push, gaps, taken, settled, closeGap, rung, extremities } = await openWholeRoom();
  const missed = chain(room, 130);
  const last = room.message(BOB, 'last');
  await push(B, [last]);
  const [gap] = await gaps(1);
  expect(missed).toContain(gap?.eventId);
  expect(gap).toMatchObject({ origin: B, attempts: 0 });
  expect(await isPartial(store, room.roomId)).toBe(false);

  await closeGap(gap!.eventId, room.state());
  const after = missed.slice(missed.indexOf(gap!.eventId) + 1);
  expect((await taken(...after, last)).every(({ verdict, partial }) => verdict === 'accepted' && !partial)).toBe(true);
  expect(await settled(...after, last)).toEqual(Array(after.length + 1).fill(null));
  expect(await extremities()).toContain(last);
  expect(rung).toContain(room.roomId);
});

test('in a partial room an event over a gap is judged provisionally and shown at once', async () => {
  const here = openPushedRoom(store, verification);
  const { room } = here;
  await here.join();
  chain(room, 3);
  here.answers.getMissingEvents = () => Promise.resolve([]);
  const last = room.message(BOB, 'last');
  await here.push(B, [last]);
  expect(await here.taken(last)).toMatchObject([{ verdict: 'accepted', partial: true }]);
  expect(await here.gaps(1)).toMatchObject([{ eventId: room.prevOf(last)[0] }]);
  expect(here.rung).toContain(room.roomId);
});

test('a parent that every copy of is badly signed becomes a gap, and what builds on it is not lost', async () => {
  const { room, push, gaps, closeGap, taken, answers } = await openWholeRoom();
  const bad = room.message(ALICE, 'bad here, and good elsewhere');
  const last = room.message(BOB, 'last');
  const given = answers.getMissingEvents;
  answers.getMissingEvents = async (...query) =>
    (await given(...query)).map((raw) => {
      const spoilt = Buffer.from(raw)
        .toString()
        .replaceAll(/("ed25519:[^"]*":")[^"]{8}/g, '$1AAAAAAAA');
      return Buffer.from(spoilt);
    });
  await push(B, [last]);
  expect(await gaps(1)).toMatchObject([{ eventId: bad }]);
  await closeGap(bad, room.state());
  expect(await taken(last)).toMatchObject([{ verdict: 'accepted' }]);
});

test('events that waited while no process of ours ran for a day are looked at all the same', async () => {
  const here = openPushedRoom(store, verification, { room: new SignedRoom() });
  const { room } = here;
  await here.join(false);
  await here.receiver.close();
  const events = Array.from({ length: 60 }, (_, i) => room.message(ALICE, `missed ${i}`));
  const after = room.message(BOB, 'and this follows them');
  const stage = (origin: ServerName, ids: readonly EventId[]): Promise<void> =>
    stagePdus(
      store,
      origin,
      ids.map((eventId) => ({ roomId: room.roomId, eventId, raw: room.raw(eventId), waitsFor: [] })),
    );
  await stage(A, events);
  await stage(B, [after]);
  await store.query(`UPDATE staged_pdus SET received_at = received_at - 25 * 3600000 WHERE room_id = $1`, [
    room.roomId,
  ]);
  const again = startReceiver(here.context);
  try {
    expect((await here.taken(...events, after)).map(({ verdict }) => verdict)).toEqual(Array(61).fill('accepted'));
  } finally {
    await again.close();
  }
});

test('of an answer to get_missing_events one bad event costs the others nothing, and claimed depths order nothing', async () => {
  const { room, push, taken, answers, extremities } = await openWholeRoom();
  const missed = [9_000_000, 51, 60].map((depth) => room.say(ALICE, 'm.room.message', { body: 'm' }, { depth }));
  const last = room.message(BOB, 'last');
  const given = answers.getMissingEvents;
  answers.getMissingEvents = async (...query) => [
    Buffer.from('{"type":"nonsense"}'),
    Buffer.from('no JSON'),
    ...(await given(...query)).toReversed(),
  ];
  await push(B, [last]);
  await taken(...missed, last);
  expect(await extremities()).toEqual([last]);
});

test.each(['whole', 'partial'])(
  'an event of the state that a %s room began with enters no timeline when it is sent',
  async (is) => {
    const here = openPushedRoom(store, verification);
    const { room, push, settled, extremities, gaps } = here;
    const join = await here.join(is === 'partial');
    const old = [room.create, room.power, room.joinRules];
    await push(A, old);
    expect(await settled(...old)).toEqual([null, null, null]);
    expect(await readEventStates(store, room.roomId, old)).toEqual(new Map());
    expect(await extremities()).toEqual([join]);
    expect(await gaps(0)).toEqual([]);
  },
);

test('what lies before our join is history: the state at it is asked for, and it enters no timeline', async () => {
  const room = new SignedRoom();
  const history = chain(room, 30);
  const { push, gaps, closeGap, taken } = await openWholeRoom(room);
  const at = history[27]!;
  const beside = room.message(BOB, 'beside the join', [at]);
  await push(B, [beside]);
  expect(await gaps(1)).toMatchObject([{ eventId: at }]);
  await closeGap(at, room.state());
  await taken(beside);
  expect(await readEventStates(store, room.roomId, history)).toEqual(new Map());
});

test.each([
  ['whole', 3],
  ['partial', 3],
  ['whole', 35],
])(
  'in a %s room an event that claims depth 1 hides none of %i events that are missed after it',
  async (kind, count) => {
    const room = new SignedRoom();
    chain(room, 50);
    const { join, push, taken, gaps } = openPushedRoom(store, verification, { room });
    await join(kind === 'partial');
    const lowest = room.say(BOB, 'm.room.message', { body: 'the first, it says' }, { depth: 1 });
    await push(B, [lowest]);
    await taken(lowest);
    const missed = Array.from({ length: count }, (_, i) =>
      room.say(ALICE, 'm.room.message', { body: 'missed' }, { depth: i + 2 }),
    );
    const last = room.say(ALICE, 'm.room.message', { body: 'last' }, { depth: count + 2 });
    await push(A, [last]);
    expect((await taken(...missed, last)).every(({ verdict }) => verdict === 'accepted')).toBe(true);
    expect(await gaps(0)).toEqual([]);
  },
);

test('what is missed beside an event that claims depth 1 is told from the history that both follow', async () => {
  const room = new SignedRoom();
  const history = chain(room, 30);
  const { push, gaps, closeGap, taken } = await openWholeRoom(room);
  const lowest = room.say(BOB, 'm.room.message', { body: 'the first, it says' }, { depth: 1 });
  await push(B, [lowest]);
  await taken(lowest);
  const missed = [2, 3, 4].map((depth) => room.say(ALICE, 'm.room.message', { body: 'missed' }, { depth }));
  const at = history[27]!;
  const both = room.say(BOB, 'm.room.message', { body: 'both' }, { depth: 5, prev: [missed[2]!, at] });
  await push(B, [both]);
  expect(await gaps(1)).toMatchObject([{ eventId: at }]);
  await closeGap(at, room.state());
  expect((await taken(...missed, both)).every(({ verdict }) => verdict === 'accepted')).toBe(true);
  expect(await readEventStates(store, room.roomId, history)).toEqual(new Map());
});

test.each([
  ['right before what is asked about', (lost: EventId, _waiting: EventId, beside: EventId) => [lost, beside]],
  ['behind what waits for it already', (_lost: EventId, waiting: EventId, beside: EventId) => [waiting, beside]],
])('an event at which there is a gap is taken in when a server gives it after all, %s', async (_where, parentsOf) => {
  const { room, push, gaps, taken, settled, answers, extremities } = await openWholeRoom();
  const { last } = room;
  const given = answers.getMissingEvents;
  answers.getMissingEvents = () => Promise.resolve([]);
  const lost = room.message(ALICE, 'lost on the way', [last]);
  const waiting = room.message(ALICE, 'after it', [lost]);
  await push(A, [waiting]);
  await gaps(1);
  // The first attempt was in vain, and the second has begun.
  await store.query(`UPDATE gaps SET attempts = 2 WHERE room_id = $1`, [room.roomId]);

  answers.getMissingEvents = given;
  const beside = room.message(BOB, 'lost, too', [last]);
  const both = room.message(BOB, 'after both', parentsOf(lost, waiting, beside));
  await push(B, [both]);
  const all = [lost, waiting, beside, both];
  expect((await taken(...all)).map(({ verdict }) => verdict)).toEqual(Array(4).fill('accepted'));
  expect(await settled(...all)).toEqual(Array(4).fill(null));
  expect((await readGaps(store, room.roomId)).filter(({ wakeAt }) => wakeAt !== null)).toEqual([]);
  expect(await extremities()).toContain(both);
});

test('an event over a gap that nobody can close is given up with the reason, and what builds on it goes on from the state at it', async () => {
  const { room, push, gaps, settled, giveUpGap, closeGap, taken, answers } = await openWholeRoom();
  answers.getMissingEvents = () => Promise.resolve([]);
  const hidden = room.message(ALICE, 'nobody gives it');
  const over = room.message(BOB, 'over the gap');
  await push(B, [over]);
  await gaps(1);
  await giveUpGap(hidden, 'no resident has it');
  expect(await settled(over)).toEqual([`its prev event ${hidden} cannot be had: no resident has it`]);

  const next = room.message(ALICE, 'next');
  await push(A, [next]);
  expect(await gaps(1)).toMatchObject([{ eventId: over, origin: A }]);
  await closeGap(over, room.state());
  expect(await taken(next)).toMatchObject([{ verdict: 'accepted', partial: false }]);
});

/** A whole room of further servers, each with a member; nobody gives what lies in a gap. */
async function openRoomOfServers(count: number) {
  const room = new SignedRoom();
  const users = Array.from({ length: count }, (_, i) => `@user:flood-${i}.test` as UserId);
  for (const user of users) room.join(user);
  const here = await openWholeRoom(room);
  here.answers.getMissingEvents = () => Promise.resolve([]);
  const over = (user: UserId, missing: string): EventId => room.message(user, `over ${missing}`, [madeUp(missing)]);
  return { ...here, users, over };
}

const madeUp = (name: string): EventId => `$${name.padEnd(43, '_')}` as EventId;

test('ten servers that make up parents keep the place for a gap from no other: one of theirs makes way, and says so', async () => {
  const { room, push, gaps, taken, settled, closeGap, users, over } = await openRoomOfServers(10);
  const flood = new Map<EventId, EventId>();
  for (const user of users) {
    const events = Array.from({ length: 5 }, (_, i) => over(user, `${user.slice(6, 13)}-${i}`));
    for (const eventId of events) flood.set(room.prevOf(eventId)[0]!, eventId);
    await push(domainOf(user), events);
    await gaps(flood.size);
  }
  const lost = room.message(ALICE, 'lost on the way');
  const honest = room.message(BOB, 'over an honest gap');
  await push(B, [honest]);
  await expect.poll(async () => (await readGaps(store, room.roomId)).map(({ eventId }) => eventId)).toContain(lost);
  const open = await gaps(50);
  const gone = [...flood.keys()].filter((eventId) => !open.some((gap) => gap.eventId === eventId));
  expect(gone).toHaveLength(1);
  expect(await settled(flood.get(gone[0]!)!)).toEqual([
    expect.stringContaining('made way for one before events of b.test'),
  ]);
  await closeGap(lost, room.state());
  expect(await taken(honest)).toMatchObject([{ verdict: 'accepted' }]);
});

test('the want of a place for its gap is no attempt of an event', async () => {
  const { push, gaps, users, over } = await openRoomOfServers(1);
  const [user] = users as [UserId];
  await push(
    domainOf(user),
    Array.from({ length: 5 }, (_, i) => over(user, `first-${i}`)),
  );
  await gaps(5);
  const sixth = over(user, 'sixth');
  await push(domainOf(user), [sixth]);
  const staged = async () =>
    store.query<{ attempts: number; soon: boolean }>(
      `SELECT attempts, not_before < extract(epoch FROM clock_timestamp()) * 1000 + 31000 AS soon FROM staged_pdus
        WHERE event_id = $1 AND dropped_at IS NULL AND reason IS NOT NULL`,
      [sixth],
    );
  await expect.poll(staged, { timeout: 10_000 }).toEqual([{ attempts: 0, soon: true }]);
});

test('a gap that was given up and is filled by its event after all is counted as open no longer only once', async () => {
  const { room, push, gaps, giveUpGap, taken, answers } = await openWholeRoom();
  answers.getMissingEvents = () => Promise.resolve([]);
  const base = room.last;
  const late = room.message(ALICE, 'it comes late');
  await push(B, [room.message(BOB, 'over it', [late])]);
  await gaps(1);
  await giveUpGap(late, 'no resident has it');
  const hidden = room.message(ALICE, 'nobody gives it', [base]);
  await push(B, [room.message(BOB, 'over the other', [hidden])]);
  expect(await gaps(1)).toMatchObject([{ eventId: hidden }]);

  await push(A, [late]);
  await taken(late);
  expect((await readGaps(store, room.roomId)).map(({ eventId }) => eventId)).toEqual([hidden]);
  expect((await readResync(store, room.roomId))?.state.gapsOpen).toBe(1);
});

test('in a partial room what stands for a gap takes its own place when it is sent before what it builds on', async () => {
  const here = openPushedRoom(store, verification);
  const { room, answers } = here;
  await here.join();
  answers.getMissingEvents = () => Promise.resolve([]);
  const [first, second, third] = chain(room, 3) as [EventId, EventId, EventId];
  await here.push(A, [third]);
  await here.taken(third);
  await here.push(B, [second]);
  await here.push(A, [first]);
  await here.taken(first, second, third);
  expect(await here.gaps(0)).toEqual([]);
});

test('an event that stood for a closed gap takes its own place when it is sent, and what was built on it hears of another state', async () => {
  const { room, push, gaps, taken, answers, closeGap, extremities, join } = await openWholeRoom();
  answers.getMissingEvents = () => Promise.resolve([]);
  const renamed = room.say(ALICE, 'm.room.name', { name: 'sent late' }, { stateKey: '' });
  const last = room.message(BOB, 'last');
  await push(B, [last]);
  await gaps(1);
  // The resident's answer lacks the event itself.
  await closeGap(
    renamed,
    room.state().filter((eventId) => eventId !== renamed),
  );
  await taken(last);
  expect(await extremities()).toEqual([join, last].sort());

  await push(A, [renamed]);
  const [late] = await taken(renamed);
  expect(late).toMatchObject({ verdict: 'accepted', partial: false });
  expect(await extremities()).toEqual([last]);
  expect((await readParents(store, room.roomId, [renamed])).get(renamed)).toMatchObject({
    isAnchor: false,
    stateAfter: late!.stateAfter,
  });
  const causes = await readCorrectionCauses(store, room.roomId, 10);
  expect(causes.map(({ eventId, verdict }) => ({ eventId, verdict }))).toEqual([{ eventId: renamed, verdict: false }]);
});

test('an event that a further join of ours cites is taken in when it is sent, but what our stay begins with never is', async () => {
  const { room, push, taken, settled, extremities, join, context } = await openWholeRoom();
  const cited = room.message(ALICE, 'comes after the join that cites it');
  const [before] = room.prevOf(join) as [EventId];
  const { eventId: further } = await joinRoom(context, {
    ...{ room: room.roomId, userId: '@you:here.test' as UserId, via: [A], signal, omitMembers: false },
  });
  expect(await extremities()).toEqual([join, further].sort());
  await push(A, [cited, before]);
  await taken(cited);
  expect(await settled(cited, before)).toEqual([null, null]);
  expect(await extremities()).toEqual([further]);
  expect(await readEventStates(store, room.roomId, [before])).toEqual(new Map());
});
