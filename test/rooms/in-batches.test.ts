import { expect, test } from 'vitest';
import { inBatches } from '../../src/rooms/in-batches.ts';

test('those who ask in one moment share a look, and who asks while it lasts is in the next', async () => {
  const looks: string[][] = [];
  let late: Promise<string> | undefined;
  const ask = inBatches(
    (keys: readonly string[]) => {
      looks.push([...keys]);
      late ??= ask('a');
      return Promise.resolve(keys.map((key) => `${key} by look ${looks.length}`));
    },
    (key) => key,
  );
  const answers = await Promise.all([ask('a'), ask('b'), ask('a')]);
  expect(answers).toEqual(['a by look 1', 'b by look 1', 'a by look 1']);
  expect(await late).toBe('a by look 2');
  expect(looks).toEqual([['a', 'b'], ['a']]);
});

test('a look that fails fails for those who asked, and for nobody else', async () => {
  let looks = 0;
  const ask = inBatches(
    (keys: readonly string[]) => {
      looks += 1;
      return looks === 1 ? Promise.reject(new Error('away')) : Promise.resolve(keys);
    },
    (key) => key,
  );
  expect((await Promise.allSettled([ask('a'), ask('b')])).map(({ status }) => status)).toEqual([
    'rejected',
    'rejected',
  ]);
  expect(await ask('a')).toBe('a');
});

test('more than a statement bears are looked for in several', async () => {
  const sizes: number[] = [];
  const ask = inBatches(
    (keys: readonly number[]) => {
      sizes.push(keys.length);
      return Promise.resolve(keys);
    },
    (key) => `${key}`,
  );
  const answers = await Promise.all(Array.from({ length: 4_500 }, (_, i) => ask(i)));
  expect(answers[4_321]).toBe(4_321);
  expect(sizes).toEqual([2_000, 2_000, 500]);
});
