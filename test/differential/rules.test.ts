import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { differ } from './differ.ts';
import { type Oracle, oraclePython, startOracle } from './oracle.ts';
import { createRandom } from './random.ts';
import { RULES_SUITE } from './rules-suite.ts';

const QUICK_CASES = 1_000;
const QUICK_SEED = 1;

const python = oraclePython();
if (python === undefined) console.warn('skipped: no virtual environment with matrix-synapse in the cache directory');

describe.skipIf(python === undefined)('beside Synapse', () => {
  let oracle: Oracle;
  beforeAll(() => {
    oracle = startOracle(python!);
  });
  afterAll(() => oracle.close());

  test('random rooms of every version are judged and resolved alike', async () => {
    const comparison = await differ(RULES_SUITE, createRandom(QUICK_SEED), oracle, QUICK_CASES);
    expect(comparison.disagreements).toEqual([]);
    expect(comparison.compared).toBeGreaterThanOrEqual(QUICK_CASES);
    expect(comparison.undecided).toBeLessThan(QUICK_CASES / 50);
  });
});
