/** Joins that meet what we hold of the room by now: what was pushed, and other joins of the user. */
import { describe, expect, test } from 'vitest';
import { type SendJoinStream } from '../../../src/federation/contract.ts';
import { type EventId, type UserId } from '../../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../../src/matrix/pdu.ts';
import { eventIdOf } from '../../../src/matrix/signing/hashes.ts';
import { signEvent } from '../../../src/matrix/signing/signatures.ts';
import { type JoinedRoom } from '../../../src/rooms/contract.ts';
import { joinRoom } from '../../../src/rooms/join/join.ts';
import { type Admission } from '../../../src/rooms/judge/admission.ts';
import { admitEvents } from '../../../src/rooms/judge/admit.ts';
import { checkEvents, passed } from '../../../src/rooms/judge/check-events.ts';
import { judgeOutliers } from '../../../src/rooms/judge/judge-outliers.ts';
import { correctEvents } from '../../../src/rooms/resync/correct-events.ts';
import { type FullAnchor, readAssumedGaps, readFullAnchors } from '../../../src/store/events/anchors.ts';
import { readEventStates } from '../../../src/store/events/event-states.ts';
import { readGaps } from '../../../src/store/events/gaps.ts';
import { insertPdus } from '../../../src/store/events/pdus.ts';
import { append, readResyncEvents } from '../../../src/store/journal/journal.ts';
import { withTransaction } from '../../../src/store/open-store.ts';
import { lockRoom, readLocalMembers, readRoom } from '../../../src/store/journal/rooms.ts';
import { readSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { readJoinIntents } from '../../../src/store/tables/intents.ts';
import { keyOf, rulesOf } from '../../matrix/sample-event.ts';
import { ME, R1, type Stage, US, answering, losing, startStage } from './scripted-residents.ts';

const signal = new AbortController().signal;
const OTHER = '@other:us.test' as UserId;
const OWNER = '@owner:r1.test';

function join({ context, room }: Stage, more: { userId?: UserId; omitMembers?: boolean } = {}): Promise<JoinedRoom> {
  return joinRoom(context, { room: room.roomId, userId: ME, via: [R1], signal, ...more });
}

const intents = ({ context, room }: Stage) => readJoinIntents(context.store, room.roomId, ME);

async function membershipOfMe({ context, room }: Stage): Promise<string | undefined> {
  return (await readLocalMembers(context.store, room.roomId)).find(({ userId }) => userId === ME)?.membership;
}

/** Another server pushes the event to us. */
async function push({ context, room }: Stage, event: JsonObject): Promise<Admission | undefined> {
  const { roomId, version } = room;
  const raws = [Buffer.from(JSON.stringify(event))];
  const pdus = passed(await checkEvents(context, { roomId, rules: rulesOf(version), events: raws, signal }));
  await insertPdus(context.store, pdus);
  const eventId = eventIdOf(event, rulesOf(version));
  return (await admitEvents(context, roomId, [eventId])).get(eventId);
}

/** An event of the room's owner beside what comes next: nobody but us is given it. */
function beside({ room }: Stage, type: string, stateKey: string, content: JsonObject): JsonObject {
  const unsigned = { ...room.place(OWNER, type, stateKey, content), origin_server_ts: 1_600_000_900_000 };
  return signEvent(unsigned, rulesOf(room.version), R1, keyOf(R1));
}

/** @other is in, R1 has taken the join of @me, and we have not heard of it. */
async function loseJoin(stage: Stage): Promise<JsonObject> {
  stage.script(R1, 'send_join', losing, answering(500, 'M_UNKNOWN'));
  await expect(join(stage)).rejects.toMatchObject({ kind: 'no-resident' });
  const [intent] = await intents(stage);
  return stage.room.events.get(intent?.eventId as EventId) as JsonObject;
}

describe('a join that was lost and has come by push', () => {
  test('is told as joined when it is sent again, and settled', async () => {
    const stage = await startStage();
    await join(stage, { userId: OTHER, omitMembers: false });
    const lost = await loseJoin(stage);
    const eventId = eventIdOf(lost, rulesOf(stage.room.version));
    stage.script(R1, 'send_join', async (honest) => {
      expect(await push(stage, lost)).toEqual({ outcome: 'admitted', verdict: 'accepted' });
      return honest();
    });
    expect(await join(stage)).toMatchObject({ eventId });
    expect(await membershipOfMe(stage)).toBe('join');
    expect(await intents(stage)).toEqual([]);
  });

  test('is forbidden where a ban beside it that we hold made it soft-fail, and left again', async () => {
    const stage = await startStage();
    await join(stage, { userId: OTHER, omitMembers: false });
    const ban = beside(stage, 'm.room.member', ME, { membership: 'ban' });
    const lost = await loseJoin(stage);
    expect(await push(stage, ban)).toMatchObject({ verdict: 'accepted' });
    expect(await push(stage, lost)).toMatchObject({ verdict: 'softFailed' });
    await expect(join(stage)).rejects.toMatchObject({
      kind: 'forbidden',
      message: expect.stringContaining('the membership ban'),
    });
    expect(await membershipOfMe(stage)).toBe('ban');
    expect(await intents(stage)).toMatchObject([{ what: 'leave', resident: R1 }]);
  });

  test('is forbidden where it was rejected, in the words of the verdict', async () => {
    const stage = await startStage();
    const { room } = stage;
    await join(stage, { userId: OTHER, omitMembers: false });
    const template = room.template(ME, 'join');
    const ban = room.add(OWNER, 'm.room.member', ME, { membership: 'ban' });
    stage.script(R1, 'make_join', () => ({ ...template, event: { ...template.event, prev_events: [ban] } }));
    const lost = await loseJoin(stage);
    expect(await push(stage, room.events.get(ban) as JsonObject)).toMatchObject({ verdict: 'accepted' });
    expect(await push(stage, lost)).toMatchObject({ verdict: 'rejected' });
    await expect(join(stage)).rejects.toMatchObject({
      kind: 'forbidden',
      message: expect.stringMatching(/the membership ban; the join was rejected: .*join-banned/),
    });
    expect(await intents(stage)).toMatchObject([{ what: 'leave', resident: R1 }]);
  });

  test.each([
    ['the user was kicked since', [ME]],
    ['nobody of ours is in any more', [OTHER, ME]],
  ])('is forbidden where %s, and another request makes a join of its own', async (_what, kicked) => {
    const stage = await startStage();
    const { room } = stage;
    await join(stage, { userId: OTHER, omitMembers: false });
    const lost = await loseJoin(stage);
    expect(await push(stage, lost)).toMatchObject({ verdict: 'accepted' });
    for (const userId of kicked) {
      const kick = room.events.get(room.add(OWNER, 'm.room.member', userId, { membership: 'leave' })) as JsonObject;
      expect(await push(stage, kick)).toMatchObject({ verdict: 'accepted' });
    }
    await expect(join(stage)).rejects.toMatchObject({
      kind: 'forbidden',
      message: expect.stringContaining('the membership leave'),
    });
    expect(await intents(stage)).toMatchObject([{ what: 'leave', resident: R1 }]);
    stage.now += 1_000;
    await join(stage);
    expect(await membershipOfMe(stage)).toBe('join');
    expect(await intents(stage)).toEqual([]);
  });

  test('is told by the join that the user is in by, where that is another one', async () => {
    const stage = await startStage();
    const { room } = stage;
    await join(stage, { userId: OTHER, omitMembers: false });
    const lost = await loseJoin(stage);
    stage.now += 1_000;
    const again = { ...room.template(ME, 'join').event, origin_server_ts: stage.now };
    const newer = room.take(signEvent(again, rulesOf(room.version), US, keyOf(US)));
    stage.script(R1, 'send_join', async (honest) => {
      expect(await push(stage, lost)).toMatchObject({ verdict: 'accepted' });
      expect(await push(stage, room.events.get(newer) as JsonObject)).toMatchObject({ verdict: 'accepted' });
      return honest();
    });
    expect(await join(stage)).toMatchObject({ eventId: newer });
    expect(await intents(stage)).toEqual([]);
  });
});

describe('a further join, with the whole state and over a parent that nobody gave us', () => {
  test.each([
    ['whole', false],
    ['partial', true],
  ])('lets others build on that parent, in a %s room', async (_what, omitMembers) => {
    const stage = await startStage();
    const { room } = stage;
    await join(stage, { userId: OTHER, omitMembers });
    room.add(OWNER, 'm.room.topic', '', { topic: 'news' });
    const next = beside(stage, 'm.room.name', '', { name: 'News' });
    await join(stage, { omitMembers: false });
    expect(await push(stage, next)).toEqual({ outcome: 'admitted', verdict: 'accepted' });
    expect(await readRoom(stage.context.store, room.roomId)).toMatchObject({ partial: omitMembers });
  });
});

test('what the whole state of an answer names and lacks gets its place when it can be judged', async () => {
  const stage = await startStage();
  const { context, room } = stage;
  const { store } = context;
  const bob = room.add('@bob:r1.test', 'm.room.member', '@bob:r1.test', { membership: 'join' });
  const carol = room.add('@bob:r1.test', 'm.room.member', '@carol:r1.test', { membership: 'invite' });
  // The membership by which Carol was invited is badly signed in this answer, and in no other.
  stage.script(R1, 'send_join', async (honest) => spoiling(bob, (await honest()) as SendJoinStream));
  await join(stage, { omitMembers: false });
  const [anchor] = await readFullAnchors(store, room.roomId);
  const stateAtAnchor = async () => {
    const [{ stateAfter }] = (await readFullAnchors(store, room.roomId)) as [FullAnchor];
    return (await readSnapshot(store, room.roomId, stateAfter)).map(({ eventId }) => eventId);
  };
  expect(anchor?.eventId).toBe(carol);
  expect(await stateAtAnchor()).not.toContain(carol);

  const rules = rulesOf(room.version);
  const { roomId } = room;
  await insertPdus(store, passed(await checkEvents(context, { roomId, rules, events: [room.raw(bob)], signal })));
  const chain = [...room.events.keys()].slice(0, 5);
  await judgeOutliers(store, roomId, rules, chain, () => undefined);
  await correctEvents(context, { roomId, epoch: 1 }, { signal, heartbeat: () => undefined });
  expect(await stateAtAnchor()).toEqual(expect.arrayContaining([bob, carol]));
});

/** The answer with another signature of this event. */
function spoiling(eventId: EventId, answer: SendJoinStream): SendJoinStream {
  return {
    async *[Symbol.asyncIterator]() {
      for await (const { array, events } of answer) {
        yield { array, events: events.map((raw) => (isOf(raw) ? spoiled(raw) : raw)) };
      }
    },
    summary: () => answer.summary(),
    header: () => answer.header(),
  };
  function isOf(raw: Uint8Array): boolean {
    return eventIdOf(JSON.parse(Buffer.from(raw).toString()) as JsonObject, rulesOf('11')) === eventId;
  }
}

function spoiled(raw: Uint8Array): Uint8Array {
  const event = JSON.parse(Buffer.from(raw).toString()) as JsonObject;
  return Buffer.from(JSON.stringify({ ...event, signatures: { [R1]: { 'ed25519:1': 'A'.repeat(86) } } }));
}

test('every user of ours who joins a room that is whole is told of in its journal, so that a join which fails later is, too', async () => {
  const stage = await startStage();
  const { room, context } = stage;
  await join(stage, { userId: OTHER, omitMembers: false });
  const { eventId } = await join(stage, { omitMembers: false });
  const journal = await readResyncEvents(context.store, room.roomId, 1, 0);
  expect(journal.map(({ event }) => [event.type, 'userId' in event && event.userId])).toEqual([
    ['FullStateJoined', OTHER],
    ['ParentsLearned', ME],
  ]);
  const rejected = {
    was: 'accepted',
    is: 'rejected',
    rule: 'join-banned',
    reason: 'a ban was found',
    cause: 1,
  } as const;
  await withTransaction(context.store, async (tx) => {
    const locked = (await lockRoom(tx, room.roomId))!;
    const { stateBefore } = (await readEventStates(tx, room.roomId, [eventId])).get(eventId)!;
    const states = { stateBefore, stateAfter: stateBefore };
    await append(tx, locked, [{ type: 'VerdictChanged', eventId, ...rejected, ...states }]);
  });
  await correctEvents(context, { roomId: room.roomId, epoch: 1 }, { signal, heartbeat: () => undefined });
  const after = await readResyncEvents(context.store, room.roomId, 1, 0);
  expect(after.map(({ event }) => event)).toContainEqual(
    expect.objectContaining({ type: 'JoinRejected', joinEventId: eventId, userId: ME }),
  );
});

test('a state that was assumed at a gap is asked for again in the next stay, since nobody could be asked while we were out', async () => {
  const stage = await startStage();
  const { store } = stage.context;
  const { roomId } = stage.room;
  await join(stage);
  const gap = '$gap-of-the-first-stay' as EventId;
  await withTransaction(store, async (tx) => {
    const locked = (await lockRoom(tx, roomId))!;
    const assumedState = (await readRoom(tx, roomId))!.currentState!;
    await append(tx, locked, [
      { type: 'GapOpened', eventIds: [gap], origin: R1, assumedState, at: 1 },
      { type: 'GapsAssumed', eventIds: [gap], assumedState, at: 2 },
    ]);
  });
  await push(stage, beside(stage, 'm.room.member', ME, { membership: 'leave' }));
  expect(await membershipOfMe(stage)).toBe('leave');
  await join(stage);
  expect(await readGaps(store, roomId)).toMatchObject([
    { eventId: gap, epoch: 2, origin: US, wakeAt: expect.any(Number) as number, attempts: 0 },
  ]);
  expect(await readAssumedGaps(store, roomId)).toEqual([gap]);
});
