import { expect, onTestFinished, test, vi } from 'vitest';
import { createServiceClient } from '../../src/app-services/ask-service.ts';
import { createMatching } from '../../src/app-services/matching.ts';
import { type AppService } from '../../src/app-services/registration.ts';
import { createSteering } from '../../src/app-services/steering.ts';
import { type Telling, startTelling } from '../../src/app-services/telling.ts';
import { type EventId, type UserId } from '../../src/matrix/identifiers.ts';
import { startReceiver } from '../../src/rooms/receive/receive.ts';
import { changeMembership } from '../../src/rooms/send/change-membership.ts';
import { sendEvent } from '../../src/rooms/send/send-event.ts';
import {
  beginTransaction,
  endLease,
  ensureServices,
  leaseTransaction,
  postponeTransaction,
  readServiceLags,
  readServices,
  settleTransaction,
} from '../../src/store/tables/app-services.ts';
import { endOutside, readOutside, upsertOutside } from '../../src/store/tables/outside-memberships.ts';
import {
  A,
  ALICE,
  ME,
  type ScriptedRejoinder,
  US,
  honestScript,
  smallRoom,
  startScripted,
} from '../support/scripted-room.ts';
import { type TestService, serviceOf, startTestService } from './service-of-tests.ts';

const GHOST = `@ghost_1:${US}` as UserId;
const soon = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 20_000, interval: 20 });

interface Here extends ScriptedRejoinder {
  readonly small: ReturnType<typeof smallRoom>;
  readonly remote: TestService;
  readonly service: AppService;
  readonly failures: string[];
  readonly tell: (service?: AppService) => Telling;
  readonly say: (body: string, sender?: UserId) => Promise<EventId>;
  /** Ids of what the service was told, in order. */
  readonly told: () => unknown[];
  readonly looked: () => ReadonlyMap<string, number>;
  readonly steering: () => ReturnType<typeof createSteering>;
}

async function startHere(changes: Readonly<Record<string, unknown>> = {}): Promise<Here> {
  const small = smallRoom();
  const tellings: Telling[] = [];
  const onAppended = (): void => tellings.forEach((telling) => telling.poke());
  const here = await startScripted(small.room, honestScript(small), { onAppended });
  const remote = await startTestService();
  const service = serviceOf(US, { url: remote.url, ...changes });
  const client = createServiceClient('tests');
  onTestFinished(() => client.close());
  const failures: string[] = [];
  const { context } = here;
  return {
    ...here,
    ...{ small, remote, service, failures },
    tell: (other = service) => {
      const telling = startTelling(
        { ...context, client, matching: createMatching([other]), onFailure: (id) => failures.push(id) },
        [other],
      );
      tellings.push(telling);
      onTestFinished(() => telling.close());
      return telling;
    },
    say: (body, sender = ME) =>
      sendEvent(context, small.room.roomId, { sender, type: 'm.room.message', content: { body } }),
    told: () => remote.events().map((event) => event['event_id']),
    looked: () => lookedOf(tellings),
    steering: () =>
      createSteering({
        ...context,
        services: [service],
        looked: lookedOf(tellings),
        poke: () => tellings.forEach((telling) => telling.poke()),
      }),
  };
}

/** How far each service was looked for, by whoever did last. */
const lookedOf = (tellings: readonly Telling[]): ReadonlyMap<string, number> =>
  new Map(tellings.flatMap(({ looked }) => [...looked]));

/** It has been told all there is. */
const caughtUp = (here: Here, id = 'bridge'): Promise<void> =>
  vi.waitFor(async () => expect((await readServiceLags(here.store, [id], here.looked()))[0]?.positions).toBe(0), {
    timeout: 20_000,
  });

