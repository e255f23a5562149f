/**
 * `npm run bench:core`: what the protocol core costs, without network or database. Events a second for parse + hash +
 * verify + auth on one core and two, the share of each step, the bare verifier beside it in the same run, and state
 * resolution of a 10,000-event conflict. Minimum, median and maximum of three runs; beside them the least processor time
 * of any run, which shares and the comparison are made of: the clock tells little where others use the machine too.
 */
import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { decodeBase64 } from '../src/matrix/signing/base64.ts';
import { libsodiumVerifies, opensslVerifies } from '../src/matrix/signing/ed25519.ts';
import { checkContentHash, signedText } from '../src/matrix/signing/hashes.ts';
import { preparePdu } from '../src/matrix/event-format.ts';
import { type EventId, type ServerName } from '../src/matrix/identifiers.ts';
import { type Pdu } from '../src/matrix/pdu.ts';
import { checkOutlier } from '../src/matrix/pdu-checks.ts';
import { type RoomVersionRules, roomVersionRules } from '../src/matrix/room-versions.ts';
import { requiredSigners, signaturesOf, verifyText } from '../src/matrix/signing/signatures.ts';
import { resolveState } from '../src/matrix/state-resolution/state-resolution.ts';
import { parseJsonObject } from '../src/matrix/json/strict-json.ts';
import { createVerificationPool } from '../src/verification/pool.ts';
import { conflict } from './bench/conflict.ts';
import { type MemberEvents, ROOM_ID, memberEvents } from './bench/member-events.ts';

const RUNS = 3;
/** As the members of #element:matrix.org when the Synapse team measured it, and their servers. */
const MEMBERS = 13_000;
const SERVERS = 1_300;
const CONFLICT_EVENTS = 10_000;
/** Ours first: libsodium where it is built for this machine. */
const BARE_VERIFIERS = [
  ...(libsodiumVerifies === undefined ? [] : [['bare libsodium', libsodiumVerifies] as const]),
  ['bare OpenSSL', opensslVerifies] as const,
];
/** What a fetch hands to the pool at a time. */
const POOL_BATCH_EVENTS = 2_000;

const { values } = parseArgs({ options: { 'room-version': { type: 'string', default: '11' } } });
const rules = roomVersionRules(values['room-version']);
if (rules === undefined || rules.roomIdIsCreateHash || rules.eventIdFormat === 'given') {
  console.error('usage: npm run bench:core -- [--room-version V], V from 3 to 11');
  process.exit(2);
}

interface Sample {
  readonly ms: number;
  /** Processor time of the whole process, its threads included. */
  readonly cpuMs: number;
}
type Samples = Map<string, Sample[]>;

/** Starts a stopwatch; calling it notes the time since then under a name. */
function stopwatch(samples: Samples): (step: string) => void {
  const start = performance.now();
  const cpu = process.cpuUsage();
  return (step) => {
    const ms = performance.now() - start;
    const { user, system } = process.cpuUsage(cpu);
    const known = samples.get(step) ?? [];
    samples.set(step, [...known, { ms, cpuMs: (user + system) / 1_000 }]);
  };
}

function spread(samples: Samples, step: string): { min: number; median: number; max: number; cpu: number } {
  const taken = samples.get(step)!;
  const sorted = taken.map(({ ms }) => ms).sort((a, b) => a - b);
  const cpu = Math.min(...taken.map(({ cpuMs }) => cpuMs));
  return { min: sorted[0]!, median: sorted[sorted.length >> 1]!, max: sorted.at(-1)!, cpu };
}

function judge(pdu: Pdu, authEvents: ReadonlyMap<EventId, Pdu>, rules: RoomVersionRules): void {
  const cited = pdu.authEvents.map((id) => authEvents.get(id)!);
  const verdict = checkOutlier({ event: pdu, rules, authEvents: cited, isRejected: () => false });
  if (verdict.outcome !== 'accept') throw new Error(`refused: ${verdict.rule}`);
}

