import { expect, test } from 'vitest';
import { type EventFilter } from '../../../src/matrix/client/filter.ts';
import { type RoomPoint } from '../../../src/matrix/client/tokens.ts';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../../src/matrix/pdu.ts';
import { createBackfill } from '../../../src/rooms/read/backfill.ts';
import { clientReads } from '../../../src/rooms/read/for-clients.ts';
import { createTimeSearch } from '../../../src/rooms/read/time-search.ts';
import { type EndpointName } from '../../../src/simulator/contract.ts';
import { readRoom } from '../../../src/store/journal/rooms.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { type SimulatedStage, digestOf, joinIt, simulatedStage } from '../../support/simulated-stage.ts';

const ALL: EventFilter = {
  ...{ types: null, notTypes: [], senders: null, notSenders: [], rooms: null, notRooms: new Set() },
  containsUrl: null,
};

interface Read {
  readonly events: readonly JsonObject[];
  readonly end: RoomPoint | null;
}

function readsOf({ ours: { context } }: SimulatedStage) {
  return clientReads(context, { backfill: createBackfill(context), search: createTimeSearch(context) });
}

function reader(here: SimulatedStage) {
  const { roomId, userId } = here;
  const reads = readsOf(here);
  return async (
    from: RoomPoint | null,
    direction: 'backwards' | 'forwards',
    limit = 20,
    to: RoomPoint | null = null,
  ): Promise<Read> => {
    const answer = await reads.messages({
      ...{ roomId, userId, deviceId: 'A', from, to, direction, limit, filter: ALL, isLazy: false },
      ...{ waitMs: 0, signal: new AbortController().signal },
    });
    if (!answer.ready) throw new Error(answer.reason);
    return answer;
  };
}

async function requestsOf({ simulator }: SimulatedStage, name: EndpointName): Promise<number> {
  const counts = (await simulator.counts()).filter(({ endpoint }) => endpoint === name);
  return counts.reduce((sum, { requests }) => sum + requests, 0);
}

const backfillsOf = (here: SimulatedStage): Promise<number> => requestsOf(here, 'backfill');

test('what lies before our join is asked of other servers when a client reads back so far, and changes nothing else', async () => {
  const here = await simulatedStage({ members: 30, servers: 8, messages: 60 });
  const { ours, roomId, simulator } = here;
  await joinIt(here);
  const read = reader(here);
  const newest = await read(null, 'backwards', 1);
  expect(newest.events).toMatchObject([{ type: 'm.room.member', state_key: here.userId }]);
  expect(await backfillsOf(here)).toBe(0);
  const before = (await readRoom(ours.context.store, roomId))!;

  const back: JsonObject[] = [];
  for (let end = newest.end; end !== null;) {
    const page: Read = await read(end, 'backwards');
    back.push(...page.events);
    if (page.events.length === 0) break;
    end = page.end;
  }
  expect(back.length).toBeGreaterThan(60);
  expect(back.at(-1)).toMatchObject({ type: 'm.room.create' });
  const ids = back.map(({ event_id: id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  const asked = await backfillsOf(here);
  expect(asked).toBeGreaterThan(0);

  // It is held: nobody is asked again, and read forwards it is the same.
  const again = await read(newest.end, 'backwards', 50);
  expect(again.events.map(({ event_id: id }) => id)).toEqual(ids.slice(0, 50));
  const forth = await read({ kind: 'history', epoch: 1, count: 50 }, 'forwards', 50);
  expect(forth.events.map(({ event_id: id }) => id)).toEqual(ids.slice(0, 50).toReversed());
  expect((await read({ kind: 'history', epoch: 1, count: 3 }, 'forwards', 20)).events.at(-1)).toMatchObject({
    state_key: here.userId,
  });
  expect(await backfillsOf(here)).toBe(asked);

  const after = (await readRoom(ours.context.store, roomId))!;
  expect([after.currentState, after.partial, after.stateVersion]).toEqual([
    before.currentState,
    before.partial,
    before.stateVersion,
  ]);
  const shown = await ours.context.store.query<{ shown: number }>(
    `SELECT count(*) AS shown FROM event_states WHERE room_id = $1`,
    [roomId],
  );
  expect(shown).toEqual([{ shown: 1 }]);
  expect(await ours.resync(roomId)).toBe('complete');
  expect(await digestOf(here)).toEqual(await simulator.digest(roomId));
  await expectFoldsRebuilt(ours.context.store);
});

test('a time from before our join is looked for at other servers, and what lies there is fetched, shown by its id and in its context', async () => {
  const here = await simulatedStage({ members: 30, servers: 8, messages: 60 });
  const { ours, roomId, userId } = here;
  await joinIt(here);
  const reads = readsOf(here);
  const query = { roomId, userId, waitMs: 0, signal: new AbortController().signal };
  const first = await reads.eventAtTime({ ...query, at: 0, direction: 'forwards' });
  const event = await reads.event(query, first.eventId);
  if (!event.ready) throw new Error(event.reason);
  expect(JSON.parse(event.json)).toMatchObject({ type: 'm.room.create' });
  const asked = await requestsOf(here, 'timestamp_to_event');
  expect(asked).toBe(1);

  // What is held by now is found without asking.
  const second = await reads.eventAtTime({ ...query, at: first.at + 1, direction: 'forwards' });
  expect(second.at).toBeGreaterThan(first.at);
  expect(await reads.eventAtTime({ ...query, at: second.at, direction: 'backwards' })).toMatchObject({ at: second.at });
  expect(await requestsOf(here, 'timestamp_to_event')).toBe(asked);

  const [{ id: old } = { id: first.eventId }] = await ours.context.store.query<{ id: EventId }>(
    `SELECT event_id AS id FROM history_events WHERE room_id = $1 AND nth = 30`,
    [roomId],
  );
  const around = await reads.context({
    ...{ ...query, deviceId: 'A', eventId: old, limit: 4, filter: ALL, isLazy: false },
  });
  if (!around.ready) throw new Error(around.reason);
  expect(around.event).toMatchObject({ event_id: old });
  const page = async (from: RoomPoint, direction: 'backwards' | 'forwards', to: RoomPoint | null = null) =>
    (await reader(here)(from, direction, 5, to)).events.map(({ event_id: id }) => id);
  const point = (count: number): RoomPoint => ({ kind: 'history', epoch: 1, count });
  expect(around.before.map(({ event_id: id }) => id)).toEqual((await page(point(30), 'backwards')).slice(0, 2));
  expect(around.after.map(({ event_id: id }) => id)).toEqual((await page(point(29), 'forwards')).slice(0, 2));
  expect([around.start, around.end]).toEqual([point(32), point(27)]);

  // A token of the history is an end like any other.
  expect(await page(point(29), 'backwards', point(30))).toEqual([old]);
  expect(await page(point(30), 'forwards', point(29))).toEqual([old]);
  expect(await page(point(30), 'backwards', point(29))).toEqual([]);
});

test('where no server answers, what is held is given, and reading may be tried again', async () => {
  const here = await simulatedStage({ members: 20, servers: 4, messages: 10 });
  await joinIt(here);
  const fault = await here.simulator.inject({
    fault: { kind: 'status', status: 500, errcode: 'M_UNKNOWN' },
    endpoint: 'backfill',
  });
  const read = reader(here);
  const page = await read(null, 'backwards');
  expect(page.events).toHaveLength(1);
  expect(page.end).toEqual({ kind: 'history', epoch: 1, count: 0 });
  await fault.remove();
});
