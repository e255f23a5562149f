import { afterAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { FederationError } from '../../../src/federation/error.ts';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { heldEventIds } from '../../../src/store/events/pdus.ts';
import { createWelcome } from '../../../src/rooms/receive/welcome.ts';
import { readBacklog } from '../../../src/store/tables/staged-reads.ts';
import { stageTransaction } from '../../../src/store/tables/staged-pdus.ts';
import { leaseStagedRooms } from '../../../src/store/tables/staged-rooms.ts';
import { startReceiver } from '../../../src/rooms/receive/receive.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { transactionWith } from '../../support/bodies.ts';
import { createTestDatabase, openTestStore, openTestThreads } from '../../support/postgres.ts';
import { A, ALICE, B, BOB, EVIL, MALLORY, SignedRoom, openPushedRoom } from './pushed-room.ts';

const { store } = await openTestStore();
const verification = openTestThreads();
afterAll(() => expectFoldsRebuilt(store));

/** As a server that takes the request and says nothing, until the request is given up. */
const never = (...request: readonly unknown[]): Promise<never> =>
  new Promise((_resolve, reject) => {
    const { signal } = request.at(-1) as { signal: AbortSignal };
    signal.addEventListener('abort', () => reject(signal.reason as Error));
  });

test('a citation of another room’s event freezes nothing: the event is refused, by name', async () => {
  const evil = openPushedRoom(store, verification, { room: new SignedRoom() });
  await evil.join();
  const foreign = evil.room.message(ALICE, 'in another room');
  await evil.push(A, [foreign]);
  await evil.taken(foreign);
  const here = openPushedRoom(store, verification);
  const join = await here.join();
  const bad = here.room.message(BOB, 'cites it', [foreign]);
  const good = here.room.message(ALICE, 'does not', [join]);
  expect(await here.push(B, [bad])).toEqual({ [bad]: {} });
  await here.push(A, [good]);
  await here.taken(good);
  expect(await here.settled(bad)).toEqual([`its prev event ${foreign} is of another room`]);
});

test('a banned user gains nothing by building on an event of his own room', async () => {
  const own = openPushedRoom(store, verification);
  await own.join();
  const foreign = own.room.message(BOB, 'in his room');
  await own.push(B, [foreign]);
  await own.taken(foreign);

  const room = new SignedRoom();
  const ban = room.say(ALICE, 'm.room.member', { membership: 'ban' }, { stateKey: BOB });
  const here = openPushedRoom(store, verification, { room });
  await here.join(false);
  const evading = room.say(
    BOB,
    'm.room.message',
    { body: 'x' },
    { prev: [foreign], auth: [room.create, room.power, room.bobJoin] },
  );
  const both = room.say(
    BOB,
    'm.room.message',
    { body: 'x' },
    { prev: [room.last, foreign], auth: [room.create, room.power, room.bobJoin] },
  );
  await here.push(B, [evading, both]);
  for (const reason of await here.settled(evading, both)) expect(reason).toContain('is of another room');
  expect(ban).not.toBe(room.bobJoin);
});

test('a server that never answers holds up what it sent, and nothing else of the room', async () => {
  const here = openPushedRoom(store, verification);
  const { room, answers } = here;
  const join = await here.join();
  for (const name of ['event', 'eventAuth', 'getMissingEvents'] as const) answers[name] = never;
  const orphan = room.say(BOB, 'm.room.message', { body: 'orphan' }, { prev: ['$made-up' as EventId] });
  const good = room.message(ALICE, 'good', [join]);
  await here.push(B, [orphan]);
  await here.push(A, [good]);
  expect(await here.settled(good)).toEqual([null]);
  expect(await readBacklog(store, room.roomId)).toMatchObject({ staged: 1 });
});

test('a server whose keys cannot be had holds up nobody else', async () => {
  const room = new SignedRoom();
  const here = openPushedRoom(store, verification, { room, silentKeys: new Set([EVIL]) });
  const join = await here.join();
  const unknown = room.say(MALLORY, 'm.room.message', { body: 'x' }, { prev: [join], auth: [room.create, room.power] });
  const good = room.message(ALICE, 'good', [join]);
  await here.push(EVIL, [unknown]);
  await here.push(A, [good]);
  expect(await here.settled(good)).toEqual([null]);
  expect(await readBacklog(store, room.roomId)).toMatchObject({ staged: 1 });
});

test('what a server sent that is not in the room is asked of those that are, and of it never', async () => {
  const here = openPushedRoom(store, verification);
  const { room, asked } = here;
  await here.join();
  const orphan = room.say(
    MALLORY,
    'm.room.message',
    { body: 'orphan' },
    { prev: ['$made-up' as EventId], auth: [room.create, room.power, '$also-made-up' as EventId] },
  );
  await here.push(EVIL, [orphan]);
  await vi.waitUntil(() => asked.includes('event b.test'), { timeout: 15_000, interval: 20 });
  expect(asked).toContain('getMissingEvents a.test');
  expect(asked.filter((what) => what.endsWith(EVIL))).toEqual([]);
  // A parent that no resident knows costs nobody a state.
  expect(await readBacklog(store, room.roomId)).toMatchObject({ staged: 1, gaps: 0 });
});

test('power levels that somebody without power made up are no proof of anything', async () => {
  const here = openPushedRoom(store, verification);
  const { room } = here;
  const join = await here.join(false);
  const forged = room.say(
    BOB,
    'm.room.power_levels',
    { users: { [BOB]: 100 } },
    { stateKey: '', prev: [join], auth: [room.create, room.power, room.bobJoin] },
  );
  const topic = room.say(
    BOB,
    'm.room.topic',
    { topic: 'mine' },
    { stateKey: '', prev: [join], auth: [room.create, forged, room.bobJoin] },
  );
  await here.push(B, [topic]);
  expect(await here.taken(topic)).toMatchObject([{ verdict: 'rejected' }]);
  expect(here.asked.filter((what) => what.startsWith('eventAuth'))).toEqual(['eventAuth b.test']);
});

test('of an answer to event_auth only what the auth chain of the pushed event leads to is stored', async () => {
  const here = openPushedRoom(store, verification);
  const { room, answers } = here;
  const join = await here.join();
  const carol = '@carol:b.test' as UserId;
  const carolJoin = room.join(carol);
  const unasked = Array.from({ length: 20 }, (_, i) => room.message(BOB, `unasked ${i}`, [join]));
  const said = room.say(
    carol,
    'm.room.message',
    { body: 'hello' },
    { prev: [join], auth: [room.create, room.power, carolJoin] },
  );
  answers.eventAuth = () => Promise.resolve([...unasked, carolJoin].map((eventId) => room.raw(eventId)));
  await here.push(B, [said]);
  expect(await here.taken(said)).toMatchObject([{ verdict: 'accepted' }]);
  expect([...(await heldEventIds(store, room.roomId, [...unasked, carolJoin]))]).toEqual([carolJoin]);
});

test.each(['11', '12'])(
  'where nobody answers event_auth the auth chain is asked for one generation after the other (version %s)',
  async (version) => {
    const here = openPushedRoom(store, verification, { room: new SignedRoom({ version }) });
    const { room, answers } = here;
    const join = await here.join();
    const carol = '@carol:b.test' as UserId;
    let membership = room.join(carol);
    for (const displayname of ['Carol', 'Caroline', 'Carolina']) {
      const auth = [room.create, room.power, room.joinRules, membership];
      membership = room.say(carol, 'm.room.member', { membership: 'join', displayname }, { stateKey: carol, auth });
    }
    const said = room.say(
      carol,
      'm.room.message',
      { body: 'hello' },
      { prev: [join], auth: [room.create, room.power, membership] },
    );
    answers.eventAuth = (server) => Promise.reject(new FederationError(server, 'timeout', 'too long'));
    await here.push(B, [said]);
    expect(await here.taken(said)).toMatchObject([{ verdict: 'accepted' }]);
  },
);

test('what an event lacks that waits for another one is fetched meanwhile, and only once', async () => {
  const here = openPushedRoom(store, verification);
  const { room, answers } = here;
  const join = await here.join();
  const carol = '@carol:b.test' as UserId;
  const first = room.message(ALICE, 'first', [join]);
  const carolJoin = room.join(carol);
  const auth = [room.create, room.power, carolJoin];
  const second = room.say(carol, 'm.room.message', { body: 'second' }, { prev: [first], auth });
  const { eventAuth } = answers;
  const asked: string[] = [];
  answers.eventAuth = (server, roomId, eventId, options) => {
    if (eventId === second) asked.push(server);
    return eventAuth(server, roomId, eventId, options);
  };
  // The first one's turn is far away.
  await store.query(
    `INSERT INTO staged_pdus (room_id, event_id, origin, raw, received_at, not_before) VALUES ($1, $2, $3, $4, 9e15, 9e15)`,
    [room.roomId, first, A, Buffer.from(room.raw(first))],
  );
  await here.push(B, [second]);
  const judged = (): Promise<unknown[]> =>
    store.query(`SELECT FROM pdus JOIN outlier_verdicts ON event_nid = nid WHERE event_id = $1`, [carolJoin]);
  await vi.waitUntil(async () => (await judged()).length > 0, { timeout: 15_000, interval: 20 });
  await store.query(`UPDATE staged_pdus SET not_before = 0 WHERE event_id = $1`, [first]);
  expect(await here.settled(first, second)).toEqual([null, null]);
  expect(await here.taken(second)).toMatchObject([{ verdict: 'accepted' }]);
  expect(asked).toEqual([B]);
});

test('a PDU nested too deep to be read costs the one beside it nothing', async () => {
  const here = openPushedRoom(store, verification);
  const { room } = here;
  const join = await here.join();
  const good = room.message(ALICE, 'good', [join]);
  const deep = Buffer.from(`{"room_id":"${room.roomId}","content":${'{"a":'.repeat(600)}1${'}'.repeat(600)}}`);
  expect(await here.send(A, 'deep', [deep, room.raw(good)])).toEqual({
    outcome: 'answered',
    response: { pdus: { [good]: {} } },
  });
  await here.taken(good);
});

test('what is malformed, unsigned or of another room is answered by name, and costs its neighbours nothing', async () => {
  const here = openPushedRoom(store, verification);
  const { room } = here;
  const join = await here.join();
  const other = new SignedRoom();
  const good = room.message(ALICE, 'good', [join]);
  const negative = room.say(ALICE, 'm.room.message', {}, { prev: [join], depth: -1 });
  const unsigned = room.message(ALICE, 'unsigned', [join]);
  const { signatures, ...without } = room.events.get(unsigned)!;
  const long = room.message(ALICE, 'beside a long text', [join]);
  const longer = { ...room.events.get(long)!, unsigned: { text: 'x'.repeat(1_100_000) } };
  const answer = await here.send(A, 'bad', [
    room.raw(negative),
    Buffer.from(JSON.stringify(without)),
    Buffer.from(JSON.stringify(longer)),
    other.raw(other.create),
    Buffer.from('[]'),
    room.raw(good),
  ]);
  expect(signatures).toBeDefined();
  expect(answer).toMatchObject({
    outcome: 'answered',
    response: {
      pdus: {
        [good]: {},
        [negative]: { error: expect.stringContaining('depth') as string },
        [unsigned]: { error: 'the event is not signed by a.test' },
        [long]: { error: expect.stringContaining('at most 1048576') as string },
      },
    },
  });
  await here.taken(good);
});

test.each<[string, object, ServerName, boolean]>([
  ['named', { allow: ['*'], deny: ['b.test'] }, B, false],
  ['under a denied domain', { allow: ['*'], deny: ['*.b.test'] }, 'sub.b.test' as ServerName, false],
  ['not among those allowed', { allow: ['a.test'] }, B, false],
  ['not named', { allow: ['*'], deny: ['evil.test', '*.evil.test'] }, B, true],
])('of a server that is %s by the ACL, PDUs are taken: as the ACL says', async (_what, acl, origin, isTaken) => {
  const room = new SignedRoom({ state: { 'm.room.server_acl': { allow_ip_literals: true, ...acl } } });
  const here = openPushedRoom(store, verification, { room });
  const join = await here.join();
  const event = room.message(BOB, 'x', [join]);
  const results = await here.push(origin, [event]);
  if (isTaken) {
    expect(results).toEqual({ [event]: {} });
    await here.taken(event);
  } else {
    expect(results).toEqual({ [event]: { error: `${room.roomId} denies ${origin} by its ACL` } });
    expect(await here.receiver.roomStatus(room.roomId, origin)).toBe('denied');
    expect(await here.receiver.roomStatus(room.roomId, A)).not.toBe('denied');
    expect(await readBacklog(store, room.roomId)).toMatchObject({ staged: 0 });
  }
});

test('a pushed event is read by the threads of the pool, and what lies under unsigned is not kept while it waits', async () => {
  const here = openPushedRoom(store, verification);
  const { room, answers } = here;
  const join = await here.join(false);
  answers.getMissingEvents = () =>
    Promise.resolve([{ depth: 1 }, ...Array(3).fill({ room_id: room.roomId })].map(long));
  const waits = room.message(ALICE, 'over a gap', ['$made-up-parent' as EventId]);
  const next = room.message(BOB, 'next', [join]);
  const parse = vi.spyOn(JSON, 'parse');
  onTestFinished(() => parse.mockRestore());
  const sent = [waits, next].map((eventId) => long({ ...room.events.get(eventId) }));
  const answer = await here.receiver.receiveTransaction(A, 'long', {
    pdus: sent.map((raw) => ({ raw, roomId: room.roomId })),
  });
  expect(answer).toEqual({ outcome: 'answered', response: { pdus: { [waits]: {}, [next]: {} } } });
  await here.taken(next);
  await here.gaps(1);
  expect(Math.max(...parse.mock.calls.map(([text]) => text.length))).toBeLessThan(65_536);
  const staged = await store.query<{ length: number }>(
    `SELECT length(raw) AS length FROM staged_pdus WHERE event_id = $1`,
    [waits],
  );
  expect(staged).toMatchObject([{ length: room.raw(waits).length }]);
});

/** An event with what nobody signs: longer than any event, and only the careful reader can read it. */
function long(event: object): Uint8Array {
  return Buffer.from(JSON.stringify({ ...event, unsigned: { numbers: Array(25_000).fill(0.5) } }));
}

test('of rooms that are not ours nothing is said and nothing kept', async () => {
  const here = openPushedRoom(store, verification);
  const stranger = new SignedRoom();
  expect(await here.push(A, [stranger.last], stranger)).toEqual({});
  expect(await readBacklog(store, stranger.roomId)).toMatchObject({ staged: 0 });
});

test('events of a room that we are about to join wait in the table, and are taken in after the join', async () => {
  const here = openPushedRoom(store, verification);
  const { room, answers } = here;
  let goOn = (): void => undefined;
  const held = new Promise<void>((resolve) => (goOn = resolve));
  const sent = new Promise<void>((resolve) => {
    const given = answers.sendJoin;
    answers.sendJoin = async (...join) => {
      const answer = await given(...join);
      resolve();
      await held;
      return answer;
    };
  });
  const joining = here.join();
  await sent;
  const event = room.message(ALICE, 'meanwhile');
  expect(await here.push(A, [event])).toEqual({ [event]: {} });
  expect(await readBacklog(store, room.roomId)).toMatchObject({ staged: 1 });
  goOn();
  await joining;
  await here.taken(event);
});

test('events of a room whose join came to nothing are forgotten', async () => {
  const here = openPushedRoom(store, verification);
  const { room } = here;
  await store.query(
    `INSERT INTO join_intents (event_id, room_id, user_id, event, room_version, resident, via, created_at)
     VALUES ('$intent', $1, '@me:here.test', '{}', '11', 'a.test', '{}', 1)`,
    [room.roomId],
  );
  const event = room.message(ALICE, 'meanwhile');
  await here.push(A, [event]);
  expect(await readBacklog(store, room.roomId)).toMatchObject({ staged: 1 });
  await store.query(`DELETE FROM join_intents WHERE event_id = '$intent'`);
  expect(await here.settled(event)).toEqual([null]);
  expect(await readBacklog(store, room.roomId)).toMatchObject({ staged: 0 });
});

test('the same transaction at two processes at once has one answer and is stored once', async () => {
  const here = openPushedRoom(store, verification);
  const { room } = here;
  const join = await here.join();
  const other = startReceiver(here.context);
  const [first, second] = [room.message(ALICE, 'one', [join]), room.message(ALICE, 'two', [join])];
  const answers = await Promise.all([
    here.send(A, 'same', [room.raw(first)]),
    other.receiveTransaction(A, 'same', transactionWith([room.raw(second)])),
  ]);
  expect(answers[0]).toEqual(answers[1]);
  const winner = JSON.stringify(answers[0]).includes(first) ? first : second;
  await here.taken(winner);
  await other.close();
  const rows = await store.query(`SELECT FROM pdus WHERE event_id = ANY ($1::text[])`, [[first, second]]);
  expect(rows).toHaveLength(1);
});

test('a transaction of which nothing is taken in has the same answer again, though we are in its room by then', async () => {
  const here = openPushedRoom(store, verification);
  const { room } = here;
  const early = room.message(ALICE, 'before we are there');
  const answer = await here.send(A, 'early', [room.raw(early)]);
  expect(answer).toEqual({ outcome: 'answered', response: { pdus: {} } });
  await here.join();
  const other = startReceiver(here.context);
  for (const receiver of [here.receiver, other]) {
    const again = await receiver.receiveTransaction(A, 'early', transactionWith([room.raw(early)]));
    expect(again).toEqual(answer);
  }
  await other.close();
  expect(await readBacklog(store, room.roomId)).toMatchObject({ staged: 0 });
});

test('of transactions of which nothing is taken in few answers are kept of a server, and of those without PDUs none', async () => {
  const here = openPushedRoom(store, verification);
  const { room } = here;
  const join = await here.join();
  const quiet = 'quiet.test' as ServerName;
  const taken = room.message(ALICE, 'taken in', [join]);
  await here.send(quiet, 'of one', [room.raw(taken)]);
  await here.taken(taken);
  await here.send(quiet, 'empty', []);
  const kept = async (): Promise<string[]> => {
    const rows = await store.query<{ id: string }>(
      `SELECT txn_id AS id FROM received_transactions WHERE origin = $1 ORDER BY txn_id COLLATE "C"`,
      [quiet],
    );
    return rows.map(({ id }) => id);
  };
  expect(await kept()).toEqual(['of one']);
  const nothing = Buffer.from('{"room_id":"!elsewhere:a.test"}');
  for (let i = 0; i < 10; i += 1) await here.send(quiet, `of nothing ${i}`, [nothing]);
  const ofNothing = (await kept()).filter((id) => id.startsWith('of nothing'));
  expect(ofNothing).toHaveLength(4);
  expect(ofNothing).toContain('of nothing 9');
  expect(await kept()).toContain('of one');
});

test('a server that answers with more than anybody needs is asked a few times, and held to what an answer may be', async () => {
  const here = openPushedRoom(store, verification);
  const { room, answers } = here;
  await here.join(false);
  const asked: (number | undefined)[] = [];
  answers.eventAuth = (_server, _roomId, _eventId, { bytesMax }) => {
    asked.push(bytesMax);
    const long = Buffer.from(JSON.stringify({ junk: `${asked.length}`.padEnd(120_000, 'x') }));
    return Promise.resolve(Array.from({ length: 48 }, () => long));
  };
  const unheard = Array.from({ length: 50 }, (_, i) => `$${`auth-${i}`.padEnd(43, '_')}` as EventId);
  const events = unheard.map((eventId) =>
    room.say(BOB, 'm.room.message', { body: eventId }, { auth: [room.create, room.power, room.bobJoin, eventId] }),
  );
  await here.push(B, events);
  await vi.waitFor(() => expect(here.asked.at(-1)).toContain('event '), { timeout: 10_000 });
  expect(asked.length).toBeLessThan(20);
  expect(new Set(asked)).toEqual(new Set([4 * 1024 * 1024]));
});

test('what a killed process had stored and leased is taken in by another when its lease ends', async () => {
  const here = openPushedRoom(store, verification);
  const { room } = here;
  const join = await here.join();
  const event = room.message(ALICE, 'left behind', [join]);
  const transaction = { origin: A, txnId: `killed-${room.roomId}`, response: { pdus: {} } };
  await stageTransaction(store, transaction, [
    { roomId: room.roomId, eventId: event, raw: room.raw(event), waitsFor: [] },
  ]);
  // A process that died with the lease, between storing and judging.
  await store.query(`UPDATE staged_rooms SET holder = 'dead', leased_until = 9e15 WHERE room_id = $1`, [room.roomId]);
  expect(await leaseStagedRooms(store, { holder: 'we', leaseMs: 1_000, limit: 9, roomId: room.roomId })).toEqual([]);
  await store.query(`UPDATE staged_rooms SET leased_until = 0 WHERE room_id = $1`, [room.roomId]);
  expect(await here.settled(event)).toEqual([null]);
  await here.taken(event);
});

/** Events that wait, `bytes` long each. */
const fill = (roomId: string, origin: string, count: number, bytes = 0) =>
  store.query(
    `INSERT INTO staged_pdus (room_id, event_id, origin, raw, received_at, not_before)
     SELECT $1, '$fill-' || i, $2, convert_to(repeat('x', $4::int), 'UTF8'), 0, 9e15 FROM generate_series(1, $3::int) AS i`,
    [roomId, origin, count, bytes],
  );

test.each([
  ['short', 2_000, 0],
  ['long', 250, 60_000],
])(
  'a server that has its share of %s events waiting is told to come back, and nothing of it is stored',
  async (_what, count, bytes) => {
    await store.query(`DELETE FROM staged_pdus`);
    const here = openPushedRoom(store, verification);
    const { room } = here;
    const join = await here.join();
    await fill('!elsewhere:a.test', A, count - 1, bytes);
    const event = room.message(ALICE, 'flood', [join]);
    await fill('!further:a.test', A, 1, bytes);
    expect(await here.send(A, 'flood', [room.raw(event)])).toMatchObject({ outcome: 'limited' });
    expect(await readBacklog(store, room.roomId)).toMatchObject({ staged: 0 });
    // Another server is not over its share.
    expect(await here.push(B, [event])).toEqual({ [event]: {} });
    await here.taken(event);
  },
);

/** Has servers believed to be in a room, for the test: no journal says so. */
async function believe(roomId: string, ...servers: readonly string[]): Promise<void> {
  await store.query(
    `INSERT INTO room_servers (room_id, server_name, source, since)
     SELECT $1, unnest($2::text[]), 'resident', 0 ON CONFLICT DO NOTHING`,
    [roomId, servers],
  );
  onTestFinished(async () => {
    await store.query(`DELETE FROM room_servers WHERE room_id = $1 AND since = 0`, [roomId]);
  });
}

test('who has his part of a full room is told to come back before anything is stored, and nobody else is', async () => {
  await store.query(`DELETE FROM staged_pdus`);
  const here = openPushedRoom(store, verification);
  const [full, join] = [here.room, await here.join(false)];
  const other = openPushedRoom(store, verification);
  const otherJoin = await other.join();
  const members = Array.from({ length: 8 }, (_, i) => `${i}.member.test`);
  await believe(full.roomId, 'many.test', ...members);
  // By its event the server is known to be there.
  const spoken = full.message(BOB, 'speaks', [join]);
  await here.push(B, [spoken]);
  await here.taken(spoken);
  await fill(full.roomId, 'many.test', 5_000);
  for (const server of members) await fill(full.roomId, server, 1);
  const flood = full.message(ALICE, 'one more of a flood', [spoken]);
  expect(await here.send('many.test' as ServerName, 'one more', [full.raw(flood)])).toMatchObject({
    outcome: 'limited',
  });
  // Ten servers have a part of five hundred each.
  await fill(full.roomId, B, 499);
  const first = full.message(BOB, 'within the part', [spoken]);
  expect(await here.push(B, [first])).toEqual({ [first]: {} });
  await here.taken(first);

  await store.query(
    `INSERT INTO staged_pdus (room_id, event_id, origin, raw, received_at, not_before) VALUES ($1, '$last', $2, '', 0, 9e15)`,
    [full.roomId, B],
  );
  const over = full.message(BOB, 'over the part', [first]);
  const beside = other.room.message(BOB, 'in another room', [otherJoin]);
  const mixed = [full.raw(over), other.room.raw(beside)];
  expect(await here.send(B, 'mixed', mixed)).toMatchObject({ outcome: 'limited' });
  expect(await readBacklog(store, other.room.roomId)).toMatchObject({ staged: 0 });
  // A third one has its part still.
  const next = full.message(ALICE, 'of a server that has nothing there', [first]);
  expect(await here.push(A, [next])).toEqual({ [next]: {} });
  await here.taken(next);

  await store.query(`DELETE FROM staged_pdus`);
  expect(await here.send(B, 'mixed', mixed)).toEqual({
    outcome: 'answered',
    response: { pdus: { [over]: {}, [beside]: {} } },
  });
  await here.taken(over);
  await other.taken(beside);
});

test('made-up servers have a small share of a room together, each a transaction, and nothing of what its servers have', async () => {
  await store.query(`DELETE FROM staged_pdus`);
  const here = openPushedRoom(store, verification);
  const { room } = here;
  const join = await here.join();
  for (let i = 0; i < 25; i += 1) await fill(room.roomId, `${i}.flood.test`, 50);
  const event = room.message(ALICE, 'pushed by everybody', [join]);
  const pushedBy = (origin: string) => here.send(origin as ServerName, `by ${origin}`, [room.raw(event)]);
  expect(await pushedBy('7.flood.test')).toMatchObject({ outcome: 'limited' });
  await fill(room.roomId, EVIL, 49);
  expect(await pushedBy(EVIL)).toMatchObject({ outcome: 'answered' });
  await believe(room.roomId, B);
  await fill(room.roomId, B, 1_500);
  expect(await pushedBy(B)).toMatchObject({ outcome: 'answered' });
  await here.taken(event);
});

test('a server that a full room denies by its ACL is told so, and is not told to come back', async () => {
  await store.query(`DELETE FROM staged_pdus`);
  const acl = { allow: ['*'], deny: ['b.test'], allow_ip_literals: true };
  const room = new SignedRoom({ state: { 'm.room.server_acl': acl } });
  const here = openPushedRoom(store, verification, { room });
  const join = await here.join();
  await fill(room.roomId, B, 6_000 - 4_001);
  await fill(room.roomId, A, 4_001);
  const event = room.message(BOB, 'denied', [join]);
  expect(await here.push(B, [event])).toEqual({ [event]: { error: expect.stringContaining('ACL') as string } });
});

test('what waits for a gap counts in its room only, so that a server may send on in its other rooms', async () => {
  // Other tests fill the shares of the same servers.
  await store.query(`DELETE FROM staged_pdus`);
  const here = openPushedRoom(store, verification);
  const { room } = here;
  const join = await here.join();
  const gap = '$a-gap-elsewhere';
  const behindGap = (roomId: string, count: number) =>
    store.query(
      `WITH gap AS (INSERT INTO gaps (room_id, event_id, epoch, origin, opened_at, wake_at)
                    VALUES ($1, $2, 1, $3, 0, 9e15) ON CONFLICT DO NOTHING)
       INSERT INTO staged_pdus (room_id, event_id, origin, raw, received_at, not_before, waits_for)
       SELECT $1, '$behind-' || i, $3, '', 0, 9e15, ARRAY[$2] FROM generate_series(1, $4::int) AS i`,
      [roomId, gap, A, count],
    );
  await behindGap('!gap-elsewhere:a.test', 2_500);
  const event = room.message(ALICE, 'in another room', [join]);
  expect(await here.push(A, [event])).toEqual({ [event]: {} });
  await here.taken(event);

  await behindGap(room.roomId, 5_000);
  const next = room.message(ALICE, 'over the share of this room', [event]);
  expect(await here.send(A, 'over', [room.raw(next)])).toMatchObject({ outcome: 'limited' });
  expect(await here.push(B, [next])).toEqual({ [next]: {} });
  await here.taken(next);
  // No journal knows of these gaps.
  await store.query(`DELETE FROM gaps WHERE event_id = $1`, [gap]);
});

test('a badly signed copy of an event does not stand in the way of the good one', async () => {
  const here = openPushedRoom(store, verification);
  const { room } = here;
  const join = await here.join();
  const event = room.message(BOB, 'x', [join]);
  const forged = { ...room.events.get(event), signatures: { 'b.test': { 'ed25519:1': 'A'.repeat(86) } } };
  await here.send(EVIL, 'forged', [Buffer.from(JSON.stringify(forged))]);
  await here.push(B, [event]);
  expect(await here.taken(event)).toMatchObject([{ verdict: 'accepted' }]);
});

test('welcome is who is believed to be in a room of ours whose ACL does not deny him', async () => {
  const own = await createTestDatabase();
  onTestFinished(() => own.drop());
  const here = own.openStore();
  const acl = { allow: ['*'], deny: ['b.test'], allow_ip_literals: true };
  const room = new SignedRoom({ state: { 'm.room.server_acl': acl } });
  await openPushedRoom(here, verification, { room }).join();
  const readWelcome = createWelcome(here);
  expect(await readWelcome([A, B, EVIL])).toEqual(new Set([A]));
  await openPushedRoom(here, verification).join();
  expect(await readWelcome([A, B, EVIL])).toEqual(new Set([A, B]));
});

describe('what is pushed while joins are under way that were told different versions', () => {
  /** Another user's join of the room, by a resident that tells another version. */
  const intend = (roomId: RoomId, version: string): Promise<unknown> =>
    store.query(
      `INSERT INTO join_intents (event_id, room_id, user_id, event, room_version, resident, via, created_at)
       VALUES ($1, $2, '@other:here.test', '{}', $3, 'evil.test', '{}', 1)`,
      [`$other-${roomId}`, roomId, version],
    );
  /** A message whose id is written otherwise in version 3, of the same hash. */
  const written = (room: SignedRoom, prev: EventId): EventId => {
    for (let i = 0; ; i += 1) {
      const eventId = room.message(ALICE, `message ${i}`, [prev]);
      if (/[-_]/.test(eventId)) return eventId;
    }
  };

  test.each([
    ['before', '1'],
    ['before', '3'],
    ['after', '3'],
  ])(
    'is read as the room is that we come to be in: %s the right one was told, by one of version %s',
    async (when, other) => {
      // Other tests fill the shares of the same servers.
      await store.query(`DELETE FROM staged_pdus`);
      const here = openPushedRoom(store, verification);
      const { room, answers } = here;
      const given = answers.sendJoin;
      let said: EventId | undefined;
      answers.sendJoin = async (...join) => {
        const stream = await given(...join);
        said = written(room, room.last);
        await intend(room.roomId, other);
        if (when === 'after') {
          await store.query(`UPDATE join_intents SET room_version = '3' WHERE room_id = $1`, [room.roomId]);
        }
        await here.push(A, [said]);
        return stream;
      };
      await here.join();
      // The other join is under way still.
      expect(await here.taken(said!)).toMatchObject([{ verdict: 'accepted' }]);
    },
  );
});