function openingPdus(made: MemberEvents): Map<EventId, Pdu> {
  const pdus = made.opening
    .map((json) => preparePdu(json, made.rules))
    .map((read) => (read.ok ? read.pdu : undefined)!);
  return new Map(pdus.map((pdu) => [pdu.eventId, pdu]));
}

/** Every step by itself over all events, on this thread. */
function oneCore(made: MemberEvents, raw: readonly Uint8Array[], opening: Map<EventId, Pdu>, samples: Samples): void {
  const timed = <In, Out>(step: string, input: readonly In[], work: (item: In) => Out): Out[] => {
    const noteAs = stopwatch(samples);
    const output = input.map(work);
    noteAs(step);
    return output;
  };
  const noteAs = stopwatch(samples);
  const parsed = timed('parse', raw, (bytes) => {
    const json = parseJsonObject(bytes);
    if (!json.ok) throw new Error(json.reason);
    return { json: json.value, bytes };
  });
  const prepared = timed('format, event id', parsed, ({ json, bytes }) => {
    const read = preparePdu(json, made.rules, { wireBytes: bytes.length });
    if (!read.ok) throw new Error(read.reason);
    return read;
  });
  timed('content hash', prepared, ({ pdu }) => {
    if (checkContentHash(pdu.json) !== 'match') throw new Error('wrong hash');
  });
  timed('verify', prepared, ({ pdu, signed }) => {
    const required = requiredSigners(pdu, made.rules);
    for (const server of required.ok ? required.servers : []) {
      for (const { signature } of signaturesOf(pdu.json, server)) {
        if (!verifyText(Buffer.from(signed!), signature, made.keys.get(server)!.publicKey).ok) {
          throw new Error('forged');
        }
      }
    }
  });
  timed('auth', prepared, ({ pdu }) => judge(pdu, opening, made.rules));
  noteAs('all');
}

/** What verifies, alone, on messages, keys and signatures that lie ready: less is not possible here. */
function bareVerifiers(made: MemberEvents, samples: Samples): void {
  const ready = made.members.map((event) => {
    const [[server, byKey]] = Object.entries(event['signatures'] as Record<string, Record<string, string>>) as [
      [ServerName, Record<string, string>],
    ];
    const signature = decodeBase64(Object.values(byKey)[0]!)!;
    const key = decodeBase64(made.keys.get(server)!.publicKey)!;
    return { message: Buffer.from(signedText(event, made.rules)), key, signature };
  });
  for (const [name, verifies] of BARE_VERIFIERS) {
    const noteAs = stopwatch(samples);
    for (const { message, key, signature } of ready) if (!verifies(signature, message, key)) throw new Error('forged');
    noteAs(name);
  }
}

/** As a resync has it: threads parse, hash and verify in batches; what passed is judged here. */
async function withThreads(
  threads: number,
  made: MemberEvents,
  raw: readonly Uint8Array[],
  opening: Map<EventId, Pdu>,
  samples: Samples,
): Promise<void> {
  const pool = createVerificationPool({ threads });
  const check = (events: readonly Uint8Array[]) =>
    pool.check({
      roomVersion: made.rules.version,
      roomId: ROOM_ID,
      events,
      resolveKeys: made.resolveKeys,
      signal: new AbortController().signal,
    });
  // Threads are up, and warm, before a resync has its first events.
  await check(raw.slice(0, 1_000));
  const noteAs = stopwatch(samples);
  const batches: (readonly Uint8Array[])[] = [];
  for (let at = 0; at < raw.length; at += POOL_BATCH_EVENTS) batches.push(raw.slice(at, at + POOL_BATCH_EVENTS));
  const outcomes = (await Promise.all(batches.map(check))).flat();
  const threadsText = `${threads} thread${threads > 1 ? 's' : ''}`;
  noteAs(`parse + hash + verify, ${threadsText}`);
  for (const outcome of outcomes) {
    if (outcome.outcome !== 'passed') throw new Error(`an event did not pass: ${outcome.outcome}`);
    const { eventId, json } = outcome.pdu;
    const read = preparePdu(JSON.parse(Buffer.from(json).toString()) as Pdu['json'], made.rules, {
      knownId: eventId,
      wireBytes: json.length,
    });
    if (read.ok) judge(read.pdu, opening, made.rules);
  }
  noteAs(`and auth, ${threadsText}`);
  await pool.close();
}

