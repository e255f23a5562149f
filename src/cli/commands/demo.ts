/**
 * `rejoinder demo`: the main job on real input. A Synapse with a room of its own users, and Rejoinder beside it, both in a
 * throw-away folder; a join with partial state; the timeline until the room is whole; and what both know, compared.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { systemClock } from '../../clock.ts';
import { type SettingsInput } from '../../config/settings.ts';
import { type Environment, withoutSettings } from '../../config/sources.ts';
import { ensureCertificateFiles } from '../../launch/certificates.ts';
import { freePort } from '../../launch/ports.ts';
import { CliError } from '../failure.ts';
import { type Comparison, compareWithResident } from '../demo/compare.ts';
import { type Resident, startResident } from '../demo/resident.ts';
import { joinAndWatch } from '../demo/timeline.ts';
import { connectOperator } from '../operator-client.ts';
import { type Output } from '../output.ts';
import { type Shutdown, aborted } from '../process/shutdown.ts';
import { type RunningSystem, startSystem } from '../up/system.ts';
import { complaintsTo, createShutdown, temporalPlace } from './up.ts';

export interface DemoOptions {
  readonly env: Environment;
  /** How to start ourselves. */
  readonly self: readonly string[];
  readonly stop: AbortSignal;
  /** Of the room, as typed. */
  readonly members: string;
  /** End when all is said. */
  readonly once: boolean;
}

/** Synapse needs some 30 ms for each. */
const MEMBERS_MAX = 20_000;
const MEMBERS_MIN = 3;

export async function demo(options: DemoOptions, output: Output): Promise<void> {
  const members = Number(options.members);
  if (!Number.isInteger(members) || members < MEMBERS_MIN || members > MEMBERS_MAX) {
    throw new CliError(
      `--members: expected ${MEMBERS_MIN} to ${MEMBERS_MAX}, found ${JSON.stringify(options.members)}`,
      {
        exitCode: 2,
      },
    );
  }
  const { stop } = options;
  const shutdown = createShutdown(stop, output);
  const directory = await mkdtemp(join(tmpdir(), 'rejoinder-demo-'));
  try {
    const { resident, system, configFile } = await startBoth({ ...options, directory, shutdown }, members, output);
    // Whichever comes first: the end of the show, a part that dies, or Ctrl-C.
    await Promise.race([show(resident, system, configFile, options, output), system.failed, aborted(stop)]);
  } catch (error) {
    // Asked to stop: what we were waiting for failed because of that.
    if (!stop.aborted) throw error;
  } finally {
    await shutdown.run(complaintsTo(output));
    await rm(directory, { recursive: true, force: true });
  }
}

interface Started {
  readonly resident: Resident;
  readonly system: RunningSystem;
  readonly configFile: string;
}

async function startBoth(
  { env, self, stop, directory, shutdown }: DemoOptions & { readonly directory: string; readonly shutdown: Shutdown },
  members: number,
  output: Output,
): Promise<Started> {
  const progress = (line: string): void => output.note(output.colours.dim(line));
  const certificates = await ensureCertificateFiles(join(directory, 'tls'), [], systemClock);
  const [residentPort, federationPort, operatorPort] = [await freePort(), await freePort(), await freePort()];
  const settings: SettingsInput = {
    server_name: `localhost:${federationPort}`,
    listeners: {
      federation: {
        host: '127.0.0.1',
        port: federationPort,
        tls: { certificate_path: certificates.certificateFile, private_key_path: certificates.keyFile },
      },
      operator: { port: operatorPort },
    },
    // Everything is on this machine, and nothing outside is asked.
    federation: { custom_ca_path: certificates.authorityFile, allowed_ip_ranges: ['127.0.0.0/8', '::1/128'] },
    trusted_key_servers: [],
  };
  const configFile = join(directory, 'rejoinder.yaml');
  await writeFile(configFile, stringify(settings));

  // What is configured on this machine is meant for another server than this one.
  const ownEnv = withoutSettings(env);
  const starting = { directory, certificates, members, env: ownEnv, progress, shutdown, stop };
  const [resident, system] = await Promise.allSettled([
    startResident({ ...starting, federationPort: residentPort }),
    startSystem({ env: ownEnv, config: configFile, self, durability: 'throw-away', progress, stop }, shutdown),
  ]);
  if (resident.status === 'rejected') throw resident.reason;
  if (system.status === 'rejected') throw system.reason;
  return { resident: resident.value, system: system.value, configFile };
}

async function show(
  { room, serverName }: Resident,
  system: RunningSystem,
  configFile: string,
  { env, once, stop }: DemoOptions,
  output: Output,
): Promise<void> {
  const { colours } = output;
  const client = await connectOperator({ env: withoutSettings(env), config: configFile });
  try {
    output.line();
    output.line(colours.bold(`A room of ${room.joined.length} members on Synapse at ${serverName}`));
    const userId = `@demo:${system.config.serverName}`;
    const { roomId, members } = await joinAndWatch({
      client,
      alias: room.alias,
      userId,
      clock: systemClock,
      tell: (atMs, step, detail) =>
        output.line(`${`${(atMs / 1000).toFixed(2)} s`.padStart(9)}  ${step.padEnd(16)} ${colours.dim(detail)}`),
    });
    output.line();
    printComparison(await compareWithResident(client, roomId, members, room.owner), output);
    output.line(`Temporal UI: ${temporalPlace(system)}`);
    if (once) return;
    output.line(`Look around in another terminal, with REJOINDER_CONFIG=${configFile}:`);
    output.line(`  rejoinder rooms '${room.alias}'`);
    output.line(`  rejoinder members '${room.alias}'`);
    output.line('Ctrl-C ends the demo and removes everything it made.');
    await aborted(stop);
  } finally {
    await client.close();
  }
}

function printComparison({ members, state, differences }: Comparison, output: Output): void {
  if (differences.length === 0) {
    output.line(`${output.colours.green('Equal')} to what Synapse tells its own user:`);
    output.line(`  ${members} memberships, by user and event id`);
    output.line(`  ${state} state events, by event id`);
    return;
  }
  for (const line of differences) output.line(line);
  throw new CliError(`Rejoinder and Synapse differ; alike are ${members} memberships and ${state} state events`);
}
