import { rootCertificates } from 'node:tls';
import { gzipSync } from 'node:zlib';
import { Agent, buildConnector } from 'undici';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { type FederationClient, type RequestOptions, type SendJoinStream } from '../../src/federation/contract.ts';
import { authenticate } from '../../src/federation/request-auth.ts';
import { fetchWellKnown } from '../../src/federation/well-known.ts';
import {
  type EventId,
  type RoomAlias,
  type RoomId,
  type ServerName,
  type UserId,
} from '../../src/matrix/identifiers.ts';
import { verifyRequest } from '../../src/matrix/signing/signed-request.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import {
  OUR_NAME,
  answering,
  closedPort,
  failureOf,
  ourKey,
  signal,
  startTlsServer,
  testAuthority,
  testClient,
} from './tls-server.ts';
import { rulesOf } from '../matrix/sample-event.ts';

const roomId = '!room:remote.test' as RoomId;
const eventId = '$event/1' as EventId;
const userId = '@me:joiner.test' as UserId;
const options = { signal };
const toLoopback = () => Promise.resolve([{ address: '127.0.0.1', family: 4 }]);

async function drain(stream: AsyncIterable<{ array: string; events: readonly Uint8Array[] }>) {
  const taken: Record<string, string[]> = {};
  for await (const { array, events } of stream) {
    (taken[array] ??= []).push(...events.map((event) => Buffer.from(event).toString('utf8')));
  }
  return taken;
}

describe('requests', () => {
  test('are signed with the destination, over the path as it is sent', async () => {
    const server = await startTlsServer(answering({ room_version: '11', event: {} }));
    const client = await testClient();
    await client.makeJoin(server.name, roomId, userId, ['10', '11'], options);
    const [{ method, url, headers }] = server.received as [(typeof server.received)[0]];
    expect(url).toBe('/_matrix/federation/v1/make_join/!room%3Aremote.test/%40me%3Ajoiner.test?ver=10&ver=11');
    expect(headers).toMatchObject({ host: server.name, 'user-agent': 'Rejoinder/test', 'accept-encoding': 'identity' });
    const resolveKeys = () =>
      Promise.resolve([
        {
          serverName: OUR_NAME,
          keyId: ourKey.keyId,
          publicKey: ourKey.publicKey,
          validUntilTs: Infinity,
          renewableUntilTs: Infinity,
        },
      ]);
    const request = { method, uri: url, authorization: [headers.authorization ?? ''], verify: verifyRequest };
    const auth = { ourselves: server.name, resolveKeys, clock: systemClock };
    expect(await authenticate(request, auth, signal)).toEqual({ ok: true, origin: OUR_NAME });
  });

  test('to a name found by its records carry that name in Host and in the TLS handshake', async () => {
    const server = await startTlsServer(answering({ server: { name: 'x', version: '1' } }));
    const client = await testClient({
      lookup: (hostname) => (hostname === 'target.test' ? toLoopback() : Promise.reject(new Error('unexpected'))),
      resolveSrv: (name) =>
        name === '_matrix-fed._tcp.remote.test'
          ? Promise.resolve([{ name: 'target.test', port: server.port, priority: 1, weight: 1 }])
          : Promise.reject(new Error('none')),
    });
    expect(await client.version('remote.test' as ServerName, options)).toEqual({ name: 'x', version: '1' });
    expect(server.received[0]).toMatchObject({ headers: { host: 'remote.test' }, servername: 'remote.test' });
  });

  test('go to the next record when the first target does not listen', async () => {
    const server = await startTlsServer(answering({ server: { name: 'x', version: '1' } }));
    const port = await closedPort();
    const client = await testClient({
      lookup: toLoopback,
      resolveSrv: () =>
        Promise.resolve([
          { name: 'target.test', port, priority: 1, weight: 1 },
          { name: 'target.test', port: server.port, priority: 2, weight: 1 },
        ]),
    });
    expect(await client.version('remote.test' as ServerName, options)).toMatchObject({ name: 'x' });
  });

  test('to a name whose records say that it offers no service are not made', async () => {
    const client = await testClient({
      lookup: toLoopback,
      resolveSrv: () => Promise.resolve([{ name: '', port: 0, priority: 0, weight: 0 }]),
    });
    expect(await failureOf(client.version('remote.test' as ServerName, options))).toMatchObject({
      kind: 'unreachable',
      message: expect.stringContaining('does not offer the service'),
    });
  });

  test('to a name with a static address go there, and carry the name in Host and in the TLS handshake', async () => {
    const server = await startTlsServer(answering({ server: { name: 'x', version: '1' } }));
    const client = await testClient({
      staticAddresses: new Map([['*.test', { address: '127.0.0.1', port: server.port }]]),
    });
    expect(await client.version('remote.test' as ServerName, options)).toEqual({ name: 'x', version: '1' });
    expect(server.received[0]).toMatchObject({ headers: { host: 'remote.test' }, servername: 'remote.test' });
    // Its certificate names remote.test and another, not this one.
    const failure = await failureOf(client.version('stranger.test' as ServerName, options));
    expect(failure).toMatchObject({ kind: 'unreachable', cause: { code: 'ERR_TLS_CERT_ALTNAME_INVALID' } });
    expect(server.received).toHaveLength(1);
  });

  test('to a static address pass the address rules', async () => {
    const server = await startTlsServer(answering({}));
    const staticAddresses = new Map([['remote.test', { address: '127.0.0.1', port: server.port }]]);
    const client = await testClient({ addresses: {}, staticAddresses });
    expect(await failureOf(client.version('remote.test' as ServerName, options))).toMatchObject({
      kind: 'refused-by-policy',
    });
    expect(server.received).toEqual([]);
  });

  test('to ourselves are never made', async () => {
    const client = await testClient();
    expect(await failureOf(client.version(OUR_NAME, options))).toMatchObject({ kind: 'refused-by-policy' });
  });
});

