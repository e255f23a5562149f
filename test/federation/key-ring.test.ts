import pino from 'pino';
import { describe, expect, test } from 'vitest';
import { type NotaryRequest } from '../../src/federation/contract.ts';
import { type OldSigningKey, makeKeyAnswer, readKeyAnswer } from '../../src/federation/key-answer.ts';
import { type KnownKey } from '../../src/verification/contract.ts';
import { type TrustedKeyServer } from '../../src/federation/key-fetcher.ts';
import { createKeyRing } from '../../src/federation/key-ring.ts';
import { type KeyId, type ServerName } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { signJson } from '../../src/matrix/signing/signatures.ts';
import { type SigningKey, signingKeyFromSeed } from '../../src/matrix/signing/signing-key.ts';

const NOW = 1_700_000_000_000;
const DAY_MS = 86_400_000;
const us = 'us.test' as ServerName;
const notary = 'notary.test' as ServerName;
const signal = new AbortController().signal;
const keyId = 'ed25519:a' as KeyId;
const OLD = 'ed25519:old' as KeyId;

const keys = new Map<string, SigningKey>();

/** A server's key; making one takes milliseconds, so the numbered servers of large tests share theirs. */
function keyOf(name: string, id: KeyId = keyId): SigningKey {
  const serverName = name.replace(/^s\d+\./, 's.');
  const known = keys.get(`${serverName} ${id}`);
  if (known !== undefined) return known;
  const seed = Buffer.alloc(32);
  seed.write(`${serverName} ${id}`.slice(0, 32));
  const key = signingKeyFromSeed(id, seed);
  keys.set(`${serverName} ${id}`, key);
  return key;
}

function answerOf(serverName: string, changes: JsonObject = {}): JsonObject {
  const answer = makeKeyAnswer(serverName as ServerName, keyOf(serverName), NOW + DAY_MS);
  return signJson({ ...answer, signatures: {}, ...changes }, serverName as ServerName, keyOf(serverName));
}

const vouched = (answer: JsonObject): JsonObject => signJson(answer, notary, keyOf(notary));
const request = (name: string, validAtTs = NOW, id = keyId) => ({
  serverName: name as ServerName,
  keyId: id,
  validAtTs,
});

