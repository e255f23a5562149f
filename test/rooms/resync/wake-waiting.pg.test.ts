/** Rooms that wait for one server, and what ends their wait. */
import { describe, expect, test } from 'vitest';
import { wakeRecovered } from '../../../activities/wake-recovered.ts';
import { FederationError } from '../../../src/federation/error.ts';
import { type ServerName } from '../../../src/matrix/identifiers.ts';
import { type ResyncState } from '../../../src/resync/state.ts';
import { viewHealth } from '../../../src/rooms/resync/destination-health.ts';
import { hearResidents } from '../../../src/rooms/resync/residents-heard.ts';
import { type WakeContext, wakeThatHeard, wakeWaitingFor } from '../../../src/rooms/resync/wake-waiting.ts';
import { readRoom } from '../../../src/store/journal/rooms.ts';
import { readRecovered } from '../../../src/store/tables/destinations.ts';
import { silent } from '../../federation/tls-server.ts';
import { openTestStore } from '../../support/postgres.ts';
import { PartialRoom } from './partial-room.ts';

const { store } = await openTestStore();

const DAY = 24 * 3_600_000;
const THERE = 'there.test' as ServerName;
const OTHER = 'other.test' as ServerName;
const signal = new AbortController().signal;

let now = 1_700_000_000_000;
const rung: string[] = [];
const context: WakeContext = {
  store,
  clock: { now: () => now },
  logger: silent,
  ring: (roomId) => Promise.resolve(void rung.push(roomId)),
};

/** Its resident could not be reached, or refused; the next round is a day away. */
async function waitingRoom(failure: 'unreachable' | 'forbidden' = 'unreachable'): Promise<PartialRoom> {
  const room = new PartialRoom(store);
  await room.join();
  const attempt = { attemptNo: 1, resident: THERE, atEventId: room.id('before') };
  const outcome = failure === 'unreachable' ? 'transient' : 'not-in-room';
  await room.journal(
    { type: 'StateFetchStarted', ...attempt, at: now },
    { type: 'StateFetchFailed', ...attempt, failure, outcome, reason: 'no', at: now },
    { type: 'RoundFailed', round: 1, wakeAt: now + DAY, reason: 'no', at: now },
  );
  return room;
}
const stateOf = async (room: PartialRoom): Promise<ResyncState> => (await readRoom(store, room.roomId))!.resync;
const phasesOf = async (rooms: readonly PartialRoom[]): Promise<string[]> =>
  Promise.all(rooms.map(async (room) => (await stateOf(room)).phase));

async function goDown(server: ServerName): Promise<void> {
  const error = new FederationError(server, 'unreachable', 'nobody listens');
  await viewHealth(context)
    .ask(server, () => Promise.reject(error))
    .catch(() => undefined);
}

describe('rooms that wait for a server', () => {
  test('are woken when a request of anybody is answered by it, are rung, and ask it alone', async () => {
    const rooms = [await waitingRoom(), await waitingRoom(), await waitingRoom()];
    await goDown(THERE);
    now += 60_000;
    await viewHealth(context).ask(THERE, () => Promise.resolve('answer'));
    await expect.poll(() => phasesOf(rooms)).toEqual(['fetching', 'fetching', 'fetching']);
    await expect.poll(() => rooms.every(({ roomId }) => rung.includes(roomId))).toBe(true);
    expect((await stateOf(rooms[0]!)).askingOnly).toEqual({ residents: [THERE], pausedUntil: now - 60_000 + DAY });
    await wakeRecovered(context, { signal, heartbeat: () => undefined });
  });

  test('are woken as soon as its answer begins, however long that takes to its end', async () => {
    const rooms = [await waitingRoom()];
    await goDown(THERE);
    now += 60_000;
    await viewHealth(context).ask(THERE, async (heard) => {
      heard();
      await expect.poll(() => phasesOf(rooms)).toEqual(['fetching']);
    });
    await wakeRecovered(context, { signal, heartbeat: () => undefined });
  });

  test('are woken by a pass of the sweep where whoever heard it was killed, and then it is forgotten', async () => {
    await goDown(THERE);
    now += 60_000;
    await viewHealth(context).ask(THERE, () => Promise.resolve('answer'));
    const room = await waitingRoom();
    expect(await readRecovered(store, 9)).toEqual([THERE]);
    await expect.poll(() => wakeRecovered(context, { signal, heartbeat: () => undefined })).toBe(1);
    expect(await phasesOf([room])).toEqual(['fetching']);
    await store.query('UPDATE destinations SET recovered_at = recovered_at - 60000');
    await wakeRecovered(context, { signal, heartbeat: () => undefined });
    expect(await readRecovered(store, 9)).toEqual([]);
  });

  test('are left alone where they wait for others, or have been woken', async () => {
    const room = await waitingRoom();
    expect(await wakeWaitingFor(context, OTHER, signal)).toBe(0);
    expect(await phasesOf([room])).toEqual(['waiting']);
    expect(await wakeWaitingFor(context, THERE, signal)).toBe(1);
    expect(await wakeWaitingFor(context, THERE, signal)).toBe(0);
  });
});

describe('a server that sends something', () => {
  test('is back, for all rooms that wait for it', async () => {
    const rooms = [await waitingRoom(), await waitingRoom()];
    await goDown(THERE);
    const residents = hearResidents(context);
    residents.heardFrom(THERE, []);
    await expect.poll(() => phasesOf(rooms)).toEqual(['fetching', 'fetching']);
    await residents.close();
  });

  test('is asked again about the room that it speaks of, though it had refused it, and at most once an hour', async () => {
    const room = await waitingRoom('forbidden');
    const beside = await waitingRoom('forbidden');
    const hear = (): Promise<number> => wakeThatHeard(context, THERE, [room.roomId], signal);
    expect(await hear()).toBe(1);
    expect(await phasesOf([room, beside])).toEqual(['fetching', 'waiting']);
    await room.journal({ type: 'RoundFailed', round: 1, wakeAt: now + DAY, reason: 'no', at: now });
    expect(await hear()).toBe(0);
    expect(await phasesOf([room])).toEqual(['waiting']);
    now += 3_600_000;
    expect(await hear()).toBe(1);
    expect(await phasesOf([room])).toEqual(['fetching']);
  });

  test('ends no wait of a room that it is not believed to be in', async () => {
    const room = await waitingRoom('forbidden');
    expect(await wakeThatHeard(context, OTHER, [room.roomId], signal)).toBe(0);
    expect(await phasesOf([room])).toEqual(['waiting']);
  });
});
