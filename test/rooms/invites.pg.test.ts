import { expect, test, vi } from 'vitest';
import { FederationError } from '../../src/federation/error.ts';
import { type FederationClient } from '../../src/federation/contract.ts';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { signEvent, verifyEventSignature } from '../../src/matrix/signing/signatures.ts';
import { eventIdOf } from '../../src/matrix/signing/hashes.ts';
import { receiveInvite } from '../../src/rooms/invites/receive-invite.ts';
import { endInvites } from '../../src/rooms/invites/end-invites.ts';
import { checkToldOfRoom, toldOfRoom } from '../../src/rooms/invites/told-of-room.ts';
import { finishStaleJoins } from '../../src/rooms/join/finish-joins.ts';
import { resumeFirstInvites, startFirstInvites } from '../../src/rooms/invites/first-invites.ts';
import { type OutsideActs, outsideActs } from '../../src/rooms/invites/outside-acts.ts';
import { clientActs } from '../../src/rooms/send/client-acts.ts';
import { startReceiver } from '../../src/rooms/receive/receive.ts';
import { createSync } from '../../src/sync/sync.ts';
import { readEventStates } from '../../src/store/events/event-states.ts';
import { readStanding } from '../../src/store/journal/rooms.ts';
import { claimDueIntent, readJoinIntents, readOpenKnocks } from '../../src/store/tables/intents.ts';
import {
  endOutside,
  readOutside,
  readOutsideBetween,
  upsertOutside,
} from '../../src/store/tables/outside-memberships.ts';
import { insertUser } from '../../src/store/tables/users.ts';
import { keyOf } from '../matrix/sample-event.ts';
import {
  A,
  ALICE,
  B,
  ME,
  type ScriptedRejoinder,
  US,
  honestScript,
  smallRoom,
  startScripted,
} from '../support/scripted-room.ts';
import { hostRoom } from './resident/hosted-room.ts';

const signal = new AbortController().signal;
const NAME = { type: 'm.room.name', state_key: '', sender: ALICE, content: { name: 'Theirs' } };

/** A server that is in no room, and a room of a.test whose Alice invites. */
async function startOutside() {
  const small = smallRoom();
  const here = await startScripted(small.room, honestScript(small));
  // Of a room that is only known from outside the journal says nothing.
  here.changedByHand();
  await insertUser(here.store, { userId: ME, passwordHash: null, isAdmin: false, createdAt: 1 });
  const { room } = small;
  const { roomId, version: roomVersion } = room;
  const invited = room.make(
    ALICE,
    'm.room.member',
    ME,
    { membership: 'invite' },
    { prev: [small.message], auth: [...small.auth, small.aliceJoin] },
  );
  const handed = (changes: object = {}) => ({
    ...{
      roomId,
      eventId: invited,
      server: A,
      roomVersion,
      event: room.events.get(invited)!,
      told: [NAME, 7, {}],
      signal,
      ...changes,
    },
  });
  return { ...here, small, room, roomId, invited, handed };
}

/** What a client is told since a token. */
async function syncOf({ context }: Pick<ScriptedRejoinder, 'context'>, since?: string) {
  const request = {
    userId: ME,
    deviceId: 'PHONE',
    since,
    filter: { room: { state: { lazy_load_members: true } } },
    isFullState: false,
    isStateAfter: false,
    timeoutMs: 0,
    signal,
  };
  const { nextBatch, invited, knocked, left, joined } = await createSync(context).sync(request);
  return { nextBatch, invited, knocked, left: [...left.keys()], joined: [...joined.keys()] };
}

