/** What the demo is asked to show: its flags, read strictly, so that a typing error costs a line and no minute. */
import { parseSize } from '../../config/units.ts';
import { NAMED_FAULTS } from '../../simulator/named-faults.ts';
import { CliError } from '../failure.ts';

/** As typed; what was not given is absent. */
export interface DemoFlags {
  readonly resident: 'simulated' | 'synapse';
  readonly members?: string;
  readonly servers?: string;
  readonly residents?: string;
  readonly latency?: string;
  readonly bandwidth?: string;
  readonly fail?: string;
  readonly seed?: string;
  readonly classic?: true;
  readonly json?: true;
  readonly once?: true;
}

export interface SimulatedRoomPlan {
  readonly kind: 'simulated';
  readonly seed: number;
  readonly members: number;
  readonly servers: number;
  readonly residents: number;
  /** Before each answer. */
  readonly latencyMs: number;
  /** Of each connection; absent: as fast as it goes. */
  readonly bytesPerSecond?: number;
  /** Names of faults: the first strikes the first resident, the second the second. */
  readonly faults: readonly string[];
}

export interface SynapseRoomPlan {
  readonly kind: 'synapse';
  readonly members: number;
}

export interface DemoPlan {
  readonly room: SimulatedRoomPlan | SynapseRoomPlan;
  /** Ask for the whole state at once. */
  readonly classic: boolean;
  /** Print figures instead of a timeline. */
  readonly json: boolean;
  /** End when all is said. */
  readonly once: boolean;
}

/** The room of 2022's measurements, and some tenth as many servers, as public rooms have. */
const MEMBERS = 13_000;
const SERVERS = 1_300;
const SERVERS_SHARE = 0.1;
const RESIDENTS = 3;
/** A million members are generated in minutes, and take gigabytes in the simulator. */
const MEMBERS_MAX = 1_000_000;
/** Where the generated room has a creator, others, and somebody who is banned. */
const MEMBERS_MIN = 3;
const RESIDENTS_MAX = 20;
/** The demo's Rejoinder gives a small answer up after 15 s. */
const LATENCY_MS_MAX = 10_000;
/** Slower is a drip, which Rejoinder gives up. */
const BYTES_PER_SECOND_MIN = 2_048;
const SEED_MAX = 2 ** 31 - 1;

const SYNAPSE_MEMBERS = 200;
/** Synapse needs some 30 ms for each. */
const SYNAPSE_MEMBERS_MAX = 20_000;

/** Throws `CliError` with exit code 2. */
export function planDemo(flags: DemoFlags): DemoPlan {
  const how = { classic: flags.classic === true, json: flags.json === true, once: flags.once === true };
  return { room: flags.resident === 'synapse' ? planSynapse(flags) : planSimulated(flags), ...how };
}

function planSynapse(flags: DemoFlags): SynapseRoomPlan {
  for (const name of ['servers', 'residents', 'latency', 'bandwidth', 'fail', 'seed', 'json'] as const) {
    if (flags[name] !== undefined) throw wrong(`--${name} is for the simulated federation, not for --resident synapse`);
  }
  return {
    kind: 'synapse',
    members: whole('members', flags.members, SYNAPSE_MEMBERS, MEMBERS_MIN, SYNAPSE_MEMBERS_MAX),
  };
}

function planSimulated(flags: DemoFlags): SimulatedRoomPlan {
  const members = whole('members', flags.members, MEMBERS, MEMBERS_MIN, MEMBERS_MAX);
  const residents = whole(
    'residents',
    flags.residents,
    Math.min(RESIDENTS, members),
    1,
    Math.min(RESIDENTS_MAX, members),
  );
  const usual = Math.max(residents, Math.min(SERVERS, Math.round(members * SERVERS_SHARE)));
  const servers = whole('servers', flags.servers, usual, residents, members);
  const bytesPerSecond = flags.bandwidth === undefined ? undefined : bandwidth(flags.bandwidth);
  return {
    kind: 'simulated',
    seed: whole('seed', flags.seed, 1, 0, SEED_MAX),
    members,
    servers,
    residents,
    latencyMs: whole('latency', flags.latency, 0, 0, LATENCY_MS_MAX),
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
    faults: flags.fail === undefined ? [] : faults(flags.fail, residents),
  };
}

function whole(name: string, typed: string | undefined, usual: number, min: number, max: number): number {
  if (typed === undefined) return usual;
  const value = /^\d{1,10}$/.test(typed) ? Number(typed) : NaN;
  if (value >= min && value <= max) return value;
  throw wrong(`--${name}: expected a whole number from ${min} to ${max}, found ${JSON.stringify(typed)}`);
}

function bandwidth(typed: string): number {
  const bytes = parseSize(typed);
  if (bytes !== undefined && bytes >= BYTES_PER_SECOND_MIN) return bytes;
  throw wrong(
    `--bandwidth: expected bytes a second such as 512K or 10M, at least ${BYTES_PER_SECOND_MIN}, found ${JSON.stringify(typed)}`,
  );
}

function faults(typed: string, residents: number): string[] {
  const names = typed.split(',').map((name) => name.trim());
  for (const name of names) {
    if (Object.hasOwn(NAMED_FAULTS, name)) continue;
    throw wrong(`--fail: expected names of ${Object.keys(NAMED_FAULTS).join(', ')}; found ${JSON.stringify(name)}`);
  }
  if (names.length <= residents) return names;
  throw wrong(`--fail: ${names.length} faults need as many residents, and there are ${residents} (--residents)`);
}

function wrong(message: string): CliError {
  return new CliError(message, { exitCode: 2 });
}
