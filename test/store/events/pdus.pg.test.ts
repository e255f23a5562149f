import { expect, test } from 'vitest';
import { type EventId, type RoomId, type UserId } from '../../../src/matrix/identifiers.ts';
import { withTransaction } from '../../../src/store/open-store.ts';
import {
  heldEventIds,
  insertPdus,
  readHeldEvents,
  readPdus,
  recordOutlierVerdicts,
} from '../../../src/store/events/pdus.ts';
import { type CheckedPdu } from '../../../src/verification/contract.ts';
import { readAuthChainIds } from '../../../src/store/events/auth-events.ts';
import { createSnapshot, createSnapshotOf, readNumbers } from '../../../src/store/snapshots/snapshots.ts';
import { trieKey } from '../../../src/store/snapshots/snapshot-trie.ts';
import { openTestStore } from '../../support/postgres.ts';
import { statementsOf } from '../../support/statements.ts';
import { ROOM, ids, member, message, state } from '../events.ts';

const { store } = await openTestStore();

/** Enough events that they go through COPY. */
const MANY = 501;

function many(name: string, about: (i: number) => Parameters<typeof message>[1] = () => ({})): CheckedPdu[] {
  return Array.from({ length: MANY }, (_, i) => message(`$${name}-${i}`, about(i)));
}

test('an event that is stored again changes nothing', async () => {
  const events = [message('$again'), message('$once-more')];
  expect(await insertPdus(store, events)).toMatchObject({ stored: 2, alreadyHeld: 0 });
  const [before] = await readPdus(store, ROOM, ids('$again'));
  expect(await insertPdus(store, [...events, message('$third'), message('$third')])).toMatchObject({
    stored: 1,
    alreadyHeld: 2,
  });
  expect(await readPdus(store, ROOM, ids('$again'))).toEqual([before]);
  expect(await insertPdus(store, [])).toMatchObject({ stored: 0, alreadyHeld: 0 });
});

test('a large batch that is stored again changes nothing', async () => {
  expect(await insertPdus(store, many('large'))).toMatchObject({ stored: MANY, alreadyHeld: 0 });
  expect(await insertPdus(store, [...many('large'), message('$large-new')])).toMatchObject({
    stored: 1,
    alreadyHeld: MANY,
  });
});

test('a large batch tells the numbers of what it wrote: states and verdicts by them are as those that are looked up', async () => {
  const place = (i: number): string => `@numbered-${i}:there.test`;
  const members = Array.from({ length: MANY }, (_, i) => member(`$numbered-${i}`, place(i), 'join'));
  const eventIds = members.map(({ eventId }) => eventId);
  await insertPdus(store, members.slice(0, 1));
  const { numbers } = await insertPdus(store, [...members.slice(1), message('$numbered-message')]);
  const byId = new Map(numbers.map((event) => [event.eventId, event]));
  expect(new Set(byId.keys())).toEqual(new Set([...eventIds.slice(1), '$numbered-message']));
  expect(byId.get('$numbered-message' as EventId)?.stateKeyNid).toBeNull();

  const lookedUp = await createSnapshot(store, ROOM, eventIds);
  const all = await readNumbers(store, ROOM, eventIds);
  const places = eventIds.map((eventId) => byId.get(eventId) ?? all.get(eventId)!);
  const told = {
    keys: Float64Array.from(places, ({ stateKeyNid }) => trieKey(stateKeyNid ?? 0, true)),
    values: Float64Array.from(places, ({ nid }) => nid),
  };
  expect(await createSnapshotOf(store, ROOM, told)).toBe(lookedUp);

  const accepted = eventIds.map((eventId) => ({ eventId, verdict: 'accepted' as const, authDepth: 1 }));
  const numbered = accepted.map((verdict) => ({ ...verdict, nid: byId.get(verdict.eventId)?.nid }));
  expect(await recordOutlierVerdicts(store, ROOM, numbered)).toEqual([]);
  expect(new Set(await recordOutlierVerdicts(store, ROOM, accepted))).toEqual(new Set(eventIds));
  const stored = await readPdus(store, ROOM, eventIds);
  expect(stored.map(({ verdict, authDepth }) => ({ verdict, authDepth }))).toEqual(
    eventIds.map(() => ({ verdict: 'accepted', authDepth: 1 })),
  );
});

