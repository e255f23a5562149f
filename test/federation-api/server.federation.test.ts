import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { TRANSACTION_BYTES_MAX } from '../../src/federation-api/send-transaction.ts';
import { systemClock } from '../../src/clock.ts';
import { readKeyAnswer } from '../../src/federation/key-answer.ts';
import { authorizationOf } from '../../src/federation/request-auth.ts';
import { type BoundIdentifier, type HandedInvite, type ThirdPartyInvite } from '../../src/rooms/invites/contract.ts';
import { type ResidentMemberships } from '../../src/rooms/resident-contract.ts';
import { RoomError } from '../../src/rooms/error.ts';
import { ResidentError } from '../../src/rooms/resident-error.ts';
import { type ReceivedTransaction, type RoomStatus, type TransactionAnswer } from '../../src/rooms/contract.ts';
import { type FederationServerOptions, createFederationServer } from '../../src/federation-api/server.ts';
import { canonicalJson } from '../../src/matrix/json/canonical-json.ts';
import { type KeyId, type RoomId, type ServerName } from '../../src/matrix/identifiers.ts';
import { type Json, type JsonObject } from '../../src/matrix/pdu.ts';
import { signBytes, signingKeyFromSeed } from '../../src/matrix/signing/signing-key.ts';
import { type VerificationPool, createVerificationPool } from '../../src/verification/pool.ts';
import { rawPdus } from '../support/bodies.ts';
import { OUR_NAME, ourKey, signal, silent, testAuthority, testClient } from '../federation/tls-server.ts';

const origin = 'origin.test' as ServerName;
const theirKey = signingKeyFromSeed('ed25519:theirs' as KeyId, Buffer.alloc(32, 9));
const ALWAYS = { validUntilTs: Number.MAX_SAFE_INTEGER, renewableUntilTs: Number.MAX_SAFE_INTEGER };
const SEND = '/_matrix/federation/v1/send';
const transactionOf = (pdus: unknown[] = [], changes: JsonObject = {}) =>
  ({ origin, origin_server_ts: 1, pdus, ...changes }) as JsonObject;

const ROOM = '!r:origin.test';
const textsOf = (taken: readonly { readonly transaction: ReceivedTransaction }[]): string[] =>
  rawPdus(taken.map(({ transaction }) => transaction)).map((raw) => Buffer.from(raw).toString('utf8'));

const answered = (pdus: JsonObject = {}): TransactionAnswer => ({ outcome: 'answered', response: { pdus } });

interface Answer {
  readonly status: number;
  readonly body: unknown;
}

let pool: VerificationPool;
beforeAll(() => {
  pool = createVerificationPool({ threads: 1 });
});
afterAll(() => pool.close());

async function start(options: Partial<FederationServerOptions> = {}) {
  const taken: { origin: ServerName; txnId: string; transaction: ReceivedTransaction }[] = [];
  const statuses = new Map<string, RoomStatus>();
  const behaviour: { receive: () => Promise<TransactionAnswer> } = {
    receive: () => Promise.resolve(answered()),
  };
  const app = createFederationServer({
    serverName: OUR_NAME,
    signingKey: ourKey,
    resolveKeys: (requests) =>
      Promise.resolve(
        requests
          .filter(({ serverName, keyId }) => serverName === origin && keyId === theirKey.keyId)
          .map((key) => ({ ...key, publicKey: theirKey.publicKey, ...ALWAYS })),
      ),
    bodies: pool,
    ports: {
      receiveTransaction: (from, txnId, transaction) => {
        taken.push({ origin: from, txnId, transaction });
        return behaviour.receive();
      },
      roomStatus: (roomId) => Promise.resolve(statuses.get(roomId) ?? 'absent'),
      statusOfEventsRoom: (eventId) => Promise.resolve(statuses.get(eventId) ?? 'absent'),
    },
    clock: systemClock,
    logger: silent,
    version: '1.2.3',
    ...options,
  });
  await app.listen({ port: 0, host: '127.0.0.1' });
  onTestFinished(() => app.close());
  const { port } = app.server.address() as AddressInfo;

  const ask = (method: string, path: string, headers: Record<string, string | string[]> = {}, body?: string | Buffer) =>
    new Promise<Answer>((resolve, reject) => {
      const sent = httpRequest({ port, method, path, headers, agent: false }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8');
          resolve({ status: response.statusCode ?? 0, body: text === '' ? '' : (JSON.parse(text) as unknown) });
        });
      });
      sent.on('error', reject);
      sent.end(body);
    });
  const signed = (method: string, uri: string, content?: JsonObject, destination = OUR_NAME): Promise<Answer> => {
    const authorization = authorizationOf({ method, uri, origin, destination, ...(content && { content }) }, theirKey);
    const body = content === undefined ? undefined : canonicalJson(content);
    return ask(method, uri, { authorization, ...(body !== undefined && { 'content-type': 'application/json' }) }, body);
  };
  return { app, port, taken, statuses, behaviour, ask, signed };
}

