import { expect, test } from 'vitest';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { eventIdOf } from '../../../src/matrix/signing/hashes.ts';
import { signEvent } from '../../../src/matrix/signing/signatures.ts';
import { finishStaleJoins } from '../../../src/rooms/join/finish-joins.ts';
import { joinRoom } from '../../../src/rooms/join/join.ts';
import { readLocalMembers } from '../../../src/store/journal/rooms.ts';
import {
  type JoinIntent,
  readJoinIntents,
  recordJoinIntent,
  releaseIntent,
} from '../../../src/store/tables/intents.ts';
import { keyOf, rulesOf } from '../../matrix/sample-event.ts';
import {
  ME,
  R1,
  R2,
  ScriptedRoom,
  type Stage,
  US,
  answering,
  failing,
  losing,
  startStage,
} from './scripted-residents.ts';

const signal = new AbortController().signal;
const DAY_MS = 24 * 3_600_000;

const intents = ({ context }: Stage, { roomId }: ScriptedRoom) => readJoinIntents(context.store, roomId, ME);
const joined = async ({ context }: Stage, { roomId }: ScriptedRoom): Promise<boolean> =>
  (await readLocalMembers(context.store, roomId)).some(({ membership }) => membership === 'join');

/** A join that was recorded, and of which nothing else is known: the process that sent it was killed. */
async function lose(
  stage: Stage,
  room: ScriptedRoom,
  more: Partial<JoinIntent> = {},
  key = keyOf(US),
): Promise<JoinIntent> {
  stage.host(room);
  const rules = rulesOf(room.version);
  const { event: unsigned } = room.template(ME, 'join');
  const event = signEvent({ ...unsigned, origin_server_ts: stage.now }, rules, US, key);
  const intent: JoinIntent = {
    what: 'join',
    roomId: room.roomId,
    userId: ME,
    eventId: eventIdOf(event, rules),
    event,
    roomVersion: room.version,
    resident: R1,
    via: [R1, R2],
    createdAt: stage.now,
    attempts: 0,
    notBefore: stage.now,
    lastReason: null,
    ...more,
  };
  await recordJoinIntent(stage.context.store, intent);
  await releaseIntent(stage.context.store, intent);
  return intent;
}

test('a join that was lost is finished by the same event, at whoever gives an answer', async () => {
  const stage = await startStage();
  const { eventId } = await lose(stage, stage.room);
  stage.script(R1, 'send_join', failing('timeout'));
  expect(await finishStaleJoins(stage.context, signal)).toBe(1);
  expect(stage.asked).toEqual([`${R1} send_join ${eventId}`, `${R2} send_join ${eventId}`]);
  expect(await joined(stage, stage.room)).toBe(true);
  expect(await intents(stage, stage.room)).toEqual([]);
});

test('a join that somebody is at work on is left to him, until his claim has run out', async () => {
  const stage = await startStage();
  const intent = await lose(stage, stage.room);
  await stage.context.store.query(`UPDATE join_intents SET claimed_until = $1`, [Date.now() + 60_000]);
  expect(await finishStaleJoins(stage.context, signal)).toBe(0);
  await releaseIntent(stage.context.store, intent);
  expect(await finishStaleJoins(stage.context, signal)).toBe(1);
});

test('a resident that is silent keeps no other join waiting', async () => {
  const stage = await startStage();
  const other = new ScriptedRoom('other');
  await lose(stage, stage.room);
  await lose(stage, other);
  let finish: () => void = () => undefined;
  const otherIsJoined = new Promise<void>((resolve) => (finish = resolve));
  const waiting = async (honest: () => Promise<unknown>): Promise<unknown> => {
    await otherIsJoined;
    return honest();
  };
  // Whichever room comes first waits for the one that comes second.
  stage.script(R1, 'send_join', waiting, (honest) => {
    finish();
    return honest();
  });
  expect(await finishStaleJoins(stage.context, signal)).toBe(2);
});

test('one that cannot be finished harms no other, is tried again with longer pauses, and says why', async () => {
  const stage = await startStage();
  const broken = new ScriptedRoom('broken');
  // Nothing that a resident may do leads there, so it is a fault of ours.
  await lose(stage, broken, { roomVersion: 'org.example.99', eventId: '$broken' as EventId });
  await lose(stage, stage.room);
  expect(await finishStaleJoins(stage.context, signal)).toBe(1);
  expect(await joined(stage, stage.room)).toBe(true);
  const [first] = await intents(stage, broken);
  expect(first).toMatchObject({ what: 'join', attempts: 1, lastReason: expect.stringContaining('template') });
  expect(await finishStaleJoins(stage.context, signal)).toBe(0);
  stage.now = first?.notBefore ?? 0;
  await finishStaleJoins(stage.context, signal);
  const [second] = await intents(stage, broken);
  expect(second?.attempts).toBe(2);
  expect((second?.notBefore ?? 0) - stage.now).toBeGreaterThan(60_000 * 1.9);
});

