import { expect, test } from 'vitest';
import { type EventId, type RoomId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { type Awaited, awaitEvents, awaitInTurn, recordOmissions } from '../../../src/store/events/left-out.ts';
import { insertPdus, recordOutlierVerdicts } from '../../../src/store/events/pdus.ts';
import { openTestStore } from '../../support/postgres.ts';
import { state } from '../events.ts';

/** Rooms of which the store's observer was told that something is to be corrected. */
const told: RoomId[] = [];
const { store } = await openTestStore({ onCorrectionDue: (roomId) => told.push(roomId) });

const roomOf = (name: string): RoomId => `!${name}:there.test` as RoomId;
const named = (prefix: string, count: number): EventId[] =>
  Array.from({ length: count }, (_, i) => `$${prefix}-${i}` as EventId);
const by = (awaitedBy: string, eventIds: readonly EventId[]): Awaited[] =>
  eventIds.map((eventId) => ({ eventId, awaitedBy: awaitedBy as ServerName }));

async function awaitedBy(roomId: RoomId, who: string): Promise<EventId[]> {
  const rows = await store.query<{ id: EventId }>(
    `SELECT event_id AS id FROM awaited_events WHERE room_id = $1 AND awaited_by = $2 ORDER BY event_id COLLATE "C"`,
    [roomId, who],
  );
  return rows.map(({ id }) => id);
}

async function leftOutAt(roomId: RoomId, anchorId: string): Promise<EventId[]> {
  const rows = await store.query<{ id: EventId }>(
    `SELECT event_id AS id FROM left_out WHERE room_id = $1 AND anchor_id = $2 ORDER BY event_id COLLATE "C"`,
    [roomId, anchorId],
  );
  return rows.map(({ id }) => id);
}

test("who has thousands of events awaited in a room loses the oldest of them, and takes away nobody else's", async () => {
  const roomId = roomOf('flooded');
  // The honest server awaits what the other has awaited before it.
  await awaitEvents(store, roomId, by('flood.test', named('shared', 3)));
  await awaitEvents(store, roomId, by('honest.test', named('shared', 3)));
  await store.query(`UPDATE awaited_events SET since = since - 1000 WHERE room_id = $1`, [roomId]);
  for (let i = 0; i < 5; i += 1) await awaitEvents(store, roomId, by('flood.test', named(`made-up-${i}`, 5_000)));
  await awaitEvents(store, roomId, by('honest.test', named('late', 1)));
  expect(await awaitedBy(roomId, 'honest.test')).toEqual(['$late-0', '$shared-0', '$shared-1', '$shared-2']);
  const ofFlood = await awaitedBy(roomId, 'flood.test');
  expect(ofFlood.length).toBeLessThan(20_000);
  expect(ofFlood.length).toBeGreaterThan(15_000);
  expect(ofFlood).not.toContain('$shared-0');
});

test('whoever makes up servers takes away what is awaited for none that is believed to be in the room', async () => {
  const roomId = roomOf('named');
  await store.query(
    `INSERT INTO room_servers (room_id, server_name, source, since) VALUES ($1, 'member.test', 'resident', 0)`,
    [roomId],
  );
  await awaitEvents(store, roomId, by('member.test', named('member', 1)));
  await awaitEvents(store, roomId, by('$anchor', named('anchor', 1)));
  await store.query(`UPDATE awaited_events SET since = since - 1000 WHERE room_id = $1`, [roomId]);
  const names = Array.from({ length: 20_000 }, (_, i) => by(`${i}.flood.test`, named(`flood-${i}`, 1))).flat();
  await awaitEvents(store, roomId, names);
  expect(await awaitedBy(roomId, 'member.test')).toEqual(['$member-0']);
  expect(await awaitedBy(roomId, '$anchor')).toEqual(['$anchor-0']);
  const [left] = await store.query<{ n: number }>(`SELECT count(*) AS n FROM awaited_events WHERE room_id = $1`, [
    roomId,
  ]);
  expect(left!.n).toBe(18_000);
});

test('an event that is awaited again is young again, once a day', async () => {
  const roomId = roomOf('again');
  await awaitEvents(store, roomId, by('there.test', named('old', 1)));
  const ages = async (): Promise<number[]> => {
    const rows = await store.query<{ age: number }>(
      `SELECT floor(extract(epoch FROM now()) * 1000)::bigint - since AS age FROM awaited_events WHERE room_id = $1`,
      [roomId],
    );
    return rows.map(({ age }) => age);
  };
  const HOUR = 3_600_000;
  for (const [was, isYoung] of [
    [23 * HOUR, false],
    [25 * HOUR, true],
  ] as const) {
    await store.query(
      `UPDATE awaited_events SET since = floor(extract(epoch FROM now()) * 1000)::bigint - $2::bigint WHERE room_id = $1`,
      [roomId, was],
    );
    await awaitEvents(store, roomId, by('there.test', named('old', 1)));
    const [age] = await ages();
    expect(age! < HOUR).toBe(isYoung);
  }
});

test('what liars leave out of states at gaps takes away nothing that the state of a join lacks', async () => {
  const roomId = roomOf('liars');
  await recordOmissions(store, roomId, '$join' as EventId, { leftOut: named('honest', 3), awaited: [] });
  for (let gap = 0; gap < 6; gap += 1) {
    const leftOut = named(`lie-${gap}`, 20_000);
    await recordOmissions(store, roomId, `$gap-${gap}` as EventId, { leftOut, awaited: [] });
  }
  expect(await leftOutAt(roomId, '$join')).toEqual(['$honest-0', '$honest-1', '$honest-2']);
  const [left] = await store.query<{ n: number }>(`SELECT count(*) AS n FROM left_out WHERE room_id = $1`, [roomId]);
  expect(left!.n).toBe(90_000);
});

test('a verdict that is awaited is told of once, and awaited no longer', async () => {
  const roomId = roomOf('settled');
  const eventId = '$comes' as EventId;
  const verdict = { eventId, verdict: 'accepted', authDepth: 1 } as const;
  await awaitEvents(store, roomId, by('one.test', [eventId]));
  await awaitEvents(store, roomId, by('another.test', [eventId, '$never' as EventId]));
  await insertPdus(store, [state(eventId, 'm.room.topic', '', { roomId })]);
  // We alone say so, of an event that is being taken in: it is awaited still.
  await recordOutlierVerdicts(store, roomId, [{ ...verdict, rule: 'in-passing' }]);
  expect(await awaitedBy(roomId, 'one.test')).toEqual([eventId]);
  await recordOutlierVerdicts(store, roomId, [verdict]);
  expect(told.filter((id) => id === roomId)).toHaveLength(2);
  expect(await awaitedBy(roomId, 'one.test')).toEqual([]);
  expect(await awaitedBy(roomId, 'another.test')).toEqual(['$never']);
});

test('what was awaited and cannot be judged hands its wait on to all that it rests on, and a cycle ends it', async () => {
  const roomId = roomOf('chain');
  const [first, second, third] = ['$first', '$second', '$third'] as EventId[];
  await awaitEvents(store, roomId, by('there.test', [first!]));
  await recordOmissions(store, roomId, '$anchor' as EventId, { leftOut: ['$state' as EventId], awaited: [] });
  const lacking = new Map<EventId, EventId[]>([
    [first!, [second!]],
    [second!, [third!]],
    [third!, [first!]],
    ['$state' as EventId, ['$proof' as EventId]],
    ['$of-nobody' as EventId, ['$lost' as EventId]],
  ]);
  await awaitInTurn(store, roomId, lacking.keys(), (eventId) => lacking.get(eventId) ?? []);
  expect(await awaitedBy(roomId, 'there.test')).toEqual([first, second, third]);
  expect(await awaitedBy(roomId, '$anchor')).toEqual(['$proof']);
});
