/** The states at gaps, and what a degraded room looks for on, over a real database. */
import { once } from 'node:events';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { FederationError } from '../../../src/federation/error.ts';
import { type EventId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { stateDigest } from '../../../src/matrix/state-digest.ts';
import { type ResyncEvent } from '../../../src/resync/events.ts';
import { nextAction } from '../../../src/resync/next-action.ts';
import { viewHealth } from '../../../src/rooms/resync/destination-health.ts';
import { fetchGaps } from '../../../src/rooms/resync/fetch-gaps.ts';
import { type FetchPlaces, NoPlaceError } from '../../../src/rooms/resync/fetch-places.ts';
import { fetchState } from '../../../src/rooms/resync/fetch-state.ts';
import { operatorReads } from '../../../src/rooms/read/for-operators.ts';
import { readParents } from '../../../src/store/events/anchors.ts';
import { beginGap, readGaps } from '../../../src/store/events/gaps.ts';
import { readGivenUp } from '../../../src/store/events/missing-events.ts';
import { append } from '../../../src/store/journal/journal.ts';
import { lockRoom } from '../../../src/store/journal/rooms.ts';
import { withTransaction } from '../../../src/store/open-store.ts';
import {
  A,
  B,
  C,
  type ScriptedRejoinder,
  type SmallRoom,
  honestScript,
  refuse,
  smallRoom,
  startScripted,
} from '../../support/scripted-room.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

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

/** The state at gaps has a further event, which nobody gives. */
function withhold(script: ReturnType<typeof honestScript>, { room, state, auth, aliceJoin }: SmallRoom, lost: EventId) {
  const given = [...state, ...auth, aliceJoin];
  script.stateIds = () => ({ state: [...state, lost], chain: [...auth, aliceJoin] });
  script.state = () => given.map((eventId) => room.raw(eventId));
  script.event = (server, eventId) => (eventId === lost ? refuse(server, 'not-found') : room.raw(eventId));
}

/** A third party invite, and what cites it as auth event. */
function citedInvite({ room, create, levels, aliceJoin }: SmallRoom): {
  readonly invite: EventId;
  readonly cites: EventId;
} {
  const auth = [create, levels, aliceJoin];
  const invite = room.make(`@alice:${A}`, 'm.room.third_party_invite', 'token', {}, { prev: [levels], auth });
  const parts = { prev: [levels], auth: [...auth, invite] };
  return { invite, cites: room.make(`@alice:${A}`, 'm.room.name', '', { name: 'x' }, parts) };
}

async function letPass(here: ScriptedRejoinder, ms: number, stepMs = MINUTE): Promise<void> {
  for (let passed = 0; passed < ms; passed += stepMs) {
    await here.resync();
    here.wait(stepMs);
  }
  await here.resync();
}

/** They are known to be in the room, by what they said in it. */
async function speak(here: ScriptedRejoinder, { room }: SmallRoom, servers: readonly ServerName[]): Promise<void> {
  here.changedByHand();
  await here.store.query(
    `INSERT INTO room_servers (room_id, server_name, source, since) SELECT $1, name, 'spoke', 0 FROM unnest($2::text[]) AS i(name)
     ON CONFLICT (room_id, server_name) DO UPDATE SET source = 'spoke'`,
    [room.roomId, servers],
  );
}

/** As when the worker that had begun an attempt is dead for half a minute, by the database's clock. */
async function leasesEnd({ store, wait }: ScriptedRejoinder): Promise<void> {
  wait(MINUTE / 2);
  await store.query('UPDATE gaps SET begun_until = 0');
}

async function leftAlone({ store }: ScriptedRejoinder, servers: readonly ServerName[], until: number): Promise<void> {
  await store.query(
    `INSERT INTO destinations (server_name, failures, not_before, last_failure, last_failed_at)
     SELECT name, 1, $2, 'unreachable', 0 FROM unnest($1::text[]) AS i(name)
     ON CONFLICT (server_name) DO UPDATE SET not_before = excluded.not_before`,
    [servers, until],
  );
}

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
    await speak(here, small, [B]);
    here.asked.length = 0;
    await opened(here, small, missing, B);
    await here.resync();
    expect(here.asked[0]).toBe(`${B} state_ids ${missing}`);
  });

  test('whose state lacks a lone membership is closed without it after ten minutes, and says what the room lacks since', async () => {
    const { small, script, here, missing } = await wholeRoomWithGap();
    const { room, auth, bobJoin } = small;
    const carol = `@carol:${B}`;
    const lost = room.make(carol, 'm.room.member', carol, { membership: 'join' }, { prev: [bobJoin], auth });
    withhold(script, small, lost);
    await opened(here, small, missing);
    await letPass(here, 9 * MINUTE);
    expect(await gapsOf(here, small)).toMatchObject([{ lastFailure: 'incomplete' }]);
    await letPass(here, 10 * MINUTE);
    expect(await gapsOf(here, small)).toEqual([]);
    expect(await here.state()).toMatchObject({
      phase: 'complete',
      gapsOpen: 0,
      degraded: { count: 1, missing: [{ eventId: lost, why: 'not-delivered' }] },
    });
    expect(await readGivenUp(here.store, room.roomId, 10)).toMatchObject([{ eventId: lost }]);
    const [{ missing: journalled } = {}] = await here.store.query<{ missing: unknown }>(
      `SELECT data -> 'missing' AS missing FROM journal WHERE type = 'GapClosed'`,
    );
    expect(journalled).toEqual({ listed: [{ eventId: lost, why: 'not-delivered' }], count: 1, fell: 0 });

    script.event = (_server, eventId) => room.raw(eventId);
    await letPass(here, 30 * MINUTE);
    expect((await here.state()).degraded).toBeNull();
  });

  test('that one server alone gives, naming what nobody has, is closed without that after ten minutes, and the room stays whole', async () => {
    const { small, script, here, missing } = await wholeRoomWithGap();
    await speak(here, small, [A, B, C]);
    const { invite, cites } = citedInvite(small);
    withhold(script, { ...small, state: [...small.state, cites] }, invite);
    const given = script.stateIds;
    script.stateIds = (server, at, signal) => (server === B ? given(server, at, signal) : refuse(server, 'not-found'));
    await opened(here, small, missing, B);
    await letPass(here, 9 * MINUTE);
    expect(await gapsOf(here, small)).toMatchObject([{ lastFailure: 'incomplete' }]);
    await letPass(here, 11 * MINUTE);
    expect(await gapsOf(here, small)).toEqual([]);
    expect(await here.state()).toMatchObject({
      phase: 'complete',
      degraded: null,
      soughtAtGaps: expect.any(Number) as number,
    });
    // By name it is a lack of this gap.
    const [lack] = await readGivenUp(here.store, small.room.roomId, 10);
    expect(lack).toMatchObject({ eventId: invite, gapId: missing, namedBy: [B], foundAt: null });
    expect([...lack!.askedOf].sort()).toEqual([A, B, C]);
    const { missing: shown } = await operatorReads(here.context).describeRoom(small.room.roomId);
    expect(shown).toMatchObject([{ eventId: invite, gapId: missing }]);

    script.event = (_server, eventId) => small.room.raw(eventId);
    await letPass(here, 30 * MINUTE);
    expect(await here.state()).toMatchObject({ degraded: null, soughtAtGaps: null, nextWakeAt: null });
    expect(await readGivenUp(here.store, small.room.roomId, 10)).toMatchObject([
      { foundAt: expect.any(Number) as number },
    ]);
  });

  test('whose state lacks what nobody ever gives is looked into for some days, and then no more', async () => {
    const { small, script, here, missing } = await wholeRoomWithGap();
    await speak(here, small, [A, B, C]);
    const { invite, cites } = citedInvite(small);
    withhold(script, { ...small, state: [...small.state, cites] }, invite);
    const given = script.stateIds;
    script.stateIds = (server, at, signal) => (server === B ? given(server, at, signal) : refuse(server, 'not-found'));
    await opened(here, small, missing, B);
    await letPass(here, HOUR);
    await letPass(here, 7 * 24 * HOUR, 12 * HOUR);
    expect(await here.state()).toMatchObject({ phase: 'complete', soughtAtGaps: null, nextWakeAt: null });
    const sought = (await typesOf(here)).filter((type) => type === 'MissingSought');
    expect(sought).toHaveLength(10);
  });

  test('that is given in part has what is missing of others who know nothing of the gap', async () => {
    const { small, script, here, missing } = await wholeRoomWithGap();
    await speak(here, small, [A, B]);
    const { invite, cites } = citedInvite(small);
    withhold(script, { ...small, state: [...small.state, cites] }, invite);
    const given = script.stateIds;
    script.stateIds = (server, at, signal) => (server === B ? given(server, at, signal) : refuse(server, 'not-found'));
    script.event = (server, eventId) =>
      eventId === invite && server === B ? refuse(server, 'not-found') : small.room.raw(eventId);
    await opened(here, small, missing, B);
    await here.resync();
    expect(await gapsOf(here, small)).toEqual([]);
    expect((await here.state()).degraded).toBeNull();
  });

  test('that is given in part while the others are out of reach is closed by its last attempt', async () => {
    const { small, script, here, missing } = await wholeRoomWithGap();
    await speak(here, small, [A, B, C]);
    const { invite, cites } = citedInvite(small);
    withhold(script, { ...small, state: [...small.state, cites] }, invite);
    const [given, event] = [script.stateIds, script.event];
    const isMute = (server: ServerName): boolean => server !== B;
    script.stateIds = (server, at, signal) => (isMute(server) ? refuse(server, 'timeout') : given(server, at, signal));
    script.event = (server, eventId) => (isMute(server) ? refuse(server, 'timeout') : event(server, eventId));
    await opened(here, small, missing, B);
    await letPass(here, HOUR);
    expect(await gapsOf(here, small)).toHaveLength(1);
    await letPass(here, 4 * HOUR);
    expect(await gapsOf(here, small)).toEqual([]);
    expect((await here.state()).degraded).toBeNull();
    expect(await readGivenUp(here.store, small.room.roomId, 10)).toMatchObject([{ eventId: invite, gapId: missing }]);
  });

  test('is not asked of a stranger who only pushes', async () => {
    const { small, here, missing } = await wholeRoomWithGap();
    here.asked.length = 0;
    await opened(here, small, missing, 'stranger.test' as ServerName);
    await here.resync();
    expect(here.asked.filter((what) => what.startsWith('stranger'))).toEqual([]);
  });

  test('about which a server was silent for as long as it had is asked of it no more for a while, in any room', async () => {
    const { small, script, here, missing } = await wholeRoomWithGap();
    await speak(here, small, [B]);
    const silence = new FederationError(B, 'timeout', 'nothing came', { isSilence: true });
    script.stateIds = (server) => (server === B ? Promise.reject(silence) : refuse(server, 'not-found'));
    await opened(here, small, missing, B);
    await here.resync();
    const resting = await viewHealth(here.context).resting([A, B]);
    expect([...resting]).toEqual([[B, here.context.clock.now() + 20_000]]);
  });

  test.each<[string, (here: ScriptedRejoinder, onReceived?: (bytes: number) => void) => unknown]>([
    ['has begun to name', (_here, onReceived) => onReceived?.(0)],
    [
      'is slow about while it takes what it is sent',
      ({ context }) => viewHealth(context).ask(B, () => Promise.resolve('taken')),
    ],
  ])('that a server %s is no reason to leave it alone when the time is up', async (_what, meanwhile) => {
    const { small, script, here, missing } = await wholeRoomWithGap();
    await speak(here, small, [B]);
    const timeUp = new AbortController();
    const timeout = vi.spyOn(AbortSignal, 'timeout');
    onTestFinished(() => timeout.mockRestore());
    script.stateIds = async (server, _at, signal, onReceived) => {
      if (server !== B) return refuse(server, 'not-found');
      await meanwhile(here, onReceived);
      timeUp.abort(new Error('time is up'));
      return Promise.reject(signal?.reason as Error);
    };
    await opened(here, small, missing, B);
    timeout.mockImplementation(() => (timeUp.signal.aborted ? new AbortController().signal : timeUp.signal));
    const progress = { signal: new AbortController().signal, heartbeat: () => undefined };
    await fetchGaps(here.context, { roomId: small.room.roomId, epoch: 1 }, progress);
    expect([...(await viewHealth(here.context).resting([A, B]))]).toEqual([]);
    expect(await gapsOf(here, small)).toMatchObject([{ attempts: 1 }]);
  });

  test('waits for another resident or another time, where its resident is asked for as many states as a server may be', async () => {
    const { small, here, missing } = await wholeRoomWithGap();
    await speak(here, small, [B]);
    await opened(here, small, missing, B);
    here.asked.length = 0;
    // As when all places of that server are taken.
    const held = { received: () => undefined, worked: () => undefined, regained: () => undefined };
    const busy = (taken: readonly ServerName[]): FetchPlaces => ({
      run: (server, _waiting, work) => (taken.includes(server) ? Promise.reject(new NoPlaceError('none')) : work(held)),
    });
    const progress = { signal: new AbortController().signal, heartbeat: () => undefined };
    const stay = { roomId: small.room.roomId, epoch: 1 };
    await fetchGaps(here.context, stay, progress, busy([A, B]));
    expect(here.asked).toEqual([]);
    expect(await gapsOf(here, small)).toMatchObject([
      { attempts: 0, lastReason: expect.stringContaining('as many states') as string },
    ]);
    here.wait(MINUTE);
    await fetchGaps(here.context, stay, progress, busy([B]));
    expect(here.asked.filter((what) => what.includes('state_ids'))).toEqual([`${A} state_ids ${missing}`]);
    expect(await gapsOf(here, small)).toEqual([]);
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
    await leasesEnd(here);
    await here.resync();
    expect(await gapsOf(here, small)).toEqual([]);
  });

  test('whose answers end the worker again and again is given up, and says so', async () => {
    const { small, script, here, missing } = await wholeRoomWithGap();
    script.stateIds = () => {
      throw new RangeError('Set maximum size exceeded');
    };
    await opened(here, small, missing);
    for (let begun = 0; begun < 3; begun += 1) {
      await expect(here.resync()).rejects.toThrow('maximum size');
      await leasesEnd(here);
    }
    expect((await here.resync()).phase).toBe('complete');
    expect(await gapsOf(here, small)).toMatchObject([
      { wakeAt: null, lastReason: expect.stringContaining('begun 3 times') as string },
    ]);
    expect((await typesOf(here)).at(-1)).toBe('GapGivenUp');
  });

  test('whose attempts end their worker is tried on while each stores something new', async () => {
    const { small, script, here, missing } = await wholeRoomWithGap();
    const { room, auth, bobJoin } = small;
    const others = Array.from({ length: 6 }, (_, i) => {
      const user = `@member-${i}:${B}`;
      return room.make(user, 'm.room.member', user, { membership: 'join' }, { prev: [bobJoin], auth });
    });
    const chain = [...auth, small.aliceJoin];
    script.stateIds = () => ({ state: [...small.state, ...others], chain });
    let asked = 0;
    script.state = () => [room.raw(others[asked++]!)];
    script.event = (_server, eventId) => {
      if (eventId === missing) return room.raw(missing);
      throw new RangeError('Set maximum size exceeded');
    };
    await opened(here, small, missing);
    for (let begun = 0; begun < 5; begun += 1) {
      await expect(here.resync()).rejects.toThrow('maximum size');
      await leasesEnd(here);
    }
    expect(await gapsOf(here, small)).toMatchObject([{ attempts: 5, wakeAt: expect.any(Number) as number }]);
  });

  test('is asked of its sender last, when the attempt before ended its worker', async () => {
    const { small, script, here, missing } = await wholeRoomWithGap();
    await speak(here, small, [B]);
    const honest = script.stateIds;
    script.stateIds = (server, at) => {
      if (server === B) throw new RangeError('Set maximum size exceeded');
      return honest(server, at);
    };
    await opened(here, small, missing, B);
    await expect(here.resync()).rejects.toThrow('maximum size');
    await leasesEnd(here);
    await here.resync();
    expect(await gapsOf(here, small)).toEqual([]);
  });

  test('whose resident is slow keeps no other waiting, and one that ended its worker is tried after the others', async () => {
    const { small, script, here, missing } = await wholeRoomWithGap();
    const { room, message, create, levels, aliceJoin } = small;
    const [slow, deadly] = ['slow', 'deadly'].map((body) =>
      room.make(
        `@alice:${A}`,
        'm.room.message',
        undefined,
        { body },
        { prev: [message], auth: [create, levels, aliceJoin] },
      ),
    ) as [EventId, EventId];
    for (const eventId of [deadly, slow, missing]) await opened(here, small, eventId);
    await here.store.query(`UPDATE gaps SET begins = 1 WHERE event_id = $1`, [deadly]);
    here.changedByHand();
    const answer = { state: small.state, chain: [...small.auth, aliceJoin] };
    const order: EventId[] = [];
    let release: () => void = () => undefined;
    const others = new Promise<void>((resolve) => (release = resolve));
    script.stateIds = async (_server, at) => {
      if (at === slow) await others;
      order.push(at);
      if (at === missing) release();
      return answer;
    };
    await here.resync();
    expect(order).toEqual([missing, slow, deadly]);
    expect(await gapsOf(here, small)).toEqual([]);
  });

  test('is not tried while all who are known want to be left alone, and waits for them without being given up', async () => {
    const { small, here, missing } = await wholeRoomWithGap();
    await speak(here, small, [B]);
    await opened(here, small, missing);
    here.asked.length = 0;
    for (let passed = 0; passed < 10; passed += 1) {
      const until = here.context.clock.now() + 20 * MINUTE;
      await leftAlone(here, [A, B], until);
      await here.resync();
      expect(await gapsOf(here, small)).toMatchObject([
        { attempts: 0, wakeAt: until, lastReason: expect.stringContaining('out of reach') as string },
      ]);
      here.wait(20 * MINUTE);
    }
    expect(here.asked).toEqual([]);
    await here.resync();
    expect(await gapsOf(here, small)).toEqual([]);
  });

  test('is asked of those who answer, however many others of the room are out of reach', async () => {
    const { small, here, missing } = await wholeRoomWithGap();
    const dead = Array.from({ length: 50 }, (_, i) => `dead-${i}.test` as ServerName);
    await speak(here, small, dead);
    await leftAlone(here, dead, here.context.clock.now() + MINUTE);
    await opened(here, small, missing, dead[0]);
    await here.resync();
    expect(await gapsOf(here, small)).toEqual([]);
  });

  test('that is not settled when the walk is due is cut off, which is no attempt, and is tried on afterwards', async () => {
    const small = smallRoom();
    const script = honestScript(small);
    const here = await startScripted(small.room, script);
    await here.join();
    const { room, message, aliceJoin, create, levels } = small;
    const auth = [create, levels, aliceJoin];
    const slow = room.make(`@alice:${A}`, 'm.room.message', undefined, { body: 'slow' }, { prev: [message], auth });
    await opened(here, small, slow);
    const honest = script.stateIds;
    let asked = 0;
    script.stateIds = async (server, at, signal) => {
      if (at !== slow) return honest(server, at);
      asked += 1;
      if (asked > 1) return { state: small.state, chain: [...small.auth, small.aliceJoin] };
      await once(signal!, 'abort');
      here.wait(MINUTE);
      throw signal!.reason;
    };
    const { roomId } = room;
    const action = nextAction(await here.state(), here.context.clock.now());
    if (action.type !== 'fetchState') throw new Error('the state is wanted first');
    const progress = { signal: new AbortController().signal, heartbeat: () => undefined };
    await fetchState(here.context, { roomId, epoch: 1, ...action }, progress);
    // Of the half minute that a walk waits for gaps a tenth of a second is left.
    here.wait(29_900);
    expect((await here.resync()).phase).toBe('complete');
    expect(asked).toBe(2);
    expect(await gapsOf(here, small)).toEqual([]);
    const types = await typesOf(here);
    expect(types.indexOf('GapClosed')).toBeGreaterThan(types.indexOf('ResyncCompleted'));
  });

  test('that one worker tries is begun by no other, whatever the clock of that one says', async () => {
    const { small, here, missing } = await wholeRoomWithGap();
    await opened(here, small, missing);
    here.changedByHand();
    const { roomId } = small.room;
    const at = (now: number) => beginGap(here.store, { roomId, eventId: missing, now, leaseMs: MINUTE / 2 });
    const now = here.context.clock.now();
    expect(await at(now - HOUR)).toBeUndefined();
    expect(await at(now)).toEqual({ attempts: 1, begins: 1 });
    expect(await at(now + HOUR)).toBeUndefined();
    expect(await gapsOf(here, small)).toMatchObject([{ isBegun: true, attempts: 1 }]);
    await leasesEnd(here);
    expect(await at(now)).toEqual({ attempts: 2, begins: 2 });
  });

  test('stays with the worker that tries it for as long as that goes on', async () => {
    const { small, script, here, missing } = await wholeRoomWithGap();
    await opened(here, small, missing);
    let answer: () => void = () => undefined;
    const asked = new Promise<void>((resolve) => {
      script.stateIds = async () => {
        resolve();
        await new Promise<void>((answered) => (answer = answered));
        return { state: small.state, chain: [...small.auth, small.aliceJoin] };
      };
    });
    const resync = here.resync();
    await asked;
    // As if most of the lease were over.
    const soon = `floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint + 2000`;
    await here.store.query(`UPDATE gaps SET begun_until = ${soon}`);
    here.wait(MINUTE / 2);
    await vi.waitFor(
      async () => {
        const rows = await here.store.query(`SELECT FROM gaps WHERE begun_until > ${soon} + 20000`);
        expect(rows).toHaveLength(1);
      },
      { timeout: 10_000 },
    );
    answer();
    expect(await resync).toMatchObject({ phase: 'complete', gapsOpen: 0 });
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
  test('is looked for on with growing pauses, and has its place when it comes', async () => {
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
    // With its place in the state the room lacks nothing any more.
    expect(await here.state()).toMatchObject({ phase: 'complete', degraded: null, nextWakeAt: null, members: 4 });
    expect(await readGivenUp(here.store, room.roomId, 10)).toMatchObject([
      { eventId: lost, foundAt: here.context.clock.now() },
    ]);
  });
});
