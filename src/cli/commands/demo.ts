/**
 * `rejoinder demo`: the main job, watched. A room on other servers (a simulated federation, or a real Synapse), and Rejoinder
 * beside it, both in a throw-away folder; a join with partial state; the timeline until the room is whole; and what both
 * know of it, compared.
 */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { systemClock } from '../../clock.ts';
import { type SettingsInput } from '../../config/settings.ts';
import { type Environment, mergeTrees, withoutSettings } from '../../config/sources.ts';
import { type CertificateFiles, ensureCertificateFiles } from '../../launch/certificates.ts';
import { freePort } from '../../launch/ports.ts';
import { CliError } from '../failure.ts';
import { endpointFigures, figuresOf } from '../demo/figures.ts';
import { type DemoFlags, type DemoPlan, type SimulatedRoomPlan, planDemo } from '../demo/plan.ts';
import { type Person, atClient } from '../demo/person.ts';
import { createTimelinePrinter } from '../demo/print-timeline.ts';
import { type SimulatedStage, openSimulatedStage } from '../demo/simulated-stage.ts';
import { type Comparison, type Stage } from '../demo/stage.ts';
import { openSynapseStage } from '../demo/synapse-stage.ts';
import { type WatchedJoin, joinAndWatch } from '../demo/timeline.ts';
import { type OperatorClient, connectOperator } from '../operator-client.ts';
import { type Output, humanCount, humanSize } from '../output.ts';
import { type Shutdown, aborted } from '../process/shutdown.ts';
import { type RunningSystem, startSystem, urlOf } from '../up/system.ts';
import { askStory, storyLines } from './explain.ts';
import { complaintsTo, createShutdown, temporalPlace } from './up.ts';

export interface DemoOptions {
  readonly env: Environment;
  /** How to start ourselves. */
  readonly self: readonly string[];
  readonly version: string;
  readonly stop: AbortSignal;
  readonly flags: DemoFlags;
}

/** Starts everything for the demo, joins, watches the resync, compares the states, and tells what was measured. */
export async function demo(options: DemoOptions, output: Output): Promise<void> {
  const plan = planDemo(options.flags);
  const { stop } = options;
  const shutdown = createShutdown(stop, output);
  const directory = await mkdtemp(join(tmpdir(), 'rejoinder-demo-'));
  try {
    const started = await startBoth({ ...options, directory, shutdown }, plan, output);
    // Whichever comes first: the end of the show, a part that dies, or Ctrl-C.
    await Promise.race([show(started, plan, options, output), started.system.failed, aborted(stop)]);
  } catch (error) {
    // Asked to stop: what we were waiting for failed because of that.
    if (!stop.aborted) throw error;
  } finally {
    output.status();
    await shutdown.run(complaintsTo(output));
    await rm(directory, { recursive: true, force: true });
  }
}

/** The stage, with what only a simulated one has. */
type OpenedStage =
  | { readonly stage: SimulatedStage; readonly room: SimulatedRoomPlan }
  | { readonly stage: Stage; readonly room: undefined };

interface Started {
  readonly opened: OpenedStage;
  readonly system: RunningSystem;
  readonly configFile: string;
}

/** Both at once: each waits for disks and processes most of the time. */
async function startBoth(
  { env, self, stop, directory, shutdown }: DemoOptions & { readonly directory: string; readonly shutdown: Shutdown },
  { room }: DemoPlan,
  output: Output,
): Promise<Started> {
  const progress = (line: string): void => output.note(output.colours.dim(line));
  const certificates = await ensureCertificateFiles(join(directory, 'tls'), [], systemClock);
  const configFile = join(directory, 'rejoinder.yaml');
  const settings = await settingsOf(certificates);
  await writeFile(configFile, stringify(settings));

  // What is configured on this machine is meant for another server than this one.
  const ownEnv = withoutSettings(env);
  const starting = { directory, certificates, env: ownEnv, progress, shutdown, stop };
  const opening: Promise<OpenedStage> =
    room.kind === 'synapse'
      ? openSynapseStage(room, starting).then((stage) => ({ stage, room: undefined }))
      : openSimulatedStage(room, starting).then((stage) => ({ stage, room }));
  const lateSettings = async (): Promise<Partial<SettingsInput>> => (await opening).stage.settings;
  const running = startSystem(
    { env: ownEnv, config: configFile, self, durability: 'throw-away', progress, lateSettings, stop },
    shutdown,
  );
  const [opened, system] = await Promise.allSettled([opening, running]);
  if (opened.status === 'rejected') throw opened.reason;
  if (system.status === 'rejected') throw system.reason;
  // Whole, for commands that people run beside the demo.
  await writeFile(configFile, stringify(mergeTrees(settings, opened.value.stage.settings)));
  return { opened: opened.value, system: system.value, configFile };
}

/** Who joins. */
const DEMO_USER = 'demo';
/** Less patience with an answer that stands still than by default, for a public that wants to see what comes of it. */
const REQUEST_TIMEOUT = '15s';

