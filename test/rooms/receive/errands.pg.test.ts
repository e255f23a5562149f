/** What many servers make up, and what another's events lack meanwhile. */
import { expect, onTestFinished, test } from 'vitest';
import { FederationError } from '../../../src/federation/error.ts';
import { type EventId, type ServerName, type UserId, domainOf } from '../../../src/matrix/identifiers.ts';
import { whomToAsk } from '../../../src/rooms/receive/whom-to-ask.ts';
import { readRoom } from '../../../src/store/journal/rooms.ts';
import { viewHealth } from '../../../src/rooms/resync/destination-health.ts';
import { openTestStore, openTestThreads } from '../../support/postgres.ts';
import { statementsOf } from '../../support/statements.ts';
import { A, ALICE, B, BOB, SignedRoom, openPushedRoom } from './pushed-room.ts';

const { store } = await openTestStore();
const verification = openTestThreads();

test('members on ten servers that make up parents and answer nothing keep what another lacks from nobody', async () => {
  const room = new SignedRoom();
  const users = Array.from({ length: 10 }, (_, i) => `@user:silent-${i}.test` as UserId);
  for (const user of users) room.join(user);
  const here = openPushedRoom(store, verification, { room });
  await here.join(false);
  const silent = new Set<ServerName>(users.map((user) => domainOf(user)));
  const given = here.answers.getMissingEvents;
  here.answers.getMissingEvents = (server, roomId, query, options) => {
    if (!silent.has(server)) return given(server, roomId, query, options);
    return new Promise((_, reject) => {
      options.signal.addEventListener('abort', () => reject(new Error('nobody answers')));
    });
  };
  const base = room.last;
  const madeUp = (name: string): EventId => `$${name.padEnd(43, '_')}` as EventId;
  for (const [i, user] of users.entries()) {
    const events = Array.from({ length: 10 }, (_, k) => room.message(user, 'm', [madeUp(`made-up-${i}-${k}`)]));
    await here.push(domainOf(user), events);
  }
  const isBusy = () => here.asked.filter((what) => what.startsWith('getMissingEvents silent')).length >= 8;
  await expect.poll(isBusy, { timeout: 10_000 }).toBe(true);
  const lost = room.message(ALICE, 'lost on the way', [base]);
  const after = room.message(BOB, 'after it', [lost]);
  await here.push(B, [after]);
  expect((await here.taken(lost, after)).map(({ verdict }) => verdict)).toEqual(['accepted', 'accepted']);
});

test("who was banned opens no gap by what his server makes up, and it is not asked: a resident would know the event's parents", async () => {
  const here = openPushedRoom(store, verification);
  const { room, asked } = here;
  const join = await here.join(false);
  const ban = room.say(ALICE, 'm.room.member', { membership: 'ban' }, { stateKey: BOB, prev: [join] });
  await here.push(A, [ban]);
  await here.taken(ban);
  asked.length = 0;
  const madeUp = `$${'made-up'.padEnd(43, '_')}` as EventId;
  const event = room.message(BOB, 'still here', [madeUp]);
  await here.push(B, [event]);
  const isAsked = () => asked.some((what) => what === `event ${A}`);
  await expect.poll(isAsked, { timeout: 10_000 }).toBe(true);
  expect(asked.filter((what) => what.endsWith(B))).toEqual([]);
  expect(await here.gaps(0)).toEqual([]);
});

test('a server that is left alone by all rooms is not asked for what pushed events lack: another is', async () => {
  const here = openPushedRoom(store, verification);
  const { room, asked } = here;
  const join = await here.join(false);
  await store.query(
    `INSERT INTO destinations (server_name, failures, not_before, last_failure, last_failed_at) VALUES ($1, 3, $2, 'unreachable', 0)`,
    [B, here.context.clock.now() + 600_000],
  );
  onTestFinished(async () => {
    await store.query('DELETE FROM destinations');
  });
  asked.length = 0;
  const lost = room.message(BOB, 'lost on the way', [join]);
  const after = room.message(BOB, 'after it', [lost]);
  await here.push(B, [after]);
  await here.taken(lost, after);
  // Where the turn was over before its answer was looked at, it is asked once more.
  expect(new Set(asked.map((what) => what.split(' ')[1]))).toEqual(new Set([A]));
  expect(asked[0]).toBe(`getMissingEvents ${A}`);
});