describe('addresses', () => {
  test.each(['127.0.0.1', '[::1]', '169.254.169.254', '0.0.0.0', '[::ffff:127.0.0.1]', '[64:ff9b::7f00:1]'])(
    'the literal %s is refused by default, before a connection is made',
    async (host) => {
      const server = await startTlsServer(answering({}));
      const client = await testClient({ addresses: {} });
      const failure = await failureOf(client.version(`${host}:${server.port}` as ServerName, options));
      expect(failure).toMatchObject({ kind: 'refused-by-policy' });
      expect(server.received).toEqual([]);
    },
  );

  test('a name that resolves to a private address is refused, and again when it comes by a record', async () => {
    const server = await startTlsServer(answering({}));
    const client = await testClient({
      addresses: {},
      lookup: toLoopback,
      resolveSrv: () => Promise.resolve([{ name: 'inside.test', port: server.port, priority: 1, weight: 1 }]),
    });
    for (const name of [`remote.test:${server.port}`, 'remote.test']) {
      expect(await failureOf(client.version(name as ServerName, options))).toMatchObject({ kind: 'refused-by-policy' });
    }
    expect(server.received).toEqual([]);
  });

  test('a name that changes its address between look-ups gains nothing', async () => {
    const server = await startTlsServer(answering({}));
    const answers = ['8.8.8.8', '127.0.0.1'];
    const client = await testClient({
      addresses: { deniedRanges: ['8.8.8.8/32'] },
      lookup: () => Promise.resolve([{ address: answers.shift() ?? '127.0.0.1', family: 4 }]),
    });
    for (let i = 0; i < 3; i += 1) {
      expect(await failureOf(client.version(`remote.test:${server.port}` as ServerName, options))).toMatchObject({
        kind: 'refused-by-policy',
      });
    }
    expect(server.received).toEqual([]);
  });
});

describe('certificates', () => {
  test('of an unknown authority are refused', async () => {
    const server = await startTlsServer(answering({}));
    const client = await testClient({ customCa: rootCertificates[0] ?? '' });
    expect(await failureOf(client.version(server.name, options))).toMatchObject({ kind: 'unreachable' });
    expect(server.received).toEqual([]);
  });

  test('for another name are refused', async () => {
    const server = await startTlsServer(answering({}));
    const client = await testClient({ lookup: toLoopback });
    const failure = await failureOf(client.version(`other.test:${server.port}` as ServerName, options));
    expect(failure).toMatchObject({ kind: 'unreachable', message: expect.stringContaining('ALTNAME') });
    expect(server.received).toEqual([]);
  });

  test('that are expired are refused', async () => {
    const past = { now: () => systemClock.now() - 3 * 365 * 86_400_000 };
    const server = await startTlsServer(answering({}), past);
    const client = await testClient();
    const failure = await failureOf(client.version(server.name, options));
    expect(failure).toMatchObject({ kind: 'unreachable' });
    expect(server.received).toEqual([]);
  });
});

/** What only the careful reader can read, half a second a megabyte. */
const NUMBERS = Array<number>(250_000).fill(0.5);
const user = '@me:joiner.test' as UserId;

