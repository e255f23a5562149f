import { once } from 'node:events';
import { Agent, type IncomingMessage, request as httpRequest } from 'node:http';
import { type AddressInfo, type Socket } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { createFederationServer } from '../../src/federation-api/server.ts';
import { TRANSACTION_BYTES_MAX } from '../../src/federation-api/send-transaction.ts';
import { authorizationOf } from '../../src/federation/request-auth.ts';
import { type KeyId, type ServerName } from '../../src/matrix/identifiers.ts';
import { signingKeyFromSeed } from '../../src/matrix/signing/signing-key.ts';
import { type KeyResolver } from '../../src/verification/contract.ts';
import { OUR_NAME, ourKey, silent } from '../federation/tls-server.ts';

const origin = 'stranger.test' as ServerName;
const theirKey = signingKeyFromSeed('ed25519:theirs' as KeyId, Buffer.alloc(32, 9));
const uri = '/_matrix/federation/v1/send/1';
const authorization = authorizationOf({ method: 'PUT', uri, origin, destination: OUR_NAME }, theirKey);
const large = Buffer.alloc(TRANSACTION_BYTES_MAX, 0x20);

/** A listener that asks `resolveKeys`; what it would do with a body is never reached. */
async function start(resolveKeys: KeyResolver) {
  const never = () => Promise.reject(new Error('a body of nobody was taken'));
  const app = createFederationServer({
    serverName: OUR_NAME,
    signingKey: ourKey,
    resolveKeys,
    bodies: { readBody: never },
    ports: { receiveTransaction: never, roomStatus: never, statusOfEventsRoom: never },
    clock: systemClock,
    logger: silent,
    version: '1.2.3',
  });
  const sockets: Socket[] = [];
  app.server.on('connection', (socket: Socket) => void sockets.push(socket));
  await app.listen({ port: 0, host: '127.0.0.1' });
  onTestFinished(() => app.close());
  const { port } = app.server.address() as AddressInfo;
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => agent.destroy());
  const ask = (method: string, path: string, headers: Record<string, string | number>) =>
    httpRequest({ port, method, path, headers, agent }).on('error', () => undefined);
  return { sockets, ask };
}

async function statusOf(sent: ReturnType<typeof httpRequest>): Promise<number | undefined> {
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  response.resume();
  await once(response, 'end');
  return response.statusCode;
}

test('nothing is read of a body before the key of its sender is looked for, nor where it cannot be had', async () => {
  const readBy: number[] = [];
  const { sockets, ask } = await start(() => {
    readBy.push(sockets[0]?.bytesRead ?? 0);
    return Promise.resolve([]);
  });
  const headers = { authorization, 'content-length': large.length };
  const sent = ask('PUT', uri, headers);
  sent.write(large);
  expect(await statusOf(sent)).toBe(401);
  expect(readBy).toHaveLength(1);
  expect(readBy[0]).toBeLessThan(1_000_000);
});

test('a connection whose body was refused unread is good for the next request', async () => {
  const { sockets, ask } = await start(() => Promise.resolve([]));
  for (let i = 0; i < 3; i++) {
    const sent = ask('PUT', uri, { authorization, 'content-length': large.length });
    sent.end(large);
    expect(await statusOf(sent)).toBe(401);
  }
  const keys = ask('GET', '/_matrix/key/v2/server', {});
  keys.end();
  expect(await statusOf(keys)).toBe(200);
  expect(sockets).toHaveLength(1);
});

test.each([
  ['with a body that was sent whole', 2, '{}'],
  ['in the middle of a body', 20_000, Buffer.alloc(10_000, 0x20)],
  ['with as much of a body as a connection holds', 60_000, Buffer.alloc(60_000, 0x20)],
])('the search for the key of a sender ends at once when he goes away %s', async (_, length, sends) => {
  let begun: (signal: AbortSignal) => void = () => undefined;
  const searching = new Promise<AbortSignal>((resolve) => (begun = resolve));
  const { ask } = await start((_requests, signal) => {
    begun(signal);
    return new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error));
    });
  });
  const sent = ask('PUT', uri, { authorization, 'content-length': length });
  await new Promise((resolve) => sent.write(sends, resolve));
  const signal = await searching;
  sent.destroy();
  await once(signal, 'abort');
  expect(signal.reason).toMatchObject({ message: 'the caller went away' });
});

test.each(['/nonsense', '/_matrix/federation/v1/nonsense'])(
  'a body for %s, which is nothing, is not waited for',
  async (path) => {
    const { ask } = await start(() => Promise.resolve([]));
    const sent = ask('PUT', path, { 'content-length': large.length });
    sent.write('{');
    expect(await statusOf(sent)).toBe(404);
  },
);
