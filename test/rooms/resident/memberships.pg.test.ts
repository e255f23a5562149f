import { describe, expect, test } from 'vitest';
import { type EventId, type RoomId, type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../../src/matrix/pdu.ts';
import { verifyEventSignature } from '../../../src/matrix/signing/signatures.ts';
import { residentMemberships } from '../../../src/rooms/resident/memberships.ts';
import { changeMembership } from '../../../src/rooms/send/change-membership.ts';
import { sendEvent } from '../../../src/rooms/send/send-event.ts';
import { shareOutRoom } from '../../../src/sending/share-out.ts';
import { readEventStates } from '../../../src/store/events/event-states.ts';
import { readPdus } from '../../../src/store/events/pdus.ts';
import { readStanding } from '../../../src/store/journal/rooms.ts';
import { JoinedServers } from '../../../src/store/snapshots/joined-servers.ts';
import { readSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { readStateKeys } from '../../../src/store/snapshots/state-keys.ts';
import { leaseOutgoingRooms, readOwedEvents } from '../../../src/store/tables/deliveries.ts';
import { keyOf } from '../../matrix/sample-event.ts';
import { A, B, ME, US, honestScript, smallRoom, startScripted } from '../../support/scripted-room.ts';
import { statementsOf } from '../../support/statements.ts';
import { CAROL, type HostedRoom, hostRoom, read, signal } from './hosted-room.ts';

const DAVE = `@dave:${B}` as UserId;

async function membershipOf({ store, roomId }: HostedRoom, userId: UserId, ofRoom = roomId) {
  const { currentState } = (await readStanding(store, ofRoom))!;
  const [member] = await readSnapshot(store, ofRoom, currentState!, { userIds: [userId] });
  return member?.membership ?? null;
}

const typesOf = (events: readonly JsonObject[]) => events.map(({ type }) => type).sort();

/** What each of the servers is owed, by event id. */
async function owed({ store }: HostedRoom, server: ServerName): Promise<EventId[]> {
  for (const room of await leaseOutgoingRooms(store, 1000, 10)) {
    await shareOutRoom({ store }, new JoinedServers(), room);
  }
  const positions = (await readOwedEvents(store, server, 100, false)).map(({ position }) => position);
  const rows = await store.query<{ eventId: EventId }>(
    `SELECT event_id AS "eventId" FROM outgoing_events WHERE position = ANY ($1::bigint[]) ORDER BY position`,
    [positions],
  );
  return rows.map(({ eventId }) => eventId);
}

test.each(['1', '11', '12'])(
  'a user of another server joins a room of version %s of ours, partially, and is answered the same again',
  async (version) => {
    const here = await hostRoom(version);
    const { event, eventId, answer, sentJoin, rules } = { ...here, ...(await here.join()) };
    expect(await membershipOf(here, CAROL)).toBe('join');
    expect(JSON.parse(answer.event)).toEqual(event);
    expect(answer.serversInRoom).toEqual([US]);
    const [state, chain] = [await read(answer.state), await read(answer.authChain)];
    expect(typesOf(state)).not.toContain('m.room.member');
    expect(typesOf(state)).toContain('m.room.create');
    expect(typesOf(chain)).toEqual(['m.room.member']);
    for (const held of [...state, ...chain]) {
      const ours = keyOf(US);
      expect(verifyEventSignature(held, rules, US, ours.keyId, ours.publicKey)).toEqual({ ok: true });
    }
    const again = await here.memberships.sendJoin(sentJoin);
    expect(typesOf(await read(again.state))).toEqual(typesOf(state));
    expect((await readEventStates(here.store, here.roomId, [eventId])).get(eventId)).toMatchObject({
      verdict: 'accepted',
    });
  },
);

test('who asks for members is given the whole state, and a chain that is complete by itself', async () => {
  const here = await hostRoom();
  await here.join(DAVE);
  const { answer } = await here.join(CAROL, false);
  const [state, chain] = [await read(answer.state), await read(answer.authChain)];
  expect(answer.serversInRoom).toBeNull();
  expect(
    state
      .filter(({ type }) => type === 'm.room.member')
      .map(({ state_key: of }) => of)
      .sort(),
  ).toEqual([DAVE, ME]);
  expect(typesOf(chain)).toContain('m.room.create');
  const ids = new Set(chain.map(here.idOf));
  const cited = [...state, ...chain].flatMap(({ auth_events: auth }) => auth as EventId[]);
  expect(cited.filter((id) => !ids.has(id))).toEqual([]);
});

test('of a room without a name the partial answer holds those that it is called by, and the joiner as he was', async () => {
  const here = await hostRoom('11', { name: undefined });
  await here.join(CAROL);
  const leave = here.complete((await here.template('leave')).event);
  await here.memberships.sendLeave(here.sent('leave', leave));
  const { answer } = await here.join(CAROL);
  const members = (await read(answer.state)).filter(({ type }) => type === 'm.room.member');
  expect(members.map(({ state_key: of, content }) => [of, (content as JsonObject)['membership']]).sort()).toEqual([
    [CAROL, 'leave'],
    [ME, 'join'],
  ]);
});

test('the others of the room are sent the join, and the one who joined is not', async () => {
  const here = await hostRoom();
  const dave = await here.join(DAVE);
  expect(await owed(here, B)).toEqual([]);
  const carol = await here.join(CAROL);
  const said = await sendEvent(here.context, here.roomId, {
    sender: ME,
    type: 'm.room.message',
    content: { body: 'hi' },
  });
  expect(await owed(here, B)).toEqual([carol.eventId, said]);
  expect(await owed(here, A)).toEqual([said]);
  // A second user of a server that is in the room already.
  const erin = await here.join(`@erin:${B}` as UserId);
  expect(await owed(here, A)).toEqual([said, erin.eventId]);
  expect(await owed(here, B)).toEqual([carol.eventId, said]);
  expect((await readStanding(here.store, here.roomId))!.extremities).toEqual([erin.eventId]);
  expect(dave.answer.serversInRoom).toEqual([US]);
  expect([...erin.answer.serversInRoom!].sort()).toEqual([A, B, US].sort());
});

test('who has joined leaves again through us', async () => {
  const here = await hostRoom();
  await here.join();
  const { roomVersion, event } = await here.template('leave');
  expect(roomVersion).toBe('11');
  const leave = here.complete(event, { content: { membership: 'leave', reason: 'enough' } });
  await here.memberships.sendLeave(here.sent('leave', leave));
  expect(await membershipOf(here, CAROL)).toBe('leave');
  await expect(here.template('leave')).rejects.toMatchObject({ kind: 'forbidden' });
});

test('who knocks is told which room it is, and may be let in', async () => {
  const here = await hostRoom('11', {
    initialState: [{ type: 'm.room.join_rules', stateKey: '', content: { join_rule: 'knock' } }],
  });
  await expect(here.template('join')).rejects.toMatchObject({ kind: 'forbidden' });
  const knock = here.complete((await here.template('knock')).event);
  const told = await here.memberships.sendKnock(here.sent('knock', knock));
  expect(typesOf(told)).toEqual(['m.room.create', 'm.room.join_rules', 'm.room.name']);
  expect(told.find(({ type }) => type === 'm.room.name')).toEqual({
    ...{ type: 'm.room.name', state_key: '', sender: ME, content: { name: 'Hosted' } },
  });
  expect(await membershipOf(here, CAROL)).toBe('knock');
});

describe('a restricted room', () => {
  async function restricted(version: string, rule: string) {
    const here = await hostRoom(version);
    const allow = (roomIds: readonly string[], userId = ME) => ({
      ...{ sender: userId, type: 'm.room.join_rules', stateKey: '' },
      content: { join_rule: rule, allow: roomIds.map((id) => ({ type: 'm.room_membership', room_id: id })) },
    });
    const inner = await here.host();
    await sendEvent(here.context, inner, allow([here.roomId]));
    return { ...here, inner, allow };
  }

  test.each([
    ['8', 'restricted'],
    ['11', 'knock_restricted'],
  ])('of version %s (%s) lets in by our signature who is in the room that it names', async (version, rule) => {
    const here = await restricted(version, rule);
    await expect(here.template('join', CAROL, here.inner)).rejects.toMatchObject({ kind: 'forbidden' });
    await here.join(CAROL);
    const { answer, event } = await here.join(CAROL, true, here.inner);
    expect(event['content']).toEqual({ membership: 'join', join_authorised_via_users_server: ME });
    const signed = JSON.parse(answer.event) as JsonObject;
    const ours = keyOf(US);
    expect(verifyEventSignature(signed, here.rules, US, ours.keyId, ours.publicKey)).toEqual({ ok: true });
    expect(signed).toMatchObject({ content: event['content'], signatures: { [A]: expect.anything() as unknown } });
    expect(await membershipOf(here, CAROL, here.inner)).toBe('join');
  });

  test('lets nobody in by our signature who is in none of them, whatever his server says', async () => {
    const here = await restricted('11', 'restricted');
    await here.join(DAVE);
    const { event } = await here.template('join', DAVE, here.inner);
    const content = { membership: 'join', join_authorised_via_users_server: ME };
    const claimed = here.complete(event, {
      sender: CAROL,
      state_key: CAROL,
      content,
      auth_events: event['auth_events']!,
    });
    const join = here.sent('join', claimed, { roomId: here.inner });
    await expect(here.memberships.sendJoin({ ...join, omitMembers: true })).rejects.toMatchObject({
      kind: 'forbidden',
    });
    expect(await membershipOf(here, CAROL, here.inner)).toBeNull();
  });

  test('says so where the rooms are unknown here, or nobody of ours may let anybody in', async () => {
    const here = await restricted('11', 'restricted');
    await sendEvent(here.context, here.inner, here.allow(['!elsewhere:b.test']));
    await expect(here.template('join', CAROL, here.inner)).rejects.toMatchObject({ kind: 'unable-to-authorise' });
    await sendEvent(here.context, here.inner, here.allow([here.roomId]));
    const levels = { users: { [ME]: 100 }, invite: 101 };
    await sendEvent(here.context, here.inner, {
      sender: ME,
      type: 'm.room.power_levels',
      stateKey: '',
      content: levels,
    }).catch(() => undefined);
    await here.join(CAROL);
    const low = { users: { [ME]: 50 }, invite: 60, users_default: 0 };
    await sendEvent(here.context, here.inner, { sender: ME, type: 'm.room.power_levels', stateKey: '', content: low });
    await expect(here.template('join', CAROL, here.inner)).rejects.toMatchObject({ kind: 'unable-to-grant' });
  });
});

describe('what is sent wrongly is refused and leaves nothing behind:', () => {
  const cases: readonly [
    what: string,
    kind: string,
    wrong: (here: HostedRoom, event: JsonObject) => Parameters<HostedRoom['sent']>,
  ][] = [
    ['an event of another room', 'malformed', (h, e) => ['join', h.complete(e, { room_id: `!other:${US}` })]],
    [
      'another id than the path names',
      'malformed',
      (h, e) => ['join', h.complete(e), { eventId: '$other' as EventId }],
    ],
    ['a user of another server', 'forbidden', (h, e) => ['join', h.complete(e), { server: B }]],
    ['no join', 'malformed', (h, e) => ['join', h.complete(e, { content: { membership: 'leave' } })]],
    ['a message', 'malformed', (h, e) => ['join', h.complete(e, { type: 'm.room.message' })]],
    ['a join of somebody else', 'malformed', (h, e) => ['join', h.complete(e, { state_key: DAVE })]],
    ['a signature of another', 'forbidden', (h, e) => ['join', h.complete(e, {}, B)]],
    [
      'a content changed after signing',
      'malformed',
      (h, e) => ['join', { ...h.complete(e), content: { membership: 'join', x: 1 } }],
    ],
    ['parents that nobody here has', 'busy', (h, e) => ['join', h.complete(e, { prev_events: ['$nobody'] })]],
    ['something that is no event', 'malformed', () => ['join', { hello: 'world' }, { eventId: '$x' as EventId }]],
  ];
  test('events that are not the join of who sends them', async () => {
    const here = await hostRoom();
    const { event } = await here.template('join');
    const before = await readStanding(here.store, here.roomId);
    for (const [what, kind, wrong] of cases) {
      const args = wrong(here, event);
      const sent = here.sent(...args);
      await expect(here.memberships.sendJoin({ ...sent, omitMembers: true }), what).rejects.toMatchObject({ kind });
      expect(await readStanding(here.store, here.roomId), what).toEqual(before);
      expect(await readPdus(here.store, here.roomId, 'type' in args[1] ? [here.idOf(args[1])] : []), what).toEqual([]);
    }
    expect(await membershipOf(here, CAROL)).toBeNull();
  });

  test('a join of who was banned since he was given the template', async () => {
    const here = await hostRoom();
    const join = here.complete((await here.template('join')).event);
    await changeMembership(here.context, { roomId: here.roomId, sender: ME, act: 'ban', userId: CAROL });
    const sent = { ...here.sent('join', join), omitMembers: true };
    await expect(here.memberships.sendJoin(sent)).rejects.toMatchObject({ kind: 'forbidden' });
    expect(await membershipOf(here, CAROL)).toBe('ban');
    await expect(here.template('join')).rejects.toMatchObject({ kind: 'forbidden' });
  });
});

test('an accepted join that is sent again gives nothing once its sender is banned, nor does another event under its id', async () => {
  const here = await hostRoom('1');
  const { event, sentJoin } = await here.join();
  const other = here.complete(event, { depth: 77, event_id: event['event_id']! });
  await expect(here.memberships.sendJoin({ ...here.sent('join', other), omitMembers: true })).rejects.toMatchObject({
    kind: 'forbidden',
    message: 'another event is held under that id',
  });
  await here.memberships.sendJoin(sentJoin);
  await changeMembership(here.context, { roomId: here.roomId, sender: ME, act: 'ban', userId: CAROL });
  await expect(here.memberships.sendJoin(sentJoin)).rejects.toMatchObject({ kind: 'forbidden' });
});

test('a join that the room does not let pass leaves no place of the state behind', async () => {
  const here = await hostRoom('11');
  const join = here.complete((await here.template('join')).event);
  const rule = { sender: ME, type: 'm.room.join_rules', stateKey: '', content: { join_rule: 'invite' } };
  await sendEvent(here.context, here.roomId, rule);
  const sent = { ...here.sent('join', join), omitMembers: true };
  await expect(here.memberships.sendJoin(sent)).rejects.toMatchObject({ kind: 'forbidden' });
  expect((await readStateKeys(here.store, [{ type: 'm.room.member', stateKey: CAROL }])).size).toBe(0);
});

test('a template is for a user of who asks, of a version that he speaks, and of a room that is whole here', async () => {
  const here = await hostRoom('11');
  const asked = { change: 'join', roomId: here.roomId, userId: CAROL, server: A, versions: null } as const;
  await expect(here.memberships.template(asked)).rejects.toMatchObject({
    ...{ kind: 'incompatible-version', details: { room_version: '11' } },
  });
  await expect(here.memberships.template({ ...asked, server: B })).rejects.toMatchObject({ kind: 'forbidden' });
  const elsewhere = { ...asked, roomId: '!nothing:here.test' as RoomId };
  await expect(here.memberships.template(elsewhere)).rejects.toMatchObject({ kind: 'unknown-room' });

  const small = smallRoom();
  const partial = await startScripted(small.room, honestScript(small));
  await partial.join();
  const memberships = residentMemberships(partial.context);
  const { roomId } = small.room;
  await expect(memberships.template({ ...asked, roomId, versions: ['11'] })).rejects.toMatchObject({
    kind: 'unknown-room',
  });
  const sent = {
    change: 'join',
    roomId,
    eventId: small.message,
    server: A,
    raw: small.room.raw(small.message),
    signal,
  } as const;
  await expect(memberships.sendJoin({ ...sent, omitMembers: true })).rejects.toMatchObject({ kind: 'unknown-room' });
});

test('many servers join at once, and all are in', async () => {
  const here = await hostRoom();
  const users = Array.from({ length: 20 }, (_, i) => `@user:s${i}.test` as UserId);
  const joins = await Promise.all(users.map((userId) => here.join(userId)));
  expect(joins.map(({ answer }) => answer.serversInRoom?.includes(US))).toEqual(users.map(() => true));
  for (const userId of users) expect(await membershipOf(here, userId)).toBe('join');
});

test('of more joins of one server than it may have under way at a time the rest is told to come again', async () => {
  const here = await hostRoom();
  const users = Array.from({ length: 12 }, (_, i) => `@user${i}:${A}` as UserId);
  const events: JsonObject[] = [];
  for (const userId of users) events.push(here.complete((await here.template('join', userId)).event));
  const join = (event: JsonObject) => here.memberships.sendJoin({ ...here.sent('join', event), omitMembers: true });
  const settled = await Promise.allSettled(events.map(join));
  const refused = events.filter((_, i) => settled[i]?.status === 'rejected');
  expect(refused).toHaveLength(4);
  for (const outcome of settled) {
    if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ kind: 'busy' });
  }
  for (const event of refused) await join(event);
  for (const userId of users) expect(await membershipOf(here, userId)).toBe('join');
});

test('a join costs the database few *statements*, however many joined before', async () => {
  const here = await hostRoom();
  for (let i = 0; i < 3; i += 1) await here.join(`@user${i}:s${i}.test` as UserId);
  const event = here.complete((await here.template('join')).event);
  const sent = { ...here.sent('join', event), omitMembers: true };
  const statements = await statementsOf(async () => {
    const answer = await here.memberships.sendJoin(sent);
    await read(answer.state);
    await read(answer.authChain);
  });
  expect(statements.length).toBeLessThanOrEqual(40);
});