async function settingsOf(certificates: CertificateFiles): Promise<SettingsInput> {
  const [federationPort, operatorPort] = [await freePort(), await freePort()];
  const tls = { certificate_path: certificates.certificateFile, private_key_path: certificates.keyFile };
  return {
    server_name: `localhost:${federationPort}`,
    listeners: {
      federation: { host: '127.0.0.1', port: federationPort, tls },
      client: { port: 0 },
      operator: { port: operatorPort },
    },
    client_api: { registration: 'open' },
    federation: { request_timeout: REQUEST_TIMEOUT },
  };
}

async function show(
  { opened, system, configFile }: Started,
  plan: DemoPlan,
  { env, version, stop }: DemoOptions,
  output: Output,
): Promise<void> {
  const { stage } = opened;
  const print = (line: string): void => (plan.json ? output.note(line) : output.line(line));
  const client = await connectOperator({ env: withoutSettings(env), config: configFile });
  const person = await atClient(urlOf(system.config.listeners.client), DEMO_USER);
  try {
    const join = await showJoin(stage, { client, person }, plan, output, print);
    const comparison =
      opened.room === undefined
        ? await stage.compare(client, join)
        : await showFigures(opened.stage, opened.room, client, join, { plan, version, output, print });
    printComparison(comparison, output, print);
    await printStory(client, join, output, print);
    printPlaces(system, print);
    if (plan.once) return;
    print(`Look around in another terminal, with REJOINDER_CONFIG=${configFile}:`);
    print(`  rejoinder rooms show '${join.roomId}'`);
    print(`  rejoinder members '${join.roomId}'`);
    print('Ctrl-C ends the demo and removes everything it made.');
    await aborted(stop);
  } finally {
    person.leave();
    await client.close();
  }
}

async function showJoin(
  stage: Stage,
  { client, person }: { readonly client: OperatorClient; readonly person: Person },
  { classic }: DemoPlan,
  output: Output,
  print: (line: string) => void,
): Promise<WatchedJoin> {
  const printer = createTimelinePrinter(output, print);
  print('');
  print(output.colours.bold(stage.title));
  print('');
  printer.head();
  const join = await joinAndWatch({
    client,
    room: stage.room,
    via: stage.via,
    userId: person.userId,
    person,
    classic,
    clock: systemClock,
    ...(stage.talk === undefined ? {} : { talk: stage.talk }),
    tell: (step) => printer.step(step),
    show: (progress) => printer.progress(progress),
  });
  printer.foot();
  print('');
  return join;
}

interface Showing {
  readonly plan: DemoPlan;
  readonly version: string;
  readonly output: Output;
  readonly print: (line: string) => void;
}

async function showFigures(
  stage: SimulatedStage,
  room: SimulatedRoomPlan,
  client: OperatorClient,
  join: WatchedJoin,
  { plan, version, output, print }: Showing,
): Promise<Comparison> {
  const counts = await stage.counts();
  const compared = await stage.compare(client, join);
  if (plan.json) output.json(await figuresOf({ version, plan: { ...plan, room }, stage, join, compared, counts }));
  print(askedOf(counts));
  return compared;
}

/** Of the last thing that was said and turned out otherwise, as `rejoinder explain` tells it. */
async function printStory(
  client: OperatorClient,
  { said, corrections }: WatchedJoin,
  output: Output,
  print: (line: string) => void,
): Promise<void> {
  const corrected = new Set(corrections.map(({ event_id: eventId }) => eventId));
  const explained = said.findLast(({ eventId }) => corrected.has(eventId));
  if (explained === undefined) return;
  print('');
  print(output.colours.bold(`rejoinder explain '${explained.eventId}'`));
  for (const line of storyLines((await askStory(client, explained.eventId)).body)) print(line);
}

function askedOf(counts: Parameters<typeof endpointFigures>[0]): string {
  const asked = endpointFigures(counts);
  const requests = asked.reduce((sum, one) => sum + one.requests, 0);
  const bytes = asked.reduce((sum, one) => sum + one.body_bytes, 0);
  const most = asked
    .slice(0, 4)
    .map((one) => `${one.endpoint} ${humanSize(one.body_bytes)}`)
    .join(', ');
  return `Asked of the federation: ${humanCount(requests)} requests, ${humanSize(bytes)} of answers (${most})`;
}

function printComparison({ alike, differences }: Comparison, output: Output, print: (line: string) => void): void {
  if (differences.length > 0) {
    for (const line of differences) print(line);
    throw new CliError('what Rejoinder knows of the room differs from what its servers know');
  }
  const [first = '', ...rest] = alike;
  print(`${output.colours.green('Equal')} to ${first}`);
  for (const line of rest) print(line);
}

function printPlaces(system: RunningSystem, print: (line: string) => void): void {
  const { federation, client } = system.config.listeners;
  print('');
  print(`Temporal UI    ${temporalPlace(system)}`);
  print(`server API     https://${federation.host}:${federation.port}`);
  print(`client API     ${urlOf(client)}`);
  print(`operator API   ${system.operatorUrl}/_rejoinder/v1`);
}