test('an invite to a room that we are not in is signed, shown, and gone when it is withdrawn', async () => {
  const here = await startOutside();
  const { roomId, invited, room, small, context } = here;
  const before = await syncOf(here);
  const signed = await receiveInvite(context, here.handed());
  const ours = keyOf(US);
  expect(verifyEventSignature(signed, room.rules, US, ours.keyId, ours.publicKey)).toEqual({ ok: true });
  expect(signed['signatures']).toHaveProperty([A]);
  const member = { type: 'm.room.member', state_key: ME, sender: ALICE, content: { membership: 'invite' } };
  const shown = await syncOf(here, before.nextBatch);
  expect([...shown.invited]).toEqual([[roomId, [NAME, member]]]);
  expect((await syncOf(here)).invited.get(roomId)).toHaveLength(2);
  expect((await syncOf(here, shown.nextBatch)).invited.size).toBe(0);

  const receiver = startReceiver(context);
  const push = (eventId: EventId, origin = A) =>
    receiver.receiveTransaction(origin, eventId, { pdus: [{ raw: room.raw(eventId), roomId }] });
  const leave = (auth: readonly EventId[], sender: UserId = ALICE) =>
    room.make(sender, 'm.room.member', ME, { membership: 'leave' }, { prev: [invited], auth });
  // Who does not know the invite is not in the room, and of who is only the inviter's server takes it back.
  const eves = leave([...small.auth, invited], `@eve:${B}` as UserId);
  for (const [stranger, origin] of [
    [leave(small.auth), A],
    [eves, A],
    [eves, B],
  ] as const) {
    expect(await push(stranger, origin)).toEqual({ outcome: 'answered', response: { pdus: {} } });
  }
  const withdrawn = leave([...small.auth, small.aliceJoin, invited]);
  expect(await push(withdrawn)).toEqual({ outcome: 'answered', response: { pdus: { [withdrawn]: {} } } });
  await receiver.close();
  expect(await syncOf(here, shown.nextBatch)).toMatchObject({ left: [roomId] });
  expect((await syncOf(here)).invited.size).toBe(0);
});

test('a join by invite asks the server of who invited, and ends the invite', async () => {
  const here = await startOutside();
  const { roomId, context, asked } = here;
  await receiveInvite(context, here.handed());
  await here.join(ME, []);
  expect(asked[0]).toBe(`${A} make_join ${ME}`);
  const { joined, invited } = await syncOf(here);
  expect([joined, [...invited]]).toEqual([[roomId], []]);
  // The invite of a room that we are in comes as all its events do.
  await receiveInvite(context, here.handed());
  expect((await syncOf(here)).invited.size).toBe(0);
});

test('an invite is declined at once, and its server told later where it cannot be reached', async () => {
  const here = await startOutside();
  const { roomId, context, invited, room } = here;
  await receiveInvite(context, here.handed());
  const { nextBatch } = await syncOf(here);
  const sent: JsonObject[] = [];
  const down = () => Promise.reject(new FederationError(A, 'unreachable', 'it is down'));
  const template = {
    type: 'm.room.member',
    room_id: roomId,
    sender: ME,
    state_key: ME,
    content: { membership: 'leave' },
  };
  const graph = { depth: 60, prev_events: [invited], auth_events: here.small.auth };
  const federation: Partial<FederationClient> = {
    makeLeave: () =>
      sent.length === 0 ? down() : Promise.resolve({ roomVersion: room.version, event: { ...template, ...graph } }),
    sendLeave: (_server, _room, _id, event) => Promise.resolve(void sent.push(event)),
  };
  const acts = outsideActs({ ...context, federation: federation as FederationClient });
  expect(await acts.decline(roomId, ME)).toBe(true);
  expect((await syncOf(here, nextBatch)).left).toEqual([roomId]);
  expect(await acts.decline(roomId, ME)).toBe(true);
  const due = await claimDueIntent(here.store, context.clock.now() + 61_000);
  expect(due).toMatchObject({ what: 'leave', roomId, userId: ME, resident: A });
});

