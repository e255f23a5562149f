import { expect, test } from 'vitest';
import { Shutdown, aborted } from '../../src/cli/process/shutdown.ts';

const logger = { warn: () => undefined };

test('what was started last stops first, one after the other, once', async () => {
  const order: string[] = [];
  const shutdown = new Shutdown();
  for (const name of ['database', 'federation', 'listener']) {
    shutdown.add(name, async () => {
      await new Promise((resolve) => setImmediate(resolve));
      order.push(name);
    });
  }
  await Promise.all([shutdown.run(logger), shutdown.run(logger)]);
  expect(order).toEqual(['listener', 'federation', 'database']);
});

test('a part that fails and a part that hangs keep no other from stopping, and are named', async () => {
  const stopped: string[] = [];
  const said: object[] = [];
  const shutdown = new Shutdown(5);
  shutdown.add('first', () => Promise.resolve(stopped.push('first')));
  shutdown.add('hangs', () => new Promise(() => undefined));
  shutdown.add('fails', () => Promise.reject(new Error('no')));
  await shutdown.run({ warn: (fields) => void said.push(fields) });
  expect(stopped).toEqual(['first']);
  expect(said).toMatchObject([{ part: 'fails', err: { message: 'no' } }, { part: 'hangs' }]);
});

test('an abort that has happened already is not waited for', async () => {
  await expect(aborted(AbortSignal.abort())).resolves.toBeUndefined();
});
