import { expect, test } from 'vitest';
import { openConnections } from '../simulation/connections.ts';
import { createTestDatabase } from '../support/postgres.ts';
import { DevicesPlay } from './devices-play.ts';

/** Consecutive seeds, so that everybody's runs are the same; faults that are put in on purpose name the seed that finds them. */
const SEEDS = Array.from({ length: 12 }, (_, i) => i + 1);
const sums: Record<string, number> = {};

test.for(SEEDS)(
  'by seed %i: messages to devices come once and in order, and nobody is forgotten when devices change, whatever is lost and whoever dies',
  { timeout: 60_000 },
  async (seed) => {
    const database = await createTestDatabase();
    const connections = openConnections(database.url, 3);
    const store = database.openStore({ serverName: 'here.test' });
    const play = new DevicesPlay(seed, store, database.url, connections);
    const { differences, counts } = await play.run();
    for (const [what, count] of Object.entries(counts)) sums[what] = (sums[what] ?? 0) + count;
    await connections.close();
    await database.drop();
    expect(differences).toEqual([]);
  },
);

test('enough of all that may go wrong happens in the plays', () => {
  for (const what of ['deaths', 'lost', 'messages', 'changes', 'asked']) {
    expect([what, (sums[what] ?? 0) >= SEEDS.length]).toEqual([what, true]);
  }
  expect(sums['returns']).toBeGreaterThanOrEqual(3);
});