const HOSTILE_JSON = String.raw`{"body":"\u0000 \ud800 \\ \" \n","n":1e3,"m":1.0,"big":123456789012345678901234567890}`;

test.each([
  ['a small batch', 1],
  ['a large batch', MANY],
])('the text of an event survives byte for byte, in %s', async (name, count) => {
  const json = [HOSTILE_JSON, '{\n\t"a"\r: "\\\\N\\\\."}', '{"é":"\u2028😀","__proto__":{"a":1},"a":1,"a":2}'];
  const events = Array.from({ length: Math.max(count, json.length) }, (_, i) =>
    message(`$bytes-${name}-${i}`, { json: json[i % json.length] }),
  );
  await insertPdus(store, events);
  const stored = await readPdus(
    store,
    ROOM,
    events.map(({ eventId }) => eventId),
  );
  expect(new Map(stored.map((event) => [event.eventId, event.json]))).toEqual(
    new Map(events.map((event) => [event.eventId, Buffer.from(event.json).toString()])),
  );
});

test.each([
  ['a small batch', 1],
  ['a large batch', MANY],
])('NUL, lone surrogates and what stands for them stay apart in state keys, in %s', async (name, count) => {
  const keys = ['a\u0000', 'a\u00010000', 'a\u0001', 'a\ud800', 'a\ufffd', '\\N', '\t\n', ''];
  const events = keys.map((key, i) => state(`$nul-${name}-${i}`, `type\u0000${name}`, key, { membership: key }));
  const filler = Array.from({ length: count }, (_, i) => message(`$nul-filler-${name}-${i}`));
  await insertPdus(store, [...events, ...filler]);
  const stored = new Map(
    (
      await readPdus(
        store,
        ROOM,
        events.map(({ eventId }) => eventId),
      )
    ).map((row) => [row.eventId, row]),
  );
  for (const { eventId, type, stateKey, membership } of events) {
    expect(stored.get(eventId)).toMatchObject({ type, stateKey, membership });
  }
});

test.each([1, MANY])('depths of 64 bits are stored to the last digit, %i at a time', async (count) => {
  const depths = [0n, 2n ** 53n + 1n, 2n ** 63n - 1n];
  const events = Array.from({ length: Math.max(count, 3) }, (_, i) =>
    message(`$depth-${count}-${i}`, { depth: depths[i % 3] }),
  );
  await insertPdus(store, events);
  const rows = await store.query<{ depth: string }>(
    `SELECT depth::text FROM pdus WHERE event_id = ANY ($1::text[]) ORDER BY depth`,
    [events.slice(0, 3).map(({ eventId }) => eventId)],
  );
  expect(rows.map(({ depth }) => BigInt(depth))).toEqual(depths);
});

test.each([1, MANY])(
  'events of a room whose id holds control characters are stored under it, %i at a time',
  async (count) => {
    const roomId = `!a\n\t\u0001 \\b-${count}:there.test` as RoomId;
    const events = Array.from({ length: count }, (_, i) => message(`$odd-room-${count}-${i}`, { roomId }));
    await insertPdus(store, events);
    const [stored] = await readPdus(store, roomId, ids(`$odd-room-${count}-0`));
    expect(stored?.roomId).toBe(roomId);
  },
);

test('event ids with quotes and backslashes, as room version 1 allows them, are kept and cited exactly', async () => {
  const odd = '$"odd\\{},\':there.test';
  await insertPdus(store, [
    message(odd),
    message('$cites-odd', { authEvents: ids(odd, '$plain'), prevEvents: ids(odd) }),
  ]);
  expect(await heldEventIds(store, ROOM, ids(odd))).toEqual(new Set([odd]));
  expect((await readPdus(store, ROOM, ids('$cites-odd')))[0]).toMatchObject({
    authEvents: [odd, '$plain'],
    prevEvents: [odd],
  });
  expect(await readAuthChainIds(store, ROOM, ids('$cites-odd'))).toEqual(new Set(['$cites-odd', odd]));
});

