/** Attempts at residents that answer as they like, over a real database. */
import { describe, expect, test } from 'vitest';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { nextAction } from '../../../src/resync/next-action.ts';
import { fetchState } from '../../../src/rooms/resync/fetch-state.ts';
import { readGivenUp } from '../../../src/store/events/missing-events.ts';
import { readResync } from '../../../src/store/journal/rooms.ts';
import { insertPdus } from '../../../src/store/events/pdus.ts';
import { readDestinations } from '../../../src/store/tables/destinations.ts';
import { readRoomServers } from '../../../src/store/tables/room-servers.ts';
import { stateDigest } from '../../../src/matrix/state-digest.ts';
import {
  A,
  ALICE,
  B,
  BOB,
  C,
  ME,
  type ScriptedRejoinder,
  honestScript,
  refuse,
  smallRoom,
  startScripted,
} from '../../support/scripted-room.ts';
import { message } from '../../store/events.ts';

const MINUTE = 60_000;

/** What the journal says of attempts: who, at what, and how it ended. */
async function attempts({ store }: ScriptedRejoinder): Promise<string[]> {
  const rows = await store.query<{ told: string }>(
    `SELECT concat_ws(' ', data ->> 'resident', data ->> 'atEventId', coalesce(data ->> 'failure', 'gave it')) AS told
       FROM journal WHERE type IN ('StateFetchFailed', 'StateFetched') ORDER BY position`,
  );
  return rows.map(({ told }) => told);
}

/** Lets the rounds pass until the room is complete or `ms` have passed. */
async function letPass(here: ScriptedRejoinder, ms: number) {
  let state = await here.resync();
  for (let passed = 0; passed < ms && state.phase !== 'complete'; passed += MINUTE) {
    here.wait(MINUTE);
    state = await here.resync();
  }
  return state;
}

describe('parents of the join that cannot be had', () => {
  test('do not keep those waiting that can: a bogus one beside a real one', async () => {
    const small = smallRoom();
    const bogus = `$${'b'.repeat(43)}` as EventId;
    const here = await startScripted(small.room, { ...honestScript(small), prev: [bogus, small.message] });
    await here.join();
    await here.resync();
    expect(await attempts(here)).toContain(`${A} ${small.message} gave it`);
    expect((await here.state()).fetchAt).toEqual([bogus]);
  });

  test('are stood in for by the state before the join itself', async () => {
    const small = smallRoom();
    const bogus = `$${'b'.repeat(43)}` as EventId;
    const script = { ...honestScript(small), prev: [bogus] };
    const here = await startScripted(small.room, script);
    const join = await here.join();
    script.stateIds = (server, at) =>
      at === join ? { state: small.state, chain: [...small.auth, small.aliceJoin] } : refuse(server, 'not-found');
    const state = await here.resync();
    expect(await attempts(here)).toEqual([
      `${A} ${bogus} not-found`,
      `${B} ${bogus} not-found`,
      `${A} ${bogus} gave it`,
    ]);
    expect(state).toMatchObject({ phase: 'complete', degraded: null, digest: stateDigest(small.state) });
    expect(state.members).toBe(3);
  });

  test('where a server answers with the state after the join, the membership that it replaced is put back', async () => {
    const small = smallRoom();
    const { room, auth } = small;
    const was = room.make(ME, 'm.room.member', ME, { membership: 'join' }, { prev: [small.message], auth });
    const left = room.make(
      ME,
      'm.room.member',
      ME,
      { membership: 'leave' },
      { prev: [was], auth: [small.create, small.levels, was] },
    );
    const bogus = `$${'b'.repeat(43)}` as EventId;
    const script = {
      ...honestScript(small),
      prev: [bogus],
      returned: [...auth, left],
      returnedChain: [small.aliceJoin, was],
    };
    const here = await startScripted(room, script);
    const join = await here.join();
    script.stateIds = (server, at) =>
      at === join
        ? { state: [...small.state, join], chain: [...auth, small.aliceJoin, was] }
        : refuse(server, 'not-found');
    expect(await here.resync()).toMatchObject({ phase: 'complete', digest: stateDigest([...small.state, left]) });
  });
});

