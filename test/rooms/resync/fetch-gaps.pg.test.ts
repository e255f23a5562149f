/** The states at gaps, and what a degraded room looks for on, over a real database. */
import { describe, expect, test } from 'vitest';
import { type EventId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { stateDigest } from '../../../src/matrix/state-digest.ts';
import { type ResyncEvent } from '../../../src/resync/events.ts';
import { readParents } from '../../../src/store/events/anchors.ts';
import { readGaps } from '../../../src/store/events/gaps.ts';
import { readGivenUp } from '../../../src/store/events/missing-events.ts';
import { append } from '../../../src/store/journal/journal.ts';
import { lockRoom } from '../../../src/store/journal/rooms.ts';
import { withTransaction } from '../../../src/store/open-store.ts';
import {
  A,
  B,
  type ScriptedRejoinder,
  type SmallRoom,
  honestScript,
  refuse,
  smallRoom,
  startScripted,
} from '../../support/scripted-room.ts';

const MINUTE = 60_000;

/** A whole room of which Bob's server has told nothing since: two of his events are missing, the second a topic. */
async function wholeRoomWithGap(): Promise<{
  readonly small: SmallRoom;
  readonly script: ReturnType<typeof honestScript>;
  readonly here: ScriptedRejoinder;
  readonly missing: EventId;
}> {
  const small = smallRoom();
  const { room, create, levels, aliceJoin, message } = small;
  const auth = [create, levels, aliceJoin];
  const script = honestScript(small);
  const here = await startScripted(room, script);
  await here.join();
  expect((await here.resync()).phase).toBe('complete');
  const said = room.make(`@alice:${A}`, 'm.room.message', undefined, { body: 'x' }, { prev: [message], auth });
  const missing = room.make(`@alice:${A}`, 'm.room.topic', '', { topic: 'in the gap' }, { prev: [said], auth });
  const chain = [...small.auth, aliceJoin];
  script.stateIds = (server, at) => (at === missing ? { state: small.state, chain } : refuse(server, 'not-found'));
  return { small, script, here, missing };
}

async function journal({ store, context }: ScriptedRejoinder, small: SmallRoom, event: (at: number) => ResyncEvent) {
  await withTransaction(store, async (tx) => {
    const room = (await lockRoom(tx, small.room.roomId))!;
    await append(tx, room, [event(context.clock.now())]);
  });
}

const opened = (here: ScriptedRejoinder, small: SmallRoom, eventId: EventId, origin: ServerName = B) =>
  journal(here, small, (at) => ({ type: 'GapOpened', eventIds: [eventId], origin, assumedState: null, at }));

const gapsOf = (here: ScriptedRejoinder, { room }: SmallRoom) => readGaps(here.store, room.roomId);

async function typesOf({ store }: ScriptedRejoinder): Promise<string[]> {
  const rows = await store.query<{ type: string }>(`SELECT type FROM journal WHERE stream = 'resync' ORDER BY seq`);
  return rows.map(({ type }) => type);
}

describe('a gap', () => {
  test('in a whole room is closed by the state of a resident, with the missing event in it, and the room stays whole', async () => {
    const { small, here, missing } = await wholeRoomWithGap();
    await opened(here, small, missing);
    expect(await here.resync()).toMatchObject({ phase: 'complete', gapsOpen: 0 });
    expect(await gapsOf(here, small)).toEqual([]);
    const parent = (await readParents(here.store, small.room.roomId, [missing])).get(missing);
    expect(parent).toMatchObject({ partial: false, isAnchor: true });
    expect((await typesOf(here)).slice(-2)).toEqual(['GapOpened', 'GapClosed']);
    const [{ digest } = { digest: '' }] = await here.store.query<{ digest: string }>(
      `SELECT data ->> 'digest' AS digest FROM journal WHERE type = 'GapClosed'`,
    );
    expect(digest).toBe(stateDigest([...small.state, missing]));
  });

  test('is asked of whoever sent what builds on it first, where that server is known to be in the room', async () => {
    const { small, here, missing } = await wholeRoomWithGap();
    await here.store.query(
      `INSERT INTO room_servers (room_id, server_name, source, since) VALUES ($1, $2, 'spoke', 0)
       ON CONFLICT (room_id, server_name) DO UPDATE SET source = 'spoke'`,
      [small.room.roomId, B],
    );
    here.asked.length = 0;
    await opened(here, small, missing, B);
    await here.resync();
    expect(here.asked[0]).toBe(`${B} state_ids ${missing}`);
  });

  test('is not asked of a stranger who only pushes', async () => {
    const { small, here, missing } = await wholeRoomWithGap();
    here.asked.length = 0;
    await opened(here, small, missing, 'stranger.test' as ServerName);
    await here.resync();
    expect(here.asked.filter((what) => what.startsWith('stranger'))).toEqual([]);
  });

  test('that nobody fills is tried again with growing pauses, says why, and is given up in the end', async () => {
    const { small, script, here, missing } = await wholeRoomWithGap();
    script.stateIds = (server) => refuse(server, 'not-found');
    await opened(here, small, missing);
    await here.resync();
    const now = here.context.clock.now();
    expect(await gapsOf(here, small)).toMatchObject([
      {
        attempts: 1,
        wakeAt: now + 30_000,
        lastFailure: 'not-found',
        lastReason: expect.stringContaining('not-found') as string,
      },
    ]);
    for (let passed = 0; passed < 300; passed += 1) {
      here.wait(MINUTE);
      await here.resync();
    }
    expect(await gapsOf(here, small)).toMatchObject([{ attempts: 8, wakeAt: null }]);
    expect((await typesOf(here)).at(-1)).toBe('GapGivenUp');
    expect((await here.state()).phase).toBe('complete');
  });

  test('whose answer ends the worker each time is counted before anybody is asked, and others get their turn', async () => {
    const { small, script, here, missing } = await wholeRoomWithGap();
    const honest = script.stateIds;
    script.stateIds = (server, at) => {
      if (server === A) throw new RangeError('Set maximum size exceeded');
      return honest(server, at);
    };
    await opened(here, small, missing);
    await expect(here.resync()).rejects.toThrow('maximum size');
    expect(await gapsOf(here, small)).toMatchObject([{ attempts: 1 }]);
    script.stateIds = honest;
    here.wait(15 * MINUTE);
    await here.resync();
    expect(await gapsOf(here, small)).toEqual([]);
  });

  test('in a partial room is tried before the walk, once, and keeps the room from nothing', async () => {
    const small = smallRoom();
    const script = honestScript(small);
    const here = await startScripted(small.room, script);
    await here.join();
    const bogus = `$${'g'.repeat(43)}` as EventId;
    await opened(here, small, bogus);
    expect((await here.resync()).phase).toBe('complete');
    expect(await gapsOf(here, small)).toMatchObject([{ eventId: bogus, attempts: 1 }]);
  });
});

describe('what a degraded room lacks', () => {
  test('is looked for on with growing pauses, and is stored, judged and marked when it comes', async () => {
    const small = smallRoom();
    const { room, auth } = small;
    const carol = `@carol:${B}`;
    const lost = room.make(carol, 'm.room.member', carol, { membership: 'join' }, { prev: [small.bobJoin], auth });
    const whole = { ...small, state: [...small.state, lost] };
    const script = honestScript(whole);
    const isLost = (eventId: EventId): boolean => eventId === lost;
    script.state = () => small.state.map((eventId) => room.raw(eventId));
    script.event = (server, eventId) => (isLost(eventId) ? refuse(server, 'not-found') : room.raw(eventId));
    const here = await startScripted(room, script);
    await here.join();
    for (let passed = 0; passed < 30 && (await here.resync()).phase !== 'complete'; passed += 1) here.wait(MINUTE);
    const state = await here.state();
    expect(state).toMatchObject({ phase: 'complete', degraded: { count: 1, found: 0, sought: 1 } });
    expect(state.nextWakeAt).toBe(here.context.clock.now() + 10 * MINUTE);
    here.wait(10 * MINUTE);
    await here.resync();
    expect((await here.state()).nextWakeAt).toBe(here.context.clock.now() + 20 * MINUTE);

    script.event = (_server, eventId) => room.raw(eventId);
    here.wait(20 * MINUTE);
    await here.resync();
    expect(await here.state()).toMatchObject({
      degraded: { count: 1, found: 1, sought: 3 },
      nextWakeAt: null,
      members: 3,
    });
    expect(await readGivenUp(here.store, room.roomId, 10)).toMatchObject([
      { eventId: lost, foundAt: here.context.clock.now() },
    ]);
  });
});
