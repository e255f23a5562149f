import { expect, onTestFinished, test, vi } from 'vitest';
import { type Draft } from '../../src/matrix/compose.ts';
import { type EventId, type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { eventIdOf } from '../../src/matrix/signing/hashes.ts';
import { goOnPurging, recordRequest } from '../../src/rooms/purge/purge.ts';
import { sendEvent } from '../../src/rooms/send/send-event.ts';
import { readPurge } from '../../src/store/tables/room-purges.ts';
import { readEventStates } from '../../src/store/events/event-states.ts';
import { type StoreOptions } from '../../src/store/open-store.ts';
import { type Sending, startSending } from '../../src/sending/sending.ts';
import {
  A,
  ALICE,
  B,
  C,
  ME,
  type Script,
  type ScriptedRejoinder,
  type SmallRoom,
  US,
  honestScript,
  refuse,
  smallRoom,
  startScripted,
} from '../support/scripted-room.ts';

interface Taken {
  readonly server: ServerName;
  readonly txnId: string;
  readonly eventIds: readonly EventId[];
}

interface Here extends ScriptedRejoinder {
  readonly small: SmallRoom;
  readonly script: Script;
  /** What servers took, in the order they did. */
  readonly taken: Taken[];
  /** Every try, taken or not. */
  readonly tried: Taken[];
  /** Servers that are down. */
  readonly down: Set<ServerName>;
  readonly say: (body: string, sender?: UserId) => Promise<EventId>;
  readonly start: () => Sending;
  /** Of one server, by the bodies of messages or the types of others. */
  readonly got: (server: ServerName) => EventId[];
}

async function startHere(
  change: (small: SmallRoom, script: Script) => void = () => undefined,
  about: Partial<Pick<StoreOptions, 'onAppended'>> = {},
): Promise<Here> {
  const small = smallRoom();
  const [taken, tried, down] = [[] as Taken[], [] as Taken[], new Set<ServerName>()];
  const script: Script = {
    ...honestScript(small),
    take: (server, txnId, content) => {
      const pdus = content['pdus'] as readonly JsonObject[];
      const transaction = { server, txnId, eventIds: pdus.map((pdu) => eventIdOf(pdu, small.room.rules)) };
      expect(content['origin']).toBe(US);
      tried.push(transaction);
      if (down.has(server)) refuse(server, 'server-error', { status: 502 });
      taken.push(transaction);
    },
  };
  change(small, script);
  const here = await startScripted(small.room, script, about);
  const { context } = here;
  const { roomId } = small.room;
  return {
    ...here,
    ...{ small, script, taken, tried, down },
    say: (body, sender = ME) => {
      const draft: Draft = { sender, type: 'm.room.message', content: { body } };
      return sendEvent(context, roomId, draft);
    },
    start: () => {
      const sending = startSending(context);
      onTestFinished(() => sending.close());
      return sending;
    },
    got: (server) => taken.filter((one) => one.server === server).flatMap(({ eventIds }) => eventIds),
  };
}

const soon = (check: () => void): Promise<void> => vi.waitFor(check, { timeout: 20_000, interval: 20 });

test('what is said in a partial room goes to the servers of the join, in order, and the join does not', async () => {
  const here = await startHere();
  await here.join();
  const sending = here.start();
  const said = [await here.say('one'), await here.say('two'), await here.say('three')];
  sending.poke();
  await soon(() => {
    expect(here.got(A)).toEqual(said);
    expect(here.got(B)).toEqual(said);
  });
  expect(new Set(here.taken.map(({ server }) => server))).toEqual(new Set([A, B]));
});

test('a server that turns out to have been missed gets the newest event, once; the others nothing more', async () => {
  const here = await startHere((small, script) => {
    const { room, rule, auth } = small;
    const carol = room.make(
      '@carol:c.test',
      'm.room.member',
      '@carol:c.test',
      { membership: 'join' },
      { prev: [rule], auth },
    );
    script.stateIds = () => ({ state: [...small.state, carol], chain: [...auth, small.aliceJoin] });
    script.state = () => [...small.state, carol, ...auth, small.aliceJoin].map((eventId) => room.raw(eventId));
  });
  await here.join();
  const sending = here.start();
  const said = [await here.say('one'), await here.say('two')];
  await soon(() => expect(here.got(A)).toEqual(said));
  expect(await here.resync()).toMatchObject({ phase: 'complete' });
  sending.poke();
  await soon(() => expect(here.got(C)).toEqual(said.slice(1)));
  const third = await here.say('three');
  sending.poke();
  await soon(() => expect(here.got(C)).toEqual([said[1], third]));
  expect(here.got(A)).toEqual([...said, third]);
});

test('what was said in an earlier stay, and is judged in this one, is not counted when a missed server is given the newest event', async () => {
  const leave = { type: 'm.room.member', stateKey: ME, content: { membership: 'leave' } };
  const here = await startHere((small, script) => {
    script.serversInRoom = [A, B, C];
    const take = script.take;
    script.take = (server, txnId, content) => {
      take?.(server, txnId, content);
      for (const pdu of content['pdus'] as readonly JsonObject[]) {
        small.room.events.set(eventIdOf(pdu, small.room.rules), pdu);
      }
    };
  });
  const { small, script } = here;
  const { room, rule, auth, message, create, levels, aliceJoin } = small;
  await here.join();
  const sending = here.start();
  const before = [await here.say('one'), await sendEvent(here.context, room.roomId, { sender: ME, ...leave })];
  sending.poke();
  await soon(() => expect([A, B, C].map((server) => here.got(server))).toEqual([before, before, before]));

  // Whoever lets us in the next time does not know of the third server, which is in the room all the same.
  const carol = '@carol:c.test';
  const join = room.make(carol, 'm.room.member', carol, { membership: 'join' }, { prev: [rule], auth });
  const by = { prev: [before[1]!], auth: [create, levels, aliceJoin] };
  const meanwhile = room.make(ALICE, 'm.room.message', undefined, { body: 'meanwhile' }, by);
  const chain = [...auth, aliceJoin];
  const states = new Map<EventId, readonly EventId[]>([
    [message, [...small.state, join]],
    [meanwhile, [...small.state, join, before[1]!]],
  ]);
  script.serversInRoom = [A, B];
  script.prev = [meanwhile];
  script.stateIds = (server, at) => ({ state: states.get(at) ?? refuse(server, 'not-found'), chain });
  script.state = (_server, at) => [...(states.get(at) ?? []), ...chain].map((eventId) => room.raw(eventId));
  await here.join();
  const again = await here.say('two');
  sending.poke();
  await soon(() => expect(here.got(A)).toEqual([...before, again]));
  const carried = await readEventStates(here.store, room.roomId, before);
  expect([...carried.values()].map(({ partial, epoch }) => ({ partial, epoch }))).toEqual(
    before.map(() => ({ partial: true, epoch: 2 })),
  );
  expect(await here.resync()).toMatchObject({ phase: 'complete' });
  sending.poke();
  await soon(() => expect(here.got(C)).toEqual([...before, again]));
  expect(here.got(A)).toEqual([...before, again]);
});

test('a server that was missed gets the newest event that the full state lets stand', async () => {
  const second = `@second:${US}` as UserId;
  const here = await startHere((small, script) => {
    const { room, rule, auth, aliceJoin, levels, create } = small;
    const carol = '@carol:c.test';
    const join = room.make(carol, 'm.room.member', carol, { membership: 'join' }, { prev: [rule], auth });
    const by = { prev: [join], auth: [create, levels, aliceJoin] };
    const ban = room.make(ALICE, 'm.room.member', second, { membership: 'ban' }, by);
    const [state, chain] = [
      [...small.state, join, ban],
      [...auth, aliceJoin],
    ];
    script.stateIds = () => ({ state, chain });
    script.state = () => [...state, ...chain].map((eventId) => room.raw(eventId));
  });
  await here.join();
  await here.join(second);
  const sending = here.start();
  const said = [await here.say('one'), await here.say('two', second)];
  await soon(() => expect(here.got(A)).toEqual(said));
  expect(await here.resync()).toMatchObject({ phase: 'complete' });
  expect((await readEventStates(here.store, here.small.room.roomId, said)).get(said[1]!)?.verdict).toBe('rejected');
  sending.poke();
  await soon(() => expect(here.got(C)).toEqual(said.slice(0, 1)));
});

test('where we said nothing nobody is sent anything when the room is whole', async () => {
  const here = await startHere();
  await here.join();
  here.start();
  await here.resync();
  const said = await here.say('one');
  await soon(() => expect(here.got(A)).toEqual([said]));
  expect(here.taken.flatMap(({ eventIds }) => eventIds).every((eventId) => eventId === said)).toBe(true);
});

test('a server that was down gets the same transaction again, and what came after it; others wait for nothing', async () => {
  const here = await startHere();
  await here.join();
  await here.resync();
  here.down.add(A);
  const sending = here.start();
  const first = await here.say('one');
  sending.poke();
  await soon(() => expect(here.got(B)).toEqual([first]));
  await soon(() => expect(here.tried.filter(({ server }) => server === A).length).toBeGreaterThan(0));
  const second = await here.say('two');
  sending.poke();
  await soon(() => expect(here.got(B)).toEqual([first, second]));
  expect(here.got(A)).toEqual([]);
  here.down.delete(A);
  here.wait(3_600_000);
  await soon(() => expect(here.got(A)).toEqual([first, second]));
  const tries = here.tried.filter(({ server, eventIds }) => server === A && eventIds.includes(first));
  expect(new Set(tries.map(({ txnId }) => txnId)).size).toBe(1);
  expect(tries.length).toBeGreaterThan(1);
});

test('a server that was down for long gets what it was sent last, and then the newest event alone', async () => {
  const here = await startHere();
  await here.join();
  await here.resync();
  here.down.add(A);
  const sending = here.start();
  const said = [await here.say('0')];
  sending.poke();
  await soon(() => expect(here.tried.some(({ server }) => server === A)).toBe(true));
  for (let i = 1; i < 60; i += 1) said.push(await here.say(`${i}`));
  sending.poke();
  await soon(() => expect(here.got(B)).toEqual(said));
  expect(Math.max(...here.taken.map(({ eventIds }) => eventIds.length))).toBeLessThanOrEqual(50);
  here.down.delete(A);
  here.wait(3_600_000);
  await soon(() => expect(here.got(A)).toContain(said.at(-1)));
  expect(here.got(A).length).toBeLessThan(said.length);
});

test('a server is tried at once when it is heard from', async () => {
  const here = await startHere();
  await here.join();
  await here.resync();
  here.down.add(A);
  const sending = here.start();
  const said = await here.say('one');
  await soon(() => expect(here.tried.some(({ server }) => server === A)).toBe(true));
  here.down.delete(A);
  await soon(() => {
    sending.heardFrom(A);
    expect(here.got(A)).toEqual([said]);
  });
});

test('what one process was stopped at another goes on with, and nothing is lost or told twice', async () => {
  const here = await startHere();
  await here.join();
  await here.resync();
  const first = here.start();
  const said: EventId[] = [];
  for (let i = 0; i < 20; i += 1) said.push(await here.say(`${i}`));
  await first.close();
  const [second, third] = [here.start(), here.start()];
  for (let i = 0; i < 20; i += 1) {
    said.push(await here.say(`more ${i}`));
    second.poke();
    third.poke();
  }
  await soon(() => {
    expect(here.got(A)).toEqual(said);
    expect(here.got(B)).toEqual(said);
  });
});

test('what is said is sent because it was said: no tick and no pause lies between the commit and the request', async () => {
  const started: Sending[] = [];
  const here = await startHere(undefined, { onAppended: () => started.forEach((sending) => sending.poke()) });
  await here.join();
  await here.resync();
  // What it would look by now and then never ticks.
  const tick = vi.spyOn(globalThis, 'setInterval').mockReturnValue(setTimeout(() => undefined, 0));
  started.push(here.start());
  expect(tick).toHaveBeenCalledOnce();
  tick.mockRestore();
  for (let i = 0; i < 3; i += 1) {
    const said = await here.say(`${i}`);
    await soon(() => {
      expect(here.got(A)).toContain(said);
      expect(here.got(B)).toContain(said);
    });
  }
  expect(here.tried).toHaveLength(here.taken.length);
});

test('the leave of our last user is told, and nothing is said after it', async () => {
  const here = await startHere();
  await here.join();
  await here.resync();
  const sending = here.start();
  await sendEvent(here.context, here.small.room.roomId, {
    sender: ME,
    type: 'm.room.member',
    stateKey: ME,
    content: { membership: 'leave' },
  });
  sending.poke();
  await soon(() => expect([here.got(A).length, here.got(B).length]).toEqual([1, 1]));
  await expect(here.say('after all')).rejects.toMatchObject({ kind: 'forbidden' });
});

test('the leave that a purge makes in a partial room is told to the servers of the join, though the stay is over by then', async () => {
  const here = await startHere();
  await here.join();
  const { context } = here;
  const { roomId } = here.small.room;
  await recordRequest(context, { roomId, isForced: true });
  const purging = goOnPurging(context, roomId, new AbortController().signal);
  await vi.waitFor(async () => expect((await readPurge(context.store, roomId))?.fencedAt).not.toBeNull());
  const sending = here.start();
  sending.poke();
  await soon(() => expect([here.got(A).length, here.got(B).length]).toEqual([1, 1]));
  await purging;
  expect(await readPurge(context.store, roomId)).toBeUndefined();
});
