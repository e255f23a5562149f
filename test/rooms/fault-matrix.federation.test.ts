/**
 * Every way in which a simulated resident fails, at each endpoint of a state fetch, at the first resident and at all of them: what the
 * journal has of each attempt, and what becomes of the room. `npm run test:full` walks the whole table; otherwise a sample of it, of
 * which REJOINDER_TEST_SEED tells which one.
 */
import { randomInt } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { type AttemptOutcome } from '../../src/resync/attempts.ts';
import { type FailureClass } from '../../src/resync/events.ts';
import { NAMED_FAULTS } from '../../src/simulator/named-faults.ts';
import { seededRandom } from '../../src/simulator/seeded-random.ts';
import { digestOf, joinIt, simulatedStage } from '../support/simulated-stage.ts';

const ENDPOINTS = ['state_ids', 'state', 'event'] as const;
type Endpoint = (typeof ENDPOINTS)[number];
const WHERE = ['first', 'all'] as const;
const SAMPLED = 24;

/** Of an attempt; `undefined`: the fault is borne, and the resident gives the state. */
type Told = readonly [FailureClass, AttemptOutcome] | undefined;

/** What a fault means at an endpoint whose whole answer is needed. */
const MEANINGS: Readonly<Record<string, Told>> = {
  latency: undefined,
  bandwidth: undefined,
  drip: ['timeout', 'transient'],
  status: ['server-error', 'transient'],
  forbidden: ['forbidden', 'not-in-room'],
  'not-found': ['not-found', 'unknown-event'],
  'partial-there': ['partial-state-there', 'partial-there'],
  'rate-limited': ['rate-limited', 'rate-limited'],
  'hang-up': ['unreachable', 'transient'],
  truncate: ['malformed', 'invalid'],
  hold: ['timeout', 'transient'],
  rubbish: ['malformed', 'invalid'],
  endless: ['too-large', 'too-large'],
  crumbs: ['too-large', 'too-large'],
  'wrong-hash': undefined,
  'wrong-signature': undefined,
  'missing-events': undefined,
  down: ['unreachable', 'transient'],
};

const DENIALS: readonly FailureClass[] = ['not-found', 'forbidden'];

interface Case {
  readonly name: string;
  readonly endpoint: Endpoint;
  readonly where: (typeof WHERE)[number];
  readonly told: Told;
}

/** Faults of events strike answers that carry some; who is down is so at all endpoints. */
function isPossible(name: string, endpoint: Endpoint): boolean {
  const { kind } = NAMED_FAULTS[name]!.fault;
  if (kind === 'down') return endpoint === 'state';
  return endpoint !== 'state_ids' || !['wrong-hash', 'wrong-signature', 'missing-events'].includes(kind);
}

/** One event that is asked for by its id and does not come is a hole in what its server names, however it was refused. */
function toldAt(name: string, endpoint: Endpoint): Told {
  const meaning = MEANINGS[name];
  if (endpoint !== 'event') return meaning;
  const isBorne = meaning === undefined && !['wrong-signature', 'missing-events'].includes(name);
  return isBorne ? undefined : ['incomplete', 'invalid'];
}

const CASES: readonly Case[] = Object.keys(NAMED_FAULTS).flatMap((name) =>
  ENDPOINTS.filter((endpoint) => isPossible(name, endpoint)).flatMap((endpoint) =>
    WHERE.map((where) => ({ name, endpoint, where, told: toldAt(name, endpoint) })),
  ),
);

/** All of them, or so many, the same for the same seed. */
function chosen(): { readonly cases: readonly Case[]; readonly how: string } {
  if (process.env['REJOINDER_TESTS'] === 'full') return { cases: CASES, how: 'the whole table' };
  const seed = Number(process.env['REJOINDER_TEST_SEED'] ?? randomInt(1_000_000));
  const cases = [...CASES];
  seededRandom(seed, 'fault matrix').shuffle(cases);
  const how = `${SAMPLED} of ${CASES.length} cases, REJOINDER_TEST_SEED=${seed}`;
  process.stdout.write(`fault matrix: ${how}\n`);
  return { cases: cases.slice(0, SAMPLED), how };
}

const { cases, how } = chosen();

test('every fault that the simulator has by name is in the table', () => {
  expect(Object.keys(MEANINGS).sort()).toEqual(Object.keys(NAMED_FAULTS).sort());
});

describe(`residents that fail (${how})`, () => {
  test.each(cases)('by $name at /$endpoint, $where of them', async ({ name, endpoint, where, told }) => {
    const timeouts = { requestMs: 3_000, stateMs: 5_000, idleMs: 1_500 };
    const here = await simulatedStage({ members: 90, servers: 3 }, timeouts, { residents: 2 });
    const { simulator, ours, roomId } = here;
    const { joinedVia } = await joinIt(here);
    const { fault } = NAMED_FAULTS[name]!;
    const at = fault.kind === 'down' ? {} : { endpoint };
    await simulator.inject({ fault, ...at, ...(where === 'all' ? {} : { server: joinedVia }) });
    const phase = await ours.resync(roomId);

    const { journal } = await ours.reads.describeRoom(roomId);
    const attempts = journal.flatMap(({ event }) => {
      if (event.type === 'StateFetched') return [[event.resident, 'gave it']];
      if (event.type !== 'StateFetchFailed') return [];
      const failed = [event.resident, event.failure, event.outcome];
      return [endpoint === 'event' || fault.kind === 'down' ? failed : [...failed, event.endpoint]];
    });
    const isWhole = told === undefined || where === 'first';
    if (isWhole) expect(await digestOf(here)).toEqual(await simulator.digest(roomId));
    const failedBy = (resident: string): unknown[] => {
      const [failure, outcome] = told!;
      // Who did not let us in may not have heard of the join yet.
      const ofOthers = outcome === 'not-in-room' && resident !== joinedVia ? 'not-yet-joined-there' : outcome;
      return [resident, failure, ofOthers, ...(endpoint === 'event' || fault.kind === 'down' ? [] : [endpoint])];
    };
    const others = attempts.map(([resident]) => resident as string).slice(1);
    if (told === undefined) expect(attempts).toEqual([[joinedVia, 'gave it']]);
    else if (where === 'first') expect(attempts).toEqual([failedBy(joinedVia), [others[0], 'gave it']]);
    else expect(attempts).toEqual([joinedVia, ...others].map(failedBy));
    // Where nobody knows an event, or shows it, all are asked once more, for the state before the join that cites it.
    const rounds = told !== undefined && DENIALS.includes(told[0]) ? 2 : 1;
    if (where === 'all' && told !== undefined) expect(others).toHaveLength(3 * rounds - 1);
    expect(phase).toBe(isWhole ? 'complete' : told[1] === 'too-large' ? 'parked' : 'waiting');
  });
});
