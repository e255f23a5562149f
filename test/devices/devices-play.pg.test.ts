import { expect, test } from 'vitest';
import { openConnections } from '../simulation/connections.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { DevicesPlay, type Played } from './devices-play.ts';

/** Consecutive seeds, so that everybody's runs are the same. */
const SEEDS = 12;

test(
  'messages to devices come once and in order, and nobody is forgotten when devices change, whatever is lost and whoever dies',
  async () => {
    const failed: unknown[] = [];
    const sums: Record<string, number> = {};
    for (let seed = 1; seed <= SEEDS; seed += 1) {
      const database = await createTestDatabase();
      const connections = openConnections(database.url, 3);
      const store = database.openStore({ serverName: 'here.test' });
      const play = new DevicesPlay(seed, store, database.url, connections);
      const { differences, counts }: Played = await play.run();
      if (differences.length > 0) failed.push({ seed, differences });
      for (const [what, count] of Object.entries(counts)) sums[what] = (sums[what] ?? 0) + count;
      await connections.close();
      await database.drop();
    }
    expect(failed).toEqual([]);
    // Enough of all of it happens.
    for (const what of ['deaths', 'lost', 'messages', 'changes', 'asked']) {
      expect([what, (sums[what] ?? 0) >= SEEDS]).toEqual([what, true]);
    }
  },
  10 * 60_000,
);
