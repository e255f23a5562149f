import { describe, expect, test } from 'vitest';
import { type JsonObject } from '../../../src/matrix/pdu.ts';
import { type EventId, type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { type JoinedRoom } from '../../../src/rooms/contract.ts';
import { joinRoom } from '../../../src/rooms/join/join.ts';
import { readLocalMembers, readRoom } from '../../../src/store/journal/rooms.ts';
import { readJoinIntents } from '../../../src/store/tables/intents.ts';
import { ME, R1, R2, ScriptedRoom, type Stage, answering, failing, losing, startStage } from './scripted-residents.ts';

const signal = new AbortController().signal;

function join(
  { context, room }: Stage,
  via: readonly ServerName[] = [R1, R2],
  more: { readonly userId?: UserId; readonly omitMembers?: boolean } = {},
): Promise<JoinedRoom> {
  return joinRoom(context, { room: room.roomId, userId: ME, via, signal, ...more });
}
const intents = ({ context, room }: Stage) => readJoinIntents(context.store, room.roomId, ME);
const OTHER = '@other:us.test' as UserId;
/** Without what it names, which differs from run to run. */
const kindsOf = (asked: readonly string[]): string[] => asked.map((line) => line.replace(/ \$.*/, ''));

describe('a join whose answer is lost', () => {
  test('is sent again to the same resident, as the same event', async () => {
    const stage = await startStage();
    stage.script(R1, 'send_join', losing);
    const { eventId, joinedVia } = await join(stage);
    expect(joinedVia).toBe(R1);
    expect(stage.asked).toEqual([`${R1} make_join`, `${R1} send_join ${eventId}`, `${R1} send_join ${eventId}`]);
    expect(await intents(stage)).toEqual([]);
  });

  test('again goes to the next resident, as the same event', async () => {
    const stage = await startStage();
    stage.script(R1, 'send_join', losing, failing('timeout'));
    const { eventId, joinedVia } = await join(stage);
    expect(joinedVia).toBe(R2);
    expect(kindsOf(stage.asked)).toEqual([`${R1} make_join`, `${R1} send_join`, `${R1} send_join`, `${R2} send_join`]);
    expect(stage.asked.at(-1)).toBe(`${R2} send_join ${eventId}`);
    expect(await intents(stage)).toEqual([]);
  });

  test('and that the next resident refuses is followed by one of the next resident', async () => {
    const stage = await startStage();
    stage.script(R1, 'send_join', failing('timeout'), failing('timeout'));
    stage.script(R2, 'send_join', answering(400, 'M_UNKNOWN', 'unknown prev_events'));
    const { joinedVia } = await join(stage);
    expect(joinedVia).toBe(R2);
    expect(kindsOf(stage.asked).slice(3)).toEqual([`${R2} send_join`, `${R2} make_join`, `${R2} send_join`]);
    expect(await intents(stage)).toEqual([]);
  });

  test('and that the next resident can say nothing of is followed by one of that resident', async () => {
    const stage = await startStage();
    stage.script(R1, 'send_join', failing('timeout'), failing('timeout'));
    // The parents that the first resident named are unknown to it.
    stage.script(R2, 'send_join', answering(500, 'M_UNKNOWN'));
    expect(await join(stage)).toMatchObject({ joinedVia: R2 });
    expect(kindsOf(stage.asked).slice(3)).toEqual([`${R2} send_join`, `${R2} make_join`, `${R2} send_join`]);
    expect(await intents(stage)).toEqual([]);
  });

  test('is sent to each resident that made one as its own', async () => {
    const stage = await startStage();
    const timeout = failing('timeout');
    stage.script(R1, 'send_join', timeout, timeout, timeout);
    stage.script(R2, 'send_join', timeout, timeout, timeout);
    stage.script(R2, 'make_join', (honest) => {
      stage.now += 1_000;
      return honest();
    });
    await expect(join(stage)).rejects.toMatchObject({ kind: 'no-resident' });
    const [first, second] = await intents(stage);
    expect([first?.resident, second?.resident]).toEqual([R1, R2]);
    stage.asked.length = 0;
    expect(await join(stage)).toMatchObject({ eventId: second?.eventId, joinedVia: R2 });
    expect(stage.asked).toEqual([`${R1} send_join ${first?.eventId}`, `${R2} send_join ${second?.eventId}`]);
    expect(await intents(stage)).toEqual([]);
  });

  test('for good stays recorded, and the next request of the user sends it again instead of making another', async () => {
    const stage = await startStage();
    stage.script(R1, 'send_join', losing, failing('server-error'));
    await expect(join(stage, [R1])).rejects.toMatchObject({
      kind: 'no-resident',
      message: expect.stringContaining('may have taken the join'),
    });
    const [intent] = await intents(stage);
    expect(intent).toMatchObject({ what: 'join', resident: R1, attempts: 1 });
    expect(await join(stage, [R1])).toMatchObject({ eventId: intent?.eventId, joinedVia: R1 });
    expect(kindsOf(stage.asked).filter((line) => line.endsWith('make_join'))).toHaveLength(1);
    expect(await intents(stage)).toEqual([]);
  });

  test.each(['rate-limited', 'partial-state-there'] as const)(
    'is no more settled by an answer of the kind %s, which says nothing of it',
    async (kind) => {
      const stage = await startStage();
      stage.script(R1, 'send_join', losing, failing(kind));
      await expect(join(stage, [R1])).rejects.toMatchObject({ kind: 'no-resident' });
      expect(await intents(stage)).toMatchObject([{ what: 'join' }]);
    },
  );

  test('is settled by a refusal of the resident that may have had it', async () => {
    const stage = await startStage();
    stage.script(R1, 'send_join', failing('unreachable'), answering(403, 'M_FORBIDDEN', 'you are banned'));
    await expect(join(stage, [R1])).rejects.toMatchObject({ kind: 'forbidden' });
    expect(await intents(stage)).toEqual([]);
  });

  test.each([403, 404, 405, 410])('is no more settled by a proxy that answers %i for the resident', async (status) => {
    const stage = await startStage();
    stage.script(R1, 'send_join', losing, answering(status));
    await expect(join(stage, [R1])).rejects.toMatchObject({
      message: expect.stringContaining('may have taken the join'),
    });
    expect(await intents(stage)).toMatchObject([{ what: 'join', resident: R1 }]);
  });
});

test('a resident that is silent about a template is not waited for, and one join is sent', async () => {
  const stage = await startStage();
  Object.assign(stage.context, { policy: { ...stage.context.policy, hedgeMs: 1 } });
  stage.script(R1, 'make_join', () => new Promise(() => undefined));
  expect((await join(stage)).joinedVia).toBe(R2);
  expect(kindsOf(stage.asked)).toEqual([`${R1} make_join`, `${R2} make_join`, `${R2} send_join`]);
});

describe('a join of a restricted room whose answer is lost', () => {
  test('goes to nobody but the server that must sign it, and the next resident makes one of its own', async () => {
    const stage = await startStage();
    const { roomVersion, event } = stage.room.template(ME, 'join');
    const content = { membership: 'join', join_authorised_via_users_server: '@owner:r1.test' };
    stage.script(R1, 'make_join', () => ({ roomVersion, event: { ...event, content } }));
    stage.script(R1, 'send_join', failing('timeout'), failing('timeout'));
    const { eventId, joinedVia } = await join(stage);
    expect(joinedVia).toBe(R2);
    const kinds = [`${R1} make_join`, `${R1} send_join`, `${R1} send_join`, `${R2} make_join`, `${R2} send_join`];
    expect(kindsOf(stage.asked)).toEqual(kinds);
    expect(stage.asked[1]).toBe(stage.asked[2]);
    expect(stage.asked[1]).not.toContain(eventId);
    expect(await intents(stage)).toEqual([]);
  });
});

test.each(['a\tb', 'a\nb', 'a\u007fb', '🐟', ' '])('a room whose id is as odd as %j is joined', async (localpart) => {
  const stage = await startStage();
  const room = new ScriptedRoom(localpart);
  stage.host(room);
  const { roomId } = room;
  const joined = await joinRoom(stage.context, { room: roomId, userId: ME, via: [R1], signal });
  expect(joined).toMatchObject({ roomId, partial: true });
  expect(await readLocalMembers(stage.context.store, roomId)).toMatchObject([{ userId: ME, membership: 'join' }]);
});

describe('a join that was not dealt with', () => {
  test.each([
    [413, undefined],
    [413, 'M_TOO_LARGE'],
    [401, 'M_UNAUTHORIZED'],
    [404, 'M_UNRECOGNIZED'],
  ])('leaves nothing to be finished or left: %i %s', async (status, errcode) => {
    const stage = await startStage();
    stage.script(R1, 'send_join', answering(status, errcode));
    await expect(join(stage, [R1])).rejects.toMatchObject({ message: expect.stringContaining(String(status)) });
    expect(kindsOf(stage.asked)).toEqual([`${R1} make_join`, `${R1} send_join`]);
    expect(await intents(stage)).toEqual([]);
  });

  test('may have been taken before', async () => {
    const stage = await startStage();
    stage.script(R1, 'send_join', losing, answering(404, 'M_UNRECOGNIZED'));
    await expect(join(stage, [R1])).rejects.toMatchObject({ kind: 'no-resident' });
    expect(await intents(stage)).toMatchObject([{ what: 'join' }]);
  });
});

describe('a refusal', () => {
  test('ends its event, and the next resident makes one of its own', async () => {
    const stage = await startStage();
    stage.script(R1, 'send_join', answering(400, 'M_UNKNOWN'));
    expect(await join(stage)).toMatchObject({ joinedVia: R2 });
    expect(kindsOf(stage.asked)).toEqual([`${R1} make_join`, `${R1} send_join`, `${R2} make_join`, `${R2} send_join`]);
  });

  test('of a banned user is told in the words of the resident', async () => {
    const stage = await startStage();
    stage.room.add('@owner:r1.test', 'm.room.member', ME, { membership: 'ban' });
    await expect(join(stage)).rejects.toMatchObject({
      kind: 'forbidden',
      message: expect.stringContaining(`${ME} is banned from the room`),
    });
    expect(await intents(stage)).toEqual([]);
  });

  test.each([
    [400, 'M_INCOMPATIBLE_ROOM_VERSION', 'unsupported-version'],
    [400, 'M_UNABLE_TO_AUTHORISE_JOIN', 'no-resident'],
    [400, 'M_UNABLE_TO_GRANT_JOIN', 'no-resident'],
    [403, 'M_FORBIDDEN', 'forbidden'],
    [403, undefined, 'no-resident'],
    [404, 'M_NOT_FOUND', 'no-resident'],
  ] as const)('by %i %s is told as %s', async (status, errcode, kind) => {
    const stage = await startStage();
    stage.script(R1, 'make_join', answering(status, errcode));
    const words = errcode === undefined ? String(status) : `${status} ${errcode}`;
    await expect(join(stage, [R1])).rejects.toMatchObject({ kind, message: expect.stringContaining(words) });
  });

  test('for a version is told before the silence of others, and after a ban', async () => {
    const stage = await startStage();
    stage.script(R1, 'make_join', failing('timeout'), answering(403, 'M_FORBIDDEN'));
    stage.script(R2, 'make_join', failing('incompatible-version'), failing('incompatible-version'));
    await expect(join(stage)).rejects.toMatchObject({ kind: 'unsupported-version' });
    await expect(join(stage)).rejects.toMatchObject({ kind: 'forbidden' });
  });

  test('for want of patience says how long to wait', async () => {
    const stage = await startStage();
    stage.script(R1, 'make_join', failing('rate-limited', 'slow down', { retryAfterMs: 9_000 }));
    stage.script(R2, 'make_join', failing('rate-limited', 'slow down', { retryAfterMs: 4_000 }));
    await expect(join(stage)).rejects.toMatchObject({ kind: 'no-resident', retryAfterMs: 4_000 });
  });
});

describe('a template', () => {
  test.each<[string, JsonObject]>([
    ['of another room', { room_id: '!elsewhere:example.org' }],
    ['of another sender', { sender: '@admin:example.org' }],
    ['about another member', { state_key: '@admin:example.org' }],
    ['of another type', { type: 'm.room.power_levels' }],
    ['of a ban', { content: { membership: 'ban' } }],
    ['of no membership', { content: {} }],
    ['with 21 parents', { prev_events: Array.from({ length: 21 }, (_, i) => `$p${i}`) }],
    ['with 11 auth events', { auth_events: Array.from({ length: 11 }, (_, i) => `$a${i}`) }],
  ])('%s is discarded, and the next resident is asked', async (_what, changes) => {
    const stage = await startStage();
    const { roomVersion, event } = stage.room.template(ME, 'join');
    stage.script(R1, 'make_join', () => ({ roomVersion, event: { ...event, ...changes } }));
    expect(await join(stage)).toMatchObject({ joinedVia: R2 });
    expect(kindsOf(stage.asked)).toEqual([`${R1} make_join`, `${R2} make_join`, `${R2} send_join`]);
  });

  test('that nobody gives better is told as an answer of no use', async () => {
    const stage = await startStage();
    const { roomVersion, event } = stage.room.template(OTHER, 'join');
    stage.script(R1, 'make_join', () => ({ roomVersion, event }));
    await expect(join(stage, [R1])).rejects.toMatchObject({
      kind: 'unusable-answer',
      message: expect.stringContaining('template-subject'),
    });
    expect(kindsOf(stage.asked)).toEqual([`${R1} make_join`]);
  });

  test('of a version that was not offered is told as that', async () => {
    const stage = await startStage();
    const { event } = stage.room.template(ME, 'join');
    stage.script(R1, 'make_join', () => ({ roomVersion: 'org.example.99', event }));
    await expect(join(stage, [R1])).rejects.toMatchObject({
      kind: 'unsupported-version',
      message: expect.stringContaining('org.example.99'),
    });
  });

  test('on top of events of another room that we hold does not make this room whole by its state', async () => {
    const stage = await startStage();
    const other = new ScriptedRoom('other');
    stage.host(other);
    await joinRoom(stage.context, { room: other.roomId, userId: ME, via: [R1], omitMembers: false, signal });
    const { roomVersion, event } = stage.room.template(ME, 'join');
    const foreign = other.head;
    stage.script(R1, 'make_join', () => ({ roomVersion, event: { ...event, prev_events: foreign } }));
    expect(await join(stage)).toMatchObject({ partial: true });
    const room = await readRoom(stage.context.store, stage.room.roomId);
    expect(room?.resync).toMatchObject({ phase: 'fetching', fetchAt: foreign });
  });
});

describe('a join that a resident took and whose answer is of no use', () => {
  const useless = async (honest: () => Promise<unknown>): Promise<unknown> => {
    const answer = (await honest()) as { header: () => object };
    return { ...answer, [Symbol.asyncIterator]: iterating(answer), header: () => ({ membersOmitted: 'yes' }) };
  };
  const iterating = (answer: object) => () => (answer as AsyncIterable<unknown>)[Symbol.asyncIterator]();

  test.each([
    ['an answer that breaks a rule', useless],
    ['rubbish', failing('malformed')],
    ['an answer that is too large', failing('too-large')],
  ])('is answered by the next resident instead: %s', async (_what, script) => {
    const stage = await startStage();
    stage.script(R1, 'send_join', script);
    const { eventId } = await join(stage);
    expect(stage.asked).toEqual([`${R1} make_join`, `${R1} send_join ${eventId}`, `${R2} send_join ${eventId}`]);
    expect(await intents(stage)).toEqual([]);
  });

  test('is told at once, and is to be left again where no resident answers better', async () => {
    const stage = await startStage();
    stage.script(R1, 'send_join', useless);
    stage.script(R2, 'send_join', failing('timeout'), failing('timeout'), failing('timeout'));
    await expect(join(stage)).rejects.toMatchObject({
      kind: 'unusable-answer',
      message: expect.stringContaining('members-omitted-type'),
    });
    // Neither is that finished which the other resident may have taken: the user has been told that he is not in.
    expect(await intents(stage)).toMatchObject([
      { what: 'leave', resident: R1, attempts: 0, notBefore: stage.now, lastReason: expect.stringContaining(R1) },
      { what: 'leave', resident: R2, attempts: 0, notBefore: stage.now },
    ]);
    expect(await readRoom(stage.context.store, stage.room.roomId)).toBeUndefined();
  });

  test('is forbidden where the state of the answer bans the user, and left again', async () => {
    const stage = await startStage();
    stage.room.add('@owner:r1.test', 'm.room.member', ME, { membership: 'ban' });
    const template = stage.room.template(ME, 'join');
    stage.script(R1, 'make_join', () => template);
    await expect(join(stage, [R1], { omitMembers: false })).rejects.toMatchObject({
      kind: 'forbidden',
      message: expect.stringMatching(/is banned.*join-banned/),
    });
    expect(await intents(stage)).toMatchObject([{ what: 'leave', resident: R1 }]);
  });

  test('is forbidden by a ban that we hold and the resident does not, and left again', async () => {
    const stage = await startStage();
    const { room } = stage;
    const [before, template] = [new Map(room.state), room.template(ME, 'join')];
    room.add('@owner:r1.test', 'm.room.member', ME, { membership: 'ban' });
    stage.script(R1, 'make_join', () => template);
    stage.script(R1, 'send_join', async (honest) => {
      // We hear of it meanwhile.
      await join(stage, [R1], { userId: OTHER, omitMembers: false });
      await honest();
      return room.answer('$none' as EventId, before, false);
    });
    await expect(join(stage, [R1])).rejects.toMatchObject({
      kind: 'forbidden',
      message: expect.stringContaining('the membership ban'),
    });
    expect(await intents(stage)).toMatchObject([{ what: 'leave', resident: R1 }]);
  });

  test('is no longer to be left once the user has joined after all', async () => {
    const stage = await startStage();
    stage.script(R1, 'send_join', useless);
    await expect(join(stage, [R1])).rejects.toMatchObject({ kind: 'unusable-answer' });
    expect(await join(stage, [R2])).toMatchObject({ joinedVia: R2 });
    expect(await intents(stage)).toEqual([]);
  });
});

describe('a room that we hold', () => {
  test.each<[string, string, JsonObject, RegExp]>([
    ['version', '10', { room_version: '10' }, /of version 10, and ours is of version 11/],
    ['create event', '11', { topic: 'another' }, /create event \$.*, and ours is of \$/],
  ])('keeps its %s: a resident that tells of another one is refused', async (_what, version, content, words) => {
    const stage = await startStage();
    await join(stage);
    const impostor = new ScriptedRoom('room', version, content);
    stage.host(impostor);
    await expect(join(stage, [R1], { userId: OTHER })).rejects.toMatchObject({
      kind: 'unusable-answer',
      message: expect.stringMatching(words),
    });
    const rest = await readJoinIntents(stage.context.store, stage.room.roomId, OTHER);
    expect(rest.map(({ what }) => what)).toEqual(version === '10' ? [] : ['leave']);
    expect(await readLocalMembers(stage.context.store, stage.room.roomId)).toMatchObject([{ userId: ME }]);
  });

  test('and that becomes whole while the resident answers is joined whole, by the same event sent again', async () => {
    const stage = await startStage();
    const { roomId } = stage.room;
    await join(stage);
    stage.asked.length = 0;
    stage.script(R1, 'send_join', async (honest) => {
      stage.room.add('@owner:r1.test', 'm.room.topic', '', { topic: 'news' });
      const answer = await honest();
      for (const table of ['rooms', 'event_states', 'anchors']) {
        await stage.context.store.query(`UPDATE ${table} SET partial = false WHERE room_id = $1`, [roomId]);
      }
      return answer;
    });
    const template = stage.room.template(OTHER, 'join');
    const head = stage.room.add('@owner:r1.test', 'm.room.name', '', { name: 'news' });
    stage.script(R1, 'make_join', () => ({ ...template, event: { ...template.event, prev_events: [head] } }));
    const joined = await join(stage, [R1], { userId: OTHER });
    expect(joined).toMatchObject({ partial: false, membersOmitted: false });
    const { eventId } = joined;
    expect(stage.asked).toEqual([`${R1} make_join`, `${R1} send_join ${eventId}`, `${R1} send_join ${eventId}`]);
  });
});

test('two requests of a user at a time make one join', async () => {
  const stage = await startStage();
  let begun: () => void = () => undefined;
  const isUnderWay = new Promise<void>((resolve) => (begun = resolve));
  let goOn: () => void = () => undefined;
  const second = new Promise<void>((resolve) => (goOn = resolve));
  stage.script(R1, 'send_join', async (honest) => {
    begun();
    await second;
    return honest();
  });
  const first = join(stage);
  await isUnderWay;
  const other = join(stage);
  goOn();
  const [one, two] = await Promise.all([first, other]);
  expect(one.eventId).toBe(two.eventId);
  expect(stage.asked).toHaveLength(2);
});

test('two requests of a user that both have a template send one join', async () => {
  const stage = await startStage();
  const arrived: (() => void)[] = [];
  const together = async (honest: () => Promise<unknown>): Promise<unknown> => {
    await new Promise<void>((resolve) => {
      arrived.push(resolve);
      if (arrived.length === 2) arrived.forEach((go) => go());
    });
    return honest();
  };
  stage.script(R1, 'make_join', together, together);
  const [one, two] = await Promise.all([join(stage), join(stage)]);
  expect(one.eventId).toBe(two.eventId);
  expect(stage.asked.filter((line) => line.includes('send_join'))).toHaveLength(1);
});