describe('for anybody', () => {
  test('keys and version are served over TLS, and our own client reads them', async () => {
    const { certificatePem, keyPem } = await (await testAuthority()).issue([]);
    const { port } = await start({ tls: { certificatePem, keyPem } });
    const client = await testClient({ serverName: 'other.test' as ServerName });
    const name = `127.0.0.1:${port}` as ServerName;
    expect(await client.version(name, { signal })).toEqual({ name: 'Rejoinder', version: '1.2.3' });
    const now = systemClock.now();
    const reading = readKeyAnswer(await client.serverKeys(name, { signal }), now);
    expect(reading).toMatchObject({ ok: true, serverName: OUR_NAME, keys: [{ publicKey: ourKey.publicKey }] });
    expect(reading.ok && (reading.keys[0]?.validUntilTs ?? 0) - now).toBeGreaterThan(3_600_000);
  });

  test('keys that signed for us once are published as old ones', async () => {
    const publicKey = theirKey.publicKey;
    const { ask } = await start({ oldSigningKeys: [{ keyId: 'ed25519:old' as KeyId, publicKey, expiredTs: 5 }] });
    const { body } = await ask('GET', '/_matrix/key/v2/server');
    expect(body).toMatchObject({
      verify_keys: { 'ed25519:ours': { key: ourKey.publicKey } },
      old_verify_keys: { 'ed25519:old': { key: publicKey, expired_ts: 5 } },
    });
    const reading = readKeyAnswer(body as JsonObject, systemClock.now());
    expect(reading.ok && reading.keys.map(({ keyId, expired }) => [keyId, expired])).toEqual([
      ['ed25519:ours', false],
      ['ed25519:old', true],
    ]);
  });

  test('the older path for one key, and a slash at the end, give the same', async () => {
    const { ask } = await start();
    const plain = await ask('GET', '/_matrix/key/v2/server');
    expect(await ask('GET', '/_matrix/key/v2/server/ed25519:ours')).toEqual(plain);
    expect(await ask('GET', '/_matrix/key/v2/server/')).toEqual(plain);
  });

  test.each([
    ['GET', '/', 404],
    ['GET', '/_matrix/federation/v1/nonsense', 404],
    ['POST', '/_matrix/key/v2/query', 404],
    ['POST', '/_matrix/key/v2/server', 405],
    ['GET', `${SEND}/1`, 405],
    ['DELETE', '/_matrix/federation/v1/version', 405],
  ])('%s %s is unrecognised with %i', async (method, path, status) => {
    const { ask } = await start();
    expect(await ask(method, path)).toMatchObject({ status, body: { errcode: 'M_UNRECOGNIZED' } });
  });

  test.each(['/_matrix/federation/v1/state/%zz', '/%', '/_matrix/federation/v1/event/%ff%fe'])(
    'bad percent-encoding in %s is a client error',
    async (path) => {
      const { ask } = await start();
      expect(await ask('GET', path)).toMatchObject({ status: 400, body: { errcode: 'M_INVALID_PARAM' } });
    },
  );
});