describe('answers', () => {
  test('of the directory are cleaned', async () => {
    const servers = ['a.test', 'a.test', 'b c', 5, '127.0.0.1:1'];
    const server = await startTlsServer(answering({ room_id: roomId, servers }));
    const client = await testClient();
    const answer = await client.queryDirectory(server.name, '#x:remote.test' as RoomAlias, options);
    expect(answer).toEqual({ roomId, servers: ['a.test', '127.0.0.1:1'] });
    expect(server.received[0]?.url).toBe('/_matrix/federation/v1/query/directory?room_alias=%23x%3Aremote.test');
  });

  test('other than 200 are an error with errcode, and how long to wait', async () => {
    const server = await startTlsServer((_request, response) => {
      response.writeHead(429, { 'retry-after': '7' }).end('{"errcode":"M_LIMIT_EXCEEDED","error":"slow down"}');
    });
    const client = await testClient();
    expect(await failureOf(client.stateIds(server.name, roomId, eventId, rulesOf('11'), options))).toMatchObject({
      name: 'FederationError',
      serverName: server.name,
      kind: 'rate-limited',
      status: 429,
      errcode: 'M_LIMIT_EXCEEDED',
      retryAfterMs: 7000,
    });
  });

  test.each<[string, string, string | Buffer]>([
    ['no JSON', 'malformed', 'hello'],
    ['a list', 'malformed', '[]'],
    ['an empty object', 'malformed', '{}'],
    ['an error body with status 200', 'malformed', '{"errcode":"M_FORBIDDEN"}'],
    ['ids of the wrong type', 'malformed', '{"pdu_ids":[5],"auth_chain_ids":[]}'],
    ['ids too long', 'malformed', `{"pdu_ids":["$${'x'.repeat(255)}"],"auth_chain_ids":[]}`],
    ['bad UTF-8', 'malformed', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d])],
    ['a lone surrogate', 'malformed', '{"pdu_ids":["\\ud800"],"auth_chain_ids":[]}'],
    ['a list that is none', 'malformed', '{"pdu_ids":[],"auth_chain_ids":"x"}'],
    ['one list only', 'malformed', `{"pdu_ids":["$${'x'.repeat(43)}"]}`],
    ['ids too short', 'malformed', `{"pdu_ids":["$${'x'.repeat(42)}"],"auth_chain_ids":[]}`],
    ['no ids among ids', 'malformed', `{"pdu_ids":["$${'x'.repeat(43)}",{}],"auth_chain_ids":[]}`],
    ['an id cut short', 'malformed', `{"pdu_ids":[],"auth_chain_ids":["$${'x'.repeat(43)}`],
    ['a name twice', 'malformed', '{"pdu_ids":[],"pdu_ids":[],"auth_chain_ids":[]}'],
    ['depth 100,000', 'malformed', `{"x":${'['.repeat(100_000)}${']'.repeat(100_000)}}`],
    ['NaN', 'malformed', '{"pdu_ids":NaN}'],
  ])('of /state_ids with %s are %s', async (_what, kind, body) => {
    const server = await startTlsServer((_request, response) => response.end(body));
    const client = await testClient();
    expect(await failureOf(client.stateIds(server.name, roomId, eventId, rulesOf('11'), options))).toMatchObject({
      kind,
    });
  });

  test('with __proto__ change nothing', async () => {
    const [id, slashed] = [`$${'a'.repeat(43)}`, `$${'a'.repeat(42)}\\u005f`];
    const body = `{"__proto__":{"polluted":1},"pdu_ids":["${id}","${id}","${slashed}"],"auth_chain_ids":null}`;
    const server = await startTlsServer((_request, response) => response.end(body));
    const client = await testClient();
    const { stateIds, authChainIds } = await client.stateIds(server.name, roomId, eventId, rulesOf('11'), options);
    expect({ stateIds: [...stateIds], authChainIds: [...authChainIds] }).toEqual({
      stateIds: [id, `$${'a'.repeat(42)}_`],
      authChainIds: [],
    });
    expect(({} as { polluted?: unknown }).polluted).toBeUndefined();
  });

  test.each<[string, unknown, (client: FederationClient, server: ServerName) => Promise<unknown>]>([
    ['keys', { numbers: NUMBERS }, (client, server) => failureOf(client.serverKeys(server, options))],
    [
      'a template',
      { event: NUMBERS },
      (client, server) => failureOf(client.makeJoin(server, roomId, user, ['1'], options)),
    ],
    [
      'the directory',
      { room_id: NUMBERS, servers: NUMBERS },
      (client, server) => failureOf(client.queryDirectory(server, '#x:t' as RoomAlias, options)),
    ],
    [
      'a notary',
      { server_keys: [{ numbers: NUMBERS }, {}] },
      (client, server) => client.notaryQuery(server, [], options),
    ],
    [
      'a join',
      { members_omitted: NUMBERS, servers_in_room: [...NUMBERS, 'a.test'], state: [] },
      async (client, server) => {
        const stream = await client.sendJoin(server, roomId, eventId, {}, { signal, omitMembers: true });
        await drain(stream);
        return failureOf(Promise.resolve().then(() => stream.header()));
      },
    ],
  ])(
    'of a megabyte of numbers where %s should be are read by no thread that answers others',
    async (_what, value, ask) => {
      const server = await startTlsServer(answering(value));
      const client = await testClient({ limits: { responseBytesMax: 16_000_000, stateBytesMax: 16_000_000 } });
      const parse = vi.spyOn(JSON, 'parse');
      onTestFinished(() => parse.mockRestore());
      await ask(client, server.name);
      expect(Math.max(0, ...parse.mock.calls.map(([text]) => text.length))).toBeLessThan(131_072);
    },
  );

  test('over the limit are cut off', async () => {
    const server = await startTlsServer(answering({ x: 'x'.repeat(200_000) }));
    const client = await testClient();
    expect(await failureOf(client.serverKeys(server.name, options))).toMatchObject({ kind: 'too-large' });
  });

  test('of keys of many users are asked for in halves, and who alone is too large costs the others nothing', async () => {
    const server = await startTlsServer((request, response) => {
      const asked = Object.keys((JSON.parse(request.body) as { readonly device_keys: JsonObject }).device_keys);
      const of = (user: string) => ({ D: { x: 'x'.repeat(user.startsWith('@large') ? 120_000 : 40_000) } });
      answering({ device_keys: Object.fromEntries(asked.map((user) => [user, of(user)])) })(request, response);
    });
    const client = await testClient();
    const users = ['@a:there.test', '@b:there.test', '@large:there.test', '@c:there.test'] as UserId[];
    const keys = await client.queryKeys(server.name, users, options);
    expect([...keys.keys()]).toEqual(['@a:there.test', '@b:there.test', '@c:there.test']);
    expect(await failureOf(client.queryKeys(server.name, users.slice(2, 3), options))).toMatchObject({
      kind: 'too-large',
    });
  });

  test('that are compressed unasked are not unpacked', async () => {
    const bomb = gzipSync(Buffer.alloc(50_000_000, 0x20));
    const server = await startTlsServer((_request, response) => {
      response.writeHead(200, { 'content-encoding': 'gzip' }).end(bomb);
    });
    const client = await testClient();
    expect(await failureOf(client.serverKeys(server.name, options))).toMatchObject({ kind: 'malformed' });
  });

  test('that are compressed unasked are what their status says, where that is no success', async () => {
    const server = await startTlsServer((_request, response) => {
      response.writeHead(502, { 'content-encoding': 'gzip' }).end(gzipSync('bad gateway'));
    });
    const client = await testClient();
    const failure = await failureOf(client.serverKeys(server.name, options));
    expect(failure).toMatchObject({ kind: 'server-error', status: 502 });
  });

  test('that never begin are given up', async () => {
    const server = await startTlsServer(() => undefined);
    const client = await testClient({
      timeouts: { connectMs: 5000, requestMs: 100, joinMs: 1, stateMs: 1, idleMs: 100 },
    });
    expect(await failureOf(client.serverKeys(server.name, options))).toMatchObject({ kind: 'timeout' });
  });

  test('that stop in the middle are given up', async () => {
    const server = await startTlsServer((_request, response) => void response.write('{"pdus":['));
    const client = await testClient({
      timeouts: { connectMs: 5000, requestMs: 5000, joinMs: 5000, stateMs: 5000, idleMs: 100 },
    });
    const stream = await client.state(server.name, roomId, eventId, options);
    expect(await failureOf(drain(stream))).toMatchObject({ kind: 'timeout' });
  });

  test('are told of as they come, of use or not', async () => {
    const bodies = ['{"pdus":[{"a":1}]}', '{"pdus":[{"a":1},{"b"', 'no answer at all'];
    const server = await startTlsServer((request, response) => {
      if (request.url.includes('state_ids')) response.writeHead(404).end('{}');
      else response.end(bodies[received.length]);
    });
    const client = await testClient();
    const received: number[][] = [];
    const ask = async (request: (told: RequestOptions) => Promise<unknown>): Promise<void> => {
      const parts: number[] = [];
      await request({ ...options, onReceived: (bytes) => void parts.push(bytes) }).catch(() => undefined);
      received.push(parts);
    };
    while (received.length < bodies.length) await ask((told) => client.event(server.name, eventId, told));
    await ask((told) => client.stateIds(server.name, roomId, eventId, rulesOf('11'), told));
    expect(received).toEqual([...bodies.map(({ length }) => [0, length]), [0, 2]]);
  });

  test('to a caller that went away end with its reason, and the connection with them', async () => {
    const gone = new AbortController();
    let isClosed: Promise<unknown> | undefined;
    const server = await startTlsServer((_request, response) => {
      isClosed = new Promise((resolve) => response.on('close', resolve));
      response.write(`{"pdus":[${'{"a":"aaaaaaaaaaaaaaaaaaaaaaaaa"},'.repeat(20_000)}`);
    });
    const client = await testClient();
    const stream = await client.state(server.name, roomId, eventId, { signal: gone.signal });
    const reading = (async () => {
      for await (const { events } of stream) if (events.length > 0) gone.abort(new Error('enough'));
    })();
    await expect(reading).rejects.toThrow('enough');
    await isClosed;
  });

  test('cut by the server are no answers', async () => {
    const server = await startTlsServer((_request, response) => {
      response.write('{"pdus":[{"a":1},{"b"', () => response.destroy());
    });
    const client = await testClient();
    expect(await failureOf(drain(await client.state(server.name, roomId, eventId, options)))).toMatchObject({
      kind: 'unreachable',
    });
  });

  test('that end too early are malformed', async () => {
    const server = await startTlsServer((_request, response) => response.end('{"pdus":[{"a":1},{"b"'));
    const client = await testClient();
    expect(await failureOf(drain(await client.state(server.name, roomId, eventId, options)))).toMatchObject({
      kind: 'malformed',
    });
  });

  test('without an end are cut at the limit', async () => {
    const server = await startTlsServer((_request, response) => {
      response.write('{"pdus":[{}');
      const more = (): void => {
        while (!response.destroyed && response.write(`,{"a":"${'x'.repeat(60_000)}"}`));
        response.once('drain', more);
      };
      more();
    });
    const client = await testClient();
    expect(await failureOf(drain(await client.state(server.name, roomId, eventId, options)))).toMatchObject({
      kind: 'too-large',
    });
  });

  test('to nobody who listens are unreachable', async () => {
    const client = await testClient();
    const name = `127.0.0.1:${await closedPort()}` as ServerName;
    expect(await failureOf(client.serverKeys(name, options))).toMatchObject({
      kind: 'unreachable',
      message: expect.stringContaining('ECONNREFUSED'),
    });
  });

  test('of a name that does not exist are unreachable', async () => {
    const client = await testClient();
    expect(await failureOf(client.serverKeys('nowhere.test' as ServerName, options))).toMatchObject({
      kind: 'unreachable',
    });
  });
});