test('a service whose user is in a partial room is told what is said there, in order, and nothing of before it was there', async () => {
  const here = await startHere();
  here.tell();
  await caughtUp(here);
  await here.join(ME);
  await here.say('before');
  const joined = await here.join(GHOST);
  expect((await here.state()).phase).not.toBe('complete');
  const said = [await here.say('one'), await here.say('two', GHOST)];
  const { room, message, aliceJoin, auth } = here.small;
  const receiver = startReceiver(here.context);
  onTestFinished(() => receiver.close());
  const pushed = room.make(
    ALICE,
    'm.room.topic',
    '',
    { topic: 'ours' },
    { prev: [message], auth: [...auth.slice(0, 2), aliceJoin] },
  );
  await receiver.receiveTransaction(A, 'one', { pdus: [{ raw: room.raw(pushed), roomId: room.roomId }] });
  await soon(() => expect(here.told()).toEqual([joined, ...said, pushed]));
  expect(here.remote.events()[1]).toMatchObject({
    ...{ type: 'm.room.message', room_id: room.roomId, sender: ME, content: { body: 'one' } },
    unsigned: { age: expect.any(Number) as number },
  });
  expect(new Set(here.remote.asked.map(({ authorization }) => authorization))).toEqual(new Set(['Bearer hs-secret']));
  // What becomes whole meanwhile is told once.
  expect(await here.resync()).toMatchObject({ phase: 'complete' });
  const last = await here.say('whole');
  await soon(() => expect(here.told()).toEqual([joined, ...said, pushed, last]));
});

test('a service that is down gets the same transaction again when it is back, and what was said meanwhile, each event once', async () => {
  const here = await startHere();
  here.remote.answer = () => 502;
  const first = here.tell();
  await caughtUp(here);
  const joined = await here.join(GHOST);
  await soon(() => expect(here.failures).toEqual(['bridge']));
  const [tried] = here.remote.asked;
  // A process that is killed over it leaves it to the next.
  here.remote.answer = () => null;
  here.wait(2_000);
  await soon(() => expect(here.remote.asked).toHaveLength(2));
  await first.close();
  const said = [await here.say('while it is down', GHOST), await here.say('still', GHOST)];
  here.remote.answer = () => 200;
  here.tell();
  await soon(() => expect(here.told()).toEqual([joined, ...said]));
  expect(here.remote.asked.slice(0, 3)).toEqual([tried, tried, tried]);
  expect(here.remote.asked).toHaveLength(4);
});

test('pauses grow to five minutes at the most, and end when the service is heard from', async () => {
  const here = await startHere();
  here.remote.answer = () => 500;
  const telling = here.tell();
  await caughtUp(here);
  await here.join(GHOST);
  for (const [tries, pause] of [
    [1, 1_000],
    [2, 2_000],
    [3, 4_000],
  ] as const) {
    await soon(() => expect(here.failures).toHaveLength(tries));
    here.wait(pause);
  }
  await soon(() => expect(here.failures).toHaveLength(4));
  await here.store.query('UPDATE app_services SET failures = 20, retry_at = 0');
  await soon(() => expect(here.failures).toHaveLength(5));
  const [row] = await here.store.query<{ pause: number }>(`SELECT retry_at - $1::bigint AS pause FROM app_services`, [
    here.context.clock.now(),
  ]);
  expect(row?.pause).toBe(300_000);
  here.remote.answer = () => 200;
  telling.retry('bridge');
  await soon(() => expect(here.told()).toHaveLength(1));
});

test('what was said before a user of a service left is told although it was down then, and what is said after is not', async () => {
  const here = await startHere();
  const first = here.tell();
  await caughtUp(here);
  await first.close();
  await here.join(ME);
  const { roomId } = here.small.room;
  const told = [await here.join(GHOST), await here.say('before he left')];
  await changeMembership(here.context, { roomId, sender: GHOST, act: 'leave', userId: GHOST });
  await here.say('after he left');
  const [left] = await here.store.query<{ id: EventId }>(
    `SELECT event_id AS id FROM local_members WHERE user_id = $1`,
    [GHOST],
  );
  here.tell();
  await caughtUp(here);
  expect(here.told()).toEqual([...told, left?.id]);
});