describe('a transaction', () => {
  test('is handed on as the bytes received, and answered by event', async () => {
    const { ask, taken, behaviour } = await start();
    behaviour.receive = () => Promise.resolve(answered({ $a: {}, $b: { error: 'no' } }));
    const raw = `{ "room_id":"${ROOM}", "b":"é", "a" :1.0 }`;
    const text = `{"origin":"origin.test","origin_server_ts":1,"edus":[{"edu_type":"x"},5],"pdus":[${raw},5]}`;
    const content = { origin, origin_server_ts: 1, edus: [{ edu_type: 'x' }, 5], pdus: ['RAW', 5] };
    // The sender signed the number as it spelled it.
    const canonical = canonicalJson(content).replace('"RAW"', `{"a":1.0,"b":"é","room_id":"${ROOM}"}`);
    const uri = `${SEND}/txn%2F1`;
    const unsigned = canonicalJson({ method: 'PUT', uri, origin, destination: OUR_NAME, content: 'BODY' });
    const sig = signBytes(theirKey, Buffer.from(unsigned.replace('"BODY"', canonical)));
    const authorization = `X-Matrix origin=${origin},destination=${OUR_NAME},key=${theirKey.keyId},sig=${sig}`;
    expect(await ask('PUT', uri, { authorization }, text)).toEqual({
      status: 200,
      body: { pdus: { $a: {}, $b: { error: 'no' } } },
    });
    expect(taken).toMatchObject([{ origin, txnId: 'txn/1', transaction: { pdus: [{ roomId: ROOM }] } }]);
    expect(textsOf(taken)).toEqual([raw]);
  });

  test('beside many others of its server at the same time is refused', async () => {
    const { signed, taken, behaviour } = await start();
    let finish = (): void => undefined;
    let startedFour = (): void => undefined;
    const four = new Promise<void>((resolve) => (startedFour = resolve));
    behaviour.receive = () =>
      new Promise((resolve) => {
        const before = finish;
        finish = () => {
          before();
          resolve(answered());
        };
        if (taken.length === 4) startedFour();
      });
    const running = ['1', '2', '3', '4'].map((txnId) => signed('PUT', `${SEND}/${txnId}`, transactionOf()));
    await four;
    expect(await signed('PUT', `${SEND}/5`, transactionOf())).toMatchObject({
      status: 429,
      body: { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: 5000 },
    });
    finish();
    for (const answer of await Promise.all(running)) expect(answer.status).toBe(200);
    expect(taken).toHaveLength(4);
  });

  test('that failed on our side is not remembered, and nothing of the failure is told', async () => {
    const { signed, behaviour } = await start();
    behaviour.receive = () => Promise.reject(new Error('secret of the inside'));
    expect(await signed('PUT', `${SEND}/1`, transactionOf())).toEqual({
      status: 500,
      body: { errcode: 'M_UNKNOWN', error: 'internal server error' },
    });
    behaviour.receive = () => Promise.resolve(answered());
    expect(await signed('PUT', `${SEND}/1`, transactionOf())).toMatchObject({ status: 200 });
  });

  test.each<[string, JsonObject, number, string]>([
    ['of another origin than its signer', transactionOf([], { origin: 'evil.test' }), 403, 'M_FORBIDDEN'],
    ['without origin', { pdus: [] }, 403, 'M_FORBIDDEN'],
    ['without pdus', { origin }, 400, 'M_BAD_JSON'],
    ['with pdus of the wrong type', transactionOf([], { pdus: {} }), 400, 'M_BAD_JSON'],
    ['with edus of the wrong type', transactionOf([], { edus: 'x' }), 400, 'M_BAD_JSON'],
    ['of 51 PDUs', transactionOf(Array.from({ length: 51 }, () => ({}))), 400, 'M_BAD_JSON'],
    ['of 101 EDUs', transactionOf([], { edus: Array.from({ length: 101 }, () => ({})) }), 400, 'M_BAD_JSON'],
  ])('%s is refused', async (_what, content, status, errcode) => {
    const { signed, taken } = await start();
    expect(await signed('PUT', `${SEND}/1`, content)).toMatchObject({ status, body: { errcode } });
    expect(taken).toEqual([]);
  });

  test.each([200, 600, 5_000])(
    'of which one PDU and one EDU are nested %i deep hands on the others',
    async (levels) => {
      const { signed, taken } = await start();
      let deep: Json = 1;
      for (let i = 0; i < levels; i++) deep = [deep];
      const pdus = [
        { room_id: ROOM, deep },
        { room_id: ROOM, good: 1 },
      ];
      const content = transactionOf(pdus, { edus: [{ edu_type: 'x' }, { edu_type: 'y', deep }] });
      expect(await signed('PUT', `${SEND}/1`, content)).toMatchObject({ status: 200 });
      expect(textsOf(taken)).toEqual(pdus.map(canonicalJson));
    },
  );

  test('hands on a PDU whose text is longer than its canonical JSON may be, for what it replaces', async () => {
    const { signed, taken } = await start();
    const pdu = {
      room_id: ROOM,
      content: { body: 'x'.repeat(40_000) },
      unsigned: { prev_content: { body: 'y'.repeat(40_000) } },
    };
    expect(await signed('PUT', `${SEND}/1`, transactionOf([pdu]))).toMatchObject({ status: 200 });
    expect(textsOf(taken)).toEqual([canonicalJson(pdu)]);
  });

  test('of 50 PDUs and 100 EDUs is taken', async () => {
    const { signed, taken } = await start();
    const many = (length: number): JsonObject[] => Array.from({ length }, () => ({ room_id: ROOM }));
    expect(await signed('PUT', `${SEND}/1`, transactionOf(many(50), { edus: many(100) }))).toMatchObject({
      status: 200,
    });
    expect(taken[0]?.transaction).toMatchObject({ pdus: { length: 50 } });
  });

  test('with NUL in its id is refused', async () => {
    const { signed } = await start();
    expect(await signed('PUT', `${SEND}/%00`, transactionOf())).toMatchObject({
      status: 400,
      body: { errcode: 'M_INVALID_PARAM' },
    });
  });

  test('with an id that is too long is refused', async () => {
    const { signed } = await start();
    for (const length of [256, 2000]) {
      expect(await signed('PUT', `${SEND}/${'x'.repeat(length)}`, transactionOf())).toMatchObject({
        status: 400,
        body: { errcode: 'M_INVALID_PARAM' },
      });
    }
  });

  test('unsigned or wrongly signed is refused', async () => {
    const { ask, signed, taken } = await start();
    const body = canonicalJson(transactionOf());
    const uri = `${SEND}/1`;
    const good = authorizationOf(
      { method: 'PUT', uri, origin, destination: OUR_NAME, content: transactionOf() },
      theirKey,
    );
    const refused = { status: 401, body: { errcode: 'M_UNAUTHORIZED' } };
    expect(await ask('PUT', uri, {}, body)).toMatchObject(refused);
    expect(await ask('PUT', uri, { authorization: 'Bearer x' }, body)).toMatchObject(refused);
    expect(await ask('PUT', `${SEND}/2`, { authorization: good }, body)).toMatchObject(refused);
    expect(await ask('PUT', `${uri}?x=1`, { authorization: good }, body)).toMatchObject(refused);
    expect(await ask('PUT', uri, { authorization: good }, body.replace('":1', '":2'))).toMatchObject(refused);
    expect(await signed('PUT', uri, transactionOf(), 'elsewhere.test' as ServerName)).toMatchObject(refused);
    const two = [good, good.replace(origin, 'evil.test')];
    expect(await ask('PUT', uri, { authorization: two }, body)).toMatchObject(refused);
    expect(await ask('PUT', uri, { authorization: [good, 'Basic x'] }, body)).toMatchObject(refused);
    expect(taken).toEqual([]);
    expect(await ask('PUT', uri, { authorization: good }, body)).toMatchObject({ status: 200 });
  });

  test.each<[string, string | Buffer, number, string]>([
    ['no JSON', 'hello', 400, 'M_NOT_JSON'],
    ['a list', '[]', 400, 'M_BAD_JSON'],
    ['bad UTF-8', Buffer.from([0x7b, 0x22, 0xff, 0x22, 0x3a, 0x31, 0x7d]), 400, 'M_NOT_JSON'],
    ['depth 20,000', `{"a":${'['.repeat(20_000)}${']'.repeat(20_000)}}`, 400, 'M_NOT_JSON'],
    ['large beside its PDUs', `{"pdus":[],"a":"${'x'.repeat(65_536)}"}`, 413, 'M_TOO_LARGE'],
    ['too large', Buffer.alloc(TRANSACTION_BYTES_MAX + 1, 0x20), 413, 'M_TOO_LARGE'],
  ])('that is %s is refused', async (_what, body, status, errcode) => {
    const { ask } = await start();
    const authorization = authorizationOf({ method: 'PUT', uri: `${SEND}/1`, origin, destination: OUR_NAME }, theirKey);
    expect(await ask('PUT', `${SEND}/1`, { authorization }, body)).toMatchObject({ status, body: { errcode } });
  });
});

