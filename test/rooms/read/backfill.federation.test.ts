import { expect, test } from 'vitest';
import { type EventFilter } from '../../../src/matrix/client/filter.ts';
import { type RoomPoint } from '../../../src/matrix/client/tokens.ts';
import { type JsonObject } from '../../../src/matrix/pdu.ts';
import { createBackfill } from '../../../src/rooms/read/backfill.ts';
import { clientReads } from '../../../src/rooms/read/for-clients.ts';
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

function reader(here: SimulatedStage) {
  const { ours, roomId, userId } = here;
  const reads = clientReads(ours.context, createBackfill(ours.context));
  return async (from: RoomPoint | null, direction: 'backwards' | 'forwards', limit = 20): Promise<Read> => {
    const answer = await reads.messages({
      ...{ roomId, userId, deviceId: 'A', from, to: null, direction, limit, filter: ALL, isLazy: false },
      ...{ waitMs: 0, signal: new AbortController().signal },
    });
    if (!answer.ready) throw new Error(answer.reason);
    return answer;
  };
}

async function backfillsOf({ simulator }: SimulatedStage): Promise<number> {
  const counts = (await simulator.counts()).filter(({ endpoint }) => endpoint === 'backfill');
  return counts.reduce((sum, { requests }) => sum + requests, 0);
}

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
