import { expect, test } from 'vitest';
import { startRepeating } from '../../src/repeating.ts';
import { openStore } from '../../src/store/open-store.ts';
import { openTestStore } from './postgres.ts';
import { statementsOf } from './statements.ts';

const { store } = await openTestStore();

test('of the statements that are sent meanwhile those of loops are not of the work, although both wait for one connection', async () => {
  const one = openStore({
    ...{ serverName: store.serverName, databaseUrl: store.connection.connectionString! },
    ...{ poolSizeMax: 1, applicationName: 'one connection' },
  });
  let rounds = 0;
  let next: () => void = () => undefined;
  const loop = startRepeating(
    async () => {
      await Promise.all([
        one.query(`SELECT 'of the loop'`),
        one.inTransaction((tx) => tx.query(`SELECT 'of the loop'`)),
      ]);
      rounds += 1;
      next();
    },
    { everyMs: 1, onFailed: (error) => expect.unreachable(String(error)) },
  );
  try {
    const statements = await statementsOf(async () => {
      const began = rounds;
      while (rounds < began + 3) {
        const round = new Promise<void>((resolve) => (next = resolve));
        await Promise.all([one.query(`SELECT 'of the work'`), one.query(`SELECT 'of the work'`), round]);
      }
    });
    expect(statements.length).toBeGreaterThanOrEqual(6);
    expect(new Set(statements)).toEqual(new Set([`SELECT 'of the work'`]));
  } finally {
    await loop.close();
    await one.close();
  }
});