test('an invite stays over when it is sent again, and while it stands nobody else takes its place', async () => {
  const here = await startOutside();
  const { context, roomId, room, small, invited, handed } = here;
  const by = (sender: UserId, server: ServerName) => {
    const graph = { prev: [small.message], auth: [...small.auth, invited] };
    const eventId = room.make(sender, 'm.room.member', ME, { membership: 'invite' }, graph);
    return handed({ eventId, event: room.events.get(eventId)!, server });
  };
  await receiveInvite(context, handed());
  await expect(receiveInvite(context, by(`@eve:${B}` as UserId, B))).rejects.toMatchObject({ kind: 'forbidden' });
  const held = (await readOutside(here.store, roomId, ME))!;
  expect(held).toMatchObject({ eventId: invited, sender: ALICE });
  await endOutside(here.store, held);
  await receiveInvite(context, handed());
  expect(await readOutside(here.store, roomId, ME)).toMatchObject({ membership: 'leave', event: {} });
  const again = by(ALICE, A);
  await receiveInvite(context, again);
  // A knock gives way to who cites it alone.
  const knock = { ...held, eventId: '$knock' as EventId, membership: 'knock', sender: ME } as const;
  await upsertOutside(here.store, knock, '{}', '[]');
  await expect(receiveInvite(context, again)).rejects.toMatchObject({ kind: 'forbidden' });
  await upsertOutside(here.store, { ...knock, eventId: invited }, '{}', '[]');
  await receiveInvite(context, by(`@eve:${B}` as UserId, B));
  expect(await readOutside(here.store, roomId, ME)).toMatchObject({ membership: 'invite', server: B });
});

test('one server fills no more than its share of the invites of a user, whose sync shows what there is room for', async () => {
  const here = await startOutside();
  const { context, store, handed } = here;
  await store.query(
    `INSERT INTO outside_memberships (room_id, user_id, membership, position, event_id, room_version, sender, server, event, stripped)
     SELECT '!room' || n || ':a.test', $1, 'invite', n, '$invite' || n, '11', $2, 'a.test', '{"content":{"membership":"invite"}}', '[]'
       FROM generate_series(1, 100) AS n`,
    [ME, ALICE],
  );
  await expect(receiveInvite(context, handed())).rejects.toMatchObject({ kind: 'forbidden' });
  const span = { since: 0, upTo: 100, withEnded: false };
  const read = (bytesMax: number) => readOutsideBetween(store, ME, { ...span, bytesMax });
  expect((await read(1000)).filter(({ event }) => event['type'] === undefined)).toHaveLength(27);
  const cut = (await read(0))[0]!;
  expect(cut.event).toEqual({
    ...{ type: 'm.room.member', state_key: ME, sender: ALICE, content: { membership: 'invite' } },
  });
  await endOutside(store, cut);
  expect(await readOutsideBetween(store, ME, { ...span, upTo: 1000, bytesMax: 0 })).toHaveLength(99);
  await receiveInvite(context, handed());
});

test('of what is told of a room only what is too large is left out, and its create event and name come before all else', () => {
  const state = (type: string, bytes: number) => ({ ...NAME, type, content: { text: 'x'.repeat(bytes) } });
  const [create, name, small] = [state('m.room.create', 10), state('m.room.name', 10_000), state('m.room.topic', 10)];
  const [large, most] = [state('m.room.canonical_alias', 33_000), state('m.room.avatar', 23_000)];
  expect(toldOfRoom([large, most, small, create, name])).toEqual([small, create, name]);
});