test('what was said while a user of a service was there is told, however many others have come and gone since', async () => {
  const here = await startHere();
  here.changedByHand();
  const first = here.tell();
  await caughtUp(here);
  await first.close();
  await here.join(ME);
  const { roomId } = here.small.room;
  const told = [await here.join(GHOST), await here.say('before he left')];
  await changeMembership(here.context, { roomId, sender: GHOST, act: 'leave', userId: GHOST });
  // They are looked at before him, in whatever order rows are read.
  await here.store.query(
    `INSERT INTO local_members (room_id, user_id, membership, event_id)
     SELECT room_id, '@ghost_0' || i || ':us.test', membership, event_id FROM local_members, generate_series(1, 2500) AS i
      WHERE user_id = $1`,
    [GHOST],
  );
  await here.store.query(`UPDATE local_members SET membership = membership WHERE user_id = $1`, [GHOST]);
  here.tell();
  await caughtUp(here);
  expect(here.told().slice(0, 2)).toEqual(told);
});

test('a process that was suspended past its lease leaves what another has begun', async () => {
  const here = await startHere();
  await here.join(GHOST);
  const nothing = here.tell();
  await caughtUp(here);
  await nothing.close();
  await here.say('one', GHOST);
  const { store } = here;
  const stateOf = async () => (await readServices(store, ['bridge'])).services[0]!;
  const row = () => store.query(`SELECT * FROM app_services`);
  const { sent } = await stateOf();
  const service = { serviceId: 'bridge', sent };
  const ofOne = { txnId: 'one', positions: [sent + 1], ephemeral: [], upTo: sent + 1, madeAt: 1 };
  const now = here.context.clock.now();
  const first = (await beginTransaction(store, service, ofOne, 60_000))!;
  // Nobody else begins another, or takes this one, while it lasts.
  expect(await beginTransaction(store, service, { ...ofOne, txnId: 'two' }, 60_000)).toBeUndefined();
  expect(await leaseTransaction(store, first, { now, leaseMs: 60_000 })).toBeUndefined();
  // It has ended; as 60 seconds later, for two leases that are taken within one millisecond never are two at once.
  await store.query(`UPDATE app_services SET leased_until = 0`);
  const second = (await leaseTransaction(store, first, { now, leaseMs: 120_000 }))!;
  const before = await row();
  expect(await settleTransaction(store, first)).toBe(false);
  await postponeTransaction(store, first, { at: 1, retryAt: 2, failure: 'late' });
  await endLease(store, first);
  expect(await row()).toEqual(before);
  expect(await settleTransaction(store, second)).toBe(true);
  // Whoever looked before that begins nothing that was told.
  expect(await beginTransaction(store, service, ofOne, 60_000)).toBeUndefined();
  expect(await stateOf()).toMatchObject({ sent: sent + 1, transaction: undefined });
});

test('a transaction that an older program has begun carries nothing that passed when another was made', async () => {
  const { store, join } = await startHere();
  await join(GHOST);
  await ensureServices(store, ['rolled']);
  const { sent } = (await readServices(store, ['rolled'])).services[0]!;
  const edus = [{ type: 'm.typing' }];
  const made = { txnId: 'new', positions: [1], ephemeral: edus, upTo: sent + 1, madeAt: 1 };
  await beginTransaction(store, { serviceId: 'rolled', sent }, made, 60_000);
  const transaction = async () => (await readServices(store, ['rolled'])).services[0]!.transaction;
  expect(await transaction()).toMatchObject({ txnId: 'new', ephemeral: edus });
  // It knows nothing of the column.
  await store.query(
    `UPDATE app_services SET txn_id = 'old', txn_positions = '{2}', txn_up_to = 2 WHERE service_id = 'rolled'`,
  );
  expect(await transaction()).toMatchObject({ txnId: 'old', ephemeral: [] });
});

