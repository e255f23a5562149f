import pino from 'pino';
import { expect, onTestFinished, test, vi } from 'vitest';
import { makeKeyAnswer } from '../../src/federation/key-answer.ts';
import { createKeyRing } from '../../src/federation/key-ring.ts';
import { type KeyId, type RoomId, type ServerName } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { signJson } from '../../src/matrix/signing/signatures.ts';
import { signingKeyFromSeed } from '../../src/matrix/signing/signing-key.ts';
import { type KeyAsker, type KnownKey } from '../../src/verification/contract.ts';

const NOW = 1_700_000_000_000;
const us = 'us.test' as ServerName;
const notary = 'notary.test' as ServerName;
const key = signingKeyFromSeed('ed25519:a' as KeyId, Buffer.alloc(32, 1));
const signal = new AbortController().signal;
const room = '!room:a.test' as RoomId;
const otherRoom = '!other:a.test' as RoomId;

const answerOf = (name: ServerName): JsonObject =>
  signJson({ ...makeKeyAnswer(name, key, NOW + 86_400_000), signatures: {} }, name, key);
const isTarpit = (name: string): boolean => /evil\d*\.test$/.test(name) || /^10\./.test(name);

interface World {
  readonly hasNotary?: boolean;
  readonly stored?: readonly KnownKey[];
  /** Servers in rooms of ours; absent: whoever asks. */
  readonly welcome?: readonly string[];
}

/** Servers on evil.test, and on addresses of one net, never answer; nor does a notary about them. All others do. */
function world({ hasNotary = false, stored = [], welcome }: World = {}) {
  const asked: string[] = [];
  const queries: string[][] = [];
  const state = { now: NOW, isDown: false };
  const ring = createKeyRing({
    serverName: us,
    signingKey: key,
    trustedKeyServers: hasNotary ? [{ serverName: notary, verifyKeys: new Map([[key.keyId, key.publicKey]]) }] : [],
    clock: { now: () => state.now },
    logger: pino({ level: 'silent' }),
    ...(welcome === undefined
      ? {}
      : { readWelcome: (names) => Promise.resolve(new Set(names.filter((name) => welcome.includes(name)))) }),
    keyStore: {
      readKeys: (requests) =>
        Promise.resolve(stored.filter(({ serverName }) => requests.some((of) => of.serverName === serverName))),
      storeKeys: () => Promise.resolve(),
    },
    client: {
      serverKeys(name, { signal: late }) {
        asked.push(name);
        if (name.endsWith('.down.test')) return Promise.reject(new Error('down'));
        return isTarpit(name) ? until(late) : Promise.resolve(answerOf(name));
      },
      notaryQuery(_notary, requests) {
        const names = [...new Set(requests.map(({ serverName }) => serverName))];
        queries.push(names);
        if (names.some(isTarpit)) return Promise.reject(new Error('too slow'));
        return Promise.resolve(names.map((name) => signJson(answerOf(name), notary, key)));
      },
    },
  });
  const find = async (asker: KeyAsker, ...names: string[]): Promise<string[]> => {
    const requests = names.map((name) => ({ serverName: name as ServerName, keyId: key.keyId, validAtTs: NOW }));
    return (await ring.resolve(requests, signal, asker)).map(({ serverName }) => serverName).sort();
  };
  return { state, asked, queries, find };
}

const until = (late: AbortSignal | undefined): Promise<never> =>
  new Promise((_resolve, reject) => late?.addEventListener('abort', () => reject(late.reason as Error)));

const tarpits = (count: number, domain = 'evil.test'): string[] =>
  Array.from({ length: count }, (_, i) => `d${i}.${domain}`);

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
async function settled(): Promise<void> {
  for (let i = 0; i < 20; i++) await turn();
}

test.each<KeyAsker>(['pushed', 'request'])(
  'a key is had though thousands of names are looked for (%s) on a domain where nothing answers',
  async (asker) => {
    const here = world();
    for (const name of tarpits(2_000)) void here.find(asker, name);
    await settled();
    expect(await here.find(asker, 'one.test')).toEqual(['one.test']);
    expect(await here.find('pushed', 'two.test')).toEqual(['two.test']);
    expect(await here.find('request', 'three.test')).toEqual(['three.test']);
    expect(await here.find(room, 'four.test', 'five.test')).toEqual(['five.test', 'four.test']);
    expect(here.asked.filter(isTarpit)).toHaveLength(4);
  },
);