test('invites that are not in order are refused, and nothing is kept', async () => {
  const here = await startOutside();
  const { room, small, invited, handed, context, roomId } = here;
  const { event } = handed();
  const made = (changes: JsonObject, by = A): { event: JsonObject; eventId: EventId } => {
    const other = signEvent({ ...event, ...changes, signatures: {} }, room.rules, by, keyOf(by));
    return { event: other, eventId: eventIdOf(other, room.rules) };
  };
  const cases: readonly [string, string, object][] = [
    ['another version', 'incompatible-version', { roomVersion: '99' }],
    ['another room', 'malformed', { roomId: '!other:a.test' }],
    ['another id', 'malformed', { eventId: '$other' }],
    ['another server', 'forbidden', { server: B }],
    ['no invite', 'malformed', { event: room.events.get(small.message)!, eventId: small.message }],
    ['a user of nobody', 'forbidden', made({ state_key: `@nobody:${US}` })],
    ['a user of another server', 'forbidden', made({ state_key: `@bob:${B}` })],
    ['a wrong signature', 'forbidden', made({ depth: 77 }, B)],
    ['changed content', 'malformed', { event: { ...event, content: { membership: 'invite', x: 1 } } }],
  ];
  for (const [what, kind, changes] of cases) {
    await expect(receiveInvite(context, handed(changes)), what).rejects.toMatchObject({ kind });
  }
  expect((await syncOf(here)).invited.size).toBe(0);
  expect(await readStanding(here.store, roomId)).toBeUndefined();
  expect(invited).toBeDefined();
});

/** A room of version 12 of another server, which tells of it. */
async function startTold() {
  const here = await hostRoom('12');
  await insertUser(here.store, { userId: ME, passwordHash: null, isAdmin: false, createdAt: 1 });
  const plain = { origin_server_ts: 1, prev_events: [], auth_events: [], depth: 1 };
  const make = (event: JsonObject, by = A): JsonObject => here.complete({ ...plain, ...event }, {}, by);
  const state = (type: string, content: JsonObject, more: JsonObject = {}): JsonObject =>
    make({ type, state_key: '', sender: ALICE, content, ...more });
  const create = state('m.room.create', { room_version: '12' });
  const roomId = `!${here.idOf(create).slice(1)}` as RoomId;
  const inRoom = { room_id: roomId, prev_events: [here.idOf(create)], depth: 2 };
  const name = state('m.room.name', { name: 'Theirs' }, inRoom);
  const member = { type: 'm.room.member', state_key: ME, sender: ALICE, content: { membership: 'invite' } };
  const event = make({ ...member, ...inRoom });
  const handed = (told: readonly JsonObject[]) => ({
    ...{ roomId, eventId: here.idOf(event), server: A, roomVersion: '12', event, told, signal },
  });
  return { ...here, theirs: roomId, create, name, state, inRoom, handed };
}

test('of a room of version 12 whole events are told, and an invite without its create event is refused', async () => {
  const here = await startTold();
  here.changedByHand();
  const { context, create, name, handed, theirs } = here;
  const unsigned = { ...name, signatures: {} };
  const another = here.state('m.room.create', { room_version: '12', x: 1 });
  const elsewhere = here.state(
    'm.room.name',
    { name: 'x' },
    { ...here.inRoom, room_id: `!${here.idOf(another).slice(1)}` },
  );
  const stripped = { type: 'm.room.create', state_key: '', sender: ALICE, content: { room_version: '12' } };
  for (const [what, told] of [
    ['nothing', []],
    ['no create event', [name]],
    ['a stripped one', [stripped, name]],
    ['that of another room', [another]],
    ['an event of another room', [create, elsewhere]],
    ['an event without a signature', [create, unsigned]],
  ] as const) {
    await expect(receiveInvite(context, handed(told)), what).rejects.toMatchObject({ kind: 'missing' });
  }
  await receiveInvite(context, handed([{ ...create, unsigned: { age: 1 } }, name]));
  const invited = (await syncOf(here)).invited.get(theirs);
  expect(invited?.map(({ type }) => type)).toEqual(['m.room.create', 'm.room.name', 'm.room.member']);
  expect(invited?.[1]).toEqual({ type: 'm.room.name', state_key: '', sender: ALICE, content: { name: 'Theirs' } });
});

