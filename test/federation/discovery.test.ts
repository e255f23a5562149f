import { describe, expect, test } from 'vitest';
import { type Discovery, type SrvRecord, createDiscovery } from '../../src/federation/discovery.ts';
import { createStaticAddresses, parseStaticAddress } from '../../src/federation/static-addresses.ts';
import { type WellKnownAnswer, lifetimeOf } from '../../src/federation/well-known.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { signal } from './tls-server.ts';

const HOUR_MS = 3_600_000;

interface World {
  now: number;
  wellKnown: Record<string, WellKnownAnswer>;
  srv: Record<string, SrvRecord[]>;
  asked: string[];
}

function world(
  parts: Partial<World> = {},
): World & { discovery: Discovery; resolve: (name: string) => Promise<unknown> } {
  const state: World = { now: 1_000_000, wellKnown: {}, srv: {}, asked: [], ...parts };
  const discovery = createDiscovery({
    fetchWellKnown: (hostname) => {
      state.asked.push(`well-known ${hostname}`);
      return Promise.resolve(state.wellKnown[hostname] ?? { outcome: 'absent', lifetimeMs: HOUR_MS });
    },
    resolveSrv: (name) => {
      state.asked.push(`srv ${name}`);
      const records = state.srv[name];
      return records === undefined ? Promise.reject(new Error('ENOTFOUND')) : Promise.resolve(records);
    },
    staticAddresses: createStaticAddresses(
      new Map([
        ['fixed.test', { address: '10.0.0.1', port: 1 }],
        ['*.Near.test', { address: '10.0.0.2', port: 2 }],
        ['*.very.near.test', { address: 'fd00::3', port: 3 }],
      ]),
    ),
    clock: { now: () => state.now },
    random: () => 0.5,
  });
  return Object.assign(state, { discovery, resolve: (name: string) => discovery.resolve(name as ServerName, signal) });
}

const record = (name: string, port: number, priority = 10, weight = 0): SrvRecord => ({ name, port, priority, weight });
const delegated = (to: string, lifetimeMs = HOUR_MS): WellKnownAnswer => ({
  outcome: 'delegated',
  to: to as ServerName,
  lifetimeMs,
});

