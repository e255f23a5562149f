/** What residents answer when they are asked for a state, and what of it is asked for, believed and counted. */
import { describe, expect, test } from 'vitest';
import { stateDigest } from '../../../src/matrix/state-digest.ts';
import { type EventId, type RoomId } from '../../../src/matrix/identifiers.ts';
import { A, ALICE, B, BOB, honestScript, refuse, smallRoom, startScripted } from '../../support/scripted-room.ts';

const CAROL = `@carol:${B}`;

describe('of what a state has', () => {
  /** A room of fifty members more, of whom the answer to our join gives all but some. */
  async function askedFor(unknown: number): Promise<string[]> {
    const small = smallRoom();
    const { room, auth, state } = small;
    const members = Array.from({ length: 50 }, (_, i) => {
      const userId = `@member-${i}:${B}`;
      return room.make(userId, 'm.room.member', userId, { membership: 'join' }, { prev: [small.bobJoin], auth });
    });
    const whole = [...state, ...members];
    const script = honestScript(small);
    const given = members.slice(unknown);
    const here = await startScripted(room, {
      ...script,
      returnedChain: [small.aliceJoin, small.bobJoin, ...given],
      stateIds: () => ({ state: whole, chain: [...auth, small.aliceJoin] }),
      state: () => whole.map((eventId) => room.raw(eventId)),
    });
    await here.join();
    const resync = await here.resync();
    expect(resync).toMatchObject({ phase: 'complete', members: 53, digest: stateDigest(whole) });
    // The parent of the join itself is of the state, too.
    expect(resync.lastFetch).toMatchObject({ fetched: unknown + 1 });
    return here.asked.filter((what) => !/make_join|send_join|state_ids/.test(what)).map((what) => what.split(' ')[1]!);
  }

  test('few events that are not held are asked for one by one', async () => {
    expect(await askedFor(3)).toEqual(['event', 'event', 'event', 'event']);
  });

  test('a tenth or more is had with the whole state, after the event at which it is asked for', async () => {
    expect(await askedFor(12)).toEqual(['event', 'state']);
  });
});

test('a resident that gives nothing more once its whole state is on its way, since all of us have left, has given enough', async () => {
  const small = smallRoom();
  const script = honestScript(small);
  const { state } = script;
  script.state = (server, at) => {
    script.stateIds = script.event = () => refuse(server, 'forbidden', { status: 403, errcode: 'M_FORBIDDEN' });
    return state(server, at);
  };
  const here = await startScripted(small.room, script);
  await here.join();
  expect(await here.resync()).toMatchObject({ phase: 'complete', members: 3, digest: stateDigest(small.state) });
});

test.each(['not-found', 'forbidden'] as const)(
  'the state before the join itself stands in where nobody shows us its parent: %s',
  async (kind) => {
    const small = smallRoom();
    const script = honestScript(small);
    const here = await startScripted(small.room, script);
    const join = await here.join();
    const why =
      kind === 'forbidden' ? { status: 403, errcode: 'M_FORBIDDEN' } : { status: 404, errcode: 'M_NOT_FOUND' };
    script.stateIds = (server, at) =>
      at === join ? { state: small.state, chain: [...small.auth, small.aliceJoin] } : refuse(server, kind, why);
    let resync = await here.resync();
    for (let minute = 0; minute < 120 && resync.phase !== 'complete'; minute += 1) {
      here.wait(60_000);
      resync = await here.resync();
    }
    expect(resync).toMatchObject({ phase: 'complete', degraded: null, digest: stateDigest(small.state) });
  },
);

describe('a state is had without', () => {
  test('what is no state event, what is rejected, a second event for one place and one of another room; each is counted', async () => {
    const small = smallRoom();
    const { room, create, levels, bobJoin, state, auth, aliceJoin } = small;
    const prev = [bobJoin];
    // Bob has no power to do either, and says so by auth events that are his own.
    const byBob = [create, levels, bobJoin];
    const rejected = room.make(BOB, 'm.room.topic', '', { topic: 'mine' }, { prev, auth: byBob });
    const refused = room.make(BOB, 'm.room.member', CAROL, { membership: 'ban' }, { prev, auth: byBob });
    const renamed = { membership: 'join', displayname: 'Bob' };
    const second = room.make(BOB, 'm.room.member', BOB, renamed, { prev, auth: [...auth, bobJoin] });
    const elsewhere = { room_id: `!elsewhere:${A}` as RoomId };
    const foreign = room.make(
      ALICE,
      'm.room.name',
      '',
      { name: 'there' },
      { prev, auth: [...auth], changes: elsewhere },
    );
    const named: EventId[] = [...state, small.message, rejected, refused, second, foreign];
    const here = await startScripted(room, {
      ...honestScript(small),
      stateIds: () => ({ state: named, chain: [...auth, aliceJoin] }),
      state: () => named.map((eventId) => room.raw(eventId)),
    });
    await here.join();
    let resync = await here.resync();
    for (let minute = 0; minute < 30 && resync.phase !== 'complete'; minute += 1) {
      here.wait(60_000);
      resync = await here.resync();
    }
    expect(resync).toMatchObject({ phase: 'complete', members: 3, digest: stateDigest(state) });
    expect(resync.lastFetch?.dropped).toBe(named.length - state.length);
  });
});