test('of an event that is told otherwise than it was signed no more is shown than its redaction would leave', async () => {
  const here = await startTold();
  here.changedByHand();
  const { context, create, name, handed, theirs } = here;
  await receiveInvite(context, handed([create, { ...name, content: { name: 'Ours' } }]));
  const invited = (await syncOf(here)).invited.get(theirs);
  expect(invited?.find(({ type }) => type === 'm.room.name')).toMatchObject({ content: {} });
});

test('we tell whole events of our rooms of version 12, to who is invited and to who knocks, and stripped ones of others', async () => {
  for (const version of ['12', '11']) {
    const knocking = { type: 'm.room.join_rules', stateKey: '', content: { join_rule: 'knock' } };
    const here = await hostRoom(version, { initialState: [knocking] });
    const told: (readonly JsonObject[])[] = [];
    const federation: Partial<FederationClient> = {
      sendInvite: (_server, _room, _id, { event, inviteRoomState }) => {
        told.push(inviteRoomState);
        return Promise.resolve(signEvent(event, here.rules, B, keyOf(B)));
      },
    };
    const acts = outsideActs({ ...here.context, federation: federation as FederationClient });
    await acts.invite({ roomId: here.roomId, sender: ME, userId: `@bob:${B}` as UserId });
    const knock = here.complete((await here.template('knock')).event);
    told.push(await here.memberships.sendKnock(here.sent('knock', knock)));
    for (const events of told) {
      const create = events.find(({ type }) => type === 'm.room.create')!;
      expect([version, Object.hasOwn(create, 'signatures')]).toEqual([version, version === '12']);
      const checked = await checkToldOfRoom(here.context, here.rules, {
        roomId: here.roomId,
        told: [...events],
        signal,
      });
      expect(checked.lacks).toBeUndefined();
      expect(checked.kept).toHaveLength(events.length);
    }
  }
});

/** Knocks at a room of a.test, whose answers a test chooses. */
async function startKnocking() {
  const here = await startOutside();
  const { context, room, roomId, small } = here;
  const sent: EventId[] = [];
  const script = { answer: (): Promise<unknown> => Promise.resolve([NAME]) };
  const federation: Partial<FederationClient> = {
    makeKnock: () => {
      const member = {
        type: 'm.room.member',
        room_id: roomId,
        sender: ME,
        state_key: ME,
        content: { membership: 'knock' },
      };
      const graph = { depth: 60, prev_events: [small.message], auth_events: small.auth };
      return Promise.resolve({ roomVersion: room.version, event: { ...member, ...graph } });
    },
    sendKnock: (_server, _room, eventId) => {
      sent.push(eventId);
      return script.answer() as never;
    },
  };
  const knocking = { ...context, federation: federation as FederationClient };
  const knock = (caller = signal) =>
    outsideActs(knocking).knock({ room: roomId, userId: ME, via: [A], profile: {}, signal: caller });
  const finish = async () => {
    here.wait(10 * 60_000);
    return finishStaleJoins(knocking, signal);
  };
  const decline = () => outsideActs(knocking).decline(roomId, ME);
  return { ...here, knock, decline, sent, script, finish, held: () => readOutside(here.store, roomId, ME) };
}

test('a knock whose answer is lost is sent again in the background, and the same one is found', async () => {
  const here = await startKnocking();
  here.script.answer = () => Promise.reject(new FederationError(A, 'timeout', 'silence'));
  await expect(here.knock()).rejects.toBeInstanceOf(Error);
  expect(await here.held()).toBeUndefined();
  expect(await here.finish()).toBe(0);
  here.script.answer = () => Promise.resolve([NAME]);
  expect(await here.finish()).toBe(1);
  expect(new Set(here.sent).size).toBe(1);
  expect(await here.held()).toMatchObject({ membership: 'knock', eventId: here.sent[0], server: A });
  expect((await syncOf(here)).knocked.get(here.roomId)).toContainEqual(NAME);
  expect(await claimDueIntent(here.store, Number.MAX_SAFE_INTEGER)).toBeUndefined();
});