describe('a large body', () => {
  /** Whatever this thread reads of JSON goes through here; the pool's threads have a parser of their own. */
  function watchParser(): { readonly longest: () => number } {
    const parse = vi.spyOn(JSON, 'parse');
    onTestFinished(() => parse.mockRestore());
    return { longest: () => Math.max(0, ...parse.mock.calls.map(([text]) => text.length)) };
  }

  /** Numbers that only the careful reader can read, as many as a megabyte holds. */
  const numbers = (bytes: number): number[] => Array<number>(bytes / 4).fill(0.5);

  test.each<[string, JsonObject, number]>([
    ['a PDU of a megabyte', transactionOf([{ room_id: ROOM, numbers: numbers(1_000_000) }, { room_id: ROOM }]), 200],
    ['an EDU of four', transactionOf([{ room_id: ROOM }], { edus: [{ numbers: numbers(4_000_000) }] }), 200],
    ['a megabyte beside its PDUs', transactionOf([], { more: numbers(1_000_000) }), 413],
    ['a megabyte of PDUs that are none', transactionOf(numbers(1_000_000)), 400],
  ])('with %s is read by no thread that answers others', async (_what, content, status) => {
    const { signed } = await start();
    const body = signed('PUT', `${SEND}/1`, content);
    const parser = watchParser();
    expect(await body).toMatchObject({ status });
    expect(parser.longest()).toBeLessThan(1_000);
  });

  test('is refused at any endpoint before it is read', async () => {
    const { signed } = await start();
    const parser = watchParser();
    const answer = await signed('PUT', `/_matrix/federation/v2/send_join/${ROOM}/$e`, { numbers: numbers(1_000_000) });
    expect(answer).toMatchObject({ status: 413, body: { errcode: 'M_TOO_LARGE' } });
    expect(parser.longest()).toBeLessThan(1_000);
  });
});