test('a service is told of rooms in its namespaces, by id and by alias, and of nothing else', async () => {
  const here = await startHere({ namespaces: { rooms: [{ regex: '!scripted:a\\.test' }] } });
  here.tell();
  await caughtUp(here);
  const joined = await here.join(ME);
  await soon(() => expect(here.told()).toEqual([joined]));
  const named = {
    ...here.service,
    id: 'named',
    namespaces: serviceOf(US, { namespaces: { aliases: [{ regex: '#x' }] } }).namespaces,
  };
  const other = { ...serviceOf(US, { id: 'other', url: here.remote.url }) };
  here.tell(named);
  here.tell(other);
  await vi.waitFor(async () => expect((await readServices(here.store, ['named', 'other'])).services).toHaveLength(2));
  const before = here.remote.events().length;
  await here.say('not for the named one');
  await soon(() => expect(here.remote.events()).toHaveLength(before + 1));
  await caughtUp(here, 'named');
  await here.store.query(
    `INSERT INTO room_aliases (alias, room_id, creator, created_at) VALUES ('#x:us.test', $1, $2, 1)`,
    [here.small.room.roomId, ME],
  );
  here.changedByHand();
  await here.say('for both');
  await soon(() => expect(here.remote.events()).toHaveLength(before + 3));
});

test('an invite to a room that nobody of us is in, or a knock at one, is told with what the room is, and one that is over before that is not', async () => {
  const here = await startHere();
  here.changedByHand();
  const { room } = here.small;
  const invite = (userId: UserId, eventId: string, membership = 'invite') => {
    const event = { type: 'm.room.member', state_key: userId, sender: ALICE, content: { membership } };
    const row = { roomId: room.roomId, userId, membership, eventId, roomVersion: '11', sender: ALICE, server: A };
    const name = { type: 'm.room.name', state_key: '', sender: ALICE, content: { name: 'Theirs' } };
    return upsertOutside(here.store, row as never, JSON.stringify(event), JSON.stringify([name]));
  };
  here.tell();
  await caughtUp(here);
  await invite(ME, '$me');
  await invite(GHOST, '$ghost');
  await soon(() => expect(here.told()).toEqual(['$ghost']));
  expect(here.remote.events()[0]).toMatchObject({
    ...{ room_id: room.roomId, state_key: GHOST, content: { membership: 'invite' } },
    unsigned: { invite_room_state: [{ type: 'm.room.name' }] },
  });
  await invite(`@ghost_3:${US}` as UserId, '$knock', 'knock');
  await soon(() => expect(here.told()).toEqual(['$ghost', '$knock']));
  expect(here.remote.events()[1]).toMatchObject({ content: { membership: 'knock' } });
  expect(here.remote.events()[1]!['unsigned']).toEqual({
    knock_room_state: [expect.objectContaining({ type: 'm.room.name' })],
  });
  here.remote.answer = () => 500;
  await invite(`@ghost_2:${US}` as UserId, '$late');
  await soon(() => expect(here.failures).toHaveLength(1));
  await endOutside(here.store, (await readOutside(here.store, room.roomId, `@ghost_2:${US}` as UserId))!);
  here.remote.answer = () => 200;
  here.wait(2_000);
  await caughtUp(here);
  expect(here.told()).toEqual(['$ghost', '$knock']);
});

test('an event is told as its redaction leaves it', async () => {
  const here = await startHere();
  const first = here.tell();
  await caughtUp(here);
  await first.close();
  await here.join(GHOST);
  const said = await here.say('a secret', GHOST);
  await sendEvent(here.context, here.small.room.roomId, {
    ...{ sender: GHOST, type: 'm.room.redaction', content: { redacts: said } },
  });
  here.tell();
  await caughtUp(here);
  const told = here.remote.events().find((event) => event['event_id'] === said);
  expect(told).toMatchObject({ content: {}, unsigned: { redacted_because: { type: 'm.room.redaction' } } });
});