describe('send_join', () => {
  const join: JsonObject = { type: 'm.room.member', content: { membership: 'join' } };
  const send = async (
    body: unknown,
  ): Promise<{ taken: Record<string, string[]>; stream: SendJoinStream; url: string }> => {
    const server = await startTlsServer(answering(body));
    const client = await testClient();
    const stream = await client.sendJoin(server.name, roomId, eventId, join, { signal, omitMembers: true });
    const taken = await drain(stream);
    expect(server.received[0]).toMatchObject({
      method: 'PUT',
      body: '{"content":{"membership":"join"},"type":"m.room.member"}',
    });
    return { taken, stream, url: server.received[0]?.url ?? '' };
  };

  test('gives the events raw, and the rest typed, in whatever order they come', async () => {
    const parts: [string, unknown][] = [
      ['state', [{ b: 1, a: 2 }, { c: 3 }]],
      ['members_omitted', true],
      ['auth_chain', [{ d: 4 }]],
      ['servers_in_room', ['remote.test']],
      ['event', { type: 'm.room.member' }],
      ['origin', 'remote.test'],
    ];
    for (let turn = 0; turn < parts.length; turn += 1) {
      const { taken, stream, url } = await send(Object.fromEntries([...parts.slice(turn), ...parts.slice(0, turn)]));
      expect(url).toBe('/_matrix/federation/v2/send_join/!room%3Aremote.test/%24event%2F1?omit_members=true');
      expect(taken).toEqual({ state: ['{"b":1,"a":2}', '{"c":3}'], auth_chain: ['{"d":4}'] });
      const header = stream.header();
      expect(header).toMatchObject({ membersOmitted: true, serversInRoom: ['remote.test'] });
      expect(Buffer.from(header.event ?? []).toString('utf8')).toBe('{"type":"m.room.member"}');
      expect(stream.summary().events).toEqual({ state: 2, auth_chain: 1 });
    }
  });

  test('of an empty object gives no event and no header', async () => {
    const { taken, stream } = await send({});
    expect(taken).toEqual({});
    expect(stream.header()).toEqual({ membersOmitted: undefined, serversInRoom: undefined, event: undefined });
  });

  test('has no summary before its end', async () => {
    const server = await startTlsServer(answering({}));
    const client = await testClient();
    const stream = await client.sendJoin(server.name, roomId, eventId, join, { signal, omitMembers: false });
    expect(() => stream.summary()).toThrow('not been read');
    expect(await drain(stream)).toEqual({});
    expect(() => stream[Symbol.asyncIterator]()).toThrow('once');
  });
});