describe('questions about rooms', () => {
  const partialThere = { status: 403, body: { errcode: 'ORG.MATRIX.MSC3895_UNABLE_DUE_TO_PARTIAL_STATE' } };
  const notFound = { status: 404, body: { errcode: 'M_NOT_FOUND' } };
  const forbidden = { status: 403, body: { errcode: 'M_FORBIDDEN' } };
  const room = '/!r:origin.test';

  test.each([
    ['GET', `v1/make_join${room}/@u:origin.test`],
    ['PUT', `v1/send_join${room}/$e`],
    ['PUT', `v2/send_join${room}/$e`],
    ['GET', `v1/make_knock${room}/@u:origin.test`],
    ['PUT', `v1/send_knock${room}/$e`],
    ['PUT', `v1/send_leave${room}/$e`],
    ['PUT', `v2/send_leave${room}/$e`],
  ])('%s %s: not through a room that is partial or unknown', async (method, path) => {
    const { signed, statuses } = await start();
    const content = method === 'PUT' ? {} : undefined;
    expect(await signed(method, `/_matrix/federation/${path}`, content)).toMatchObject(notFound);
    statuses.set('!r:origin.test', 'partial');
    expect(await signed(method, `/_matrix/federation/${path}`, content)).toMatchObject(notFound);
    statuses.set('!r:origin.test', 'denied');
    expect(await signed(method, `/_matrix/federation/${path}`, content)).toMatchObject(forbidden);
    statuses.set('!r:origin.test', 'full');
    expect(await signed(method, `/_matrix/federation/${path}`, content)).toMatchObject({
      status: 404,
      body: { errcode: 'M_UNRECOGNIZED' },
    });
  });

  test('a join is answered in both versions, and a refusal as the specification has it', async () => {
    const pages = (texts: readonly string[]) =>
      (async function* () {
        yield await Promise.resolve(texts);
      })();
    const asked: unknown[] = [];
    const memberships: ResidentMemberships = {
      template: ({ versions }) => Promise.resolve({ roomVersion: '11', event: { versions: versions ?? 'unsaid' } }),
      sendJoin: ({ omitMembers, change, server }) => {
        asked.push([omitMembers, change, server]);
        const serversInRoom = omitMembers ? [origin] : null;
        return Promise.resolve({ event: '{"e":1}', state: pages(['1', '2']), authChain: pages([]), serversInRoom });
      },
      sendLeave: () => Promise.resolve(),
      sendKnock: () => Promise.reject(new ResidentError('unable-to-grant', 'no', { more: 1 })),
    };
    const absent = () => Promise.resolve('absent' as const);
    const ports = { receiveTransaction: () => Promise.resolve(answered()), statusOfEventsRoom: absent, memberships };
    const { signed } = await start({ ports: { ...ports, roomStatus: () => Promise.resolve('full') } });
    const put = (path: string) => signed('PUT', `/_matrix/federation/${path}${room}/$e`, { some: 'event' });
    const join = { origin: OUR_NAME, members_omitted: false, event: { e: 1 }, state: [1, 2], auth_chain: [] };
    expect(await put('v1/send_join')).toEqual({ status: 200, body: [200, join] });
    expect(await put('v2/send_join')).toEqual({ status: 200, body: join });
    const partial = await signed('PUT', `/_matrix/federation/v2/send_join${room}/$e?omit_members=true`, {
      some: 'event',
    });
    expect(partial.body).toEqual({ ...join, members_omitted: true, servers_in_room: [origin] });
    expect(asked).toEqual([false, false, true].map((omitted) => [omitted, 'join', origin]));
    expect(await put('v1/send_leave')).toEqual({ status: 200, body: [200, {}] });
    expect(await put('v2/send_leave')).toEqual({ status: 200, body: {} });
    expect(await put('v1/send_knock')).toEqual({
      status: 400,
      body: { errcode: 'M_UNABLE_TO_GRANT_JOIN', error: 'no', more: 1 },
    });
    const template = (query: string) => signed('GET', `/_matrix/federation/v1/make_join${room}/@u:origin.test${query}`);
    expect(await template('?ver=1&ver=11')).toMatchObject({
      body: { room_version: '11', event: { versions: ['1', '11'] } },
    });
    expect(await template('')).toMatchObject({ body: { event: { versions: 'unsaid' } } });
    expect(await signed('GET', `/_matrix/federation/v1/make_join${room}/nobody`)).toMatchObject({ status: 400 });
  });

  test.each([
    `v1/state${room}?event_id=$e`,
    `v1/state_ids${room}?event_id=$e`,
    `v1/event_auth${room}/$e`,
    `v1/get_extremities${room}`,
    'v1/event/$e',
  ])('%s: the state of a partial room is not handed on', async (path) => {
    const { signed, statuses } = await start();
    expect(await signed('GET', `/_matrix/federation/${path}`)).toMatchObject(notFound);
    statuses.set('!r:origin.test', 'partial').set('$e', 'partial');
    expect(await signed('GET', `/_matrix/federation/${path}`)).toMatchObject(partialThere);
    statuses.set('!r:origin.test', 'denied').set('$e', 'denied');
    expect(await signed('GET', `/_matrix/federation/${path}`)).toMatchObject(forbidden);
  });

  test('are answered to servers that sign, and for ids that are ids', async () => {
    const { ask, signed } = await start();
    expect((await ask('GET', '/_matrix/federation/v1/state/!r:origin.test')).status).toBe(401);
    expect(await signed('GET', '/_matrix/federation/v1/state/nonsense')).toMatchObject({ status: 400 });
    expect(await signed('GET', '/_matrix/federation/v1/event/nonsense')).toMatchObject({ status: 400 });
  });
});