test('many events are told a hundred at a time, and a service that wants nothing has no position', async () => {
  const here = await startHere();
  here.tell(serviceOf(US, { url: null }));
  const first = here.tell();
  await caughtUp(here);
  await first.close();
  const ids = [await here.join(GHOST)];
  for (let i = 0; i < 120; i += 1) ids.push(await here.say(`${i}`, GHOST));
  here.tell();
  await soon(() => expect(here.told()).toEqual(ids));
  const sizes = here.remote.asked.map(({ body }) => (JSON.parse(body) as { events: unknown[] }).events.length);
  expect(sizes).toEqual([100, 21]);
});

test('what does not concern a service costs no write', async () => {
  const here = await startHere({ namespaces: {} });
  const first = here.tell();
  await caughtUp(here);
  const row = () => here.store.query(`SELECT xmin::text, s.* FROM app_services s`);
  const before = await row();
  await here.join(ME);
  for (let i = 0; i < 5; i += 1) await here.say(`${i}`);
  await caughtUp(here);
  expect(await row()).toEqual(before);
  // It is written down now and then, so that whoever starts looks at little again.
  here.wait(300_000);
  first.poke();
  await vi.waitFor(async () => expect(await row()).not.toEqual(before), { timeout: 20_000 });
  const { head, services } = await readServices(here.store, ['bridge']);
  expect(services[0]).toMatchObject({ sent: head, transaction: undefined });
  expect(here.remote.asked).toEqual([]);
});

test('a transaction that a service refuses is seen by operators, and what comes after it is told when they skip it', async () => {
  const here = await startHere();
  here.remote.answer = () => 400;
  here.tell();
  await caughtUp(here);
  const joined = await here.join(GHOST);
  await soon(() => expect(here.failures).toEqual(['bridge']));
  const steering = here.steering();
  const failing = async () =>
    vi.waitFor(async () => {
      const [status] = await steering.list();
      expect(status).toMatchObject({ id: 'bridge', state: 'failing', lastFailure: 'it answered 400: {}' });
      return status!;
    });
  const { transaction, position, ...status } = await failing();
  expect(status).toMatchObject({ failures: 1, failedSince: expect.any(Number), oldestAt: expect.any(Number) });
  expect(status.retryAt).toBeGreaterThan(here.context.clock.now());
  expect(transaction).toMatchObject({ events: 1, ephemeral: 0 });
  const said = await here.say('after it', GHOST);
  const by = { by: 'a test', reason: 'it is poison' };
  expect(await steering.skip('bridge', 'another', by)).toEqual({ outcome: 'other', waiting: transaction!.txnId });
  expect(await steering.skip('unknown', transaction!.txnId, by)).toEqual({ outcome: 'unknown' });
  expect(await steering.retry('unknown', by)).toBe(false);
  // It is sent at once when they say so.
  expect(await steering.retry('bridge', by)).toBe(true);
  await soon(() => expect(here.failures).toHaveLength(2));
  here.remote.answer = () => 200;
  const { roomId } = here.small.room;
  const skipped = await steering.skip('bridge', transaction!.txnId, by);
  expect(skipped).toEqual({ outcome: 'skipped', events: [{ eventId: joined, roomId }] });
  expect(await steering.skip('bridge', transaction!.txnId, by)).not.toMatchObject({ outcome: 'skipped' });
  await soon(() => expect(here.told()).toEqual([said]));
  await caughtUp(here);
  const [after] = await steering.list();
  expect(after).toMatchObject({ state: 'up-to-date', failures: 0, lastFailure: null, transaction: null, lag: 0 });
  expect(after!.position).toBeGreaterThan(position!);
});

