/**
 * `npm run bench:resident`: what it costs to be the resident of others, by function calls over a PostgreSQL of its own without fsync: joins
 * of a room of 13,000 members, partial and whole, twenty servers at once, and the state of a room of 100,000. The memberships of the
 * rooms are put into their state by hand; what joins after that is judged as ever. How much this process grows is told beside, and
 * its processor time, which tells more where others use the machine too.
 *
 *     --members 13000  --big-members 100000  --joins 50  --servers 20
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../src/clock.ts';
import { type FederationClient } from '../src/federation/client.ts';
import { launchPostgres } from '../src/launch/postgres.ts';
import { createLogger } from '../src/logging.ts';
import { sealEvent, unsignedEvent } from '../src/matrix/compose.ts';
import { type EventId, type RoomId, type ServerName, type UserId } from '../src/matrix/identifiers.ts';
import { canonicalJson } from '../src/matrix/json/canonical-json.ts';
import { roomVersionRules } from '../src/matrix/room-versions.ts';
import { eventIdOf } from '../src/matrix/signing/hashes.ts';
import { signEvent } from '../src/matrix/signing/signatures.ts';
import { generateSigningKey } from '../src/matrix/signing/signing-key.ts';
import { defaultResyncPolicy } from '../src/resync/policy.ts';
import { type RoomsContext } from '../src/rooms/context.ts';
import { type EventPages } from '../src/rooms/resident-contract.ts';
import { residentAnswers } from '../src/rooms/resident/answers.ts';
import { residentMemberships } from '../src/rooms/resident/memberships.ts';
import { createRoom } from '../src/rooms/send/create-room.ts';
import { sendEvent } from '../src/rooms/send/send-event.ts';
import { insertPdus, recordOutlierVerdicts } from '../src/store/events/pdus.ts';
import { readStanding } from '../src/store/journal/rooms.ts';
import { migrate } from '../src/store/migrate.ts';
import { createNotifier } from '../src/store/notify.ts';
import { openStore } from '../src/store/open-store.ts';
import { createSnapshot, readSnapshot } from '../src/store/snapshots/snapshots.ts';
import { createVerificationPool } from '../src/verification/pool.ts';
import { readFlags } from './bench/flags.ts';
import { count, megabytes, quantile, tableLines } from './bench/table.ts';

const flags = readFlags('bench:resident', {
  numbers: { members: 13_000, 'big-members': 100_000, joins: 50, servers: 20 },
  switches: [],
  texts: [],
});
const US = 'us.example.org' as ServerName;
const ME = `@me:${US}` as UserId;
const VERSION = '11';
const STORED_AT_ONCE = 2_000;
/** With it a membership has some 900 bytes, as in a public room. */
const PROFILE = { avatar_url: `mxc://example.org/${'a'.repeat(120)}`, displayname: 'A member of the room' };
const signal = new AbortController().signal;
const rules = roomVersionRules(VERSION);
if (rules === undefined) throw new Error(`room version ${VERSION} is one of ours`);
const key = generateSigningKey(randomBytes);

const folder = await mkdtemp(join(tmpdir(), 'rejoinder-bench-resident-'));
const server = await launchPostgres({
  ...{ dataDirectory: folder, durability: 'throw-away', env: process.env },
  progress: (line) => console.error(line),
});
await migrate(server.databaseUrl);
const store = openStore({
  ...{ databaseUrl: server.databaseUrl, serverName: US, poolSizeMax: 10, applicationName: 'bench' },
});
const notifier = createNotifier(store);
const verification = createVerificationPool({ threads: 1 });
const always = { validUntilTs: Number.MAX_SAFE_INTEGER, renewableUntilTs: Number.MAX_SAFE_INTEGER };
const context: RoomsContext = {
  ...{ serverName: US, signingKey: key, store, notifier, verification, clock: systemClock, random: Math.random },
  ...{ logger: createLogger({ level: 'warn' }), policy: defaultResyncPolicy, ring: () => Promise.resolve() },
  // Every server here signs with the same key, and nobody is asked for anything.
  keyRing: {
    resolve: (requests) =>
      Promise.resolve(requests.map((asked) => ({ ...asked, publicKey: key.publicKey, ...always }))),
  },
  federation: {} as FederationClient,
};