test('a hollow event is not held, and is completed by its body, once', async () => {
  const hollow = member('$hollow', '@a:there.test', 'join', { hollow: true, json: '{"redacted":true}' });
  const whole = { ...hollow, hollow: false, json: Buffer.from('{"whole":true}') };
  expect(await insertPdus(store, [hollow])).toMatchObject({ stored: 1, alreadyHeld: 0 });
  await recordOutlierVerdicts(store, ROOM, [
    { eventId: hollow.eventId, verdict: 'rejected', authDepth: 3, rule: 'some-rule', reason: 'as redacted' },
  ]);
  expect(await heldEventIds(store, ROOM, [hollow.eventId])).toEqual(new Set());
  expect(await insertPdus(store, [hollow])).toMatchObject({ stored: 0, alreadyHeld: 1 });
  const [before] = await readPdus(store, ROOM, [hollow.eventId]);
  expect(await insertPdus(store, [whole])).toMatchObject({ stored: 1, alreadyHeld: 0 });
  expect(await insertPdus(store, [hollow, { ...whole, json: Buffer.from('{"other":1}') }])).toMatchObject({
    stored: 0,
    alreadyHeld: 1,
  });
  expect(await readPdus(store, ROOM, [hollow.eventId])).toEqual([
    { ...before, hollow: false, json: '{"whole":true}', verdict: 'unjudged', authDepth: null },
  ]);
  expect(await heldEventIds(store, ROOM, [hollow.eventId])).toEqual(new Set([hollow.eventId]));
});

test('an event is held by its own room alone, with its body or without', async () => {
  const other = '!other:there.test' as RoomId;
  await insertPdus(store, [message('$here'), message('$hollow-here', { hollow: true })]);
  const asked = ids('$here', '$hollow-here', '$nowhere');
  expect(await readHeldEvents(store, ROOM, asked)).toEqual({ held: new Set(['$here']), foreign: new Set() });
  expect(await readHeldEvents(store, other, asked)).toEqual({
    held: new Set(),
    foreign: new Set(['$here', '$hollow-here']),
  });
  expect(await heldEventIds(store, other, asked)).toEqual(new Set());
});

test.each([
  ['a small batch', 0],
  ['a large batch', MANY],
])('a hollow event is not completed by another event under its id, in %s', async (_name, more) => {
  const id = `$hollow-${more}:there.test`;
  const about = { hollow: true, authEvents: ids('$auth:x'), prevEvents: ids('$prev:x'), depth: 5n };
  const hollow = state(id, 'm.room.member', '@a\0:there.test', {
    ...about,
    membership: 'join',
    json: '{"redacted":true}',
  });
  await insertPdus(store, [hollow]);
  const [before] = await readPdus(store, ROOM, ids(id));
  const others = many(`beside-hollow-${more}`).slice(0, more);
  const body = { ...hollow, hollow: false, json: Buffer.from('{"whole":true}') };
  const wrong: Partial<CheckedPdu>[] = [
    { type: 'm.room.name' },
    { stateKey: '@b:there.test' },
    { stateKey: null },
    { sender: '@b:there.test' as CheckedPdu['sender'] },
    { membership: 'leave' },
    { depth: 6n },
    { roomId: '!other:there.test' as RoomId },
    { prevEvents: [] },
    { authEvents: ids('$auth:x', '$more:x') },
  ];
  for (const changes of wrong) await insertPdus(store, [{ ...body, ...changes }, ...others]);
  expect(await readPdus(store, ROOM, ids(id))).toEqual([before]);
  await insertPdus(store, [body, ...others]);
  expect(await readPdus(store, ROOM, ids(id))).toEqual([{ ...before, hollow: false, json: '{"whole":true}' }]);
});

test('of a hollow event and its body in one batch the body is stored', async () => {
  const whole = message('$both');
  expect(await insertPdus(store, [{ ...whole, hollow: true }, whole, { ...whole, hollow: true }])).toMatchObject({
    stored: 1,
    alreadyHeld: 0,
  });
  expect(await heldEventIds(store, ROOM, [whole.eventId])).toEqual(new Set(['$both']));
});