describe('a parent of the join that is a state event', () => {
  async function joinedAfter(sender: UserId, membership: EventId, small: ReturnType<typeof smallRoom>) {
    const { room, create, levels, state, auth, aliceJoin, message: last } = small;
    const cited = { prev: [last], auth: [create, levels, membership] };
    const topic = room.make(sender, 'm.room.topic', '', { topic: 'of the parent' }, cited);
    const chain = [...auth, aliceJoin];
    const stateIds = (server: ServerName, at: EventId) =>
      at === topic ? { state, chain } : refuse(server, 'not-found');
    const here = await startScripted(room, { ...honestScript(small), prev: [topic], stateIds });
    await here.join();
    return { topic, after: await here.resync() };
  }

  test('is in the state before the join, beside the state before it that residents tell', async () => {
    const small = smallRoom();
    const { topic, after } = await joinedAfter(ALICE, small.aliceJoin, small);
    expect(after).toMatchObject({ phase: 'complete', digest: stateDigest([...small.state, topic]) });
  });

  test('is not where the rules refuse it', async () => {
    const small = smallRoom();
    const { after } = await joinedAfter(BOB, small.bobJoin, small);
    expect(after).toMatchObject({ phase: 'complete', digest: stateDigest(small.state) });
  });
});

describe('what is journalled of an attempt', () => {
  test('is what its end means, its last request, what came of it and how long it took', async () => {
    const small = smallRoom();
    const script = honestScript(small);
    const here = await startScripted(small.room, script);
    await here.join();
    const honest = script.stateIds;
    script.stateIds = (server, at, _signal, onReceived) => {
      here.wait(250);
      onReceived?.(0);
      onReceived?.(41);
      return server === A ? refuse(server, 'partial-state-there') : honest(server, at);
    };
    await here.resync();
    const rows = await here.store.query<{ data: object }>(
      `SELECT data FROM journal WHERE type IN ('StateFetchFailed', 'StateFetched') ORDER BY position`,
    );
    expect(rows.map(({ data }) => data)).toMatchObject([
      { resident: A, outcome: 'partial-there', endpoint: 'state_ids', latencyMs: 250, bytes: 41, tookMs: 250 },
      { resident: B, endpoint: 'state', latencyMs: 250, bytes: 41, tookMs: 250 },
    ]);
  });

  test('is trouble of ours, once however often the attempt is tried again, and no fault of its resident', async () => {
    const small = smallRoom();
    const script = honestScript(small);
    const here = await startScripted(small.room, script);
    await here.join();
    const honest = script.stateIds;
    script.stateIds = () => {
      throw new Error('no space left on device');
    };
    for (let i = 0; i < 2; i += 1) await expect(here.resync()).rejects.toThrow('no space');
    script.stateIds = honest;
    expect(await here.resync()).toMatchObject({ phase: 'complete', lastFailure: null });
    const rows = await here.store.query<{ reason: string }>(
      `SELECT data ->> 'reason' AS reason FROM journal WHERE type = 'StateFetchHindered'`,
    );
    expect(rows).toEqual([{ reason: 'Error: no space left on device' }]);
  });
});

describe('an attempt that ends its worker each time', () => {
  test('has failed when it was begun three times and stored nothing, and the next resident is asked', async () => {
    const small = smallRoom();
    const script = honestScript(small);
    const here = await startScripted(small.room, script);
    await here.join();
    const honest = script.stateIds;
    // What a process dies of looks, from inside, like any fault of ours.
    script.stateIds = (server, at) => {
      if (server === A) throw new RangeError('Set maximum size exceeded');
      return honest(server, at);
    };
    for (let i = 0; i < 3; i += 1) await expect(here.resync()).rejects.toThrow('maximum size');
    expect((await here.resync()).phase).toBe('complete');
    expect(await attempts(here)).toEqual([`${A} ${small.message} abandoned`, `${B} ${small.message} gave it`]);
  });

  test('goes on when something was stored in between', async () => {
    const small = smallRoom();
    const script = honestScript(small);
    const here = await startScripted(small.room, script);
    await here.join();
    let times = 0;
    const { store } = here;
    const honest = script.stateIds;
    script.stateIds = (server, at) => {
      times += 1;
      if (times < 3) throw new Error('the worker dies');
      return honest(server, at);
    };
    for (let i = 0; i < 2; i += 1) await expect(here.resync()).rejects.toThrow('dies');
    await store.query(`UPDATE fetch_attempts SET begins = 0`);
    expect((await here.resync()).phase).toBe('complete');
    expect(await store.query('SELECT begins FROM fetch_attempts')).toEqual([{ begins: 0 }]);
  });

  test.each([
    ['an orderly shutdown', true, 0],
    ['a heartbeat that did not come', false, 1],
  ])('%s counts, or does not', async (_, isOrderly, begins) => {
    const small = smallRoom();
    const script = honestScript(small);
    const here = await startScripted(small.room, script);
    await here.join();
    const stop = new AbortController();
    script.stateIds = () => {
      stop.abort(new Error('stop'));
      throw new Error('stop');
    };
    const { epoch, state } = (await readResync(here.store, small.room.roomId))!;
    const action = nextAction(state, here.context.clock.now());
    if (action.type !== 'fetchState') throw new Error(action.type);
    const progress = { signal: stop.signal, heartbeat: () => undefined, isOrderly: () => isOrderly };
    const run = fetchState(here.context, { roomId: small.room.roomId, epoch, ...action }, progress);
    await expect(run).rejects.toThrow('stop');
    expect(await here.store.query('SELECT begins FROM fetch_attempts')).toEqual([{ begins }]);
  });
});

