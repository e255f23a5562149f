/** Events whose auth events cannot be had: they end in a verdict by name, and not without a trace. */
import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { correctEvents } from '../../../src/rooms/resync/correct-events.ts';
import { operatorReads } from '../../../src/rooms/read/for-operators.ts';
import { readJournal } from '../../../src/store/journal/journal.ts';
import { silent } from '../../federation/tls-server.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore, openTestThreads } from '../../support/postgres.ts';
import { A, ALICE, B, BOB, SignedRoom, openPushedRoom, signal } from './pushed-room.ts';

const { store } = await openTestStore();
const verification = openTestThreads();
afterAll(() => expectFoldsRebuilt(store));

const CAROL = '@carol:c.test' as UserId;
const NOBODYS = '$nobody-has-it' as EventId;

async function openWholeRoom(room = new SignedRoom()) {
  const here = openPushedRoom(store, verification, { room });
  await here.join(false);
  return here;
}

/** A message of Bob's that cites this besides what it has to. */
function citing(room: SignedRoom, auth: EventId): EventId {
  return room.say(BOB, 'm.room.message', { body: 'proven by it' }, { auth: [...room.authOf(BOB), auth] });
}

async function entryOf(roomId: RoomId, eventId: EventId) {
  const journal = await readJournal(store, { roomId, sincePosition: 0, limit: 1_000 });
  return journal.find(({ event }) => 'eventId' in event && event.eventId === eventId)?.event;
}

describe('an event that cites one of another room as auth event', () => {
  test('is rejected by that name as soon as anybody has shown what it cites, and what follows it goes on', async () => {
    const { room, push, taken, answers, context } = await openWholeRoom();
    const other = new SignedRoom();
    answers.event = (_server, eventId) => Promise.resolve((other.events.has(eventId) ? other : room).raw(eventId));
    const over = citing(room, other.aliceJoin);
    const next = room.message(ALICE, 'next');
    await push(B, [over, next]);
    expect(await taken(over, next)).toMatchObject([
      { verdict: 'rejected', rule: 'auth-event-other-room', partial: false },
      { verdict: 'accepted' },
    ]);
    expect(await entryOf(room.roomId, over)).toMatchObject({
      type: 'PduRejected',
      rule: 'auth-event-other-room',
      reason: `Auth event ${other.aliceJoin} is of another room.`,
    });
    const { lines } = await operatorReads(context).explainEvent(over);
    expect(lines.join(' ')).toContain(`Auth event ${other.aliceJoin} is of another room`);
  });

  test('is rejected without a request where we hold that one in the other room', async () => {
    const other = await openWholeRoom();
    const { room, push, taken, asked } = await openWholeRoom();
    const over = citing(room, other.room.aliceJoin);
    asked.length = 0;
    await push(B, [over]);
    expect(await taken(over)).toMatchObject([{ verdict: 'rejected', rule: 'auth-event-other-room' }]);
    expect(asked).toEqual([]);
  });
});

describe('an event whose auth event nobody gives', () => {
  async function unproven(from: readonly ServerName[] = [B]) {
    const here = await openWholeRoom();
    const { room, push, taken, answers } = here;
    const invited = { stateKey: CAROL, prev: [room.last] };
    const invite = room.say(ALICE, 'm.room.member', { membership: 'invite' }, invited);
    const { event } = answers;
    answers.event = (server, eventId, options) => event(server, eventId === invite ? NOBODYS : eventId, options);
    answers.eventAuth = () => Promise.resolve([]);
    const auth = [room.create, room.power, room.joinRules, invite];
    const over = room.say(CAROL, 'm.room.member', { membership: 'join' }, { stateKey: CAROL, auth });
    const tried = () => store.query(`SELECT FROM staged_pdus WHERE event_id = $1 AND attempts > 0`, [over]);
    for (const [before, origin] of from.entries()) {
      await push(origin, [over]);
      await expect.poll(tried, { timeout: 10_000 }).toHaveLength(before + 1);
    }
    // All tries but the last were in vain.
    await store.query(`UPDATE staged_pdus SET attempts = 20, not_before = 0 WHERE event_id = $1`, [over]);
    const [state] = await taken(over);
    return { ...here, invite, over, state };
  }

  test('is rejected by that name after all tries, with the reason, and is told of', async () => {
    const { room, over, invite, state, context } = await unproven();
    expect(state).toMatchObject({ verdict: 'rejected', rule: 'auth-event-missing' });
    expect(state?.reason).toContain(`${invite} is not at hand. It was asked for in vain 20 times.`);
    expect(await entryOf(room.roomId, over)).toMatchObject({ type: 'PduRejected', rule: 'auth-event-missing' });
    const { lines } = await operatorReads(context).explainEvent(over);
    expect(lines.join(' ')).toContain('asked for in vain');
  });

  test('is rejected once, whoever gave it besides', async () => {
    const failed = vi.spyOn(silent, 'error');
    onTestFinished(() => failed.mockRestore());
    const { room, over, state } = await unproven([B, A]);
    expect(state).toMatchObject({ verdict: 'rejected', rule: 'auth-event-missing' });
    expect(await entryOf(room.roomId, over)).toMatchObject({ type: 'PduRejected' });
    expect(failed).not.toHaveBeenCalled();
  });

  test('is judged again when that one comes, as a correction', async () => {
    const { room, over, invite, push, taken, context, rung } = await unproven();
    await push(A, [invite]);
    await taken(invite);
    expect(rung).toContain(room.roomId);
    await correctEvents(context, { roomId: room.roomId, epoch: 1 }, { signal, heartbeat: () => undefined });
    expect(await taken(over)).toMatchObject([{ verdict: 'accepted', rule: null }]);
  });
});