test('a knock is kept although its client goes away while it is under way', async () => {
  const here = await startKnocking();
  const gone = new AbortController();
  here.script.answer = () => {
    gone.abort(new Error('the client has gone away'));
    return Promise.resolve([NAME]);
  };
  await here.knock(gone.signal);
  expect(await here.held()).toMatchObject({ membership: 'knock' });
});

test('a knock that is refused, is over, or became an invite is not sent again', async () => {
  const here = await startKnocking();
  here.script.answer = () =>
    Promise.reject(new FederationError(A, 'forbidden', 'no', { status: 403, errcode: 'M_FORBIDDEN' }));
  await expect(here.knock()).rejects.toMatchObject({ kind: 'forbidden' });
  expect(await here.finish()).toBe(0);
  here.script.answer = () => Promise.reject(new FederationError(A, 'unreachable', 'down'));
  await expect(here.knock()).rejects.toBeInstanceOf(Error);
  await receiveInvite(here.context, here.handed());
  const sent = here.sent.length;
  expect(await here.finish()).toBe(1);
  expect(here.sent).toHaveLength(sent);
  expect(await here.held()).toMatchObject({ membership: 'invite' });
});

test('a room is there at once although the server of somebody who is invited says nothing, and he is invited when it does', async () => {
  const here = await hostRoom('11');
  let answer = (): void => undefined;
  const outside = outsideActs({
    ...here.context,
    federation: {
      sendInvite: (_server: ServerName, _room: RoomId, _id: EventId, { event }: { event: JsonObject }) =>
        new Promise((resolve) => {
          answer = () => resolve(signEvent(event, here.rules, B, keyOf(B)));
        }),
    } as unknown as FederationClient,
  });
  const acts = clientActs(here.context, {
    join: () => Promise.reject(new Error('nobody joins')),
    outside,
    profileChanged: () => undefined,
  });
  const BOB = `@bob:${B}` as UserId;
  const since = performance.now();
  const roomId = await acts.createRoom({
    ...{
      creator: ME,
      profile: {},
      preset: 'private_chat',
      creationContent: {},
      powerLevelOverride: {},
      initialState: [],
    },
    ...{ name: undefined, topic: undefined, alias: undefined, invite: [BOB], isDirect: false, roomVersion: '11' },
  });
  expect(performance.now() - since).toBeLessThan(20_000);
  const members = async () =>
    (await here.store.query(`SELECT FROM pdus WHERE room_id = $1 AND membership = 'invite'`, [roomId])).length;
  expect(await members()).toBe(0);
  answer();
  await vi.waitFor(async () => expect(await members()).toBe(1), { timeout: 20_000 });
});

