import { describe, expect, onTestFinished, test, vi } from 'vitest';
import {
  type ReceivedRequest,
  authenticate,
  authorizationOf,
  findSigner,
  parseAuthHeader,
} from '../../src/federation/request-auth.ts';
import { type KeyId, type ServerName } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { type RequestClaim, verifyRequest } from '../../src/matrix/signing/signed-request.ts';
import { signingKeyFromSeed } from '../../src/matrix/signing/signing-key.ts';
import { type KeyResolver } from '../../src/verification/contract.ts';
import { signal } from './tls-server.ts';

const origin = 'origin.test:8448' as ServerName;
const us = 'us.test' as ServerName;
const key = signingKeyFromSeed('ed25519:a_1' as KeyId, Buffer.alloc(32, 7));
const NOW = 1_700_000_000_000;
const uri = '/_matrix/federation/v1/send/1?x=%20y';
const content = { pdus: [], origin: 'é' };

const validity = { validUntilTs: NOW + 1000, renewableUntilTs: NOW + 1000 };
const resolveKeys: KeyResolver = (requests) =>
  Promise.resolve(
    requests
      .filter(({ serverName, keyId }) => serverName === origin && keyId === key.keyId)
      .map(({ serverName, keyId }) => ({ serverName, keyId, publicKey: key.publicKey, ...validity })),
  );

const header = authorizationOf({ method: 'PUT', uri, origin, destination: us, content }, key);
const signature = /sig="([^"]*)"/.exec(header)?.[1] ?? '';

/** The request with a body. */
const over = (body: JsonObject) => (claim: RequestClaim) => verifyRequest(claim, body);

function check(changes: Partial<ReceivedRequest> = {}, now = NOW) {
  const request = { method: 'PUT', uri, authorization: [header], verify: over(content), ...changes };
  return authenticate(request, { ourselves: us, resolveKeys, clock: { now: () => now } }, signal);
}