test('a join of unclear fate is left after a day, and let go after another', async () => {
  const stage = await startStage();
  const timeouts = Array.from({ length: 4 }, () => failing('timeout'));
  await lose(stage, stage.room, { via: [] });
  stage.script(R1, 'send_join', ...timeouts);
  stage.script(R1, 'make_leave', ...timeouts);
  stage.now += DAY_MS + 1;
  await finishStaleJoins(stage.context, signal);
  expect(await intents(stage, stage.room)).toMatchObject([{ what: 'leave', lastReason: expect.stringContaining(R1) }]);
  stage.now += DAY_MS / 2;
  await finishStaleJoins(stage.context, signal);
  expect(await intents(stage, stage.room)).toMatchObject([
    { what: 'leave', lastReason: expect.stringContaining('timeout') },
  ]);
  stage.now += DAY_MS / 2 + 1;
  await finishStaleJoins(stage.context, signal);
  expect(await intents(stage, stage.room)).toEqual([]);
});

test('a join that was signed with a key we no longer have is signed anew, and is the same event', async () => {
  const stage = await startStage();
  const { eventId } = await lose(stage, stage.room, {}, keyOf(US, 'gone'));
  expect(await finishStaleJoins(stage.context, signal)).toBe(1);
  expect(stage.asked).toEqual([`${R1} send_join ${eventId}`]);
  expect(stage.room.events.get(eventId)?.['signatures']).toEqual({ [US]: { 'ed25519:a': expect.any(String) } });
  expect(await joined(stage, stage.room)).toBe(true);
});

test('a join that the resident refuses when it is sent again is settled', async () => {
  const stage = await startStage();
  await lose(stage, stage.room);
  stage.script(R1, 'send_join', answering(403, 'M_FORBIDDEN'));
  expect(await finishStaleJoins(stage.context, signal)).toBe(1);
  expect(await intents(stage, stage.room)).toEqual([]);
  expect(await joined(stage, stage.room)).toBe(false);
});

test('a room whose resident took the join and gave no answer of use is left', async () => {
  const stage = await startStage();
  const takingAndRaving = async (honest: () => Promise<unknown>): Promise<unknown> => {
    await honest();
    return failing('malformed')(honest);
  };
  stage.script(R1, 'send_join', takingAndRaving);
  const request = { room: stage.room.roomId, userId: ME, via: [R1], signal };
  await expect(joinRoom(stage.context, request)).rejects.toMatchObject({ kind: 'unusable-answer' });
  expect(stage.room.membershipOf(ME)).toBe('join');
  stage.asked.length = 0;
  expect(await finishStaleJoins(stage.context, signal)).toBe(1);
  expect(stage.asked).toEqual([`${R1} make_leave`, `${R1} send_leave`]);
  expect(stage.room.membershipOf(ME)).toBe('leave');
  expect(await intents(stage, stage.room)).toEqual([]);
});

test.each([
  ['make_leave is not answered', 'make_leave', failing('timeout'), [`${R2} make_leave`, `${R2} send_leave`]],
  ['the template is of a ban', 'make_leave', template('ban'), [`${R2} make_leave`, `${R2} send_leave`]],
  [
    'send_leave is refused',
    'send_leave',
    answering(400, 'M_UNKNOWN'),
    [`${R1} send_leave`, `${R2} make_leave`, `${R2} send_leave`],
  ],
] as const)('it is left through another server where %s', async (_what, request, script, then) => {
  const stage = await startStage();
  const { event } = await lose(stage, stage.room, { what: 'leave' });
  stage.room.take(event);
  stage.script(R1, request, script);
  expect(await finishStaleJoins(stage.context, signal)).toBe(1);
  expect(stage.asked).toEqual([`${R1} make_leave`, ...then]);
  expect(stage.room.membershipOf(ME)).toBe('leave');
});

function template(membership: string) {
  return () => ({ roomVersion: '11', event: new ScriptedRoom().template(ME, membership).event });
}

test('a leave whose answer is lost is not sent a second time: the resident says that there is nothing to leave', async () => {
  const stage = await startStage();
  const { event } = await lose(stage, stage.room, { what: 'leave', via: [] });
  stage.room.take(event);
  stage.script(R1, 'send_leave', losing);
  expect(await finishStaleJoins(stage.context, signal)).toBe(0);
  const [intent] = await intents(stage, stage.room);
  stage.now = intent?.notBefore ?? 0;
  expect(await finishStaleJoins(stage.context, signal)).toBe(1);
  expect(stage.asked).toEqual([`${R1} make_leave`, `${R1} send_leave`, `${R1} make_leave`]);
});

test('a proxy that answers 403 for the resident does not mean that there is nothing to leave', async () => {
  const stage = await startStage();
  const { event } = await lose(stage, stage.room, { what: 'leave', via: [] });
  stage.room.take(event);
  stage.script(R1, 'make_leave', answering(403));
  expect(await finishStaleJoins(stage.context, signal)).toBe(0);
  expect(await intents(stage, stage.room)).toMatchObject([{ what: 'leave' }]);
});

test('a process that is told to stop gives back what it was at, and counts no failure', async () => {
  const stage = await startStage();
  await lose(stage, stage.room);
  const stop = new AbortController();
  stage.script(R1, 'send_join', () => {
    stop.abort(new Error('stopping'));
    return Promise.reject(new Error('stopping'));
  });
  await expect(finishStaleJoins(stage.context, stop.signal)).rejects.toThrow('stopping');
  expect(await intents(stage, stage.room)).toMatchObject([{ what: 'join', attempts: 0, lastReason: null }]);
  expect(await finishStaleJoins(stage.context, signal)).toBe(1);
});