interface World {
  now: number;
  stored: KnownKey[];
  /** What each server publishes; a server without an entry is down. */
  servers: Record<string, JsonObject>;
  /** Every key object of the notary's answer, in this order, whatever is asked. */
  notarisedAll: readonly JsonObject[] | undefined;
  oldSigningKeys: readonly OldSigningKey[];
  /** What the notary says of a server; absent: nothing. `undefined` as a whole: it is down. */
  notarised: ((serverName: string) => JsonObject | undefined) | undefined;
  asked: string[];
  notaryQueries: (readonly NotaryRequest[])[];
  inFlight: number;
  inFlightMax: number;
  /** Turns of the event loop between what the store reads and when it says so. */
  readTurns: () => number;
  /** And before what it was given can be read. */
  storeTurns: number;
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function world(parts: Partial<World> = {}, trusted: readonly TrustedKeyServer[] = []) {
  const state: World = {
    now: NOW,
    stored: [],
    servers: {},
    notarised: undefined,
    notarisedAll: undefined,
    oldSigningKeys: [],
    asked: [],
    notaryQueries: [],
    inFlight: 0,
    inFlightMax: 0,
    readTurns: () => 0,
    storeTurns: 0,
    ...parts,
  };
  const ring = createKeyRing({
    serverName: us,
    signingKey: keyOf(us),
    oldSigningKeys: state.oldSigningKeys,
    trustedKeyServers: trusted,
    clock: { now: () => state.now },
    logger: pino({ level: 'silent' }),
    keyStore: {
      async readKeys(requests) {
        const named = new Set(requests.map(({ serverName, keyId: id }) => `${serverName} ${id}`));
        const read = state.stored.filter((key) => named.has(`${key.serverName} ${key.keyId}`));
        for (let turns = state.readTurns(); turns > 0; turns--) await turn();
        return read;
      },
      async storeKeys(keys) {
        for (let turns = state.storeTurns; turns > 0; turns--) await turn();
        state.stored.push(...keys);
      },
    },
    client: {
      async serverKeys(serverName) {
        state.asked.push(serverName);
        state.inFlight += 1;
        state.inFlightMax = Math.max(state.inFlightMax, state.inFlight);
        await turn();
        state.inFlight -= 1;
        const answer = state.servers[serverName];
        if (answer === undefined) throw new Error('down');
        return answer;
      },
      notaryQuery(_notary, requests) {
        state.notaryQueries.push(requests);
        if (state.notarisedAll !== undefined) return Promise.resolve(state.notarisedAll);
        if (state.notarised === undefined) return Promise.reject(new Error('down'));
        const names = [...new Set(requests.map(({ serverName }) => serverName))];
        return Promise.resolve(names.map(state.notarised).filter((answer) => answer !== undefined));
      },
    },
  });
  const names = async (...requests: ReturnType<typeof request>[]) =>
    (await ring.resolve(requests, signal)).map(({ serverName, keyId: id }) => `${serverName} ${id}`).sort();
  return Object.assign(state, { ring, names });
}

const pinned: TrustedKeyServer = { serverName: notary, verifyKeys: new Map([[keyId, keyOf(notary).publicKey]]) };

describe('the key ring', () => {
  test('asks nobody for what is stored and valid', async () => {
    const reading = readKeyAnswer(answerOf('a.test'), NOW);
    const here = world({ stored: reading.ok ? [...reading.keys] : [] });
    expect(await here.names(request('a.test'))).toEqual(['a.test ed25519:a']);
    expect(here.asked).toEqual([]);
  });

  test('asks the server itself where no notary is configured, and stores what it says', async () => {
    const here = world({ servers: { 'a.test': answerOf('a.test') } });
    expect(await here.ring.resolve([request('a.test')], signal)).toMatchObject([
      { serverName: 'a.test', publicKey: keyOf('a.test').publicKey, validUntilTs: NOW + DAY_MS },
    ]);
    expect(here.stored).toHaveLength(1);
    await here.names(request('a.test'));
    expect(here.asked).toEqual(['a.test']);
  });

  test('asks one notary for 1,300 servers in a handful of requests', async () => {
    const names = Array.from({ length: 1300 }, (_, i) => `s${i}.test`);
    const known = new Map(names.map((name) => [name, vouched(answerOf(name))]));
    const here = world({ notarised: (name) => known.get(name) }, [pinned]);
    expect(await here.names(...names.map((name) => request(name)))).toHaveLength(1300);
    expect(here.notaryQueries.map((query) => query.length)).toEqual([300, 300, 300, 100, 300]);
    expect(here.asked).toEqual([]);
  });

  test('asks 200 servers directly some at a time, a dead one as well as the others', async () => {
    const names = Array.from({ length: 200 }, (_, i) => `s${i}.test`);
    const here = world({ servers: Object.fromEntries(names.slice(1).map((name) => [name, answerOf(name)])) });
    expect(await here.names(...names.map((name) => request(name)))).toHaveLength(199);
    expect(here.inFlightMax).toBe(48);
  });

  test('callers at the same time share one request', async () => {
    const here = world({ servers: { 'a.test': answerOf('a.test'), 'b.test': answerOf('b.test') } });
    await Promise.all([
      here.names(request('a.test')),
      here.names(request('a.test'), request('b.test')),
      here.names(request('b.test')),
    ]);
    expect(here.asked.sort()).toEqual(['a.test', 'b.test']);
  });

  test('batches that come while others are under way get every key, and nothing is asked for twice', async () => {
    let reads = 0;
    const known = new Map(Array.from({ length: 60 }, (_, i) => [`s${i}.test`, vouched(answerOf(`s${i}.test`))]));
    const here = world({ notarised: (name) => known.get(name), readTurns: () => (reads++ * 7) % 5 }, [pinned]);
    const batches: Promise<string[]>[] = [];
    for (let start = 0; start < 50; start++) {
      const names = [...known.keys()].slice(start, start + 10);
      batches.push(here.names(...names.map((name) => request(name))));
      for (let turns = start % 4; turns > 0; turns--) await turn();
    }
    for (const batch of batches) expect(await batch).toHaveLength(10);
    const asked = here.notaryQueries.flat().map(({ serverName }) => serverName);
    expect(asked).toHaveLength(new Set(asked).size);
    expect(here.asked).toEqual([]);
  });

  test('what a pushing server made us ask for is had for a room too, at whatever moment the room wants it', async () => {
    for (let after = 0; after < 15; after++) {
      const here = world({ servers: { 'a.test': answerOf('a.test') }, storeTurns: 3, readTurns: () => 2 });
      const pushing = here.ring.resolve([request('a.test')], signal, 'request');
      for (let turns = after; turns > 0; turns--) await turn();
      expect(await here.names(request('a.test'))).toHaveLength(1);
      expect(await pushing).toHaveLength(1);
    }
  });

  test('asks a server directly when the notary is down, and the notary not again for a while', async () => {
    const here = world({ servers: { 'a.test': answerOf('a.test'), 'b.test': answerOf('b.test') } }, [pinned]);
    expect(await here.names(request('a.test'))).toHaveLength(1);
    expect(await here.names(request('b.test'))).toHaveLength(1);
    expect(here.notaryQueries).toHaveLength(1);
  });

  test.each<[string, (name: string) => JsonObject | undefined]>([
    ['knows nothing', () => undefined],
    ['does not sign', (name) => answerOf(name)],
    ['signs with another key', (name) => signJson(answerOf(name), notary, keyOf('evil.test'))],
    [
      'made the key up',
      (name) => vouched({ ...answerOf(name), verify_keys: { [keyId]: { key: keyOf('evil').publicKey } } }),
    ],
    ['answers for another server', () => vouched(answerOf('c.test'))],
    ['has only a stale answer', (name) => vouched(answerOf(name, { valid_until_ts: NOW - 1 }))],
  ])('does not stop at a notary that %s', async (_what, notarised) => {
    const here = world({ servers: { 'a.test': answerOf('a.test') }, notarised }, [pinned]);
    expect(await here.ring.resolve([request('a.test')], signal)).toMatchObject([{ validUntilTs: NOW + DAY_MS }]);
    expect(here.asked).toEqual(['a.test']);
    expect(here.stored.every(({ serverName }) => serverName === 'a.test')).toBe(true);
  });

  test('fetches the keys of a notary for which none are configured', async () => {
    const here = world({ servers: { [notary]: answerOf(notary) }, notarised: (name) => vouched(answerOf(name)) }, [
      { serverName: notary },
    ]);
    expect(await here.names(request('a.test'))).toHaveLength(1);
    expect(await here.names(request('b.test'))).toHaveLength(1);
    expect(here.asked).toEqual([notary]);
  });

  test('requests under way at the same time fetch the keys of a notary once, and once more when that failed', async () => {
    const names = Array.from({ length: 700 }, (_, i) => `s${i}.test`);
    const known = new Map(names.map((name) => [name, vouched(answerOf(name))]));
    const here = world({ notarised: (name) => known.get(name) }, [{ serverName: notary }]);
    const askedOfNotary = () => here.asked.filter((name) => name === notary).length;
    const askAll = () =>
      Promise.all([here.names(...names.map((name) => request(name))), here.names(request('a.test'))]);
    expect((await askAll()).flat()).toEqual([]);
    expect(askedOfNotary()).toBe(1);
    here.servers[notary] = answerOf(notary);
    here.now += 60_000;
    expect((await askAll()).flat()).toHaveLength(700);
    expect(askedOfNotary()).toBe(2);
  });

  test('never asks the network for keys of ours that are configured', async () => {
    const publicKey = keyOf(us, OLD).publicKey;
    const here = world({ oldSigningKeys: [{ keyId: OLD, publicKey, expiredTs: NOW - 500 }] }, [pinned]);
    expect(await here.ring.resolve([request(us, NOW + 99 * DAY_MS), request(us, NOW, OLD)], signal)).toMatchObject([
      { serverName: us, keyId, publicKey: keyOf(us).publicKey },
      { serverName: us, keyId: OLD, publicKey, validUntilTs: NOW - 500, renewableUntilTs: NOW - 500 },
    ]);
    expect([...here.asked, ...here.notaryQueries]).toEqual([]);
  });

  test('asks notaries, and never ourselves, for a key of ours that is not configured', async () => {
    const old = keyOf(us, OLD);
    const answer = vouched(makeKeyAnswer(us, old, NOW - 300));
    const here = world({ notarised: (name) => (name === us ? answer : undefined) }, [pinned]);
    expect(await here.ring.resolve([request(us, NOW - 400, OLD), request(us)], signal)).toMatchObject([
      { serverName: us, keyId },
      { serverName: us, keyId: OLD, publicKey: old.publicKey, validUntilTs: NOW - 300 },
    ]);
    expect(here.notaryQueries).toHaveLength(1);
    expect(await here.names(request(us, NOW, 'ed25519:unknown' as KeyId))).toEqual([]);
    expect(here.notaryQueries).toHaveLength(2);
    expect(here.asked).toEqual([]);
  });

  test('takes nobody else for the judge of our current key', async () => {
    const forged = vouched(makeKeyAnswer(us, keyOf('evil.test'), NOW + DAY_MS));
    const here = world({ notarised: () => forged }, [pinned]);
    await here.names(request(us, NOW, OLD));
    expect(await here.ring.resolve([request(us)], signal)).toMatchObject([{ publicKey: keyOf(us).publicKey }]);
  });

  test.each([[[1, 2]], [[2, 1]]])('reads the key objects of a notary alike in the order %j', async (order) => {
    const [a, b] = [keyOf('a.test'), keyOf('a.test', 'ed25519:b' as KeyId)];
    const signed = (key: SigningKey, validUntilTs: number, changes: JsonObject): JsonObject => {
      const answer = { ...makeKeyAnswer('a.test' as ServerName, key, validUntilTs), ...changes, signatures: {} };
      return vouched(signJson(answer, 'a.test' as ServerName, key));
    };
    const endedAt = (ts: number): JsonObject => ({
      old_verify_keys: { [a.keyId]: { key: a.publicKey, expired_ts: ts } },
    });
    const pick = (objects: readonly JsonObject[]) => order.map((i) => objects[i - 1]).filter((o) => o !== undefined);
    const seenAs = async (objects: readonly JsonObject[]) => {
      const here = world({ notarisedAll: pick(objects) }, [pinned]);
      const [key] = await here.ring.resolve([request('a.test', NOW - 5000)], signal);
      return [key?.validUntilTs, key?.renewableUntilTs];
    };
    // It came back: the newer object says that it is current.
    const back = [signed(b, NOW + 2000, endedAt(NOW - 9000)), signed(a, NOW + 3000, {})];
    expect(await seenAs(back)).toEqual([NOW + 3000, NOW + 7 * DAY_MS]);
    // It has ended since.
    const ended = [signed(a, NOW + 2000, {}), signed(b, NOW + 3000, endedAt(NOW - 9000))];
    expect(await seenAs(ended)).toEqual([NOW - 9000, NOW - 9000]);
    // Equally new objects that contradict each other: as long as any of them says.
    const torn = [signed(b, NOW + 2000, endedAt(NOW - 9000)), signed(a, NOW + 2000, {})];
    expect(await seenAs(torn)).toEqual([NOW + 2000, NOW + 7 * DAY_MS]);
    const twice = [signed(b, NOW + 2000, endedAt(NOW - 9000)), signed(b, NOW + 2000, endedAt(NOW - 8000))];
    expect(await seenAs(twice)).toEqual([NOW - 8000, NOW - 8000]);
  });

  test('does not ask again for a time that no answer of today could reach', async () => {
    const here = world({ servers: { 'a.test': answerOf('a.test') } });
    const nextMonth = request('a.test', NOW + 30 * DAY_MS);
    for (let i = 0; i < 3; i++) {
      expect(await here.ring.resolve([nextMonth], signal)).toMatchObject([
        { validUntilTs: NOW + DAY_MS, renewableUntilTs: here.now + 7 * DAY_MS },
      ]);
      here.now += 120_000;
    }
    expect(here.asked).toEqual(['a.test']);
    // A stale one is asked for, though: there may be events of today beside it.
    here.now = NOW + 2 * DAY_MS;
    here.servers['a.test'] = answerOf('a.test', { valid_until_ts: here.now + DAY_MS });
    await here.ring.resolve([nextMonth], signal);
    expect(here.asked.splice(1)).toEqual(['a.test']);
    // Nor is the server thought the worse of.
    expect(await here.names(request('a.test', NOW, 'ed25519:x' as KeyId))).toEqual([]);
    expect(here.asked).toEqual(['a.test', 'a.test']);
  });

  test('old keys are had for old events, with the end of their time', async () => {
    const old = keyOf('a.test', 'ed25519:old' as KeyId);
    const answer = answerOf('a.test', {
      old_verify_keys: { [old.keyId]: { key: old.publicKey, expired_ts: NOW - 500 } },
    });
    const here = world({ servers: { 'a.test': answer } });
    expect(await here.ring.resolve([request('a.test', NOW - 1000, old.keyId)], signal)).toMatchObject([
      { keyId: old.keyId, validUntilTs: NOW - 500 },
    ]);
    // Stored as ended: no use in asking again for a later time.
    await here.ring.resolve([request('a.test', NOW, old.keyId)], signal);
    expect(here.asked).toEqual(['a.test']);
  });

  test('a stale stored key is fetched again', async () => {
    const here = world({ servers: { 'a.test': answerOf('a.test') } });
    await here.names(request('a.test'));
    here.now += 3 * DAY_MS;
    here.servers['a.test'] = answerOf('a.test', { valid_until_ts: here.now + DAY_MS });
    expect(await here.ring.resolve([request('a.test', here.now)], signal)).toMatchObject([
      { validUntilTs: here.now + DAY_MS },
    ]);
  });

  test('a key is believed for seven days at most', async () => {
    const here = world({ servers: { 'a.test': answerOf('a.test', { valid_until_ts: NOW + 1000 * DAY_MS }) } });
    expect(await here.ring.resolve([request('a.test')], signal)).toMatchObject([{ validUntilTs: NOW + 7 * DAY_MS }]);
  });

  test('of two keys under one name the later answer counts, in memory as in the store', async () => {
    const here = world({ servers: { 'a.test': answerOf('a.test') } });
    const evil = keyOf('evil.test').publicKey;
    here.stored.push({
      serverName: 'a.test' as ServerName,
      keyId,
      publicKey: evil,
      validUntilTs: 1,
      expired: false,
      fetchedAt: 1,
    });
    const { publicKey } = keyOf('a.test');
    expect(await here.ring.resolve([request('a.test')], signal)).toMatchObject([{ publicKey }]);
    expect(here.stored.at(-1)).toMatchObject({ publicKey });
    // From memory, too.
    expect(await here.ring.resolve([request('a.test')], signal)).toMatchObject([{ publicKey }]);
  });

  test('what another process has stored meanwhile is seen within an hour', async () => {
    const here = world({ servers: { 'a.test': answerOf('a.test') } });
    await here.names(request('a.test'));
    const later = keyOf('later.test').publicKey;
    here.stored = here.stored.map((key) => ({ ...key, publicKey: later, fetchedAt: NOW + 1 }));
    here.now += 3_600_001;
    expect(await here.ring.resolve([request('a.test')], signal)).toMatchObject([{ publicKey: later }]);
    expect(here.asked).toEqual(['a.test']);
  });

  test('a dead server is left alone for a growing while', async () => {
    const here = world();
    const triedAt: number[] = [];
    for (let second = 0; second < 300; second += 1) {
      here.now = NOW + second * 1000;
      const before = here.asked.length;
      expect(await here.names(request('a.test'))).toEqual([]);
      if (here.asked.length > before) triedAt.push(second);
    }
    expect(triedAt).toEqual([0, 20, 60, 140]);
  });

  test('a stranger who invents key ids makes us ask a few times only', async () => {
    const here = world({ servers: { 'a.test': answerOf('a.test') } });
    for (let i = 0; i < 100; i += 1) await here.names(request('a.test', NOW, `ed25519:x${i}` as KeyId));
    expect(here.asked).toHaveLength(8);
  });

  test('a stranger who invents key ids keeps no room from the key that it needs', async () => {
    const here = world({ servers: { 'a.test': answerOf('a.test') } });
    const invented = Array.from({ length: 100 }, (_, i) => request('a.test', NOW, `ed25519:x${i}` as KeyId));
    for (const one of invented) await here.ring.resolve([one], signal, 'request');
    here.stored.splice(0);
    here.now += 1;
    expect(here.asked).toHaveLength(8);
    expect(await here.names(request('a.test', NOW + 2 * DAY_MS))).toEqual(['a.test ed25519:a']);
    expect(here.asked).toHaveLength(9);
  });

  test('a caller that goes away does not wait, and spoils nothing for the others', async () => {
    const here = world({ servers: { 'a.test': answerOf('a.test') } });
    const gone = new AbortController();
    const given = here.ring.resolve([request('a.test')], gone.signal);
    const other = here.names(request('a.test'));
    gone.abort(new Error('gone'));
    await expect(given).rejects.toThrow('gone');
    expect(await other).toEqual(['a.test ed25519:a']);
  });
});

describe('reading a key object', () => {
  test.each<[string, JsonObject]>([
    ['without a name', answerOf('a.test', { server_name: 5 })],
    ['without a time', answerOf('a.test', { valid_until_ts: '1' })],
    ['without keys', answerOf('a.test', { verify_keys: {} })],
    ['without a signature', { ...answerOf('a.test'), signatures: {} }],
    ['changed after signing', { ...answerOf('a.test'), valid_until_ts: NOW + 1 }],
    [
      'signed by a key it does not list',
      signJson({ ...answerOf('a.test'), signatures: {} }, 'a.test' as ServerName, keyOf('x', 'ed25519:b' as KeyId)),
    ],
    ['with a short key', answerOf('a.test', { verify_keys: { [keyId]: { key: 'AAAA' } } })],
  ])('%s is refused', (_what, answer) => {
    expect(readKeyAnswer(answer, NOW).ok).toBe(false);
  });

  test('keys of other algorithms and malformed ones are left out', () => {
    const good = { key: keyOf('a.test').publicKey };
    const answer = answerOf('a.test', {
      verify_keys: { [keyId]: good, 'rsa:1': good, 'ed25519:no id': good, 'ed25519:c': 5, __proto__x: good },
    });
    expect(readKeyAnswer(answer, NOW)).toMatchObject({ ok: true, keys: [{ keyId }] });
  });
});