test('an event and missing events come as the bytes received', async () => {
  const raw = '{ "b": 1.0,\n"a": "é" }';
  const server = await startTlsServer(({ url }, response) =>
    response.end(url.includes('get_missing') ? `{"events":[${raw},{},{}]}` : `{"pdus":[${raw}]}`),
  );
  const client = await testClient();
  expect(Buffer.from(await client.event(server.name, eventId, options)).toString('utf8')).toBe(raw);
  const query = { earliestEvents: [], latestEvents: [eventId], limit: 2 };
  const events = await client.getMissingEvents(server.name, roomId, query, options);
  expect(events.map((event) => Buffer.from(event).toString('utf8'))).toEqual([raw, '{}']);
  expect(server.received[1]?.body).toBe('{"earliest_events":[],"latest_events":["$event/1"],"limit":2}');
});

test('no event, or two, where one was asked for, is malformed', async () => {
  const client = await testClient();
  for (const pdus of [[], [{}, {}], {}, [1]]) {
    const server = await startTlsServer(answering({ pdus }));
    expect(await failureOf(client.event(server.name, eventId, options))).toMatchObject({ kind: 'malformed' });
  }
});

describe('the auth chain of an event', () => {
  test('comes as the bytes received', async () => {
    const server = await startTlsServer((_request, response) => response.end('{"auth_chain":[{ "b": 1.0 },{}]}'));
    const client = await testClient();
    const chain = await client.eventAuth(server.name, roomId, eventId, options);
    expect(chain.map((event) => Buffer.from(event).toString('utf8'))).toEqual(['{ "b": 1.0 }', '{}']);
    expect(server.received[0]).toMatchObject({
      method: 'GET',
      url: '/_matrix/federation/v1/event_auth/!room%3Aremote.test/%24event%2F1',
    });
  });

  test.each<[string, string, string]>([
    ['of more events than any has', 'too-large', `{"auth_chain":[{}${',{}'.repeat(10_000)}]}`],
    ['of more bytes than a small answer may have', 'too-large', `{"auth_chain":[{"x":"${'x'.repeat(100_000)}"}]}`],
    ['that is not there', 'malformed', '{}'],
    ['that is no list', 'malformed', '{"auth_chain":{}}'],
    ['cut short', 'malformed', '{"auth_chain":[{}'],
  ])('%s is %s', async (_what, kind, body) => {
    const server = await startTlsServer((_request, response) => response.end(body));
    const client = await testClient();
    expect(await failureOf(client.eventAuth(server.name, roomId, eventId, options))).toMatchObject({ kind });
  });
});