/** A public room of ours with so many members of 500 other servers. */
async function bigRoom(members: number): Promise<RoomId> {
  const roomId = await createRoom(context, {
    ...{
      creator: ME,
      profile: {},
      preset: 'public_chat',
      creationContent: {},
      powerLevelOverride: {},
      initialState: [],
    },
    ...{ name: 'A big room', topic: undefined, alias: undefined, invite: [], isDirect: false, roomVersion: VERSION },
  });
  const room = await readStanding(store, roomId);
  if (room?.currentState == null) throw new Error('the room is there');
  const state = await readSnapshot(store, roomId, room.currentState);
  const cited = ['m.room.create', 'm.room.power_levels', 'm.room.join_rules'];
  const authEvents = state.flatMap(({ type, eventId }) => (cited.includes(type) ? [eventId] : []));
  const all = state.map(({ eventId }) => eventId);
  for (let start = 0; start < members; start += STORED_AT_ONCE) {
    const batch = Array.from({ length: Math.min(STORED_AT_ONCE, members - start) }, (_, i) => {
      const sender = `@user${start + i}:s${(start + i) % 500}.example.org` as UserId;
      const draft = { sender, type: 'm.room.member', stateKey: sender, content: { ...PROFILE, membership: 'join' } };
      const place = { roomId, prevEvents: room.extremities, authEvents, depth: 9n, originServerTs: 1_700_000_000_000 };
      const { eventId, event } = sealEvent(unsignedEvent(draft, place), rules!, US, key);
      return {
        ...{
          eventId,
          roomId,
          type: draft.type,
          stateKey: sender,
          sender,
          membership: 'join',
          depth: 9n,
          hollow: false,
        },
        ...{ originServerTs: place.originServerTs, prevEvents: room.extremities, authEvents },
        json: Buffer.from(canonicalJson(event)),
      };
    });
    await insertPdus(store, batch);
    const verdicts = batch.map(({ eventId }) => ({ eventId, verdict: 'accepted' as const, authDepth: 3 }));
    await recordOutlierVerdicts(store, roomId, verdicts);
    all.push(...batch.map(({ eventId }) => eventId));
  }
  // What was stored at once is not counted yet, and plans go by that.
  await store.query('ANALYZE');
  const full = await createSnapshot(store, roomId, all);
  await store.query(
    `UPDATE event_states SET state_after = decode($2, 'hex') WHERE room_id = $1 AND event_id = ANY ($3)`,
    [...[roomId, full], room.extremities],
  );
  await store.query(`UPDATE rooms SET current_state = decode($2, 'hex') WHERE room_id = $1`, [roomId, full]);
  await store.query('ANALYZE');
  return roomId;
}

const memberships = residentMemberships(context);
const answers = residentAnswers(context);

/** Reads to the end; gives the bytes. */
async function drain(...all: readonly EventPages[]): Promise<number> {
  let bytes = 0;
  for (const pages of all) for await (const page of pages) for (const text of page) bytes += Buffer.byteLength(text);
  return bytes;
}

/** A join by another server, to the last byte; gives these. */
async function joinBy(name: ServerName, roomId: RoomId, omitMembers: boolean): Promise<number> {
  const userId = `@joiner:${name}` as UserId;
  const { event } = await memberships.template({ change: 'join', roomId, userId, server: name, versions: [VERSION] });
  const signed = signEvent(event, rules!, name, key);
  const eventId: EventId = eventIdOf(signed, rules!);
  const raw = Buffer.from(JSON.stringify(signed));
  const begun = performance.now();
  const sent = { change: 'join', roomId, eventId, server: name, raw, signal } as const;
  const answer = await memberships.sendJoin({ ...sent, omitMembers });
  const bytes = await drain(answer.state, answer.authChain);
  times.push(performance.now() - begun);
  return bytes;
}
let times: number[] = [];

const rows: string[][] = [];
/** Measures `work`, which gives bytes. */
async function measure(what: string, work: () => Promise<number>): Promise<void> {
  times = [];
  globalThis.gc?.();
  const before = process.memoryUsage().rss;
  let peak = before;
  const watch = setInterval(() => (peak = Math.max(peak, process.memoryUsage().rss)), 20);
  const cpu = process.cpuUsage();
  const begun = performance.now();
  const bytes = await work();
  const ms = performance.now() - begun;
  clearInterval(watch);
  const { user, system } = process.cpuUsage(cpu);
  const each = times.length === 0 ? [ms] : times;
  rows.push([
    ...[what, count(each.length), quantile(each, 0.5).toFixed(0), quantile(each, 0.95).toFixed(0)],
    ...[((user + system) / 1_000 / each.length).toFixed(0), megabytes(bytes / each.length)],
    ...[(bytes / 1e6 / (ms / 1_000)).toFixed(1), megabytes(peak - before)],
  ]);
  console.error(rows.at(-1)?.join('  '));
}

try {
  const roomId = await bigRoom(flags.number('members'));
  let joined = 0;
  const next = (): ServerName => `j${(joined += 1)}.example.org` as ServerName;
  const oneByOne = async (times_: number, omitMembers: boolean): Promise<number> => {
    let bytes = 0;
    for (let i = 0; i < times_; i += 1) bytes += await joinBy(next(), roomId, omitMembers);
    return bytes;
  };
  const members = count(flags.number('members'));
  await oneByOne(3, true);
  await measure(`partial join, ${members} members`, () => oneByOne(flags.number('joins'), true));
  await measure(`classic join, ${members} members`, () => oneByOne(5, false));
  await measure(`${flags.number('servers')} servers at once, partial`, async () => {
    const all = await Promise.all(Array.from({ length: flags.number('servers') }, () => joinBy(next(), roomId, true)));
    return all.reduce((sum, bytes) => sum + bytes, 0);
  });
  const big = await bigRoom(flags.number('big-members'));
  const asker = next();
  await joinBy(asker, big, true);
  const said = await sendEvent(context, big, { sender: ME, type: 'm.room.message', content: { body: 'hello' } });
  await measure(`state, ${count(flags.number('big-members'))} members`, async () => {
    const state = await answers.state(big, said, asker);
    if (typeof state === 'string') throw new Error(state);
    return drain(state.pdus, state.authChain);
  });
  const head = ['', 'times', 'p50 ms', 'p95 ms', 'cpu ms', 'MB each', 'MB/s', 'grown MB'];
  console.log(tableLines(head, rows).join('\n'));
} finally {
  await Promise.all([verification.close(), notifier.close()]);
  await store.close();
  await server.stop();
  await rm(folder, { recursive: true, force: true });
}