test('all that waits for a service is given up at once, and a service that is registered no more is seen', async () => {
  const here = await startHere();
  here.remote.answer = () => 500;
  here.tell();
  await caughtUp(here);
  await here.join(GHOST);
  await here.say('not told', GHOST);
  await soon(() => expect(here.failures).toHaveLength(1));
  await vi.waitFor(async () => expect((await readServices(here.store, null)).services[0]?.isFree).toBe(true));
  const steering = here.steering();
  expect(await steering.skipAll('unknown', { by: 'a test' })).toBeUndefined();
  here.remote.answer = () => 200;
  const skipped = await steering.skipAll('bridge', { by: 'a test' });
  expect(skipped!.upTo).toBeGreaterThan(skipped!.after);
  const said = await here.say('told', GHOST);
  await soon(() => expect(here.told()).toEqual([said]));
  await here.store.query(`UPDATE app_services SET service_id = 'gone'`);
  expect(await steering.list()).toMatchObject([
    { id: 'bridge', position: null },
    { id: 'gone', state: 'unregistered', url: null },
  ]);
});

test('services that want to be are told what passes in their rooms, by the name that they know it under, and nothing of other rooms', async () => {
  const here = await startHere({ receive_ephemeral: true, 'de.sorunome.msc2409.push_ephemeral': true });
  here.tell();
  await caughtUp(here);
  const { roomId } = here.small.room;
  await here.join(ME);
  const passes = async (room: string, user: UserId): Promise<void> => {
    const typists = JSON.stringify([{ userId: user, until: 1, toldAt: 0 }]);
    const receipts: [UserId, string, string][] = [
      [user, 'm.read', '$read'],
      [user, 'm.read.private', '$private'],
      [GHOST, 'm.read.private', '$own'],
    ];
    await here.store.inTransaction(async (tx) => {
      const [head] = await tx.query<{ position: number }>(
        'UPDATE journal_head SET position = position + 1 RETURNING position',
      );
      const { position } = head!;
      await tx.query(`INSERT INTO room_typing (room_id, typists, position) VALUES ($1, $2, $3)`, [
        room,
        typists,
        position,
      ]);
      for (const [userId, type, eventId] of receipts) {
        await tx.query(
          `INSERT INTO receipts (room_id, user_id, type, thread_id, event_id, at, position, is_untold)
           VALUES ($1, $2, $3, '', $4, 7, $5, false)`,
          [room, userId, type, eventId, position],
        );
      }
      await tx.query(
        `INSERT INTO presence (user_id, server_name, presence, currently_active, said_at, position) VALUES ($1, 'x', 'online', true, 1, $2)`,
        [room === roomId ? user : `@stranger:${A}`, position],
      );
      await tx.query(`INSERT INTO directory_members (user_id, room_id) VALUES ($1, $2)`, [user, room]);
    });
  };
  here.changedByHand();
  // Nobody of the service is in the room yet, nor ever in the other one.
  await passes('!other:a.test', ALICE);
  await caughtUp(here);
  expect(here.remote.asked).toEqual([]);
  const joined = await here.join(GHOST);
  await soon(() => expect(here.told()).toEqual([joined]));
  await passes(roomId, ALICE);
  const body = await vi.waitFor(
    () => {
      const [, one] = here.remote.asked;
      expect(one).toBeDefined();
      return JSON.parse(one!.body) as Record<string, unknown>;
    },
    { timeout: 20_000 },
  );
  const ephemeral = [
    { type: 'm.typing', room_id: roomId, content: { user_ids: [ALICE] } },
    {
      ...{ type: 'm.receipt', room_id: roomId },
      content: { $read: { 'm.read': { [ALICE]: { ts: 7 } } }, $own: { 'm.read.private': { [GHOST]: { ts: 7 } } } },
    },
    { type: 'm.presence', sender: ALICE, content: { presence: 'online', currently_active: true } },
  ];
  expect(body).toEqual({ events: [], ephemeral, 'de.sorunome.msc2409.ephemeral': ephemeral });
});