describe('verifying who sent a request', () => {
  test('a signed request is of its origin', async () => {
    expect(await check()).toEqual({ ok: true, origin });
  });

  test.each([
    ['unquoted', `X-Matrix origin=${origin},destination=${us},key=ed25519:a_1,sig=${signature}`],
    ['without destination', `X-Matrix origin="${origin}",key="ed25519:a_1",sig="${signature}"`],
    ['with spaces', `X-Matrix  origin = "${origin}" , key="ed25519:a_1" ,\tsig="${signature}" , destination="${us}"`],
    ['in another order and case', `x-matrix SIG="${signature}",Key="ed25519:a_1",Origin="${origin}"`],
    ['with an unknown parameter', `X-Matrix origin="${origin}",foo="a,b\\"c",key="ed25519:a_1",sig="${signature}"`],
    ['with escapes', `X-Matrix origin="origin\\.test:8448",key="ed25519:a_1",sig="${signature}"`],
    ['with a comma at the end', `X-Matrix origin="${origin}",key="ed25519:a_1",sig="${signature}",`],
  ])('the header %s is read', async (_what, text) => {
    expect(await check({ authorization: [text] })).toEqual({ ok: true, origin });
  });

  test.each([
    ['another scheme', `Bearer ${signature}`],
    ['no scheme', `origin="${origin}",key="ed25519:a_1",sig="${signature}"`],
    ['no signature', `X-Matrix origin="${origin}",key="ed25519:a_1"`],
    ['an empty signature', `X-Matrix origin="${origin}",key="ed25519:a_1",sig=""`],
    ['a parameter twice', `X-Matrix origin="${origin}",origin="evil.test",key="ed25519:a_1",sig="${signature}"`],
    ['an origin that is no name', `X-Matrix origin="a b",key="ed25519:a_1",sig="${signature}"`],
    ['an open quote', `X-Matrix origin="${origin},key="ed25519:a_1",sig="${signature}"`],
    ['a destination that is no name', `X-Matrix origin="${origin}",destination="/",key="ed25519:a_1",sig="x"`],
    ['too much', `X-Matrix origin="${origin}",key="ed25519:a_1",sig="${'x'.repeat(5000)}"`],
    ['many commas', `X-Matrix ${','.repeat(1500)}x`],
  ])('a header with %s is malformed', (_what, text) => {
    expect(parseAuthHeader(text)).toBeUndefined();
  });

  test('the body of a request is read by nobody whose key cannot be had', async () => {
    let reads = 0;
    const verify = (claim: RequestClaim) => {
      reads += 1;
      return verifyRequest(claim, content);
    };
    const unknown = { authorization: [header.replace('a_1', 'a_2')], verify };
    expect(await check(unknown)).toMatchObject({ ok: false, rule: 'key-unavailable' });
    const oneUnknown = { authorization: [header, header.replace('a_1', 'a_2')], verify };
    expect(await check(oneUnknown)).toMatchObject({ ok: false, rule: 'key-unavailable' });
    expect(reads).toBe(0);
    expect(await check({ verify })).toEqual({ ok: true, origin });
    expect(reads).toBe(1);
  });

  test.each<[string, Partial<ReceivedRequest>, string]>([
    ['no header', { authorization: [] }, 'header-missing'],
    ['replayed to another path', { uri: '/_matrix/federation/v1/send/2' }, 'signature-wrong'],
    ['replayed with another method', { method: 'POST' }, 'signature-wrong'],
    ['with another body', { verify: over({ ...content, pdus: [1] }) }, 'signature-wrong'],
    [
      'signed for another server',
      { authorization: [authorizationOf({ method: 'PUT', uri, origin, destination: origin, content }, key)] },
      'wrong-destination',
    ],
    [
      'signed for another server, which it does not say',
      {
        authorization: [
          authorizationOf({ method: 'PUT', uri, origin, destination: origin, content }, key).replace(
            /destination="[^"]*",/,
            '',
          ),
        ],
      },
      'signature-wrong',
    ],
    ['two headers of two servers', { authorization: [header, header.replace(origin, 'evil.test')] }, 'origins-differ'],
    [
      'two headers, one wrong',
      { authorization: [header, header.replace(signature, 'A'.repeat(86))] },
      'signature-wrong',
    ],
    ['many headers', { authorization: Array.from({ length: 5 }, () => header) }, 'header-malformed'],
    ['an unknown key', { authorization: [header.replace('a_1', 'a_2')] }, 'key-unavailable'],
    ['from ourselves', { authorization: [header.replace(origin, us)] }, 'origin-is-us'],
    ['a signature that is not base64', { authorization: [header.replace(signature, '!!!!')] }, 'signature-wrong'],
  ])('a request is refused: %s', async (_what, changes, rule) => {
    expect(await check(changes)).toMatchObject({ ok: false, rule });
  });

  test('two good headers of one server are one signature each', async () => {
    expect(await check({ authorization: [header, header] })).toEqual({ ok: true, origin });
  });

  test('a key that is no longer valid signs nothing', async () => {
    expect(await check({}, NOW + 1001)).toMatchObject({ ok: false, rule: 'key-unavailable' });
  });
});

test('a key that does not come in time is one that cannot be had', async () => {
  vi.useFakeTimers();
  onTestFinished(() => void vi.useRealTimers());
  const stuck: KeyResolver = (_requests, ended) =>
    new Promise((_resolve, reject) => {
      ended.addEventListener('abort', () => reject(ended.reason as Error));
    });
  const slow = 'X-Matrix origin="slow.test",key="ed25519:a",sig="AAAA"';
  const found = findSigner([slow], { ourselves: us, resolveKeys: stuck, clock: { now: () => NOW } }, signal);
  await vi.advanceTimersByTimeAsync(30_000);
  expect(await found).toMatchObject({ ok: false, rule: 'key-unavailable' });
});