describe('slow and greedy callers', () => {
  test.each([
    ['headers', 'PUT /_matrix/federation/v1/send/1 HTTP/1.1\r\nHost: x\r\n'],
    [
      'a body',
      'PUT /_matrix/federation/v1/send/1 HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n' +
        `Authorization: X-Matrix origin=origin.test,key=ed25519:a,sig=${'A'.repeat(86)}\r\n\r\n{`,
    ],
  ])('that never finish %s are cut off', async (_what, beginning) => {
    const { port } = await start({ timeouts: { headersMs: 200, requestMs: 400 } });
    const socket = connect(port, '127.0.0.1');
    socket.write(beginning);
    socket.resume();
    socket.on('error', () => undefined);
    await once(socket, 'close');
  });

  test('whose share of waiting events is used up are told when to come back', async () => {
    const { signed, behaviour } = await start();
    behaviour.receive = () => Promise.resolve({ outcome: 'limited', retryAfterMs: 1234 });
    expect(await signed('PUT', `${SEND}/1`, transactionOf())).toMatchObject({
      status: 429,
      body: { errcode: 'M_LIMIT_EXCEEDED', retry_after_ms: 1234 },
    });
  });
});

describe('invites of our users', () => {
  const handed: HandedInvite[] = [];
  const signed = { type: 'm.room.member', signatures: { us: {} } };
  const started = () => {
    const never = () => Promise.reject(new Error('nobody asks for that'));
    const invites = {
      receiveInvite: (invite: HandedInvite) => {
        handed.push(invite);
        return Promise.resolve(signed);
      },
      exchangeInvite: never,
      boundIdentifier: never,
    };
    const roomStatus = (): Promise<RoomStatus> => Promise.resolve('absent');
    return start({ ports: { receiveTransaction: never, statusOfEventsRoom: never, roomStatus, invites } });
  };
  const told = [{ type: 'm.room.create' }];
  const path = (version: string) => `/_matrix/federation/${version}/invite/${encodeURIComponent(ROOM)}/%24invite`;

  test('are taken in both versions, each in its form', async () => {
    const { signed: ask } = await started();
    const event = { type: 'm.room.member', unsigned: { invite_room_state: told } };
    expect(await ask('PUT', path('v1'), event)).toEqual({ status: 200, body: [200, { event: signed }] });
    const body = { room_version: '11', event: { type: 'm.room.member' }, invite_room_state: told };
    expect(await ask('PUT', path('v2'), body)).toEqual({ status: 200, body: { event: signed } });
    const both = { roomId: ROOM, eventId: '$invite', server: origin, told };
    expect(handed).toMatchObject([
      { ...both, roomVersion: '1', event },
      { ...both, roomVersion: '11', event: body.event },
    ]);
  });

  test('are refused in both versions where they have another form', async () => {
    const { signed: ask } = await started();
    expect(await ask('PUT', path('v2'), { event: {} })).toMatchObject({ status: 400, body: { errcode: 'M_BAD_JSON' } });
    const noEvent = await ask('PUT', path('v2'), { room_version: '11', event: [] });
    expect(noEvent).toMatchObject({ status: 400, body: { errcode: 'M_BAD_JSON' } });
    for (const version of ['v1', 'v2']) {
      const nowhere = path(version).replace(encodeURIComponent(ROOM), 'room');
      expect(await ask('PUT', nowhere, { room_version: '11', event: {} })).toMatchObject({ status: 400 });
    }
  });
});

