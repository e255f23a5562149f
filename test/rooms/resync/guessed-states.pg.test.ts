/** What a guess may decide, and what it may not: the state after a missing event is assumed until a resident tells it. */
import { afterAll, describe, expect, test } from 'vitest';
import { type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { type JournalEvent } from '../../../src/resync/entries.ts';
import { judgeOutliers } from '../../../src/rooms/judge/judge-outliers.ts';
import { rulesOfJoined } from '../../../src/rooms/judge/load-pdus.ts';
import { correctSome } from '../../../src/rooms/resync/correct-events.ts';
import { readJudgements } from '../../../src/store/events/auth-events.ts';
import { LOOKED_THROUGH_AT_ONCE } from '../../../src/store/events/expand-causes.ts';
import { recordOmissions } from '../../../src/store/events/left-out.ts';
import { readJournal } from '../../../src/store/journal/journal.ts';
import { withTransaction } from '../../../src/store/open-store.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ADMIN, type EventInTest, PartialRoom, member, message } from './partial-room.ts';

const { store } = await openTestStore();
afterAll(() => expectFoldsRebuilt(store));

const THERE = 'there.test' as ServerName;
const BOB = '@bob:there.test';
const CAROL = '@carol:there.test';
const OTHER = '@other:here.test';
const AUTH = ['create', 'power', 'rules'];
const KNOWN = ['create', 'admin', 'power', 'rules'];
const ADMINS = { auth: ['create', 'power', 'admin'] };

/** Carol was invited by Bob, who has left since: old events, which a resident names. */
const OLD: readonly EventInTest[] = [
  member('bob', BOB, 'join', { auth: AUTH }),
  member('invited', CAROL, 'invite', { sender: BOB, prev: ['gap'], auth: ['create', 'power', 'bob'] }),
];

/** A partial room with a gap, at which its own state is assumed. */
async function roomWithGap(): Promise<PartialRoom> {
  const room = new PartialRoom(store);
  await room.join();
  const assumedState = await room.state(...AUTH, 'join');
  await room.journal({ type: 'GapOpened', eventIds: [room.id('gap')], origin: THERE, assumedState, at: 3 });
  return room;
}

/** A resident tells the state there. */
async function tellGap(room: PartialRoom, ...names: readonly string[]): Promise<void> {
  const counts = { state: names.length, authChain: 0, members: 1, fetched: 0, alreadyHeld: 0, dropped: 0 };
  const told = { resident: THERE, snapshotId: await room.state(...names), counts, digest: 'd'.repeat(64), at: 9 };
  await room.journal({ type: 'GapClosed', eventId: room.id('gap'), ...told });
}

async function closeGap(room: PartialRoom, ...names: readonly string[]): Promise<void> {
  await tellGap(room, ...names);
  await room.correct();
}

function topic(id: string, prev: readonly string[]): EventInTest {
  return { id, type: 'm.room.topic', stateKey: '', sender: ADMIN, content: { topic: id }, prev, ...ADMINS };
}

/** Messages `m0`, `m1` and so on, one upon the other. */
async function pushChain(room: PartialRoom, from: string, length: number): Promise<void> {
  const chain = Array.from({ length }, (_, i) =>
    message(`m${i}`, ADMIN, { prev: [i === 0 ? from : `m${i - 1}`], ...ADMINS }),
  );
  for (let at = 0; at < chain.length; at += 50) await room.push(...chain.slice(at, at + 50));
}

async function entriesOf(room: PartialRoom, type: JournalEvent['type']): Promise<JournalEvent[]> {
  const journal = await readJournal(store, { roomId: room.roomId, sincePosition: 0, limit: 1_000 });
  return journal.map(({ event }) => event).filter((event) => event.type === type);
}

describe('an old event that residents name, sent over a gap whose state is guessed', () => {
  async function whole(...above: readonly EventInTest[]): Promise<PartialRoom> {
    const room = await roomWithGap();
    await room.hold(...OLD);
    for (let at = 0; at < above.length; at += 50) await room.push(...above.slice(at, at + 50));
    await room.push(OLD[1]!);
    await room.push(member('carol', CAROL, 'join', { prev: ['join'], auth: [...AUTH, 'invited'] }));
    await room.fetch(...KNOWN);
    await room.walk();
    expect(await entriesOf(room, 'GapsAssumed')).toHaveLength(1);
    return room;
  }

  test('keeps its verdict, and so does what cites it; it is no newest event where the room does not let it be', async () => {
    const room = await whole();
    expect(await room.event('invited')).toMatchObject({ verdict: 'accepted', softFailed: true, partial: false });
    expect(await room.event('carol')).toMatchObject({ verdict: 'accepted', softFailed: false });
    expect(await room.extremities()).toEqual([room.id('carol')]);
  });

  test('is refused, with what cites it, once a resident tells a state there that refuses it', async () => {
    const room = await whole();
    await closeGap(room, ...KNOWN);
    expect(await room.event('invited')).toMatchObject({ verdict: 'rejected', rule: 'sender-not-joined' });
    expect(await room.event('carol')).toMatchObject({ verdict: 'rejected', rule: 'auth-event-rejected' });
  });

  test('stays accepted once a resident tells a state there that lets it be', async () => {
    const room = await whole();
    await closeGap(room, ...KNOWN, 'bob');
    expect(await room.event('invited')).toMatchObject({ verdict: 'accepted' });
    expect(await room.event('carol')).toMatchObject({ verdict: 'accepted' });
    expect(await entriesOf(room, 'VerdictChanged')).toEqual([]);
  });

  test('is judged by what was told, however far above the gap it stands, and though the guess was right', async () => {
    const room = await roomWithGap();
    await room.hold(...OLD);
    await pushChain(room, 'gap', 230);
    await room.push({ ...OLD[1]!, id: 'above', prev: ['m229'] });
    await room.hold({ ...OLD[1]!, id: 'above', prev: ['m229'] });
    await room.fetch(...KNOWN);
    await room.walk();
    expect(await room.event('above')).toMatchObject({ verdict: 'accepted' });
    // The same that was guessed.
    await closeGap(room, ...KNOWN, 'join');
    expect(await room.event('above')).toMatchObject({ verdict: 'rejected', rule: 'sender-not-joined' });
  });

  test('is judged by what was told, though the answer lacks a topic that comes before that is looked for', async () => {
    const room = await roomWithGap();
    await room.hold(OLD[0]!);
    await room.push(topic('over', ['gap']));
    await pushChain(room, 'over', 450);
    await room.push({ ...OLD[1]!, id: 'above', prev: ['m449'] });
    await room.hold({ ...OLD[1]!, id: 'above', prev: ['m449'] });
    await room.fetch(...KNOWN);
    await room.walk();
    expect(await room.event('above')).toMatchObject({ verdict: 'accepted' });
    const lacks = { leftOut: [room.id('older')], awaited: [] };
    await withTransaction(store, (tx) => recordOmissions(tx, room.roomId, room.id('gap'), lacks));
    await tellGap(room, ...KNOWN, 'join');
    await room.hold(topic('older', []));
    await room.correct();
    expect(await entriesOf(room, 'AnchorCorrected')).toHaveLength(1);
    expect(await room.event('above')).toMatchObject({ verdict: 'rejected', rule: 'sender-not-joined' });
    const [turned] = await entriesOf(room, 'VerdictChanged');
    const closed = await store.query<{ position: number }>(
      `SELECT position FROM journal WHERE room_id = $1 AND type = 'GapClosed'`,
      [room.roomId],
    );
    expect(turned).toMatchObject({ eventId: room.id('above'), cause: closed[0]!.position });
  }, 60_000);

  test('is judged by what was told, though the room was half looked through by then for another change there', async () => {
    const room = await roomWithGap();
    await room.hold(OLD[0]!, member('gap', '@dave:there.test', 'invite', { sender: ADMIN, ...ADMINS }));
    await pushChain(room, 'gap', 230);
    await room.push({ ...OLD[1]!, id: 'above', prev: ['m229'] });
    await room.hold({ ...OLD[1]!, id: 'above', prev: ['m229'] });
    await room.fetch(...KNOWN);
    await room.walk();
    const others = Array.from({ length: LOOKED_THROUGH_AT_ONCE }, (_, i) => message(`other${i}`, ADMIN, ADMINS));
    await room.insert(...others);
    const turn = { was: 'accepted', is: 'rejected', rule: 'late', reason: 'late', cause: 1 } as const;
    await room.journal({ type: 'VerdictChanged', eventId: room.id('gap'), ...turn });
    const progress = { signal: new AbortController().signal, heartbeat: () => undefined };
    for (const taken of [0, 1]) await correctSome(room.context, { roomId: room.roomId, epoch: 1 }, progress, { taken });
    const [looked] = await store.query<{ to: number | null }>(
      `SELECT looked_to AS to FROM correction_causes WHERE room_id = $1 AND event_id = $2`,
      [room.roomId, room.id('gap')],
    );
    expect(looked?.to).toBeGreaterThan(0);
    await closeGap(room, ...KNOWN, 'join');
    expect(await room.event('above')).toMatchObject({ verdict: 'rejected', rule: 'sender-not-joined' });
  }, 60_000);

  test('keeps its verdict where it comes to the whole room', async () => {
    const room = await roomWithGap();
    await room.push(message('over', ADMIN, { prev: ['gap'], ...ADMINS }));
    await room.fetch(...KNOWN);
    await room.walk();
    await room.hold(...OLD);
    await room.push(
      { ...OLD[1]!, prev: ['over'] },
      message('said', BOB, { prev: ['over'], auth: ['create', 'power', 'bob'] }),
    );
    expect(await room.event('invited')).toMatchObject({ verdict: 'accepted', softFailed: true });
    // What nobody knew is judged by the guess.
    expect(await room.event('said')).toMatchObject({ verdict: 'rejected' });
  });
});

describe('an event that was refused before a resident named it', () => {
  const refused = { rule: 'sender-not-joined', reason: 'he is not in the room' };

  async function named(room: PartialRoom): Promise<string | undefined> {
    const id = room.id('invited');
    const ids = ['create', 'power', 'bob', 'invited'].map((name) => room.id(name));
    const judged = await judgeOutliers(store, room.roomId, rulesOfJoined('10'), ids, () => undefined);
    return judged.verdictOf(id);
  }

  test('by what was not known yet, counts by its own auth events from then on', async () => {
    const room = await roomWithGap();
    await room.hold(OLD[0]!);
    await room.insert(OLD[1]!);
    const stateBefore = await room.state(...AUTH, 'join');
    await room.journal({ type: 'PduRejected', eventId: room.id('invited'), partial: true, stateBefore, ...refused });
    expect(await named(room)).toBe('accepted');
    const judgements = await readJudgements(store, room.roomId, [room.id('invited')]);
    expect(judgements.get(room.id('invited'))).toMatchObject({ verdict: 'accepted' });
  });

  test('by a guess, in a room that is whole, is judged again', async () => {
    const room = await roomWithGap();
    await room.hold(OLD[0]!);
    await room.push(OLD[1]!);
    await room.fetch(...KNOWN);
    await room.walk();
    expect(await room.event('invited')).toMatchObject({ verdict: 'rejected', partial: false });
    expect(await named(room)).toBe('accepted');
    await room.correct();
    expect(await room.event('invited')).toMatchObject({ verdict: 'accepted' });
  });

  test('by a state that was told stays refused', async () => {
    const room = await roomWithGap();
    await room.hold(OLD[0]!);
    await room.push(OLD[1]!);
    await room.fetch(...KNOWN);
    await room.walk();
    await closeGap(room, ...KNOWN);
    expect(await named(room)).toBe('rejected');
  });
});

test('a join of ours that a resident took is not refused by a guess', async () => {
  const room = await roomWithGap();
  await room.push(message('over', ADMIN, { prev: ['gap'], ...ADMINS }));
  const other = member('other', OTHER, 'join', { prev: ['over'], auth: AUTH });
  await room.insert(other);
  const [stateBefore, stateAfter] = [await room.state(...AUTH, 'join'), await room.state(...AUTH, 'join', 'other')];
  const joined = { joinEventId: room.id('other'), userId: OTHER as UserId, joinedVia: THERE, serversInRoom: [THERE] };
  const states = { partial: true, softFailed: false, stateBefore, stateAfter, currentState: stateAfter };
  await room.journal(
    { type: 'ResidentsLearned', ...joined, fetchAt: [], stateBefore, at: 5 },
    { type: 'PduAccepted', eventId: room.id('other'), ...states },
  );
  // Beside it; by what is guessed at the gap it came before.
  await room.push(member('ban', OTHER, 'ban', { sender: ADMIN, prev: ['join'], ...ADMINS }));
  await room.fetch(...KNOWN);
  await room.walk();
  expect(await room.event('other')).toMatchObject({ verdict: 'accepted', partial: false });
  expect(await entriesOf(room, 'JoinRejected')).toEqual([]);
});