test.each([
  // Without keys to wait for, the writers meet at the events themselves.
  ['messages', () => ({}), MANY, 0],
  ['state', (i: number) => ({ type: `t${i % 7}`, stateKey: `k${i % 50}` }), MANY, 350],
  ['few messages', () => ({}), 200, 0],
  ['few state events', (i: number) => ({ type: `u${i % 7}`, stateKey: `k${i % 20}` }), 200, 140],
] as const)(
  'writers of overlapping batches of %s at once store each event once, without a deadlock',
  async (name, about, size, keyCount) => {
    const events = many(`shared-${name}`, about).slice(0, size);
    const shuffled = [events, events.toReversed(), events.slice(100), [...events.slice(150), ...events.slice(0, 150)]];
    let runs = 0;
    const results = await Promise.all(
      shuffled.map((batch) =>
        withTransaction(store, (tx) => {
          runs += 1;
          return insertPdus(tx, batch);
        }),
      ),
    );
    expect(results.reduce((sum, { stored }) => sum + stored, 0)).toBe(size);
    expect(runs).toBe(shuffled.length);
    const keys = await store.query<{ n: number }>(
      `SELECT count(DISTINCT state_key_nid) AS n FROM pdus WHERE event_id = ANY ($1::text[])`,
      [events.map(({ eventId }) => eventId)],
    );
    expect(keys).toEqual([{ n: keyCount }]);
  },
);

test('many events that another writer is quicker with are each stored once, as the first wrote them', async () => {
  const events = many('overtaken', (i) => ({ type: 'overtaken', stateKey: `k${i % 9}` }));
  let behind: Promise<unknown> = Promise.resolve();
  await withTransaction(store, async (tx) => {
    await insertPdus(tx, [{ ...events[250]!, sender: '@quick:there.test' as UserId, stateKey: null }]);
    behind = insertPdus(store, events);
    await waitingForLocks(1);
  });
  expect(await behind).toMatchObject({ stored: MANY - 1, alreadyHeld: 1 });
  const rows = await readPdus(
    store,
    ROOM,
    events.map(({ eventId }) => eventId),
  );
  expect(rows).toHaveLength(MANY);
  expect(rows.filter(({ sender }) => sender.startsWith('@quick'))).toMatchObject([{ eventId: events[250]!.eventId }]);
});

test.each([1, 2])('many events of writers at once are stored once each, with the numbers told: run %i', async (run) => {
  const events = many(`told-${run}`, (i) => ({ type: 'told', stateKey: `k${i % 9}` }));
  const results = await Promise.all([insertPdus(store, events), insertPdus(store, events.toReversed())]);
  expect(results.reduce((sum, { stored }) => sum + stored, 0)).toBe(MANY);
  const told = results.flatMap(({ numbers }) => numbers);
  const rows = await store.query(
    `SELECT event_id AS "eventId", nid, state_key_nid AS "stateKeyNid" FROM pdus WHERE event_id = ANY ($1::text[])`,
    [told.map(({ eventId }) => eventId)],
  );
  expect(new Set(rows)).toEqual(new Set(told.map(({ eventId, nid, stateKeyNid }) => ({ eventId, nid, stateKeyNid }))));
});

test('up to 200 events take one statement, and one more where some are held; no table is made for them', async () => {
  const events = Array.from({ length: 200 }, (_, i) => state(`$few-${i}`, 'few', `key ${i}`));
  const first = await statementsOf(() => insertPdus(store, events));
  expect(first).toHaveLength(1);
  expect(first[0]).not.toContain('TABLE');
  expect(await statementsOf(() => insertPdus(store, events))).toHaveLength(2);
  const [keyed] = await readPdus(store, ROOM, ids('$few-7'));
  expect(keyed).toMatchObject({ type: 'few', stateKey: 'key 7' });
});

test('an event whose state key another writer is interning gets that key', async () => {
  let second: Promise<unknown> = Promise.resolve();
  await withTransaction(store, async (tx) => {
    await insertPdus(tx, [state('$interning-1', 'interned', 'at once')]);
    second = insertPdus(store, [state('$interning-2', 'interned', 'at once')]);
    await waitingForLocks(1);
  });
  await second;
  const stored = await readPdus(store, ROOM, ids('$interning-1', '$interning-2'));
  expect(stored.map(({ stateKey }) => stateKey)).toEqual(['at once', 'at once']);
});

