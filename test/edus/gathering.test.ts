import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { Gathering } from '../../src/edus/gathering.ts';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

function gather(handOn: (items: readonly string[]) => Promise<void>, itemsMax = 10) {
  const errors: unknown[] = [];
  const gathering = new Gathering<string>({
    everyMs: 1_000,
    itemsMax,
    handOn,
    onFailed: (error) => errors.push(error),
  });
  return { gathering, errors };
}

test('the first is handed on at once, and what comes within the while together, the newest of each', async () => {
  const handed: (readonly string[])[] = [];
  const { gathering } = gather((items) => Promise.resolve(void handed.push(items)));
  gathering.put('a', 'a1');
  await vi.advanceTimersByTimeAsync(10);
  gathering.put('a', 'a2');
  gathering.put('b', 'b1');
  gathering.put('a', 'a3');
  await vi.advanceTimersByTimeAsync(900);
  expect(handed).toEqual([['a1']]);
  await vi.advanceTimersByTimeAsync(100);
  expect(handed).toEqual([['a1'], ['a3', 'b1']]);
  await vi.advanceTimersByTimeAsync(5_000);
  gathering.put('c', 'c1');
  await vi.advanceTimersByTimeAsync(0);
  expect(handed.at(-1)).toEqual(['c1']);
});

test('nothing is handed on while that which was handed on is under way', async () => {
  const handed: (readonly string[])[] = [];
  let finish = (): void => undefined;
  const { gathering } = gather((items) => {
    handed.push(items);
    return new Promise<void>((resolve) => (finish = resolve));
  });
  gathering.put('a', 'a1');
  await vi.advanceTimersByTimeAsync(10_000);
  gathering.put('b', 'b1');
  await vi.advanceTimersByTimeAsync(10_000);
  expect(handed).toEqual([['a1']]);
  finish();
  await vi.advanceTimersByTimeAsync(1_000);
  expect(handed).toEqual([['a1'], ['b1']]);
});

test('there is room for so much, and for what is said anew of what waits already', async () => {
  const handed: (readonly string[])[] = [];
  const { gathering } = gather((items) => Promise.resolve(void handed.push(items)), 2);
  gathering.put('first', 'x');
  await vi.advanceTimersByTimeAsync(0);
  expect([gathering.put('a', 'a'), gathering.put('b', 'b'), gathering.put('c', 'c'), gathering.put('a', 'a2')]).toEqual(
    [...[true, true, false, true]],
  );
  await gathering.settle();
  expect(handed).toEqual([['x'], ['a2', 'b']]);
});

test('what cannot be handed on is lost, and what comes afterwards is not', async () => {
  let isBroken = true;
  const handed: (readonly string[])[] = [];
  const { gathering, errors } = gather((items) => {
    if (isBroken) return Promise.reject(new Error('no database'));
    handed.push(items);
    return Promise.resolve();
  });
  gathering.put('a', 'a1');
  await gathering.settle();
  isBroken = false;
  gathering.put('b', 'b1');
  await gathering.close();
  expect([errors.length, handed]).toEqual([1, [['b1']]]);
});