describe('invites by third-party identifiers', () => {
  const exchanged: ThirdPartyInvite[] = [];
  const bound: BoundIdentifier[] = [];
  const never = () => Promise.reject(new Error('nobody asks for that'));
  const started = (status: RoomStatus = 'full') => {
    const invites = {
      receiveInvite: never,
      exchangeInvite: (invite: ThirdPartyInvite) => Promise.resolve(void exchanged.push(invite)),
      boundIdentifier: (one: BoundIdentifier) => Promise.resolve(void bound.push(one)),
    };
    const roomStatus = (): Promise<RoomStatus> => Promise.resolve(status);
    return start({ ports: { receiveTransaction: never, statusOfEventsRoom: never, roomStatus, invites } });
  };
  const path = `/_matrix/federation/v1/exchange_third_party_invite/${encodeURIComponent(ROOM)}`;
  const userId = `@bob:${origin}`;
  const block = { mxid: userId, token: 't', signatures: {} };
  const invite = {
    ...{ type: 'm.room.member', room_id: ROOM, sender: '@alice:ours.test', state_key: userId },
    content: { membership: 'invite', third_party_invite: { display_name: 'b', signed: block } },
  };

  test('are exchanged for users of the server that asks, and refused in any other form', async () => {
    const { signed: ask } = await started();
    expect(await ask('PUT', path, invite)).toEqual({ status: 200, body: {} });
    expect(exchanged).toMatchObject([{ roomId: ROOM, sender: '@alice:ours.test', userId, signed: block }]);
    const theirs = await ask('PUT', path, { ...invite, state_key: '@bob:elsewhere.test' });
    expect(theirs).toMatchObject({ status: 403, body: { errcode: 'M_FORBIDDEN' } });
    for (const changes of [
      { room_id: '!other:ours.test' },
      { type: 'm.room.name' },
      { sender: 7 },
      { content: { membership: 'join', third_party_invite: { signed: block } } },
      { content: { membership: 'invite' } },
    ]) {
      expect([changes, await ask('PUT', path, { ...invite, ...changes })]).toMatchObject([
        changes,
        { status: 400, body: { errcode: 'M_BAD_JSON' } },
      ]);
    }
    expect(exchanged).toHaveLength(1);
  });

  test('are not exchanged for a server that the room denies', async () => {
    const { signed: ask } = await started('denied');
    expect(await ask('PUT', path, invite)).toMatchObject({ status: 403 });
  });

  test('that waited are told by whoever says so, unsigned, a bounded number of them', async () => {
    const { ask } = await started();
    const tell = (body: unknown) => {
      const text = typeof body === 'string' ? body : JSON.stringify(body);
      return ask('PUT', '/_matrix/federation/v1/3pid/onbind', {}, text);
    };
    const waited = {
      medium: 'email',
      address: 'a',
      mxid: userId,
      room_id: ROOM,
      sender: '@alice:x.test',
      signed: block,
    };
    expect(await tell({ medium: 'email', address: 'a', mxid: userId, invites: [waited] })).toEqual({
      status: 200,
      body: {},
    });
    expect(bound).toMatchObject([
      { sentFrom: '127.0.0.1', userId, invites: [{ roomId: ROOM, sender: '@alice:x.test', signed: block }] },
    ]);
    for (const [body, status] of [
      ['no', 400],
      [{ mxid: 'bob', invites: [] }, 400],
      [{ mxid: userId, invites: {} }, 400],
      [{ mxid: userId, invites: [7] }, 400],
      [{ mxid: userId, invites: [{ ...waited, signed: { ...block, mxid: '@eve:x.test' } }] }, 400],
      [{ mxid: userId, invites: Array.from({ length: 51 }, () => waited) }, 400],
      ['x'.repeat(65 * 1024), 413],
    ] as const) {
      expect((await tell(body)).status).toBe(status);
    }
    expect(bound).toHaveLength(1);
  });
});