test('what a killed process leaves of the invites that a room begins with another goes on with, once each', async () => {
  const here = await hostRoom('11');
  const asked: string[] = [];
  const silence: OutsideActs = { ...outsideActs(here.context), invite: () => new Promise(() => undefined) };
  const working = outsideActs({
    ...here.context,
    federation: {
      sendInvite: (_server: ServerName, _room: RoomId, _id: EventId, { event }: { event: JsonObject }) => {
        asked.push(event['state_key'] as string);
        return event['state_key'] === `@refused:${B}`
          ? Promise.reject(new FederationError(B, 'forbidden', 'no'))
          : Promise.resolve(signEvent(event, here.rules, B, keyOf(B)));
      },
    } as unknown as FederationClient,
  });
  const actsOf = (outside: OutsideActs) =>
    clientActs(here.context, {
      join: () => Promise.reject(new Error('nobody joins')),
      outside,
      profileChanged: () => undefined,
    });
  const wish = {
    ...{ creator: ME, profile: {}, preset: 'private_chat' as const, creationContent: {}, powerLevelOverride: {} },
    ...{ initialState: [], name: undefined, topic: undefined, alias: undefined, isDirect: true, roomVersion: '11' },
  };
  const [bob, refused] = [`@bob:${B}` as UserId, `@refused:${B}` as UserId];
  const left = async () => (await here.store.query('SELECT FROM first_invites')).length;
  await actsOf(working).createRoom({ ...wish, invite: [bob, refused] });
  expect(await left()).toBe(0);
  const roomId = await actsOf(silence).createRoom({ ...wish, invite: [bob, refused] });
  expect(await left()).toBe(2);
  asked.length = 0;
  // Somebody is at them.
  await resumeFirstInvites(here.context, working);
  expect([asked, await left()]).toEqual([[], 2]);
  await here.store.query('UPDATE first_invites SET leased_until = 0');
  await resumeFirstInvites(here.context, working);
  expect([asked.toSorted(), await left()]).toEqual([[bob, refused], 0]);
  const invites = await here.store.query<{ json: string }>(
    `SELECT json::text AS json FROM pdus WHERE room_id = $1 AND membership = 'invite'`,
    [roomId],
  );
  expect(invites.map(({ json }) => JSON.parse(json) as JsonObject)).toMatchObject([
    { state_key: bob, content: { is_direct: true } },
  ]);
  // As if it had ended before it could say so.
  await here.store.query(`INSERT INTO first_invites (room_id, user_id, sender, is_direct) VALUES ($1, $2, $3, true)`, [
    roomId,
    bob,
    ME,
  ]);
  await resumeFirstInvites(here.context, working);
  expect([asked.length, await left()]).toEqual([2, 0]);
});

test('whom a process that ends does not reach of those that a room begins with another process invites', async () => {
  const here = await hostRoom('11');
  let hangUp: (() => void) | undefined;
  const federation = {
    sendInvite: () =>
      new Promise((_, reject) => {
        hangUp = () => reject(new FederationError(B, 'unreachable', 'the client was destroyed'));
      }),
  } as unknown as FederationClient;
  const outside = outsideActs({ ...here.context, federation });
  const invites = startFirstInvites(here.context, outside);
  const acts = clientActs(here.context, {
    join: () => Promise.reject(new Error('nobody joins')),
    ...{ outside, profileChanged: () => undefined, isClosing: () => invites.isClosing() },
  });
  const left = async () => (await here.store.query('SELECT FROM first_invites')).length;
  const invited = async (end: () => Promise<void>): Promise<number> => {
    const made = acts.createRoom({
      ...{ creator: ME, profile: {}, preset: 'private_chat', creationContent: {}, powerLevelOverride: {} },
      ...{ initialState: [], name: undefined, topic: undefined, alias: undefined, isDirect: true, roomVersion: '11' },
      invite: [`@bob:${B}` as UserId],
    });
    await vi.waitFor(() => expect(hangUp).toBeDefined());
    await end();
    hangUp?.();
    hangUp = undefined;
    await made;
    return left();
  };
  expect(await invited(() => Promise.resolve())).toBe(0);
  expect(await invited(() => invites.close())).toBe(1);
});