describe('server discovery', () => {
  test.each([
    ['1.2.3.4', { host: '1.2.3.4', targets: [{ hostname: '1.2.3.4', port: 8448 }] }],
    ['1.2.3.4:99', { host: '1.2.3.4:99', targets: [{ hostname: '1.2.3.4', port: 99 }] }],
    ['[2001:db8::1]', { host: '[2001:db8::1]', targets: [{ hostname: '[2001:db8::1]', port: 8448 }] }],
    ['[2001:db8::1]:99', { host: '[2001:db8::1]:99', targets: [{ hostname: '[2001:db8::1]', port: 99 }] }],
    ['example.org:99', { host: 'example.org:99', targets: [{ hostname: 'example.org', port: 99 }] }],
  ])('steps 1 and 2: %s needs no look-up', async (name, expected) => {
    const here = world();
    expect(await here.resolve(name)).toEqual(expected);
    expect(here.asked).toEqual([]);
  });

  test.each([
    ['3.1', '1.2.3.4', { host: '1.2.3.4', targets: [{ hostname: '1.2.3.4', port: 8448 }] }],
    ['3.1', '[2001:db8::1]:99', { host: '[2001:db8::1]:99', targets: [{ hostname: '[2001:db8::1]', port: 99 }] }],
    ['3.2', 'm.test:99', { host: 'm.test:99', targets: [{ hostname: 'm.test', port: 99 }] }],
    ['3.3', 'srv.test', { host: 'srv.test', targets: [{ hostname: 'a.test', port: 4 }] }],
    ['3.4', 'old.test', { host: 'old.test', targets: [{ hostname: 'b.test', port: 5 }] }],
    ['3.5', 'plain.test', { host: 'plain.test', targets: [{ hostname: 'plain.test', port: 8448 }] }],
  ])('step %s: delegated to %s', async (_step, to, expected) => {
    const here = world({
      wellKnown: { 'example.org': delegated(to) },
      srv: { '_matrix-fed._tcp.srv.test': [record('a.test.', 4)], '_matrix._tcp.old.test': [record('b.test', 5)] },
    });
    expect(await here.resolve('example.org')).toEqual(expected);
    expect(here.asked.filter((what) => what.startsWith('well-known'))).toEqual(['well-known example.org']);
  });

  test.each([
    ['fixed.test', 1],
    ['a.near.test', 2],
    ['A.B.NEAR.test', 2],
    ['a.very.near.test', 3],
  ])('a static address: %s is at port %i without a look-up, under its own name', async (hostname, port) => {
    const here = world();
    expect(await here.resolve(hostname)).toEqual({ host: hostname, targets: [{ hostname, port }] });
    expect(here.asked).toEqual([]);
  });

  test('a static address holds for the name that is delegated to, and leaves a port that is stated', async () => {
    const here = world({ wellKnown: { 'example.org': delegated('fixed.test') } });
    const at = (host: string, port: number) => ({ host, targets: [{ hostname: 'fixed.test', port }] });
    expect(await here.resolve('example.org')).toEqual(at('fixed.test', 1));
    expect(await here.resolve('fixed.test:99')).toEqual(at('fixed.test:99', 99));
  });

  test('a static address is none for the bare end of names, nor for names that merely end alike', async () => {
    const here = world();
    for (const hostname of ['near.test', 'linear.test', 'not-fixed.test']) {
      expect(await here.resolve(hostname)).toEqual({ host: hostname, targets: [{ hostname, port: 8448 }] });
    }
  });

  test.each([
    '10.0.0.1',
    '10.0.0.1:0',
    '10.0.0.1:65536',
    'a.test:1',
    'fd00::1:1',
    '[10.0.0.1]:1',
    '[fd00::1]',
    '::1:2',
    '',
  ])('a static address is not %j', (text) => {
    expect(parseStaticAddress(text)).toBeUndefined();
  });

  test('steps 4 to 6: without a delegation the name itself, by its records, else by port 8448', async () => {
    const here = world({
      srv: { '_matrix-fed._tcp.new.test': [record('a.test', 4)], '_matrix._tcp.old.test': [record('b.test', 5)] },
    });
    expect(await here.resolve('new.test')).toEqual({ host: 'new.test', targets: [{ hostname: 'a.test', port: 4 }] });
    expect(await here.resolve('old.test')).toEqual({ host: 'old.test', targets: [{ hostname: 'b.test', port: 5 }] });
    expect(await here.resolve('no.test')).toEqual({ host: 'no.test', targets: [{ hostname: 'no.test', port: 8448 }] });
  });

  test('records are tried by priority; unusable ones are left out', async () => {
    const records = [record('c', 3, 30), record('a', 1, 10), record('.', 9), record('x', 0), record('b', 2, 20, 5)];
    const here = world({ srv: { '_matrix-fed._tcp.m.test': records } });
    expect(await here.resolve('m.test')).toMatchObject({
      targets: [
        { hostname: 'a', port: 1 },
        { hostname: 'b', port: 2 },
        { hostname: 'c', port: 3 },
      ],
    });
  });

  // https://www.rfc-editor.org/rfc/rfc2782: a single target "." means that the service is decidedly not available.
  test.each<[string, Record<string, SrvRecord[]>]>([
    ['by the newer record, whatever the older says', { 'matrix-fed': [record('.', 0)], matrix: [record('old', 443)] }],
    ['by the newer record, as DNS libraries write it', { 'matrix-fed': [record('', 0)] }],
    ['by the older record', { matrix: [record('.', 0)] }],
  ])('a name that offers no service %s is not tried anywhere else', async (_what, records) => {
    const srv = Object.fromEntries(Object.entries(records).map(([name, list]) => [`_${name}._tcp.example.org`, list]));
    for (const name of ['example.org', 'delegating.org']) {
      const here = world({ srv, wellKnown: { 'delegating.org': delegated('example.org') } });
      expect(await here.resolve(name)).toEqual({ host: 'example.org', targets: [] });
    }
  });

  test('a failed look-up of the newer record leads to the older, and several records are no refusal', async () => {
    const here = world({ srv: { '_matrix._tcp.example.org': [record('.', 0), record('.', 9), record('old', 443)] } });
    expect(await here.resolve('example.org')).toMatchObject({ targets: [{ hostname: 'old', port: 443 }] });
  });

  test('a delegation is asked for again when its lifetime is over, and not before', async () => {
    const here = world({ wellKnown: { 'example.org': delegated('1.2.3.4') } });
    await here.resolve('example.org');
    here.now += HOUR_MS - 1;
    await here.resolve('example.org');
    expect(here.asked).toHaveLength(1);
    here.now += 1;
    await here.resolve('example.org');
    expect(here.asked).toHaveLength(2);
  });

  test('callers at the same time share one look-up', async () => {
    const here = world({ wellKnown: { 'example.org': delegated('1.2.3.4') } });
    await Promise.all([here.resolve('example.org'), here.resolve('example.org')]);
    expect(here.asked).toEqual(['well-known example.org']);
  });

  test('a failure is remembered for a growing pause; the last delegation is used meanwhile, for two days at most', async () => {
    const here = world({ wellKnown: { 'example.org': delegated('1.2.3.4') } });
    await here.resolve('example.org');
    here.wellKnown['example.org'] = { outcome: 'failed' };
    here.now += HOUR_MS;
    expect(await here.resolve('example.org')).toMatchObject({ host: '1.2.3.4' });
    here.now += 119_999;
    await here.resolve('example.org');
    expect(here.asked).toHaveLength(2);
    here.now += 1;
    await here.resolve('example.org');
    here.now += 120_000;
    await here.resolve('example.org');
    expect(here.asked).toHaveLength(3);
    here.now += 48 * HOUR_MS;
    expect(await here.resolve('example.org')).toMatchObject({ host: 'example.org' });
  });

  test('a caller that goes away does not wait; the look-up goes on for the others', async () => {
    const here = world({ wellKnown: { 'example.org': delegated('1.2.3.4') } });
    const gone = new AbortController();
    const given = here.discovery.resolve('example.org' as ServerName, gone.signal);
    const other = here.resolve('example.org');
    gone.abort(new Error('gone'));
    await expect(given).rejects.toThrow('gone');
    expect(await other).toMatchObject({ host: '1.2.3.4' });
  });
});

describe('how long a .well-known is believed', () => {
  test.each([
    [{}, 24 * HOUR_MS],
    [{ 'cache-control': 'public, max-age=7200' }, 2 * HOUR_MS],
    [{ 'cache-control': 'max-age=1' }, 300_000],
    [{ 'cache-control': 'max-age=999999999' }, 48 * HOUR_MS],
    [{ 'cache-control': 'no-store' }, 300_000],
    [{ 'cache-control': 's-max-age=5' }, 24 * HOUR_MS],
    [{ expires: new Date(2 * HOUR_MS).toUTCString() }, 2 * HOUR_MS],
    [{ expires: 'never' }, 300_000],
    [{ expires: new Date(0).toUTCString(), 'cache-control': 'max-age=7200' }, 2 * HOUR_MS],
  ])('%j', (headers, expected) => {
    expect(lifetimeOf(headers, 0)).toBe(expected);
  });
});