test('an endless answer about missing events is left when there are as many as were asked for', async () => {
  const server = await startTlsServer((_request, response) => {
    response.write(`{"events":[{}`);
    const more = (): void => {
      while (!response.destroyed && response.write(',{}'.repeat(1000)));
      response.once('drain', more);
    };
    more();
  });
  const client = await testClient({ limits: { responseBytesMax: 10_000_000, stateBytesMax: 1 } });
  const query = { earliestEvents: [], latestEvents: [eventId], limit: 10 };
  expect(await client.getMissingEvents(server.name, roomId, query, options)).toHaveLength(10);
  const ofFew = await testClient({ limits: { responseBytesMax: 1000, stateBytesMax: 1 } });
  const many = { ...query, limit: 1_000_000 };
  expect(await failureOf(ofFew.getMissingEvents(server.name, roomId, many, options))).toMatchObject({
    kind: 'too-large',
  });
});

/** What a server was asked. */
const paths = (server: { readonly received: readonly { readonly method: string; readonly url: string }[] }) =>
  server.received.map(({ method, url }) => `${method} ${url.replace('/_matrix/federation/', '')}`);

describe('leaving', () => {
  const leave: JsonObject = { type: 'm.room.member', content: { membership: 'leave' } };
  test('begins with a template', async () => {
    const server = await startTlsServer(answering({ room_version: '11', event: { depth: 5 } }));
    const client = await testClient();
    const template = await client.makeLeave(server.name, roomId, userId, options);
    expect(template).toEqual({ roomVersion: '11', event: { depth: 5 } });
    expect(paths(server)).toEqual(['GET v1/make_leave/!room%3Aremote.test/%40me%3Ajoiner.test']);
  });

  test.each([{}, { event: [] }, { room_version: 5, event: {} }])('by the template %j is malformed', async (answer) => {
    const server = await startTlsServer(answering(answer));
    const client = await testClient();
    expect(await failureOf(client.makeLeave(server.name, roomId, userId, options))).toMatchObject({
      kind: 'malformed',
    });
  });

  test('sends the event once where the server knows the second version of the endpoint', async () => {
    const server = await startTlsServer(answering({}));
    const client = await testClient();
    await client.sendLeave(server.name, roomId, eventId, leave, options);
    expect(paths(server)).toEqual(['PUT v2/send_leave/!room%3Aremote.test/%24event%2F1']);
    expect(server.received[0]?.body).toBe('{"content":{"membership":"leave"},"type":"m.room.member"}');
  });

  test.each([
    [404, '{"errcode":"M_UNRECOGNIZED","error":"?"}'],
    [400, '{"errcode":"M_UNRECOGNIZED"}'],
    [404, '<html>not found</html>'],
    [405, ''],
  ])('falls back on the first version where the second is answered %i %s', async (status, body) => {
    const server = await startTlsServer(({ url }, response) => {
      if (url.includes('/v1/')) response.end('[200,{}]');
      else response.writeHead(status).end(body);
    });
    const client = await testClient();
    await client.sendLeave(server.name, roomId, eventId, leave, options);
    expect(paths(server)).toEqual([
      'PUT v2/send_leave/!room%3Aremote.test/%24event%2F1',
      'PUT v1/send_leave/!room%3Aremote.test/%24event%2F1',
    ]);
  });

  test.each([
    [404, 'M_NOT_FOUND', 'not-found'],
    [403, 'M_FORBIDDEN', 'forbidden'],
    [500, 'M_UNKNOWN', 'server-error'],
  ])('is not tried again where it is answered %i %s', async (status, errcode, kind) => {
    const server = await startTlsServer(answering({ errcode }, status));
    const client = await testClient();
    const failure = await failureOf(client.sendLeave(server.name, roomId, eventId, leave, options));
    expect(failure).toMatchObject({ kind, errcode });
    expect(server.received).toHaveLength(1);
  });
});