describe('of our directories and users other servers', () => {
  const listed = { chunk: [{ room_id: ROOM }], next: 'o1', prev: null, total: 2 };
  const asked: unknown[] = [];
  const directory: NonNullable<FederationServerOptions['ports']['directory']> = {
    ownAlias: (alias) =>
      alias === '#here:ours.test'
        ? Promise.resolve({ roomId: ROOM as RoomId, servers: [origin] })
        : Promise.reject(new RoomError('unknown-alias', 'no such alias')),
    publicRooms: (query) => {
      asked.push(query);
      return Promise.resolve(listed);
    },
  };
  const V1 = '/_matrix/federation/v1';
  const never = () => Promise.reject(new Error('nobody asks for that'));
  const started = () =>
    start({
      ports: {
        ...{ receiveTransaction: never, roomStatus: never, statusOfEventsRoom: never, directory },
        profileOf: (userId) =>
          Promise.resolve(
            userId.startsWith('@me:')
              ? { displayName: 'Me', avatarUrl: 'mxc://a/b', fields: { 'm.tz': 'UTC' } }
              : undefined,
          ),
      },
    });

  test('are told what an alias means, which rooms are listed, and what a user calls himself', async () => {
    const { signed } = await started();
    const alias = await signed('GET', `${V1}/query/directory?room_alias=${encodeURIComponent('#here:ours.test')}`);
    expect(alias).toEqual({ status: 200, body: { room_id: ROOM, servers: [origin] } });
    const answer = { chunk: listed.chunk, next_batch: 'o1', total_room_count_estimate: 2 };
    expect((await signed('GET', `${V1}/publicRooms?limit=1000&since=o3`)).body).toEqual(answer);
    const filter = { generic_search_term: 'x', room_types: [null] };
    expect((await signed('POST', `${V1}/publicRooms`, { limit: 2, filter })).body).toEqual(answer);
    expect(asked).toEqual([
      { limit: 100, since: 'o3', search: null, roomTypes: null },
      { limit: 2, since: null, search: 'x', roomTypes: [null] },
    ]);
    const me = encodeURIComponent(`@me:${OUR_NAME}`);
    expect((await signed('GET', `${V1}/query/profile?user_id=${me}`)).body).toEqual({
      displayname: 'Me',
      avatar_url: 'mxc://a/b',
      'm.tz': 'UTC',
    });
    const zone = await signed('GET', `${V1}/query/profile?user_id=${me}&field=m.tz`);
    expect(zone.body).toEqual({ 'm.tz': 'UTC' });
    expect((await signed('GET', `${V1}/query/profile?user_id=${me}&field=constructor`)).body).toEqual({});
    const field = await signed('GET', `${V1}/query/profile?user_id=${me}&field=displayname`);
    expect(field.body).toEqual({ displayname: 'Me' });
  });

  test('are refused what nobody can answer', async () => {
    const { signed } = await started();
    const refused: [method: string, path: string, body: JsonObject | undefined, status: number, errcode: string][] = [
      ['GET', '/query/directory?room_alias=%23none:ours.test', undefined, 404, 'M_NOT_FOUND'],
      ['GET', '/query/directory?room_alias=none', undefined, 400, 'M_INVALID_PARAM'],
      ['GET', '/query/directory', undefined, 400, 'M_INVALID_PARAM'],
      ['GET', '/query/profile', undefined, 400, 'M_INVALID_PARAM'],
      ['GET', `/query/profile?user_id=${encodeURIComponent(`@none:${OUR_NAME}`)}`, undefined, 404, 'M_NOT_FOUND'],
      ['GET', '/query/profile?user_id=%40me:elsewhere.test', undefined, 404, 'M_NOT_FOUND'],
      [
        ...(['GET', `/query/profile?field=age&field=x&user_id=${encodeURIComponent(`@me:${OUR_NAME}`)}`] as const),
        ...([undefined, 400, 'M_INVALID_PARAM'] as const),
      ],
      ['GET', '/publicRooms?limit=0', undefined, 400, 'M_INVALID_PARAM'],
      ['POST', '/publicRooms', { limit: 'many' }, 400, 'M_INVALID_PARAM'],
      ['POST', '/publicRooms', { filter: 1 }, 400, 'M_INVALID_PARAM'],
      ['POST', '/publicRooms', { filter: { room_types: [1] } }, 400, 'M_INVALID_PARAM'],
    ];
    for (const [method, path, body, status, errcode] of refused) {
      const answer = await signed(method, V1 + path, body);
      expect([path, answer.status, (answer.body as JsonObject)['errcode']]).toEqual([path, status, errcode]);
    }
  });
});