function resolutions(samples: Samples): void {
  for (const version of ['1', '11', '12']) {
    const input = conflict(version, CONFLICT_EVENTS);
    const noteAs = stopwatch(samples);
    resolveState(input);
    noteAs(`resolution ${input.rules.stateResolution}`);
  }
}

function print(samples: Samples, steps: readonly string[], events: number, whole?: string): void {
  const wholeCpu = whole === undefined ? undefined : spread(samples, whole).cpu;
  for (const step of steps) {
    const { min, median, max, cpu } = spread(samples, step);
    const times = [min, median, max, cpu].map((ms) => ms.toFixed(0).padStart(8)).join('');
    const perSecond = `${Math.round((events / median) * 1_000).toLocaleString('en')} /s`;
    const share = wholeCpu === undefined ? '' : `${((100 * cpu) / wholeCpu).toFixed(0)} %`;
    console.log(`  ${step.padEnd(34)}${times}${perSecond.padStart(14)}${share.padStart(8)}`);
  }
}

const made = memberEvents(rules, MEMBERS, SERVERS);
const raw = made.members.map((event) => Buffer.from(JSON.stringify(event)));
const opening = openingPdus(made);
const samples: Samples = new Map();
const ignored: Samples = new Map();
// Once unmeasured, so that the first run does not pay for the compiler.
oneCore(made, raw.slice(0, 2_000), opening, ignored);
resolutions(ignored);
for (let run = 0; run < RUNS; run++) {
  oneCore(made, raw, opening, samples);
  bareVerifiers(made, samples);
  for (const threads of [1, 2]) await withThreads(threads, made, raw, opening, samples);
  resolutions(samples);
}

const cores = cpus();
const bytes = raw.reduce((sum, { length }) => sum + length, 0);
console.log(`${cores.length} cores, ${cores[0]?.model ?? 'unknown'}; Node ${process.versions.node}; ${RUNS} runs`);
console.log(
  `${MEMBERS} member events of ${SERVERS} servers, version ${rules.version}, ${(bytes / 1e6).toFixed(1)} MB\n`,
);
console.log(
  `  ${''.padEnd(34)}${['min ms', 'median', 'max', 'cpu'].map((head) => head.padStart(8)).join('')}${'events'.padStart(14)}${'share'.padStart(8)}`,
);
console.log('One core, step by step');
print(samples, ['parse', 'format, event id', 'content hash', 'verify', 'auth', 'all'], MEMBERS, 'all');
print(
  samples,
  BARE_VERIFIERS.map(([name]) => name),
  MEMBERS,
);
const [[ownVerifier]] = BARE_VERIFIERS as [(typeof BARE_VERIFIERS)[number]];
const ratio = spread(samples, 'verify').cpu / spread(samples, ownVerifier).cpu;
console.log(`  verify takes ${ratio.toFixed(2)} times the ${ownVerifier} (target: 1.3)`);
console.log('In worker threads, judged on the main thread');
print(
  samples,
  ['1 thread', '2 threads'].flatMap((threads) => [`parse + hash + verify, ${threads}`, `and auth, ${threads}`]),
  MEMBERS,
);
const { min, median } = spread(samples, 'parse + hash + verify, 2 threads');
const seconds = (ms: number): string => (ms / 1_000).toFixed(2);
console.log(
  `  parsed, hashed and verified on two cores: ${seconds(median)} s, at best ${seconds(min)} s (target: 1.5 s)`,
);
console.log(`State resolution, ${CONFLICT_EVENTS} conflicted events`);
print(samples, ['resolution v1', 'resolution v2', 'resolution v2.1'], CONFLICT_EVENTS);