test('a server that did not answer in time lately in the room is asked last', async () => {
  const here = openPushedRoom(store, verification);
  const { context, room } = here;
  await here.join(false);
  const row = (await readRoom(store, room.roomId))!;
  const asked = (silent?: ServerName) =>
    whomToAsk(
      context,
      row,
      { name: B, isIn: true },
      {
        health: viewHealth(context),
        spending: { isSilent: (server) => server === silent },
      },
    );
  expect(await asked()).toEqual([B, A]);
  expect(await asked(B)).toEqual([A, B]);
  expect(await asked(A)).toEqual([B, A]);
});

test('a server that cannot be reached for what pushed events lack is left alone by all rooms from then on', async () => {
  const here = openPushedRoom(store, verification);
  const { room } = here;
  const join = await here.join(false);
  onTestFinished(async () => {
    await store.query('DELETE FROM destinations');
  });
  const given = here.answers.getMissingEvents;
  here.answers.getMissingEvents = (server, ...about) =>
    server === B ? Promise.reject(new FederationError(B, 'unreachable', 'no route')) : given(server, ...about);
  const lost = room.message(BOB, 'lost on the way', [join]);
  const after = room.message(BOB, 'after it', [lost]);
  await here.push(B, [after]);
  await here.taken(lost, after);
  expect([...(await viewHealth(here.context).resting([A, B])).keys()]).toEqual([B]);
});

/** A partial room, and what members say in it whose joins we do not hold: each costs a request. */
async function sayUnproven(count: number) {
  const here = openPushedRoom(store, verification);
  const { room } = here;
  const base = room.last;
  await here.join();
  const auth = [room.create, room.power, room.joinRules];
  const said = Array.from({ length: count }, (_, i) => {
    const user = `@user:speaks-${i}.test` as UserId;
    room.say(user, 'm.room.member', { membership: 'join' }, { stateKey: user, prev: [base], auth });
    return room.message(user, 'first words', [room.last]);
  });
  here.asked.length = 0;
  return { here, said };
}

test('an errand looks once how a server does, whatever it asks it for', async () => {
  const { here, said } = await sayUnproven(20);
  const statements = await statementsOf(async () => {
    await here.push(A, said);
    await here.taken(...said);
  });
  expect(here.asked.filter((what) => what === `eventAuth ${A}`)).toHaveLength(20);
  expect(statements.filter((text) => text.includes('FROM destinations')).length).toBeLessThanOrEqual(2);
});

test('a server that is silent is left by the errand, which has what it looks for of another', async () => {
  const { here, said } = await sayUnproven(20);
  const { eventAuth, event } = here.answers;
  const silence = (signal: AbortSignal): Promise<never> =>
    new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(new Error('nobody answers')));
    });
  here.answers.eventAuth = (server, roomId, eventId, options) =>
    server === B ? silence(options.signal) : eventAuth(server, roomId, eventId, options);
  here.answers.event = (server, eventId, options) =>
    server === B ? silence(options.signal) : event(server, eventId, options);
  await here.push(B, said);
  await here.taken(...said);
  // As many as are asked at a time, once; a busy machine cuts the turn, and the next one asks once more.
  expect(here.asked.filter((what) => what.endsWith(B)).length).toBeLessThanOrEqual(8);
});

test('strangers whose events residents are slow about hold two places of a room, and its own servers have the others', async () => {
  const here = openPushedRoom(store, verification);
  const { room } = here;
  await here.join(false);
  const strangers = Array.from({ length: 12 }, (_, i) => `@user:stranger-${i}.test` as UserId);
  const given = here.answers.getMissingEvents;
  const madeUp = (i: number): EventId => `$${`unknown-${i}`.padEnd(43, '_')}` as EventId;
  const events = strangers.map((user, i) => room.message(user, 'from outside', [madeUp(i)]));
  let hanging = 0;
  here.answers.getMissingEvents = (server, roomId, query, options) => {
    if (!query.latestEvents.some((eventId) => events.includes(eventId))) return given(server, roomId, query, options);
    hanging += 1;
    return new Promise((_, reject) => {
      options.signal.addEventListener('abort', () => reject(new Error('nobody answers')));
    });
  };
  for (const [i, user] of strangers.entries()) await here.push(domainOf(user), [events[i]!]);
  await expect.poll(() => hanging, { timeout: 10_000 }).toBeGreaterThanOrEqual(2);
  const lost = room.message(ALICE, 'lost on the way', [room.last]);
  const after = room.message(BOB, 'after it', [lost]);
  await here.push(B, [after]);
  await here.taken(lost, after);
  expect(hanging).toBe(2);
});