test('names on many domains where nothing answers take the places of strangers, and none of our own', async () => {
  const here = world();
  for (let i = 0; i < 30; i++) for (const name of tarpits(50, `evil${i}.test`)) void here.find('pushed', name);
  for (let i = 0; i < 60; i++) void here.find('request', `10.0.0.${i}`);
  await settled();
  expect(here.asked).toHaveLength(20);
  expect(await here.find(room, 'one.test')).toEqual(['one.test']);
});

test('a state full of servers that never answer keeps no other room waiting', async () => {
  const here = world();
  void here.find(room, ...tarpits(1_300));
  await settled();
  expect(here.asked).toHaveLength(48);
  expect(await here.find(otherRoom, 'one.test')).toEqual(['one.test']);
});

test('a server that gave a key once is asked for a fresh one however many strangers wait', async () => {
  const { keyId, publicKey } = key;
  const stale = { keyId, publicKey, validUntilTs: NOW - 1, expired: false, fetchedAt: 1 };
  const here = world({ stored: [{ ...stale, serverName: 'known.test' as ServerName }] });
  for (let i = 0; i < 30; i++) for (const name of tarpits(50, `evil${i}.test`)) void here.find('pushed', name);
  await settled();
  expect(await here.find('pushed', 'known.test')).toEqual(['known.test']);
});

test('a key is given as soon as it is had, and not when the slowest beside it is', async () => {
  const here = world();
  void here.find(room, ...tarpits(10), 'one.test');
  await settled();
  expect(await here.find(room, 'one.test')).toEqual(['one.test']);
  expect(here.asked.filter((name) => name === 'one.test')).toHaveLength(1);
});

test('a notary that lets strangers wait for servers that never answer is asked about others all the same', async () => {
  const here = world({ hasNotary: true });
  for (const name of tarpits(20)) void here.find('pushed', name);
  await settled();
  expect(await here.find('pushed', 'one.test')).toEqual(['one.test']);
  expect(await here.find(room, 'two.test')).toEqual(['two.test']);
  expect(here.queries.slice(1)).toEqual([['one.test'], ['two.test']]);
  expect(here.asked.every(isTarpit)).toBe(true);
});

test('of the names on one domain that strangers write so many are looked for in a minute', async () => {
  const here = world();
  const ask = async (from: number): Promise<void> => {
    for (let i = from; i < from + 1_000; i++) expect(await here.find('request', `d${i}.down.test`)).toEqual([]);
  };
  await ask(0);
  expect(here.asked).toHaveLength(600);
  here.state.now += 60_001;
  await ask(1_000);
  expect(here.asked).toHaveLength(1_200);
});

test('servers in no room of ours that never answer take few places, for a moment each, and a new one has its turn soon', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  onTestFinished(() => void vi.useRealTimers());
  const here = world({ welcome: ['member.test'] });
  for (let i = 0; i < 15; i++) for (const name of tarpits(50, `evil${i}.test`)) void here.find('request', name);
  await settled();
  expect(here.asked).toHaveLength(8);
  const isNew = here.find('request', 'new.test');
  await settled();
  expect(await here.find('request', 'member.test')).toEqual(['member.test']);
  expect(here.asked).not.toContain('new.test');
  for (let seconds = 0; seconds < 24; seconds += 3) {
    await vi.advanceTimersByTimeAsync(3_000);
    await settled();
  }
  expect(await isNew).toEqual(['new.test']);
  // Of all the names that were sent four a domain were looked for.
  expect(here.asked.filter(isTarpit)).toHaveLength(60);
});

test('names of servers that fell silent long ago keep nobody waiting who gave a key this week', async () => {
  const silent = tarpits(20).concat(Array.from({ length: 100 }, (_, i) => tarpits(1, `evil${i}.test`)).flat());
  const day = 86_400_000;
  const lapsed = (name: string, days: number): KnownKey => ({
    ...{ serverName: name as ServerName, keyId: key.keyId, publicKey: key.publicKey, expired: false },
    ...{ fetchedAt: NOW - days * day, validUntilTs: NOW - 1 },
  });
  const stored = [...silent.map((name) => lapsed(name, 30)), lapsed('alive.test', 1)];
  const here = world({ stored, welcome: [...silent, 'alive.test'] });
  for (const name of silent) void here.find('request', name);
  await settled();
  expect(here.asked.length).toBeGreaterThan(8);
  await here.find('request', 'alive.test');
  expect(here.asked.at(-1)).toBe('alive.test');
});

test('a server that pushes is looked for with those of pushed events, whatever room it is in', async () => {
  const here = world({ welcome: [] });
  for (let i = 0; i < 15; i++) for (const name of tarpits(50, `evil${i}.test`)) void here.find('request', name);
  await settled();
  expect(await here.find('pushed', 'new.test')).toEqual(['new.test']);
});
