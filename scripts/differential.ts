/**
 * The long run of the differential tests: `npm run test:differential -- --cases 100000 --seed 1`. Prints what was compared
 * by kind of answer and, of each disagreement, the smallest case that still disagrees. Exits 1 if there is any.
 */
import { parseArgs } from 'node:util';
import { type Suite, differ } from '../test/differential/differ.ts';
import { oraclePython, startOracle } from '../test/differential/oracle.ts';
import { createRandom } from '../test/differential/random.ts';
import { SUITES } from '../test/differential/suites.ts';

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '10000' },
    seed: { type: 'string', default: '1' },
    tally: { type: 'boolean', default: false },
  },
});
const cases = Number(values.cases);
const seed = Number(values.seed);
if (!Number.isSafeInteger(cases) || !Number.isSafeInteger(seed) || cases < 1) {
  console.error('usage: npm run test:differential -- [--cases N] [--seed S] [--tally], N and S integers');
  process.exit(2);
}
const python = oraclePython();
if (python === undefined) {
  console.error('There is no virtual environment with matrix-synapse yet; `npm test` makes one.');
  process.exit(2);
}

/** Each suite gets an equal share of the cases, and its own random source, so that one can be run again alone. */
async function run<Request>(suite: Suite<Request>, oraclePath: string): Promise<number> {
  const oracle = startOracle(oraclePath);
  const comparison = await differ(suite, createRandom(seed), oracle, Math.ceil(cases / SUITES.length));
  oracle.close();
  const { compared, undecided, disagreements, tally } = comparison;
  console.log(`${suite.name}: ${compared} compared, ${disagreements.length} disagree, ${undecided} undecided`);
  if (values.tally) for (const [kind, count] of [...tally].sort()) console.log(`  ${kind}: ${count}`);
  for (const disagreement of disagreements) console.log(JSON.stringify(disagreement));
  return disagreements.length;
}

let disagreements = 0;
for (const suite of SUITES) disagreements += await run(suite, python);
console.log(`seed ${seed}: ${disagreements} disagreements`);
process.exit(disagreements === 0 ? 0 : 1);
