import { describe, expect, test } from 'vitest';
import { type DemoFlags, planDemo } from '../../src/cli/demo/plan.ts';
import { CliError } from '../../src/cli/failure.ts';

const plan = (flags: Partial<DemoFlags>) => planDemo({ resident: 'simulated', ...flags });

describe('the demo', () => {
  test('shows the room of 2022 where nothing else is asked for', () => {
    expect(plan({})).toEqual({
      room: { kind: 'simulated', seed: 1, members: 13_000, servers: 1_300, residents: 3, latencyMs: 0, faults: [] },
      classic: false,
      json: false,
      once: false,
    });
  });

  test.each([
    [{ members: '300' }, { members: 300, servers: 30, residents: 3 }],
    [{ members: '100000' }, { members: 100_000, servers: 1_300, residents: 3 }],
    [{ members: '3' }, { members: 3, servers: 3, residents: 3 }],
    [
      { members: '40', residents: '8' },
      { members: 40, servers: 8, residents: 8 },
    ],
    [
      { members: '300', servers: '40', residents: '1' },
      { members: 300, servers: 40, residents: 1 },
    ],
    [
      { latency: '80', bandwidth: '10M', seed: '7' },
      { latencyMs: 80, bytesPerSecond: 10_485_760, seed: 7 },
    ],
    [{ fail: 'hang-up, missing-events' }, { faults: ['hang-up', 'missing-events'] }],
  ])('%j', (flags, room) => {
    expect(plan(flags).room).toMatchObject(room);
  });

  test('has a smaller room on a real Synapse', () => {
    expect(plan({ resident: 'synapse', classic: true, once: true })).toEqual({
      room: { kind: 'synapse', members: 200 },
      classic: true,
      json: false,
      once: true,
    });
  });

  test.each<[Partial<DemoFlags>, RegExp]>([
    [{ members: 'many' }, /^--members: expected a whole number from 3 to 1000000, found "many"$/],
    [{ members: '2' }, /^--members: expected/],
    [{ members: '1e4' }, /^--members: expected/],
    [{ members: '10', servers: '11' }, /^--servers: expected a whole number from 3 to 10, found "11"$/],
    [{ residents: '0' }, /^--residents: expected a whole number from 1 to 20/],
    [{ servers: '2' }, /^--servers: expected a whole number from 3 to 13000/],
    [{ latency: '-5' }, /^--latency: expected/],
    [{ latency: '60s' }, /^--latency: expected/],
    [{ bandwidth: '10' }, /^--bandwidth: expected bytes a second such as 512K or 10M, at least 2048, found "10"$/],
    [{ bandwidth: 'fast' }, /^--bandwidth: expected/],
    [{ seed: '1.5' }, /^--seed: expected/],
    [{ fail: 'flood' }, /^--fail: expected names of latency, .*, down; found "flood"$/],
    [{ fail: 'hang-up,' }, /^--fail: expected names .*; found ""$/],
    [{ fail: 'constructor' }, /^--fail: expected names/],
    [{ fail: 'hang-up,down', residents: '1' }, /^--fail: 2 faults need as many residents, and there are 1/],
    [{ resident: 'synapse', members: '20001' }, /^--members: expected a whole number from 3 to 20000/],
    [{ resident: 'synapse', fail: 'down' }, /^--fail is for the simulated federation/],
    [{ resident: 'synapse', json: true }, /^--json is for the simulated federation/],
  ])('is asked wrongly by %j', (flags, message) => {
    const failure = (() => {
      try {
        return plan(flags);
      } catch (error) {
        return error;
      }
    })();
    expect(failure).toBeInstanceOf(CliError);
    expect(failure).toMatchObject({ exitCode: 2, message: expect.stringMatching(message) as string });
  });
});