describe('inviting', () => {
  const roomId = '!room:remote.test' as RoomId;
  const eventId = '$event' as EventId;
  const event = { type: 'm.room.member' };
  const told = [{ type: 'm.room.create' }];
  const invitation = (roomVersion: string) => ({ roomVersion, event, inviteRoomState: told });
  const signed = { ...event, signatures: {} };

  test('is by the second version of the endpoint, which says the version of the room', async () => {
    const server = await startTlsServer(answering({ event: signed }));
    const client = await testClient();
    expect(await client.sendInvite(server.name, roomId, eventId, invitation('1'), options)).toEqual(signed);
    expect(paths(server)).toEqual(['PUT v2/invite/!room%3Aremote.test/%24event']);
    expect(JSON.parse(server.received[0]!.body)).toEqual({ room_version: '1', event, invite_room_state: told });
  });

  test('falls back on the first version in a room that it knows, where the server has no other', async () => {
    const server = await startTlsServer(({ url }, response) => {
      if (url.includes('/v1/')) response.end(JSON.stringify([200, { event: signed }]));
      else response.writeHead(404).end('{"errcode":"M_UNRECOGNIZED"}');
    });
    const client = await testClient();
    expect(await client.sendInvite(server.name, roomId, eventId, invitation('2'), options)).toEqual(signed);
    expect(paths(server)).toEqual(['v2', 'v1'].map((version) => `PUT ${version}/invite/!room%3Aremote.test/%24event`));
    expect(JSON.parse(server.received[1]!.body)).toEqual({ ...event, unsigned: { invite_room_state: told } });
  });

  test('of a later room is not tried by the first version, which could not say what room it is', async () => {
    const server = await startTlsServer(answering({ errcode: 'M_UNRECOGNIZED' }, 404));
    const client = await testClient();
    const failure = await failureOf(client.sendInvite(server.name, roomId, eventId, invitation('3'), options));
    expect(failure).toMatchObject({ errcode: 'M_UNRECOGNIZED' });
    expect(server.received).toHaveLength(1);
  });

  test.each([[[200]], [[200, {}]]])('by the answer %j of the first version is malformed', async (answer) => {
    const server = await startTlsServer(({ url }, response) => {
      if (url.includes('/v1/')) response.end(JSON.stringify(answer));
      else response.writeHead(404).end();
    });
    const client = await testClient();
    const failure = await failureOf(client.sendInvite(server.name, roomId, eventId, invitation('1'), options));
    expect(failure).toMatchObject({ kind: 'malformed' });
  });
});

describe('identity servers', () => {
  const askOf = (name: string, url = `https://${name}/_matrix/identity/v2/lookup?a=b`) =>
    ({ method: 'POST', url }) as const;

  test('are asked by their URL, unsigned, with the token that is theirs', async () => {
    const server = await startTlsServer(answering({ mappings: {} }));
    const client = await testClient();
    const ask = { ...askOf(server.name), content: { algorithm: 'sha256' }, token: 'secret' };
    expect(await client.askIdentityServer(ask, options)).toEqual({ mappings: {} });
    const [{ url, method, headers, body }] = server.received as [(typeof server.received)[0]];
    expect([method, url, body]).toEqual(['POST', '/_matrix/identity/v2/lookup?a=b', '{"algorithm":"sha256"}']);
    expect(headers).toMatchObject({ authorization: 'Bearer secret', 'content-type': 'application/json' });
  });

  test('are not asked where an address is not allowed, or the URL is none of https', async () => {
    const server = await startTlsServer(answering({}));
    const client = await testClient({ addresses: {} });
    for (const url of [
      `https://${server.name}/`,
      'http://id.test/',
      'https://me:secret@id.test/',
      'file:///etc/passwd',
      'no',
    ]) {
      const failure = await failureOf(client.askIdentityServer(askOf(server.name, url), options));
      expect([url, failure]).toMatchObject([url, { kind: 'refused-by-policy' }]);
    }
    expect(server.received).toEqual([]);
  });

  test.each([
    ['a redirect', 302, '', 'malformed'],
    ['a refusal', 403, '{"errcode":"M_FORBIDDEN"}', 'forbidden'],
    ['a list', 200, '[]', 'malformed'],
    ['no JSON', 200, '{', 'malformed'],
    ['a long one', 200, `{"a":"${'x'.repeat(70_000)}"}`, 'too-large'],
  ])('that answer %s are of no use', async (_what, status, body, kind) => {
    const server = await startTlsServer((_request, response) => {
      response.writeHead(status, { location: '/elsewhere' }).end(body);
    });
    const client = await testClient();
    expect(await failureOf(client.askIdentityServer(askOf(server.name), options))).toMatchObject({ kind });
    expect(server.received).toHaveLength(1);
  });
});

test('a resident is handed an invite by a third-party identifier', async () => {
  const server = await startTlsServer(answering({}));
  const client = await testClient();
  await client.exchangeThirdPartyInvite(server.name, '!room:remote.test' as RoomId, { type: 'm.room.member' }, options);
  expect(paths(server)).toEqual(['PUT v1/exchange_third_party_invite/!room%3Aremote.test']);
  expect(server.received[0]?.body).toBe('{"type":"m.room.member"}');
});

