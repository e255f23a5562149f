/**
 * What the processes of a run spent their time on, from V8's sampling profiles. `node --cpu-prof` writes one for each
 * thread when the process ends; of each the samples between two moments of the machine's monotonic clock count. A
 * function's own time goes to the share that its file belongs to; what has no file of ours (V8's builtins, most of Node's
 * insides) goes to the share of its nearest caller that has one.
 *
 * Samples are wall-clock time of a thread that is not idle; on a machine with more to run than cores that is more than
 * processor time. Shares of it are what is compared.
 */
import { readFile, readdir } from 'node:fs/promises';
import { join } from 'node:path';

export type Share =
  | 'verification'
  | 'hashing'
  | 'parsing'
  | 'judging'
  | 'SQL client'
  | 'HTTP and TLS'
  | 'Temporal'
  | 'passing between threads'
  | 'telemetry and logs'
  | 'garbage collection'
  | 'other';

/** The first that matches a file's URL. Of Node's insides those that a share has to itself; `node:` else counts with its caller. */
const FILES: readonly (readonly [RegExp, Share])[] = [
  [
    /\/src\/matrix\/signing\/(ed25519|signatures|signing-key)\.|node_modules\/sodium-native\/|node:internal\/crypto\/sig/,
    'verification',
  ],
  [/\/src\/matrix\/(signing\/(hashes|redaction|base64)|json\/canonical-json)\.|node:internal\/crypto\/hash/, 'hashing'],
  [/\/src\/matrix\/(json\/|(event-format|event-ids|event-values|identifiers|content|depth|pdu)\.)/, 'parsing'],
  [/\/src\/federation\/(event-splitter|event-stream|state-ids)\./, 'parsing'],
  [/\/src\/(matrix|rooms\/judge)\//, 'judging'],
  [/\/src\/store\/|node_modules\/(pg|pg-[a-z-]+|postgres-[a-z]+|drizzle-orm|split2)\//, 'SQL client'],
  [
    /\/src\/verification\/|node:internal\/(worker|per_context\/messageport|structured_clone)/,
    'passing between threads',
  ],
  [/node_modules\/(@opentelemetry|pino|sonic-boom)|\/src\/(telemetry|logging)/, 'telemetry and logs'],
  [
    /node_modules\/(@temporalio|protobufjs|@protobufjs|@grpc|long)|workflow-bundle|\/(workflows|src\/temporal)\//,
    'Temporal',
  ],
  [
    /\/src\/(federation|operator)\/|node_modules\/(undici|fastify|@fastify|find-my-way|light-my-request)\//,
    'HTTP and TLS',
  ],
  [/node:(_http|https?$|_tls|tls$|net$|internal\/(tls|http|stream_base))/, 'HTTP and TLS'],
  [/^file:.*\/(src|activities|bin|node_modules)\//, 'other'],
];

const VERIFICATION_THREAD = /\/src\/verification\/thread\./;

interface ProfileNode {
  readonly id: number;
  readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
  readonly children?: readonly number[];
}

/** The part of V8's format that is read here; times are microseconds of the monotonic clock. */
interface CpuProfile {
  readonly nodes: readonly ProfileNode[];
  readonly startTime: number;
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
}

/** On the machine's monotonic clock, which is the same in all processes. */
export interface Window {
  readonly fromUs: number;
  readonly toUs: number;
}

export interface HotFunction {
  readonly name: string;
  readonly file: string;
  readonly seconds: number;
}

export interface ThreadTime {
  readonly pid: number;
  readonly thread: 'main' | 'verification' | 'other';
  readonly busySeconds: number;
  readonly shares: ReadonlyMap<Share, number>;
  /** The most time first. */
  readonly hottest: readonly HotFunction[];
}

const HOTTEST = 12;

/** Reads all profiles of a folder, named `CPU.DATE.TIME.PID.THREAD.SEQUENCE.cpuprofile` by Node. */
export async function readProfiles(directory: string, window: Window): Promise<ThreadTime[]> {
  const threads: ThreadTime[] = [];
  for (const file of (await readdir(directory)).sort()) {
    const [, , , pid, thread] = file.split('.');
    if (!file.endsWith('.cpuprofile')) continue;
    const profile = JSON.parse(await readFile(join(directory, file), 'utf8')) as CpuProfile;
    threads.push({ pid: Number(pid), ...threadTime(profile, thread === '0', window) });
  }
  return threads;
}

export function threadTime(profile: CpuProfile, isMain: boolean, { fromUs, toUs }: Window): Omit<ThreadTime, 'pid'> {
  const selfUs = new Map<number, number>();
  let atUs = profile.startTime;
  profile.samples.forEach((node, i) => {
    const deltaUs = profile.timeDeltas[i] ?? 0;
    atUs += deltaUs;
    if (atUs >= fromUs && atUs <= toUs) selfUs.set(node, (selfUs.get(node) ?? 0) + deltaUs);
  });
  const shareOf = sharesOf(profile.nodes);
  const shares = new Map<Share, number>();
  const functions = new Map<string, HotFunction>();
  let busySeconds = 0;
  for (const { id, callFrame } of profile.nodes) {
    const seconds = (selfUs.get(id) ?? 0) / 1e6;
    if (seconds === 0 || callFrame.functionName === '(idle)') continue;
    busySeconds += seconds;
    const share = shareOf.get(id) ?? 'other';
    shares.set(share, (shares.get(share) ?? 0) + seconds);
    const name = callFrame.functionName === '' ? `line ${callFrame.lineNumber + 1}` : callFrame.functionName;
    const file = callFrame.url.split(/\/(?=dist\/|node_modules\/)/).at(-1)!;
    const known = functions.get(`${name} ${file}`)?.seconds ?? 0;
    functions.set(`${name} ${file}`, { name, file, seconds: known + seconds });
  }
  const isVerification = profile.nodes.some(({ callFrame }) => VERIFICATION_THREAD.test(callFrame.url));
  return {
    thread: isMain ? 'main' : isVerification ? 'verification' : 'other',
    busySeconds,
    shares,
    hottest: [...functions.values()].sort((a, b) => b.seconds - a.seconds).slice(0, HOTTEST),
  };
}

/** The share of every node: by its own file, else that of its caller. */
function sharesOf(nodes: readonly ProfileNode[]): Map<number, Share> {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  const shares = new Map<number, Share>();
  const root = nodes[0];
  if (root === undefined) return shares;
  const stack: { node: ProfileNode; callers: Share }[] = [{ node: root, callers: 'other' }];
  for (let top = stack.pop(); top !== undefined; top = stack.pop()) {
    const { node, callers } = top;
    const { functionName, url } = node.callFrame;
    const own = FILES.find(([pattern]) => pattern.test(url))?.[1];
    const share = functionName === '(garbage collector)' ? 'garbage collection' : (own ?? callers);
    shares.set(node.id, share);
    for (const child of node.children ?? []) {
      const found = byId.get(child);
      if (found !== undefined) stack.push({ node: found, callers: share });
    }
  }
  return shares;
}