/** Resolves when so many statements of this database wait for a lock. */
async function waitingForLocks(statements: number): Promise<void> {
  for (let waiting = 0; waiting < statements;) {
    const [row] = await store.query<{ n: number }>(
      `SELECT count(*) AS n FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`,
    );
    waiting = row?.n ?? 0;
  }
}

test('writers that meet in the middle of their batches do not deadlock, in whichever order these are', async () => {
  const [first, middle, last] = ['$meet-a', '$meet-b', '$meet-c'].map((eventId) => message(eventId));
  let runs = 0;
  const write = (batch: CheckedPdu[]) =>
    withTransaction(store, (tx) => {
      runs += 1;
      return insertPdus(tx, batch);
    });
  const writers: Promise<unknown>[] = [];
  await withTransaction(store, async (tx) => {
    await insertPdus(tx, [middle!]);
    writers.push(write([first!, middle!, last!]), write([last!, middle!, first!]));
    await waitingForLocks(2);
  });
  await Promise.all(writers);
  expect(runs).toBe(2);
});

test('several batches fit in one transaction, and none of them stays when it fails', async () => {
  await expect(
    withTransaction(store, async (tx) => {
      await insertPdus(tx, [message('$tx-1')]);
      await insertPdus(tx, many('tx'));
      expect(await heldEventIds(tx, ROOM, ids('$tx-1', '$tx-500'))).toEqual(new Set(['$tx-1', '$tx-500']));
      throw new Error('no');
    }),
  ).rejects.toThrow('no');
  expect(await heldEventIds(store, ROOM, ids('$tx-1', '$tx-500'))).toEqual(new Set());
});

test('an outlier is unjudged until its first verdict, which stays and is of its room; reasons may quote anything', async () => {
  await insertPdus(store, [message('$refused'), message('$fine')]);
  const reason = 'quotes \u0000 and \ud800';
  const verdictOf = async () =>
    new Map(
      (await readPdus(store, ROOM, ids('$refused', '$fine'))).map((row) => [row.eventId, [row.verdict, row.authDepth]]),
    );
  expect(await verdictOf()).toEqual(new Map(ids('$refused', '$fine').map((id) => [id, ['unjudged', null]])));
  const [refused, fine] = ids('$refused', '$fine') as [EventId, EventId];
  await recordOutlierVerdicts(store, ROOM, [
    { eventId: refused, verdict: 'rejected', authDepth: 4, rule: 'first', reason },
    { eventId: fine, verdict: 'accepted', authDepth: 2 },
  ]);
  await recordOutlierVerdicts(store, ROOM, [{ eventId: refused, verdict: 'accepted', authDepth: 9 }]);
  await recordOutlierVerdicts(store, '!other:there.test' as RoomId, [
    { eventId: fine, verdict: 'rejected', authDepth: 9 },
  ]);
  expect(await verdictOf()).toEqual(
    new Map<EventId, unknown>([
      [refused, ['rejected', 4]],
      [fine, ['accepted', 2]],
    ]),
  );
});

test('the auth chain ends where an event is not stored, belongs to another room, or was seen', async () => {
  await insertPdus(store, [
    message('$c-1', { json: HOSTILE_JSON }),
    message('$c-2', { authEvents: ids('$c-1', '$c-absent') }),
    message('$c-3', { authEvents: ids('$c-2', '$c-1', '$c-foreign', '$c-loop') }),
    message('$c-loop', { authEvents: ids('$c-3') }),
    message('$c-foreign', { roomId: '!other:there.test', authEvents: ids('$c-hidden') }),
    message('$c-hidden'),
    message('$c-unrelated'),
  ]);
  expect(await readAuthChainIds(store, ROOM, ids('$c-3', '$c-nowhere'))).toEqual(
    new Set(['$c-3', '$c-2', '$c-1', '$c-loop']),
  );
});
