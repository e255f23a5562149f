import { expect, test } from 'vitest';
import { createTurns, takeTurn } from '../src/turns.ts';

const signal = new AbortController().signal;

test('so many have a turn at a time, group by group; who goes away before his is not waited for', async () => {
  const turns = createTurns(1);
  const order: string[] = [];
  const first = await takeTurn(turns, 'a', signal);
  const take = async (group: string, name: string): Promise<void> => {
    const leave = await takeTurn(turns, group, signal);
    order.push(name);
    leave();
  };
  const gone = new AbortController();
  const never = takeTurn(turns, 'c', gone.signal);
  const others = [take('a', 'second'), take('a', 'last'), take('b', 'of another group')];
  gone.abort(new Error('gone'));
  await expect(never).rejects.toThrow('gone');
  expect(order).toEqual([]);
  first();
  await Promise.all(others);
  expect(order).toEqual(['second', 'of another group', 'last']);
  await expect(takeTurn(turns, 'a', gone.signal)).rejects.toThrow('gone');
});