describe('a server out of reach', () => {
  test('is not asked again for a while, by any room, and is when the while has passed', async () => {
    const small = smallRoom();
    const script = honestScript(small);
    const here = await startScripted(small.room, script);
    await here.join();
    script.serversInRoom = [A];
    script.stateIds = (server) => refuse(server, 'unreachable');
    await here.resync();
    const requests = () => here.asked.filter((what) => what.startsWith(`${A} state_ids`)).length;
    expect(requests()).toBe(1);
    const [row] = await here.store.query<{ failures: number; notBefore: number }>(
      `SELECT failures, not_before AS "notBefore" FROM destinations WHERE server_name = $1`,
      [A],
    );
    expect(row).toEqual({ failures: 1, notBefore: here.context.clock.now() + 20_000 });
    await here.join(`@second:${here.context.serverName}` as UserId, [A]);
    await here.resync();
    expect(requests()).toBe(1);
    here.wait(10 * MINUTE);
    script.stateIds = honestScript(small).stateIds;
    expect((await letPass(here, 5 * MINUTE)).phase).toBe('complete');
    expect(await readDestinations(here.store, [A])).toEqual(new Map());
  });

  test('that says when it wants to be asked is left alone until then', async () => {
    const small = smallRoom();
    const script = honestScript(small);
    const here = await startScripted(small.room, script);
    await here.join();
    script.stateIds = (server) => refuse(server, 'rate-limited', { retryAfterMs: 5 * MINUTE });
    const state = await here.resync();
    expect(state.nextWakeAt).toBe(here.context.clock.now() + 5 * MINUTE);
  });
});

describe('an event that cannot be had', () => {
  const dead = 'dead.test' as ServerName;

  /** A member of a server that is gone, whose key nobody has. */
  function withDeadMember() {
    const small = smallRoom();
    const { room, auth } = small;
    const member = `@ghost:${dead}`;
    const ghost = room.make(member, 'm.room.member', member, { membership: 'join' }, { prev: [small.bobJoin], auth });
    const whole = { ...small, state: [...small.state, ghost] };
    return { small: whole, ghost, script: { ...honestScript(whole), serversInRoom: [A, B, C] } };
  }

  test('keeps the room partial for two rounds and ten minutes, and then no longer; the room says what it lacks', async () => {
    const { small, ghost, script } = withDeadMember();
    const here = await startScripted(small.room, script, { keyless: new Set([dead]) });
    await here.join();
    const early = await letPass(here, 8 * MINUTE);
    expect(early).toMatchObject({ phase: 'waiting', degraded: null });
    const state = await letPass(here, 30 * MINUTE);
    expect(state).toMatchObject({
      phase: 'complete',
      members: 3,
      degraded: { missing: [{ eventId: ghost, why: 'key-missing' }], count: 1, fell: 0, found: 0 },
    });
    expect(await readGivenUp(here.store, small.room.roomId, 10)).toMatchObject([
      { eventId: ghost, why: 'key-missing', askedOf: [A, B, C], foundAt: null },
    ]);
  });

  test('is waited for a day when another event of the state cites it', async () => {
    const small = smallRoom();
    const script = honestScript(small);
    // Nobody gives Bob's join, and Bob made Carol a member.
    const { room, auth, bobJoin } = small;
    const carol = `@carol:${A}`;
    const invite = room.make(
      `@bob:${B}`,
      'm.room.member',
      carol,
      { membership: 'invite' },
      { prev: [bobJoin], auth: [...auth, bobJoin] },
    );
    const state = [...small.state, invite];
    script.returnedChain = [small.aliceJoin];
    script.stateIds = () => ({ state, chain: [...auth, small.aliceJoin] });
    script.state = () => state.filter((eventId) => eventId !== bobJoin).map((eventId) => room.raw(eventId));
    script.event = (server, eventId) => (eventId === bobJoin ? refuse(server, 'not-found') : room.raw(eventId));
    const here = await startScripted(room, script);
    await here.join();
    expect((await letPass(here, 23 * 60 * MINUTE)).phase).toBe('waiting');
    expect(await letPass(here, 3 * 60 * MINUTE)).toMatchObject({
      phase: 'complete',
      degraded: { missing: [{ eventId: bobJoin, why: 'not-delivered' }], count: 1, fell: 1 },
    });
  });

  test('is dropped from the second round on when it is badly signed everywhere, and named with who gave it; the room is whole', async () => {
    const small = smallRoom();
    const { room, auth } = small;
    const user = `@forged:${A}`;
    const forged = room.make(
      user,
      'm.room.member',
      user,
      { membership: 'join' },
      { prev: [small.bobJoin], auth, signedBy: 'someone-else' },
    );
    const whole = { ...small, state: [...small.state, forged] };
    const here = await startScripted(room, honestScript(whole));
    await here.join();
    const unusable = { listed: [{ eventId: forged, why: 'badly-signed', from: [A, B] }], count: 1 };
    expect(await letPass(here, 2 * MINUTE)).toMatchObject({
      phase: 'complete',
      degraded: null,
      lastFetch: { dropped: 1, unusable },
    });
  });
});

