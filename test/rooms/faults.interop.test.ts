import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { type EventId, type RoomAlias, type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { type SynapseRoom, createPopulatedRoom } from '../../src/launch/synapse-room.ts';
import { type JoinedRoom } from '../../src/rooms/contract.ts';
import { finishStaleJoins } from '../../src/rooms/join/finish-joins.ts';
import { joinRoom } from '../../src/rooms/join/join.ts';
import { readEventStates } from '../../src/store/events/event-states.ts';
import { readResyncEvents } from '../../src/store/journal/journal.ts';
import { readLocalMembers, readRoom } from '../../src/store/journal/rooms.ts';
import { type TestRejoinder, startTestRejoinder } from '../support/rejoinder.ts';
import { type TestSynapse, startTestSynapse, whySynapseIsMissing } from '../support/synapse.ts';

const missing = await whySynapseIsMissing();
const signal = new AbortController().signal;

const SEND_JOIN = /^PUT \/_matrix\/federation\/v2\/send_join\//;
const STATE = /^GET \/_matrix\/federation\/v1\/state\//;
const STATE_IDS = /^GET \/_matrix\/federation\/v1\/state_ids\//;
const EVENT = /^GET \/_matrix\/federation\/v1\/event\//;

type Answer = Record<
  string,
  { type: string; state_key?: string; signatures: Record<string, Record<string, string>> }[]
>;

/** Spoils the signatures of the events of one type in an array of an answer; their ids stay as they are. */
function spoilSignatures(array: string, type: string) {
  return (body: unknown): unknown => {
    const answer = body as Answer;
    for (const event of answer[array] ?? []) {
      if (event.type !== type) continue;
      for (const keys of Object.values(event.signatures)) {
        for (const keyId of Object.keys(keys)) keys[keyId] = `AAAA${keys[keyId]!.slice(4)}`;
      }
    }
    return answer;
  };
}

describe.skipIf(missing !== undefined)('a resident that fails', () => {
  let synapse: TestSynapse;
  let room: SynapseRoom;
  beforeAll(async () => {
    synapse = await startTestSynapse();
  });
  // A room for each test: servers of earlier tests are gone, and with them the keys of their members' events.
  let rooms = 0;
  beforeEach(async () => {
    synapse.proxy.clear();
    rooms += 1;
    const aliasLocalpart = `faulty${rooms}`;
    room = await createPopulatedRoom({
      synapse,
      members: 8,
      roomVersion: '11',
      aliasLocalpart,
      progress: () => undefined,
    });
    synapse.proxy.resetCounts();
  });
  afterAll(() => synapse.stop());

  const join = (ours: TestRejoinder, name = 'me'): Promise<JoinedRoom> =>
    joinRoom(ours.context, {
      room: room.alias as RoomAlias,
      userId: `@${name}:${ours.context.serverName}` as UserId,
      via: [],
      signal,
    });
  const rowsLeft = async ({ context }: TestRejoinder): Promise<unknown> => {
    const tables = ['rooms', 'journal', 'join_intents', 'event_states'];
    return context.store.query(tables.map((table) => `SELECT '${table}' AS "left" FROM ${table}`).join(' UNION ALL '));
  };
  const joinAndWhole = async (ours: TestRejoinder): Promise<void> => {
    synapse.proxy.clear();
    expect(await join(ours)).toMatchObject({ partial: true });
    expect(await ours.resync(room.roomId as RoomId)).toBe('complete');
  };

  test('an alias that its server does not know is named as such', async () => {
    const ours = await startTestRejoinder(synapse);
    const request = { room: `#nowhere:${synapse.serverName}` as RoomAlias, via: [], signal };
    const attempt = joinRoom(ours.context, { ...request, userId: `@me:${ours.context.serverName}` as UserId });
    await expect(attempt).rejects.toMatchObject({ kind: 'unknown-alias' });
  });

  test('a room id with no server to ask says how to name one', async () => {
    const ours = await startTestRejoinder(synapse);
    const request = { room: `!${'a'.repeat(43)}` as RoomId, via: [], signal };
    const attempt = joinRoom(ours.context, { ...request, userId: `@me:${ours.context.serverName}` as UserId });
    await expect(attempt).rejects.toThrow(/name one with via/);
  });

  test.each([
    ['rubbish', { kind: 'rubbish', bytes: 5_000 }, 'unusable-answer'],
    ['an endless body', { kind: 'endless', prefix: '{"state":[', filler: ' ' }, 'unusable-answer'],
    ['an answer cut short', { kind: 'truncate', afterBytes: 3_000 }, 'unusable-answer'],
    ['a connection cut in the middle', { kind: 'hang-up', afterBytes: 3_000 }, 'no-resident'],
    [
      'a list of servers that is none',
      { kind: 'rewrite', rewrite: (body: unknown) => ({ ...(body as object), servers_in_room: 7 }) },
      'unusable-answer',
    ],
    [
      'a create event with a wrong signature',
      { kind: 'rewrite', rewrite: spoilSignatures('state', 'm.room.create') },
      'unusable-answer',
    ],
  ] as const)(
    'a join answered with %s is refused, and the next attempt finds nothing in its way',
    async (_, fault, kind) => {
      const ours = await startTestRejoinder(synapse);
      synapse.proxy.inject({ match: SEND_JOIN, fault });
      await expect(join(ours)).rejects.toMatchObject({ kind });
      const left = (await rowsLeft(ours)) as { left: string }[];
      // The resident has taken the join: it is to be finished or left again, and is settled with the next one.
      const what = kind === 'no-resident' ? 'join' : 'leave';
      expect(left).toEqual([{ left: 'join_intents' }]);
      expect(await ours.context.store.query('SELECT what FROM join_intents')).toEqual([{ what }]);
      await joinAndWhole(ours);
      expect(await ours.context.store.query('SELECT 1 FROM join_intents')).toEqual([]);
    },
  );

  test.each([
    ['is rubbish', { kind: 'rubbish', bytes: 5_000 }, 'malformed'],
    ['is forbidden', { kind: 'status', status: 403, body: '{"errcode":"M_FORBIDDEN","error":"no"}' }, 'forbidden'],
    ['ends in the middle', { kind: 'truncate', afterBytes: 9_000 }, 'malformed'],
    [
      'is of a server that is partial itself',
      {
        kind: 'status',
        status: 403,
        body: '{"errcode":"ORG.MATRIX.MSC3895_UNABLE_DUE_TO_PARTIAL_STATE","error":"partial"}',
      },
      'partial-state-there',
    ],
  ] as const)(
    'a /state that %s fails the attempt, says why, and waits for the next round',
    async (_, fault, failure) => {
      const ours = await startTestRejoinder(synapse);
      await join(ours);
      synapse.proxy.inject({ match: STATE, fault });
      expect(await ours.resync(room.roomId as RoomId)).toBe('waiting');
      const resync = (await readRoom(ours.context.store, room.roomId as RoomId))?.resync;
      expect(resync).toMatchObject({ round: 2, lastFailure: { failure, resident: synapse.serverName } });
      const notReady = await ours.reads.members(room.roomId as RoomId, { waitMs: 0, membership: null, signal });
      expect(notReady).toMatchObject({ ready: false, reason: expect.stringContaining('every resident failed') });
    },
  );

  test('a /state that never ends, of the only resident, parks the room at once, and says why', async () => {
    const ours = await startTestRejoinder(synapse);
    await join(ours);
    synapse.proxy.inject({ match: STATE, fault: { kind: 'endless', prefix: '{"pdus":[', filler: ' ' } });
    expect(await ours.resync(room.roomId as RoomId)).toBe('parked');
    const resync = (await readRoom(ours.context.store, room.roomId as RoomId))?.resync;
    expect(resync).toMatchObject({ parked: { because: 'too-large' }, lastFailure: { failure: 'too-large' } });
    const asked = ours.reads.members(room.roomId as RoomId, { waitMs: 0, membership: null, signal });
    await expect(asked).rejects.toMatchObject({ kind: 'parked', message: expect.stringContaining('not looked for') });
  });

  test('a member event with a wrong signature keeps the room partial, and names the event', async () => {
    const ours = await startTestRejoinder(synapse);
    await join(ours);
    synapse.proxy.inject({
      match: STATE,
      fault: { kind: 'rewrite', rewrite: spoilSignatures('pdus', 'm.room.member') },
    });
    synapse.proxy.inject({
      match: EVENT,
      fault: { kind: 'rewrite', rewrite: spoilSignatures('pdus', 'm.room.member') },
    });
    expect(await ours.resync(room.roomId as RoomId)).toBe('waiting');
    const resync = (await readRoom(ours.context.store, room.roomId as RoomId))?.resync;
    expect(resync?.lastFailure).toMatchObject({ failure: 'incomplete' });
    expect(resync?.lastFailure?.reason).toMatch(/events with a wrong signature \(\$/);
  });

  test('events whose keys cannot be had count as missing, and the room stays partial with that reason', async () => {
    const gone = await startTestRejoinder(synapse);
    await join(gone);
    await gone.goOffline();
    const ours = await startTestRejoinder(synapse);
    await join(ours);
    expect(await ours.resync(room.roomId as RoomId)).toBe('waiting');
    const events = await readResyncEvents(ours.context.store, room.roomId as RoomId, 1, 0);
    const failures = events.flatMap(({ event }) => (event.type === 'StateFetchFailed' ? [event] : []));
    expect(failures).toContainEqual(
      expect.objectContaining({
        resident: synapse.serverName,
        failure: 'keys-unobtainable',
        reason: expect.stringContaining(`1 events signed with keys that cannot be had (${gone.context.serverName}`),
      }),
    );
    const notReady = await ours.reads.members(room.roomId as RoomId, { waitMs: 0, membership: null, signal });
    expect(notReady).toMatchObject({ ready: false });
  });

  test('a resident that fails is followed by another one in the same round', async () => {
    const ours = await startTestRejoinder(synapse);
    const joined = await join(ours);
    // The same Synapse under a second name stands in for a second resident: its certificate is good for both.
    const second = synapse.serverName.replace('localhost', '127.0.0.1');
    await ours.context.store.query(
      `UPDATE resyncs SET state = jsonb_set(state::jsonb, '{candidates}', $1::jsonb)::json`,
      [JSON.stringify([second, joined.joinedVia])],
    );
    expect(await ours.resync(room.roomId as RoomId)).toBe('complete');
    const events = await readResyncEvents(ours.context.store, room.roomId as RoomId, 1, 0);
    expect(events.map(({ event }) => event.type)).toEqual([
      'PartialStateJoined',
      'StateFetchStarted',
      'StateFetchFailed',
      'StateFetchStarted',
      'StateFetched',
      'EventsWalked',
      'ResyncCompleted',
    ]);
  });

  test('a second local user joins the partial room remotely, and one resync serves both', async () => {
    const ours = await startTestRejoinder(synapse);
    await join(ours, 'first');
    const second = await join(ours, 'second');
    expect(second).toMatchObject({ partial: true, membersOmitted: true });
    expect(await ours.resync(room.roomId as RoomId)).toBe('complete');
    const resync = (await readRoom(ours.context.store, room.roomId as RoomId))?.resync;
    expect(resync).toMatchObject({ walked: 2, corrected: 0 });
  });

  test('a user who joins a whole room leaves it whole', async () => {
    const ours = await startTestRejoinder(synapse);
    await joinAndWhole(ours);
    expect(await join(ours, 'late')).toMatchObject({ partial: false, membersOmitted: false });
    const members = await ours.reads.members(room.roomId as RoomId, { waitMs: 0, membership: 'join', signal });
    if (!members.ready) throw new Error(members.reason);
    const users: string[] = [];
    for await (const page of members.pages) users.push(...page.map(({ userId }) => userId));
    expect(users.sort()).toEqual(
      [...(await room.owner.members(room.roomId))]
        .filter(([, member]) => member.membership === 'join')
        .map(([userId]) => userId)
        .sort(),
    );
  });

  test('a join that the resident accepted and we lost is found again and finished', async () => {
    const ours = await startTestRejoinder(synapse);
    synapse.proxy.inject({ match: SEND_JOIN, fault: { kind: 'hang-up', afterBytes: 100 } });
    await expect(join(ours)).rejects.toMatchObject({ kind: 'no-resident' });
    synapse.proxy.clear();
    expect(await finishStaleJoins(ours.context, signal)).toBe(0);

    const anHourLater = { now: () => systemClock.now() + 3_600_000 };
    expect(await finishStaleJoins({ ...ours.context, clock: anHourLater }, signal)).toBe(1);
    expect(ours.rung).toEqual([room.roomId]);
    expect(await ours.resync(room.roomId as RoomId)).toBe('complete');
    expect(await ours.context.store.query('SELECT 1 FROM join_intents')).toEqual([]);
  });

  test('what is pushed while a join is under way is taken in after it', async () => {
    const ours = await startTestRejoinder(synapse);
    const held = synapse.proxy.inject({ match: SEND_JOIN, fault: { kind: 'hold', afterBytes: 1_000 } });
    const joining = join(ours);
    await held.held;
    // Synapse has accepted the join, and pushes what follows it.
    const eventId = await room.owner.sendMessage(room.roomId, 'while you join');
    held.release();
    await joining;
    const taken = await ours.context.notifier.waitFor(
      room.roomId as RoomId,
      async () =>
        (await readEventStates(ours.context.store, room.roomId as RoomId, [eventId as EventId])).get(
          eventId as EventId,
        ),
      { signal, timeoutMs: 10_000, pollMs: 200 },
    );
    expect(taken).toMatchObject({ verdict: 'accepted', partial: true });
  });

  test('who is kicked while the room is partial and joins again gets a whole room', async () => {
    const ours = await startTestRejoinder(synapse);
    const roomId = room.roomId as RoomId;
    await join(ours);
    await room.owner.kick(room.roomId, `@me:${ours.context.serverName}`);
    const gone = await ours.context.notifier.waitFor(
      roomId,
      async () => (await readLocalMembers(ours.context.store, roomId)).find(({ membership }) => membership === 'leave'),
      { signal, timeoutMs: 10_000, pollMs: 200 },
    );
    expect(gone).toBeDefined();
    expect(await join(ours)).toMatchObject({ partial: true });
    expect(await readRoom(ours.context.store, roomId)).toMatchObject({ epoch: 2, partial: true });
    expect(await ours.resync(roomId)).toBe('complete');
    // The first join, the kick and the second join.
    expect((await readRoom(ours.context.store, roomId))?.resync).toMatchObject({ walked: 3, corrected: 0 });
  });

  test.each(['held by us', 'new to us'])(
    'an event of another room in the state, %s, is dropped and counted',
    async (how) => {
      const ours = await startTestRejoinder(synapse);
      const elsewhere = how === 'held by us' ? ours : await startTestRejoinder(synapse);
      const aliasLocalpart = `other${rooms}`;
      const other = await createPopulatedRoom({
        synapse,
        members: 3,
        roomVersion: '11',
        aliasLocalpart,
        progress: () => undefined,
      });
      const userId = `@me:${elsewhere.context.serverName}` as UserId;
      await joinRoom(elsewhere.context, { room: other.alias as RoomAlias, userId, via: [], signal });
      const [foreign] = await elsewhere.context.store.query<{ eventId: string; json: object }>(
        `SELECT event_id AS "eventId", json FROM pdus WHERE type = 'm.room.topic'`,
      );

      await join(ours);
      const add = (array: string, value: unknown) => (body: unknown) => {
        const answer = body as Record<string, unknown[]>;
        return { ...answer, [array]: [...(answer[array] ?? []), value] };
      };
      synapse.proxy.inject({ match: STATE_IDS, fault: { kind: 'rewrite', rewrite: add('pdu_ids', foreign?.eventId) } });
      synapse.proxy.inject({ match: STATE, fault: { kind: 'rewrite', rewrite: add('pdus', foreign?.json) } });
      expect(await ours.resync(room.roomId as RoomId)).toBe('complete');
      const resync = (await readRoom(ours.context.store, room.roomId as RoomId))?.resync;
      expect(resync?.lastFetch).toMatchObject({ dropped: 1 });
      const state = await ours.reads.state(room.roomId as RoomId, { waitMs: 0, members: true, signal });
      if (!state.ready) throw new Error(state.reason);
      const ids: string[] = [];
      for await (const page of state.pages) ids.push(...page.map(({ eventId }) => eventId));
      expect(ids.sort()).toEqual((await room.owner.state(room.roomId)).map((event) => event.event_id).sort());
    },
  );

  test('joining again is answered from what we hold', async () => {
    const ours = await startTestRejoinder(synapse);
    const first = await join(ours);
    synapse.proxy.resetCounts();
    expect(await join(ours)).toMatchObject({ eventId: first.eventId, partial: true });
    expect([...synapse.proxy.counts().keys()].filter((endpoint) => endpoint.includes('join'))).toEqual([]);
  });
});
