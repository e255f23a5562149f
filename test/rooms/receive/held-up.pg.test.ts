/** What is staged and held up itself, and what builds on it. */
import { afterAll, expect, test } from 'vitest';
import { type EventId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../../src/matrix/pdu.ts';
import { readGaps } from '../../../src/store/events/gaps.ts';
import { resolutionName } from '../../../src/store/snapshots/resolution-cache.ts';
import { readWaiting } from '../../../src/store/tables/staged-reads.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore, openTestThreads } from '../../support/postgres.ts';
import { A, ALICE, B, BOB, EVIL, MALLORY, SignedRoom, openPushedRoom } from './pushed-room.ts';

const { store } = await openTestStore();
const verification = openTestThreads();
afterAll(() => expectFoldsRebuilt(store));

/** A whole room. The keys of servers in `silentKeys` cannot be had. */
async function openWholeRoom(room = new SignedRoom(), silentKeys: ReadonlySet<ServerName> = new Set()) {
  const here = openPushedRoom(store, verification, { room, silentKeys });
  await here.join(false);
  /** Waits until the event has had a turn, and gives why there is no verdict. */
  const heldUp = async (eventId: EventId): Promise<string> => {
    const look = () =>
      store.query<{ reason: string }>(
        `SELECT reason FROM staged_pdus WHERE event_id = $1 AND dropped_at IS NULL AND attempts > 0`,
        [eventId],
      );
    await expect.poll(look, { timeout: 10_000 }).not.toEqual([]);
    return (await look())[0]!.reason;
  };
  return { ...here, heldUp };
}

/** The event as somebody spoils it who has not made it: signed with a key that its server is said to have. */
function crippled(room: SignedRoom, eventId: EventId, keyOwner: ServerName): Uint8Array {
  const event = room.events.get(eventId) as JsonObject & { signatures: Record<string, Record<string, string>> };
  const [signature] = Object.values(event.signatures[keyOwner]!) as [string];
  const signatures = { ...event.signatures, [keyOwner]: { 'ed25519:nope': signature } };
  return Buffer.from(JSON.stringify({ ...event, signatures }));
}

test.each([
  ['a stranger', false],
  ['a member', true],
])(
  "a copy of an event that %s has spoiled keeps nobody's events waiting: the good one is asked for",
  async (_who, isIn) => {
    const room = new SignedRoom();
    if (isIn) room.join(MALLORY);
    const { send, push, taken, asked, heldUp, settled } = await openWholeRoom(room);
    const lost = room.message(ALICE, 'lost on the way');
    await send(EVIL, `spoiled-${room.roomId}`, [crippled(room, lost, A)]);
    expect(await heldUp(lost)).toContain('ed25519:nope of a.test cannot be had');
    const after = room.message(BOB, 'after it');
    await push(B, [after]);
    const later = room.message(ALICE, 'later');
    await push(A, [later]);
    expect((await taken(lost, after, later)).map(({ verdict }) => verdict)).toEqual(Array(3).fill('accepted'));
    expect(await settled(after, later)).toEqual([null, null]);
    expect(asked).toEqual(['sendJoin a.test', 'getMissingEvents b.test']);
  },
);

test('a spoiled copy that comes together with what builds on the event, or after it, delays that by a turn', async () => {
  const { room, send, push, taken } = await openWholeRoom();
  const lost = room.message(ALICE, 'lost on the way');
  const after = room.message(BOB, 'after it');
  const spoiled = crippled(room, lost, A);
  await Promise.all([send(EVIL, `spoiled-${room.roomId}`, [spoiled]), push(B, [after])]);
  await send('evil.example' as ServerName, `spoiled-more-${room.roomId}`, [spoiled]);
  expect((await taken(lost, after)).map(({ verdict }) => verdict)).toEqual(['accepted', 'accepted']);
});

test('a good copy is taken beside a spoiled one, whoever of the two came first', async () => {
  const { room, send, push, taken, heldUp } = await openWholeRoom();
  const eventId = room.message(ALICE, 'said once');
  await send(EVIL, `spoiled-${room.roomId}`, [crippled(room, eventId, A)]);
  await heldUp(eventId);
  await push(A, [eventId]);
  expect(await taken(eventId)).toMatchObject([{ verdict: 'accepted' }]);
});

test('an event whose key we alone cannot have is a gap to what builds on it, and takes its own place when the key comes', async () => {
  const room = new SignedRoom();
  room.join(MALLORY);
  const silentKeys = new Set<ServerName>();
  const { push, gaps, closeGap, taken, settled, asked, heldUp, extremities } = await openWholeRoom(room, silentKeys);
  silentKeys.add(EVIL);
  const keyless = room.message(MALLORY, 'my key you shall not have');
  await push(EVIL, [keyless]);
  expect(await heldUp(keyless)).toContain('of evil.test cannot be had');
  const after = room.message(ALICE, 'after it');
  await push(A, [after]);
  const later = room.message(BOB, 'later');
  await push(B, [later]);
  expect(await gaps(1)).toMatchObject([{ eventId: keyless, origin: A }]);
  // Its copy would be no better than that which we have: it is not even tried.
  expect(asked.filter((what) => what === 'getMissingEvents a.test')).toHaveLength(1);
  await closeGap(keyless, room.state());
  expect(await taken(after, later)).toMatchObject([{ verdict: 'accepted' }, { verdict: 'accepted' }]);

  silentKeys.delete(EVIL);
  expect(await taken(keyless)).toMatchObject([{ verdict: 'accepted', partial: false }]);
  expect(await settled(keyless, after, later)).toEqual([null, null, null]);
  expect(await extremities()).toEqual([later]);
  expect((await readGaps(store, room.roomId)).filter(({ wakeAt }) => wakeAt !== null)).toEqual([]);
});

test('what another server sent without its parent keeps nobody else from asking for both', async () => {
  const room = new SignedRoom();
  room.join(MALLORY);
  const { push, gaps, taken, answers } = await openWholeRoom(room);
  const given = answers.getMissingEvents;
  answers.getMissingEvents = (server, ...query) => (server === EVIL ? Promise.resolve([]) : given(server, ...query));
  const madeUp = (i: number): EventId => `$${`made-up-${i}`.padEnd(43, '_')}` as EventId;
  await push(
    EVIL,
    Array.from({ length: 5 }, (_, i) => room.message(MALLORY, `over ${i}`, [madeUp(i)])),
  );
  await gaps(5);
  const first = room.message(ALICE, 'lost on the way');
  const second = room.message(ALICE, 'relayed by one who has no place for a gap left');
  answers.getMissingEvents = () => Promise.resolve([]);
  await push(EVIL, [second]);
  const waits = () =>
    store.query(`SELECT FROM staged_pdus WHERE event_id = $1 AND attempts = 0 AND reason IS NOT NULL`, [second]);
  await expect.poll(waits, { timeout: 10_000 }).toHaveLength(1);
  answers.getMissingEvents = given;
  // As if it had asked in vain for longer than an errand takes.
  await store.query(`UPDATE staged_pdus SET received_at = received_at - 60000 WHERE event_id = $1`, [second]);
  const third = room.message(ALICE, 'after them');
  await push(A, [third]);
  expect((await taken(first, second, third)).map(({ verdict }) => verdict)).toEqual(Array(3).fill('accepted'));
});

test('one made-up parent that others have seen the state at holds up a room no longer than an attempt', async () => {
  const room = new SignedRoom();
  room.join(MALLORY);
  const { push, gaps, closeGap, giveUpGap, taken } = await openWholeRoom(room);
  const madeUp = `$${'made-up'.padEnd(43, '_')}` as EventId;
  const over = room.say(MALLORY, 'm.room.message', { body: 'over it' }, { prev: [madeUp] });
  await push(EVIL, [over]);
  await gaps(1);
  const after = room.message(ALICE, 'after it', [over]);
  await push(A, [after]);
  const waits = (eventId: EventId) => () =>
    store.query(`SELECT FROM staged_pdus WHERE event_id = $1 AND $2 = ANY (waits_for)`, [eventId, madeUp]);
  await expect.poll(waits(after), { timeout: 10_000 }).toHaveLength(1);
  // The first attempt was in vain, and the second has begun.
  await store.query(`UPDATE gaps SET attempts = 2 WHERE room_id = $1`, [room.roomId]);

  const later = room.message(BOB, 'later', [after]);
  await push(B, [later]);
  expect((await gaps(2)).map(({ eventId }) => eventId).sort()).toEqual([madeUp, after].sort());
  await closeGap(after, room.state());
  expect(await taken(later)).toMatchObject([{ verdict: 'accepted' }]);

  // What was there before looks again in a minute.
  await store.query(`UPDATE staged_pdus SET not_before = 0 WHERE event_id = $1 AND not_before < $2`, [
    after,
    Date.now() + 120_000,
  ]);
  expect((await gaps(2)).map(({ eventId }) => eventId).sort()).toEqual([madeUp, over].sort());
  await closeGap(over, room.state());
  expect(await taken(after)).toMatchObject([{ verdict: 'accepted' }]);
  await giveUpGap(madeUp, 'nobody has it');
});

/** A message that builds on two states that differ, one that builds on it, and the states. */
async function openFork(here: Awaited<ReturnType<typeof openWholeRoom>>) {
  const { room } = here;
  const base = room.last;
  const all = ['one', 'between', 'other'].map((topic) =>
    room.say(ALICE, 'm.room.topic', { topic }, { stateKey: '', prev: [base] }),
  );
  await here.push(A, all);
  // Of all three the room's state is resolved, and of the first two it was.
  const sides = [all[0]!, all[2]!];
  await here.taken(...all);
  const states = (await here.taken(...sides)).map(({ stateAfter }) => stateAfter).sort();
  const wide = room.message(ALICE, 'both', sides);
  return { states, wide, after: room.message(ALICE, 'after', [wide]) };
}

test('an event whose states are still being resolved waits, and what follows it, and the room goes on', async () => {
  const here = await openWholeRoom();
  const { room } = here;
  const { states, wide, after } = await openFork(here);
  // As a process is that is at it.
  store.caches.longResolution.name = resolutionName(room.roomId, states);
  await here.push(A, [wide, after]);
  const waiting = async () =>
    (await readWaiting(store, room.roomId, 10)).map(({ eventId, reason }) => [eventId, reason]);
  await expect.poll(waiting, { timeout: 10_000 }).toEqual([
    [wide, 'its states are still being resolved'],
    [after, `waits for ${wide}`],
  ]);
  const beside = room.message(BOB, 'beside', [room.prevOf(wide)[0]!]);
  await here.push(B, [beside]);
  await here.taken(beside);
  store.caches.longResolution.name = null;
  await here.taken(wide, after);
});

test('an event that is too much to resolve waits, and what follows it, for days, until the states are others or a new process is', async () => {
  const here = await openWholeRoom();
  const { room } = here;
  const { states, wide, after } = await openFork(here);
  // As a process is that has found out before.
  store.caches.tooLarge.set(resolutionName(room.roomId, states), 2_000_001);
  await here.push(A, [wide, after]);
  const waiting = async () =>
    (await readWaiting(store, room.roomId, 10)).map(({ eventId, reason }) => [eventId, reason]);
  const expected = [
    [wide, 'too large for this version: 2 states that differ in 2000001 places or more are too much to resolve'],
    [after, `waits for ${wide}`],
  ];
  await expect.poll(waiting, { timeout: 10_000 }).toEqual(expected);
  const letPass = async (): Promise<void> => {
    await store.query(
      `UPDATE staged_pdus SET received_at = received_at - 172800000, not_before = 0, reason = 'again' WHERE room_id = $1`,
      [room.roomId],
    );
  };
  await letPass();
  await expect.poll(waiting, { timeout: 10_000 }).toEqual(expected);
  store.caches.tooLarge.clear();
  await letPass();
  await here.taken(wide, after);
});