test('a user of another server is invited once his server has signed, and not where it does not, or the rules refuse it', async () => {
  const here = await hostRoom('11', { preset: 'private_chat' });
  const { roomId, context, rules } = here;
  const BOB = `@bob:${B}` as UserId;
  const handed: { server: string; inviteRoomState: readonly JsonObject[]; roomVersion: string }[] = [];
  let answer = (event: JsonObject): JsonObject => signEvent(event, rules, B, keyOf(B));
  const federation: Partial<FederationClient> = {
    sendInvite: (server, _room, _id, { event, ...told }) => {
      handed.push({ server, ...told });
      return Promise.resolve().then(() => answer(event));
    },
  };
  const acts = outsideActs({ ...context, federation: federation as FederationClient });
  const state = async () => (await readStanding(here.store, roomId))!;
  const before = await state();
  const invitation = { roomId, sender: ME, userId: BOB };
  answer = (event) => event;
  await expect(acts.invite(invitation)).rejects.toMatchObject({ kind: 'unusable-answer' });
  answer = (event) => signEvent({ ...event, depth: 99 }, rules, B, keyOf(B));
  await expect(acts.invite(invitation)).rejects.toMatchObject({ kind: 'unusable-answer' });
  answer = (event) => signEvent(event, rules, B, { ...keyOf(B), privateKey: keyOf(A).privateKey });
  await expect(acts.invite(invitation)).rejects.toMatchObject({ kind: 'unusable-answer' });
  answer = () => {
    throw new FederationError(B, 'timeout', 'silence');
  };
  await expect(acts.invite(invitation)).rejects.toMatchObject({ kind: 'no-resident' });
  expect(await state()).toEqual(before);
  answer = (event) => signEvent(event, rules, B, keyOf(B));
  await acts.invite(invitation);
  expect(handed.at(-1)).toMatchObject({ server: B, roomVersion: '11' });
  expect(handed.at(-1)!.inviteRoomState.map(({ type }) => type)).toContain('m.room.create');
  const [invited] = (await state()).extremities;
  expect((await readEventStates(here.store, roomId, [invited!])).get(invited!)).toMatchObject({ verdict: 'accepted' });
  const asked = handed.length;
  await expect(acts.invite({ ...invitation, sender: `@you:${US}` as UserId })).rejects.toMatchObject({
    kind: 'forbidden',
  });
  await expect(acts.invite({ ...invitation, roomId: '!none:us.test' as RoomId })).rejects.toMatchObject({
    kind: 'forbidden',
  });
  expect(handed).toHaveLength(asked);
});

test('an invite that answers a knock before the resident does stays', async () => {
  const here = await startKnocking();
  here.script.answer = async () => {
    await receiveInvite(here.context, here.handed());
    return [NAME];
  };
  await here.knock();
  expect(await here.held()).toMatchObject({ membership: 'invite', eventId: here.invited });
  expect(await here.finish()).toBe(0);
});

test('a knock that is refused before its answer comes is over, and so it stays', async () => {
  const here = await startKnocking();
  here.script.answer = async () => {
    const { room, small } = here;
    const [knock] = await readOpenKnocks(here.store, [here.roomId]);
    const graph = { prev: [small.message], auth: [...small.auth, small.aliceJoin, knock!.eventId] };
    const refused = room.make(ALICE, 'm.room.member', ME, { membership: 'leave' }, graph);
    const pdus = [{ roomId: here.roomId, raw: Buffer.from(JSON.stringify(room.events.get(refused))) }];
    expect(await endInvites(here.context, B, pdus, signal)).toEqual([]);
    expect(await endInvites(here.context, A, pdus, signal)).toEqual([refused]);
    return [NAME];
  };
  await here.knock();
  expect(await here.held()).toMatchObject({ membership: 'leave' });
});

test('a knock whose fate is unclear can be taken back, and the resident is told, also of one that is taken later', async () => {
  const here = await startKnocking();
  here.script.answer = () => Promise.reject(new FederationError(A, 'timeout', 'silence'));
  await expect(here.knock()).rejects.toBeInstanceOf(Error);
  expect(await here.decline()).toBe(true);
  expect(await readJoinIntents(here.store, here.roomId, ME)).toMatchObject([{ what: 'leave', eventId: here.sent[0] }]);
  const sent = here.sent.length;
  await here.finish();
  expect(here.sent).toHaveLength(sent);
  expect(await here.held()).toBeUndefined();
  await here.store.query('DELETE FROM join_intents');
  expect(await here.decline()).toBe(false);
  here.script.answer = async () => {
    expect(await here.decline()).toBe(true);
    return [NAME];
  };
  await here.knock();
  expect(await here.held()).toBeUndefined();
  expect(await readJoinIntents(here.store, here.roomId, ME)).toMatchObject([{ what: 'leave' }]);
});
