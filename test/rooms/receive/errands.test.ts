/** Whose errands have places, and when; each ends when the test says so. */
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { type RoomId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { type Spending, WAIT_MS_MAX, createBudgets } from '../../../src/rooms/receive/budgets.ts';

beforeEach(() => vi.useFakeTimers({ now: 1_700_000_000_000 }));
afterEach(() => void vi.useRealTimers());

function openBudgets() {
  const closing = new AbortController();
  const budgets = createBudgets({ now: () => Date.now() }, closing.signal);
  const begun: string[] = [];
  const givenUp: string[] = [];
  const running = new Map<string, { end: () => void; spending: Spending }>();
  return {
    ...{ begun, givenUp, running, closing, idle: () => budgets.idle() },
    start: (room: string, server: string, { isAhead = false, isOutside = false } = {}): boolean =>
      budgets.tryRun(
        { roomId: `!${room}:a.test` as RoomId, origin: `${server}.test` as ServerName, isAhead, isOutside },
        (spending) =>
          new Promise((end) => {
            const name = `${room} ${server} ${begun.filter((other) => other.startsWith(`${room} ${server} `)).length}`;
            begun.push(name);
            running.set(name, { end, spending });
          }),
        () => givenUp.push(`${room} ${server}`),
      ),
    end: async (name: string): Promise<void> => {
      running.get(name)!.end();
      running.delete(name);
      await vi.advanceTimersByTimeAsync(1);
    },
  };
}

const servers = (count: number): string[] => Array.from({ length: count }, (_, i) => `evil-${i}`);
const twice = (count: number): string[] => [...servers(count), ...servers(count)];

test('in a room whose places others have taken, who has had none longest ago has the next', async () => {
  const { start, end, begun } = openBudgets();
  for (const server of servers(4)) expect([start('room', server), start('room', server)]).toEqual([true, true]);
  expect(begun).toHaveLength(8);
  for (const server of servers(4)) expect(start('room', server)).toBe(true);
  expect(start('room', 'honest')).toBe(true);
  await end('room evil-0 0');
  expect(begun.slice(8)).toEqual(['room honest 0']);
  await end('room evil-1 0');
  expect(begun.slice(9)).toEqual(['room evil-0 2']);
});

test('a room that has no errand yet has the next place when others have taken all', async () => {
  const { start, end, begun } = openBudgets();
  for (const room of ['1', '2', '3', '4']) {
    for (const server of twice(4)) start(room, `${server}-${room}`);
    start(room, `another-${room}`);
  }
  expect(begun).toHaveLength(32);
  expect(start('honest', 'b')).toBe(true);
  await end('1 evil-0-1 0');
  expect(begun.slice(32)).toEqual(['honest b 0']);
});

test('who waits long comes before whoever has never had a place', async () => {
  const { start, end, begun } = openBudgets();
  for (const server of twice(4)) start('room', server);
  start('room', 'evil-0');
  await vi.advanceTimersByTimeAsync(11_000);
  for (const name of ['new-0', 'new-1', 'new-2']) start('room', name);
  await end('room evil-0 0');
  expect(begun.slice(8)).toEqual(['room evil-0 2']);
});

test('a server that was silent has one errand at a time, for a minute', async () => {
  const { start, end, begun, running } = openBudgets();
  start('room', 'evil');
  running.get('room evil 0')!.spending.wasSilent('evil.test' as ServerName);
  await end('room evil 0');
  start('room', 'evil');
  start('room', 'evil');
  expect(begun).toHaveLength(2);
  await vi.advanceTimersByTimeAsync(30_000);
  await end('room evil 1');
  expect(begun).toHaveLength(3);
  await vi.advanceTimersByTimeAsync(31_000);
  start('room', 'evil');
  expect(begun).toHaveLength(4);
});

test('that another was silent, of whom was asked what its events lack, costs a server no place; that one is known in the room for a minute', async () => {
  const { start, end, begun, running } = openBudgets();
  const tarpit = 'tarpit.test' as ServerName;
  start('room', 'honest');
  start('another', 'honest');
  running.get('room honest 0')!.spending.wasSilent(tarpit);
  expect(running.get('room honest 0')!.spending.isSilent(tarpit)).toBe(true);
  expect(running.get('another honest 0')!.spending.isSilent(tarpit)).toBe(false);
  await end('room honest 0');
  await end('another honest 0');
  start('room', 'honest');
  start('another', 'honest');
  expect(begun.slice(2)).toEqual(['room honest 1', 'another honest 1']);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(running.get('room honest 1')!.spending.isSilent(tarpit)).toBe(false);
});

test('a server has one errand waiting in a room, and it is put back when there is no place for long', async () => {
  const { start, end, begun, givenUp } = openBudgets();
  expect([start('room', 'a'), start('room', 'a'), start('room', 'a'), start('room', 'a')]).toEqual([
    true,
    true,
    true,
    false,
  ]);
  await vi.advanceTimersByTimeAsync(WAIT_MS_MAX);
  expect(givenUp).toEqual(['room a']);
  await end('room a 0');
  expect(begun).toHaveLength(2);
});

test('however many servers are silent and wait, half of the places are left to others, who may wait beside them', async () => {
  const { start, end, begun, running, givenUp } = openBudgets();
  for (const server of servers(64)) {
    start('room', server);
    running.get(`room ${server} 0`)!.spending.wasSilent(`${server}.test` as ServerName);
    await end(`room ${server} 0`);
  }
  for (const server of servers(64)) start('room', server);
  expect(begun).toHaveLength(64 + 4);
  for (const server of servers(4)) start('room', server);
  for (const server of ['honest', 'honest', 'other', 'other']) start('room', server);
  expect(begun.slice(68)).toEqual(['room honest 0', 'room honest 1', 'room other 0', 'room other 1']);
  expect(start('room', 'third')).toBe(true);
  expect(givenUp).toHaveLength(1);
  await end('room evil-0 1');
  expect(begun.at(-1)).toBe('room third 0');
});

const named = (server: string): ServerName => `${server}.test` as ServerName;
const MB = 1024 * 1024;

/** An errand of Bob's server in the room asks another, of which so many MB come. */
async function take({ start, end, running }: ReturnType<typeof openBudgets>, room: string, server: string, mb: number) {
  expect(start(room, 'bob')).toBe(true);
  const [name, { spending }] = [...running].at(-1)!;
  expect(spending.mayAsk(named(server))).toBe(true);
  spending.received(named(server), mb * MB);
  await end(name);
}

/** Whether an errand of the server may ask the other, which answers with nothing. */
async function mayAsk(
  { start, end, running }: ReturnType<typeof openBudgets>,
  room: string,
  by: string,
  other: string,
) {
  expect(start(room, by)).toBe(true);
  const [name, { spending }] = [...running].at(-1)!;
  const may = spending.mayAsk(named(other));
  if (may) spending.received(named(other), 0);
  await end(name);
  return may;
}

test('a server that sent 64 MB in a minute is asked again in the next one, and whoever it was asked for may ask others', async () => {
  const here = openBudgets();
  for (const room of ['room', 'another']) await take(here, room, 'evil', 32);
  expect(await mayAsk(here, 'third', 'bob', 'evil')).toBe(false);
  expect(await mayAsk(here, 'third', 'alice', 'evil')).toBe(false);
  expect(await mayAsk(here, 'third', 'bob', 'honest')).toBe(true);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(await mayAsk(here, 'third', 'bob', 'evil')).toBe(true);
});

test('servers that have sent all that may come for a room a minute are asked again in the next one, and who sent less is asked now', async () => {
  const here = openBudgets();
  await take(here, 'room', 'quiet', 1);
  for (const server of servers(3)) await take(here, 'room', server, 43);
  for (const server of servers(3)) expect(await mayAsk(here, 'room', 'bob', server)).toBe(false);
  for (const server of ['quiet', 'new', 'bob']) expect(await mayAsk(here, 'room', 'bob', server)).toBe(true);
  await vi.advanceTimersByTimeAsync(60_000);
  expect(await mayAsk(here, 'room', 'bob', 'evil-0')).toBe(true);
});

test('a server that gives long answers is not asked for long in one errand, which then has as much for the next server', () => {
  const { start, running } = openBudgets();
  start('room', 'bob');
  const { spending } = running.get('room bob 0')!;
  const askAll = (server: ServerName): number => {
    let asked = 0;
    for (; spending.mayAsk(server); asked++) spending.received(server, 4 * MB);
    return asked;
  };
  expect(['evil', 'worse', 'honest'].map((server) => askAll(named(server)))).toEqual([2, 2, 2]);
});

test('an errand that has begun asks for little more once what may come for its room has come', () => {
  const { start, running } = openBudgets();
  for (const server of servers(8)) start('room', server);
  const askAll = (): number => {
    let asked = 0;
    for (const [name, { spending }] of running) {
      const server = named(name.split(' ')[1]!);
      for (; spending.mayAsk(server); asked++) spending.received(server, 2 * MB);
    }
    return asked;
  };
  // 8 MB an errand of the server that it asks.
  expect(askAll()).toBe(32);
});

test('however many servers push from outside of a room, its own have six of its eight places, and all that it has a minute', async () => {
  const here = openBudgets();
  const outside = { isOutside: true };
  for (const server of servers(20)) here.start('room', server, outside);
  expect(here.begun).toHaveLength(2);
  const own = ['a', 'a', 'b', 'b', 'c', 'c'];
  expect(own.map((server) => here.start('room', server))).toEqual(own.map(() => true));
  expect(here.begun.slice(2)).toHaveLength(6);
  for (const [, { spending }] of [...here.running].slice(0, 2)) {
    for (let i = 0; i < 60 && spending.mayAsk(named('a')); i++) spending.received(named('a'), 0);
  }
  await here.end('room evil-0 0');
  await here.end('room evil-1 0');
  for (let i = 2; i < 20; i += 1) {
    const [name, { spending }] = [...here.running].at(-1)!;
    while (spending.mayAsk(named('a'))) spending.received(named('a'), 0);
    if (name.includes('evil')) await here.end(name);
  }
  expect(here.start('room', 'evil-0', outside)).toBe(false);
  expect(here.start('room', 'd')).toBe(true);
});

test('what comes from outside of a room waits behind what its servers sent, and makes way for it', async () => {
  const { start, end, begun, givenUp } = openBudgets();
  for (const server of twice(4)) start('room', server);
  for (let i = 0; i < 64; i++) expect(start('room', `stranger-${i}`, { isOutside: true })).toBe(true);
  expect(start('room', 'stranger-64', { isOutside: true })).toBe(false);
  expect(start('room', 'honest')).toBe(true);
  expect(givenUp).toEqual(['room stranger-0']);
  await end('room evil-0 0');
  expect(begun.at(-1)).toBe('room honest 0');
});

test('who gave long answers is asked for nothing more, nor is anybody while all errands hold much; one that has nothing asks once', async () => {
  const { start, end, running } = openBudgets();
  for (const room of ['a', 'b', 'c', 'd']) for (const server of servers(8)) start(room, `${room}-${server}`);
  const all = [...running.values()].map(({ spending }) => spending);
  expect(all).toHaveLength(32);
  const asked = all.map((spending) => [1, 2, 3, 4].filter(() => spending.mayAsk(named('a'))).length);
  expect(asked.reduce((sum, n) => sum + n, 0) * 4).toBe(256 + 16 * 4);
  expect(asked.at(-1)).toBe(1);
  for (const [i, spending] of all.entries()) for (let n = 0; n < asked[i]!; n++) spending.received(named('a'), 4 * MB);
  expect(all.some((spending) => spending.mayAsk(named('b')))).toBe(false);
  for (const name of [...running.keys()].slice(0, 30)) await end(name);
  expect(all[0]!.mayAsk(named('a'))).toBe(false);
  expect(all[31]!.mayAsk(named('b'))).toBe(true);
});

test('what is asked for ahead takes half of the places, and none while anybody waits', () => {
  const { start, begun } = openBudgets();
  for (const server of servers(5)) start('room', server, { isAhead: true });
  expect(begun).toHaveLength(4);
  for (const server of twice(2)) start('room', `other-${server}`);
  start('room', 'waits');
  expect(begun).toHaveLength(8);
  expect(start('another room', 'evil-9', { isAhead: true })).toBe(false);
});

test('when we close nothing begins that waits, and what runs is waited for', async () => {
  const { start, end, begun, closing, idle, givenUp } = openBudgets();
  for (const server of ['a', 'a', 'a']) start('room', server);
  closing.abort();
  const isIdle = vi.fn();
  void idle().then(isIdle);
  await end('room a 0');
  expect(isIdle).not.toHaveBeenCalled();
  await end('room a 1');
  expect(isIdle).toHaveBeenCalled();
  expect(begun).toHaveLength(2);
  await vi.advanceTimersByTimeAsync(2 * WAIT_MS_MAX);
  expect(givenUp).toEqual([]);
  expect(start('room', 'a')).toBe(false);
});