describe('auth events that an answer leaves out of its auth chain', () => {
  test('are asked for, so that the event itself, a state event, gets its place in the state', async () => {
    const small = smallRoom();
    const { room, auth, levels, create, aliceJoin } = small;
    const earlier = room.make(
      `@alice:${A}`,
      'm.room.power_levels',
      '',
      { users: { [`@alice:${A}`]: 100 }, events_default: 0 },
      { prev: [small.message], auth: [create, aliceJoin, levels] },
    );
    const topic = room.make(
      `@alice:${A}`,
      'm.room.topic',
      '',
      { topic: 'cites levels that are in no chain' },
      { prev: [earlier], auth: [create, aliceJoin, earlier] },
    );
    const script = {
      ...honestScript(small),
      prev: [topic],
      stateIds: () => ({ state: small.state, chain: [...auth, aliceJoin] }),
    };
    const here = await startScripted(room, script);
    await here.join();
    expect(await here.resync()).toMatchObject({ phase: 'complete', digest: stateDigest([...small.state, topic]) });
  });
});

describe('the servers of a room', () => {
  test('are kept whole, however many there are, and the candidates are a choice from them', async () => {
    const small = smallRoom();
    const said = Array.from({ length: 2_000 }, (_, n) => `s${n}.test` as ServerName);
    const here = await startScripted(small.room, { ...honestScript(small), serversInRoom: said });
    await here.join();
    const servers = await readRoomServers(here.store, small.room.roomId);
    expect(servers.slice(0, 2)).toEqual([
      { serverName: A, source: 'answered' },
      { serverName: 's0.test', source: 'hint' },
    ]);
    expect(servers).toHaveLength(2_001);
    expect((await here.state()).candidates).toHaveLength(60);
  });

  test('beyond the candidates are asked in later rounds', async () => {
    const small = smallRoom();
    const said = Array.from({ length: 300 }, (_, n) => `s${n}.test` as ServerName);
    const script = {
      ...honestScript(small),
      serversInRoom: said,
      stateIds: (server: ServerName) => refuse(server, 'unreachable'),
    };
    const here = await startScripted(small.room, script);
    await here.join();
    await letPass(here, 20 * MINUTE);
    const asked = new Set(here.asked.filter((what) => what.includes('state_ids')).map((what) => what.split(' ')[0]));
    expect(asked.size).toBeGreaterThan(200);
  });
});

describe('an id that an event of another room has', () => {
  /** In the first two versions a sender chooses the ids of his events, and may have used one elsewhere before. */
  test.each([true, false])(
    'is none of an event of the state, and ends no attempt; stored redacted: %s',
    async (hollow) => {
      const small = smallRoom('2');
      const here = await startScripted(small.room, honestScript(small));
      const foreign = { ...message(small.bobJoin), roomId: '!other:there.test' as RoomId, hollow };
      await insertPdus(here.store, [foreign]);
      await here.join();
      expect(await here.resync()).toMatchObject({
        phase: 'complete',
        degraded: null,
        members: 2,
        lastFetch: { dropped: 1 },
      });
    },
  );
});