test('a notary is asked for many servers at once', async () => {
  const server = await startTlsServer(answering({ server_keys: [{ server_name: 'a.test' }, 5] }));
  const client = await testClient();
  const requests = ['a.test', 'b.test'].map((name) => ({ serverName: name as ServerName, minimumValidUntilTs: 9 }));
  expect(await client.notaryQuery(server.name, requests, options)).toEqual([{ server_name: 'a.test' }]);
  expect(server.received[0]?.body).toBe('{"server_keys":{"a.test":{},"b.test":{}}}');
});

test('a key object of a notary that cannot be read costs none of the others', async () => {
  const unreadable = [`{"a":${'['.repeat(600)}${']'.repeat(600)}}`, '{"a":1,"a":2}', '{"a":1e400}', '5'];
  const body = `{"server_keys":[{"server_name":"a.test"},${unreadable.join(',')},{"server_name":"b.test"}]}`;
  const server = await startTlsServer((_request, response) => response.end(body));
  const client = await testClient();
  const requests = [{ serverName: 'a.test' as ServerName, minimumValidUntilTs: 9 }];
  expect(await client.notaryQuery(server.name, requests, options)).toEqual([
    { server_name: 'a.test' },
    { server_name: 'b.test' },
  ]);
});

test.each(['{}', '{"server_keys":{}}', '{"server_keys":[', '[]'])('%s is no answer of a notary', async (body) => {
  const server = await startTlsServer((_request, response) => response.end(body));
  const client = await testClient();
  expect(await failureOf(client.notaryQuery(server.name, [], options))).toMatchObject({ kind: 'malformed' });
});

describe('.well-known', () => {
  type Answer = Parameters<Parameters<typeof startTlsServer>[0]>[1];
  const ask = async (answer: (url: string, response: Answer) => void) => {
    const server = await startTlsServer(({ url }, response) => answer(url, response));
    const connect = buildConnector({ ca: (await testAuthority()).certificatePem });
    // Port 443 is not to be had in a test: connections to it go to the test's server.
    const agent = new Agent({
      connect: (target, callback) => connect({ ...target, hostname: '127.0.0.1', port: String(server.port) }, callback),
    });
    onTestFinished(() => agent.destroy());
    return { found: await fetchWellKnown(agent, 'remote.test', 'Rejoinder/test', 0), server };
  };
  const redirect = (to: string) => (_url: string, response: Answer) =>
    void response.writeHead(302, { location: to }).end();

  test('delegates to the server it names', async () => {
    const { found, server } = await ask((_url, response) => {
      response.writeHead(200, { 'cache-control': 'max-age=3600' }).end('{"m.server":"delegated.test:99"}');
    });
    expect(found).toEqual({ outcome: 'delegated', to: 'delegated.test:99', lifetimeMs: 3_600_000 });
    expect(server.received[0]).toMatchObject({ url: '/.well-known/matrix/server', headers: { host: 'remote.test' } });
  });

  test('may redirect a few times', async () => {
    const { found } = await ask((url, response) => {
      if (url === '/a') response.end('{"m.server":"delegated.test"}');
      else redirect(url === '/b' ? '/a' : 'https://delegated.test/b')(url, response);
    });
    expect(found).toMatchObject({ outcome: 'delegated', to: 'delegated.test' });
  });

  test('that redirects in a loop fails after a few', async () => {
    const { found, server } = await ask(redirect('/.well-known/matrix/server'));
    expect(found).toEqual({ outcome: 'failed' });
    expect(server.received).toHaveLength(6);
  });

  test.each([
    ['a redirect to http', redirect('http://remote.test/')],
    ['a redirect to a file', redirect('file:///etc/passwd')],
    ['a redirect to nonsense', redirect('https://')],
    ['no JSON', (_url: string, response: Answer) => void response.end('<html>')],
    ['a list', (_url: string, response: Answer) => void response.end('[]')],
    ['no name', (_url: string, response: Answer) => void response.end('{"m.server":5}')],
    ['a bad name', (_url: string, response: Answer) => void response.end('{"m.server":"https://x.test"}')],
    ['a bad port', (_url: string, response: Answer) => void response.end('{"m.server":"x.test:0"}')],
    [
      'too much',
      (_url: string, response: Answer) => void response.end(`{"m.server":"x.test","x":"${'x'.repeat(60_000)}"}`),
    ],
    ['an error', (_url: string, response: Answer) => void response.writeHead(500).end()],
    ['a hang-up', (_url: string, response: Answer) => void response.destroy()],
  ])('with %s fails', async (_what, answer) => {
    expect((await ask(answer)).found).toEqual({ outcome: 'failed' });
  });

  test('that is not there is absent', async () => {
    const { found } = await ask((_url, response) => void response.writeHead(404).end());
    expect(found).toEqual({ outcome: 'absent', lifetimeMs: 3_600_000 });
  });
});
