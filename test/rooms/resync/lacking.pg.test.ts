/** What becomes of events that an answer lacks: what is waited for and how long, what is dropped, and what a room goes on without. */
import { describe, expect, test } from 'vitest';
import { type EventId, type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { type FailureClass } from '../../../src/resync/events.ts';
import { readGivenUp } from '../../../src/store/events/missing-events.ts';
import { stateDigest } from '../../../src/matrix/state-digest.ts';
import {
  A,
  ALICE,
  B,
  BOB,
  C,
  ME,
  type Script,
  type ScriptedRejoinder,
  type ScriptedRoom,
  honestScript,
  refuse,
  smallRoom,
  startScripted,
} from '../../support/scripted-room.ts';

const HOUR = 3_600_000;

/** Lets the rounds pass until the room has its state or `ms` have passed. */
async function letPass(here: ScriptedRejoinder, ms: number) {
  let state = await here.resync();
  for (let passed = 0; passed < ms && state.phase !== 'complete'; passed += HOUR / 2) {
    here.wait(HOUR / 2);
    state = await here.resync();
  }
  return state;
}

/** Nobody gives the event: whoever is asked for it fails so. */
function withhold(room: ScriptedRoom, script: Script, eventId: EventId, failure: FailureClass): void {
  const { state, event } = script;
  const text = room.raw(eventId).toString();
  script.state = (server, at) => state(server, at).filter((raw) => raw.toString() !== text);
  script.event = (server, wanted) => (wanted === eventId ? refuse(server, failure) : event(server, wanted));
}

/** Alice sets a topic by levels that no answer names in its auth chain. */
function withLevelsLeftOut() {
  const small = smallRoom();
  const { room, auth, levels, create, aliceJoin } = small;
  const earlier = room.make(
    ALICE,
    'm.room.power_levels',
    '',
    { users: { [ALICE]: 100 }, events_default: 0 },
    { prev: [small.message], auth: [create, aliceJoin, levels] },
  );
  const topic = room.make(
    ALICE,
    'm.room.topic',
    '',
    { topic: 'cites levels that are in no chain' },
    { prev: [earlier], auth: [create, aliceJoin, earlier] },
  );
  const state = [...small.state, topic];
  const script: Script = {
    ...honestScript(small),
    serversInRoom: [A, B, C],
    stateIds: () => ({ state, chain: [...auth, aliceJoin] }),
    state: () => [...state, aliceJoin].map((eventId) => room.raw(eventId)),
  };
  return { small, script, earlier, topic, state };
}

describe('an auth event that an answer leaves out of its chain and that cannot be had', () => {
  test.each<FailureClass>(['timeout', 'server-error', 'rate-limited', 'unreachable', 'not-found'])(
    'makes the answer incomplete, and the room whole when it is given after all: %s',
    async (failure) => {
      const { small, script, earlier, state } = withLevelsLeftOut();
      const { event } = script;
      withhold(small.room, script, earlier, failure);
      const here = await startScripted(small.room, script);
      await here.join();
      const waiting = await letPass(here, 2 * HOUR);
      expect(waiting).toMatchObject({ phase: 'waiting', degraded: null, lastFailure: { failure: 'incomplete' } });
      expect(waiting.lastFailure?.reason).toContain(earlier);
      script.event = event;
      expect(await letPass(here, 2 * HOUR)).toMatchObject({
        phase: 'complete',
        degraded: null,
        digest: stateDigest(state),
        lastFetch: { dropped: 0 },
      });
    },
  );

  test('is told as missing after a day, with what fell with it, and the room is never called whole', async () => {
    const { small, script, earlier } = withLevelsLeftOut();
    withhold(small.room, script, earlier, 'timeout');
    const here = await startScripted(small.room, script);
    await here.join();
    expect((await letPass(here, 23 * HOUR)).phase).toBe('waiting');
    expect(await letPass(here, 3 * HOUR)).toMatchObject({
      phase: 'complete',
      degraded: { missing: [{ eventId: earlier, why: 'not-delivered' }], count: 1, fell: 1 },
      digest: stateDigest(small.state),
      lastFetch: { dropped: 0 },
    });
  });

  test('is asked for with all others that are left out, a hundred at a time', async () => {
    const small = smallRoom();
    const { room, auth, create, levels, aliceJoin } = small;
    // 150 members, each of them invited by Bob under another profile of his that is in no chain.
    const state = [...small.state];
    for (let i = 0; i < 150; i += 1) {
      const profile = { membership: 'join', displayname: `Bob ${i}` };
      const bob = room.make(BOB, 'm.room.member', BOB, profile, {
        prev: [small.bobJoin],
        auth: [...auth, small.bobJoin],
      });
      const guest = `@guest${i}:${B}`;
      const parts = { prev: [bob], auth: [create, levels, small.rule, bob] };
      state.push(room.make(BOB, 'm.room.member', guest, { membership: 'invite' }, parts));
    }
    const script = {
      ...honestScript(small),
      stateIds: () => ({ state, chain: [...auth, aliceJoin] }),
      state: () => [...state, aliceJoin].map((eventId) => room.raw(eventId)),
    };
    const here = await startScripted(room, script);
    await here.join();
    expect(await here.resync()).toMatchObject({ phase: 'complete', degraded: null, digest: stateDigest(state) });
  });
});

describe('a member of a lone membership that nobody gives', () => {
  const lost = (small: ReturnType<typeof smallRoom>): EventId => {
    const carol = `@carol:${B}`;
    const parts = { prev: [small.bobJoin], auth: small.auth };
    return small.room.make(carol, 'm.room.member', carol, { membership: 'join' }, parts);
  };

  test.each<FailureClass>(['timeout', 'server-error', 'rate-limited', 'unreachable'])(
    'is waited for a day where those who are asked do not answer: %s is no answer',
    async (failure) => {
      const small = smallRoom();
      const carol = lost(small);
      const script = { ...honestScript({ ...small, state: [...small.state, carol] }), serversInRoom: [A, B, C] };
      withhold(small.room, script, carol, failure);
      const here = await startScripted(small.room, script);
      await here.join();
      expect((await letPass(here, 23 * HOUR)).phase).toBe('waiting');
      expect(await letPass(here, 3 * HOUR)).toMatchObject({ phase: 'complete', degraded: { count: 1, fell: 0 } });
      expect(await readGivenUp(here.store, small.room.roomId, 10)).toMatchObject([{ eventId: carol, askedOf: [] }]);
    },
  );

  test.each<FailureClass>(['not-found', 'forbidden'])(
    'is gone without once three servers say that: %s',
    async (failure) => {
      const small = smallRoom();
      const carol = lost(small);
      const script = { ...honestScript({ ...small, state: [...small.state, carol] }), serversInRoom: [A, B, C] };
      withhold(small.room, script, carol, failure);
      const here = await startScripted(small.room, script);
      await here.join();
      expect(await letPass(here, HOUR)).toMatchObject({ phase: 'complete', degraded: { count: 1, fell: 0 } });
      expect(await readGivenUp(here.store, small.room.roomId, 10)).toMatchObject([
        { eventId: carol, askedOf: [A, B, C] },
      ]);
    },
  );

  test('is waited for from when it was first missing, whatever other states are had meanwhile', async () => {
    const small = smallRoom();
    const carol = lost(small);
    const { room, state, auth, aliceJoin } = small;
    const other = room.make(ALICE, 'm.room.message', undefined, { body: 'x' }, { prev: [small.message], auth });
    const script = { ...honestScript({ ...small, state: [...state, carol] }), serversInRoom: [A, B, C] };
    const { stateIds } = script;
    script.stateIds = (server, at) => (at === other ? { state, chain: [...auth, aliceJoin] } : stateIds(server, at));
    withhold(small.room, script, carol, 'timeout');
    const here = await startScripted(room, script);
    await here.join();
    await letPass(here, 20 * HOUR);
    script.prev = [other];
    await here.join(`@second:${here.context.serverName}` as UserId);
    await here.resync();
    expect((await here.state()).fetchAt).toEqual([small.message]);
    expect(await letPass(here, 6 * HOUR)).toMatchObject({ phase: 'complete', degraded: { count: 1 } });
  });
});

describe('an event by which others are judged', () => {
  /** A third-party invite that nothing cites yet; its signature is wrong in the copies of these servers, others have none. */
  function withForgedInvite(givers: readonly ServerName[]) {
    const small = smallRoom();
    const { room, create, levels, aliceJoin } = small;
    const parts = { prev: [small.message], auth: [create, levels, aliceJoin], signedBy: 'someone-else' };
    const forged = room.make(ALICE, 'm.room.third_party_invite', 'token', { display_name: 'x' }, parts);
    const whole = { ...small, state: [...small.state, forged] };
    const script = { ...honestScript(whole), serversInRoom: [A, B, C] };
    const { state, event } = script;
    const isForged = (raw: Uint8Array): boolean => Buffer.from(raw).includes('third_party_invite');
    script.state = (server, at) => {
      const answer = state(server, at);
      return givers.includes(server) ? answer : answer.filter((raw) => !isForged(raw));
    };
    script.event = (server, eventId) =>
      eventId === forged && !givers.includes(server) ? refuse(server, 'not-found') : event(server, eventId);
    return { small, script, forged };
  }

  test('is waited for a day though nothing cites it, where a copy of no use tells its type', async () => {
    const { small, script, forged } = withForgedInvite([A, B, C]);
    const here = await startScripted(small.room, script);
    await here.join();
    expect((await letPass(here, 23 * HOUR)).phase).toBe('waiting');
    expect(await letPass(here, 3 * HOUR)).toMatchObject({
      phase: 'complete',
      degraded: { missing: [{ eventId: forged, why: 'badly-signed' }], count: 1, fell: 0 },
    });
  });

  test('is so at servers that have no copy, too', async () => {
    const { small, script, forged } = withForgedInvite([A]);
    const here = await startScripted(small.room, script);
    await here.join();
    expect((await letPass(here, 23 * HOUR)).phase).toBe('waiting');
    const rows = await here.store.query(`SELECT type, asked_of AS "askedOf" FROM missing_events WHERE event_id = $1`, [
      forged,
    ]);
    expect(rows).toEqual([{ type: 'm.room.third_party_invite', askedOf: [A, B, C] }]);
  });

  test('is one that our own join cites', async () => {
    const small = smallRoom();
    const { room, auth, bobJoin } = small;
    const parts = { prev: [small.message], auth: [...auth, bobJoin] };
    const invite = room.make(BOB, 'm.room.member', ME, { membership: 'invite' }, parts);
    const whole = { ...small, state: [...small.state, invite] };
    const script = { ...honestScript(whole), serversInRoom: [A, B, C] };
    script.auth = [...auth, invite];
    script.returned = [...auth, invite];
    const here = await startScripted(room, script);
    await here.join();
    // The copy that came with the join had lost its body.
    await here.store.query(`UPDATE pdus SET hollow = true WHERE event_id = $1`, [invite]);
    withhold(small.room, script, invite, 'not-found');
    expect((await letPass(here, 23 * HOUR)).phase).toBe('waiting');
    expect(await letPass(here, 3 * HOUR)).toMatchObject({ phase: 'complete', degraded: { count: 1 } });
  });
});

test('a bad copy of one server drops no event that others give in a later round', async () => {
  const small = smallRoom();
  const { room } = small;
  const script = { ...honestScript(small), serversInRoom: [A, B, C] };
  const { state, event } = script;
  const tampered = (raw: Uint8Array): Uint8Array => {
    const json = JSON.parse(Buffer.from(raw).toString()) as { signatures: Record<string, Record<string, string>> };
    for (const keys of Object.values(json.signatures)) for (const key of Object.keys(keys)) keys[key] = 'A'.repeat(86);
    return Buffer.from(JSON.stringify(json));
  };
  script.returnedChain = [small.aliceJoin];
  const isBob = (raw: Uint8Array): boolean => raw.toString() === room.raw(small.bobJoin).toString();
  script.state = (server, at) => state(server, at).map((raw) => (isBob(raw) ? tampered(raw) : raw));
  script.event = (_server, eventId) =>
    eventId === small.bobJoin ? tampered(room.raw(eventId)) : event(_server, eventId);
  const { stateIds } = script;
  script.stateIds = (server, at) => (server === A ? stateIds(server, at) : refuse(server, 'timeout'));
  const here = await startScripted(room, script);
  await here.join();
  expect(await letPass(here, 2 * HOUR)).toMatchObject({ phase: 'waiting' });
  script.stateIds = (server, at) => (server === A ? refuse(server, 'timeout') : stateIds(server, at));
  script.state = state;
  expect(await letPass(here, 2 * HOUR)).toMatchObject({
    phase: 'complete',
    degraded: null,
    digest: stateDigest(small.state),
  });
});
