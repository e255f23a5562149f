import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { RESYNC_MUTANTS, applied } from '../../scripts/mutation/resync-mutants.ts';

test('each fault that the simulation has to find still has its one place in the source', async () => {
  for (const mutant of RESYNC_MUTANTS) {
    const source = await readFile(mutant.file, 'utf8');
    expect(applied(mutant, source)).not.toBe(source);
  }
});

test('each fault says what finds it: a seed, or a test that is there', async () => {
  for (const { name, foundBy } of RESYNC_MUTANTS) {
    expect(foundBy, name).toBeDefined();
    if (typeof foundBy !== 'object') continue;
    const titles = (await readFile(foundBy.file, 'utf8')).split(foundBy.title);
    expect(titles, name).toHaveLength(2);
  }
});
