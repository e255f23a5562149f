/** The demo before a simulated federation in a process of its own: a room of any size, made from a seed. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Environment, type Progress } from '../../launch/progress.ts';
import { invariant } from '../../invariant.ts';
import { type RequestCount, type SimulatedRoomSummary, type Simulator } from '../../simulator/contract.ts';
import { launchSimulator } from '../../simulator/launch-simulator.ts';
import { NAMED_FAULTS } from '../../simulator/named-faults.ts';
import { type OperatorClient } from '../operator-client.ts';
import { humanCount, humanSize } from '../output.ts';
import { type DigestComparison, compareDigests } from './compare-digests.ts';
import { type SimulatedRoomPlan } from './plan.ts';
import { type Stage, type StageOptions } from './stage.ts';
import { type RoomTalk, answerTo, gatherCast, speak } from './talk.ts';
import { type WatchedJoin } from './timeline.ts';

const ROOM_VERSION = '11';
const RECENT_MESSAGES = 200;
const SMALL_MEMBERS = 1_000;

/** A fault in force: whom it strikes, and how often it has. */
export interface StruckResident {
  readonly resident: string;
  readonly fault: string;
  hits(): Promise<number>;
}

export interface SimulatedStage extends Stage {
  readonly made: SimulatedRoomSummary;
  readonly talk: RoomTalk;
  readonly faults: readonly StruckResident[];
  /** What the federation was asked since it was started. */
  counts(): Promise<readonly RequestCount[]>;
  compare(client: OperatorClient, join: WatchedJoin): Promise<DigestComparison>;
}

/** Throws `LaunchError`, or the reason of `stop`. */
export async function openSimulatedStage(plan: SimulatedRoomPlan, options: StageOptions): Promise<SimulatedStage> {
  const { certificates, shutdown, stop } = options;
  const directory = join(options.directory, 'federation');
  await mkdir(directory);
  const joinersAuthorityPem = await readFile(certificates.authorityFile, 'utf8');
  const simulator = await launch(plan, { ...options, directory, joinersAuthorityPem });
  shutdown.add('simulated federation', () => simulator.stop());
  stop.throwIfAborted();
  const authorityFile = join(directory, 'authority.pem');
  await writeFile(authorityFile, simulator.authorityPem);
  const [generated] = simulator.rooms;
  invariant(generated !== undefined, 'the simulator has made the room it was asked for');
  const talk = await prepareTalk(simulator, generated);
  const room = await simulator.summary(generated.roomId);
  const faults = await injectFaults(simulator, plan.faults);

  return {
    title: titleOf(room),
    // An alias is of the first resident, who can't be asked for it when it is down.
    room: plan.faults[0] === 'down' ? room.roomId : room.alias,
    via: simulator.residents,
    talk,
    made: room,
    faults,
    settings: {
      federation: {
        custom_ca_path: authorityFile,
        // Everything is on this machine, and nothing outside is asked.
        allowed_ip_ranges: ['127.0.0.0/8'],
        static_addresses: { ...simulator.staticAddresses },
      },
      trusted_key_servers: simulator.residents.map((name) => ({ server_name: name })),
    },
    counts: () => simulator.counts(),
    compare: async (client, watched) => compareDigests(client, watched, await simulator.digest(room.roomId)),
  };
}

interface Launching {
  readonly directory: string;
  readonly joinersAuthorityPem: string;
  readonly env: Environment;
  readonly progress: Progress;
}

function launch(
  plan: SimulatedRoomPlan,
  { directory, joinersAuthorityPem, env, progress }: Launching,
): Promise<Simulator> {
  const { seed, residents, members, servers, latencyMs, bytesPerSecond } = plan;
  return launchSimulator({
    seed,
    residents,
    rooms: [{ roomVersion: ROOM_VERSION, members, servers, messages: RECENT_MESSAGES }],
    joinersAuthorityPem,
    latencyMs,
    ...(bytesPerSecond === undefined ? {} : { bytesPerSecond }),
    env,
    logFile: join(directory, 'simulator.log'),
    progress: (line) => progress(`Federation: ${line}`),
  });
}

/**
 * The residents keep the end of the state until all is said. Of a big room most of it is on its way meanwhile; of a small
 * one perhaps no state is asked for but its ids.
 */
async function prepareTalk(
  simulator: Simulator,
  { roomId, creator, members }: SimulatedRoomSummary,
): Promise<RoomTalk> {
  const cast = await gatherCast(simulator, roomId, creator);
  const endpoint = members < SMALL_MEMBERS ? 'state_ids' : 'state';
  const held = await simulator.inject({ fault: { kind: 'hold', at: { share: 0.99 } }, endpoint });
  return {
    speak: () => speak(simulator, roomId, cast),
    answer: (eventId) => answerTo(simulator, roomId, cast, eventId),
    letGo: async () => {
      await held.remove();
      await held.release();
    },
  };
}

/** The first fault strikes the first resident, the second the second. */
async function injectFaults(simulator: Simulator, names: readonly string[]): Promise<StruckResident[]> {
  const struck: StruckResident[] = [];
  for (const [i, name] of names.entries()) {
    const named = NAMED_FAULTS[name];
    const resident = simulator.residents[i];
    invariant(named !== undefined && resident !== undefined, 'the flags were read before');
    const { fault, endpoint } = named;
    const active = await simulator.inject({ fault, server: resident, ...(endpoint === undefined ? {} : { endpoint }) });
    struck.push({ resident, fault: name, hits: () => active.hits() });
  }
  return struck;
}

function titleOf({ members, servers, stateEvents, stateBytes }: SimulatedRoomSummary): string {
  const who = `${humanCount(members)} members on ${humanCount(servers)} servers`;
  return `A simulated room of ${who}, its state ${humanCount(stateEvents)} events in ${humanSize(stateBytes)}`;
}
