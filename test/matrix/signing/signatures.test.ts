import nacl from 'tweetnacl';
import { describe, expect, test } from 'vitest';
import { canonicalJson } from '../../../src/matrix/json/canonical-json.ts';
import { parsePdu } from '../../../src/matrix/event-format.ts';
import { checkContentHash } from '../../../src/matrix/signing/hashes.ts';
import { type KeyId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { type Json, type JsonObject } from '../../../src/matrix/pdu.ts';
import { redact } from '../../../src/matrix/signing/redaction.ts';
import { ROOM_VERSIONS } from '../../../src/matrix/room-versions.ts';
import {
  SIGNATURES_PER_SERVER_MAX,
  requiredSigners,
  signEvent,
  signJson,
  signaturesOf,
  verifyEventSignature,
  verifySignedJson,
} from '../../../src/matrix/signing/signatures.ts';
import {
  formatSigningKey,
  generateSigningKey,
  parseSigningKey,
  signBytes,
  signingKeyFromSeed,
} from '../../../src/matrix/signing/signing-key.ts';
import { EXAMPLE, OTHER, keyOf, rulesOf, sampleEvent } from '../sample-event.ts';

/** https://spec.matrix.org/v1.16/appendices/#cryptographic-test-vectors */
const SPEC_KEY = signingKeyFromSeed(
  'ed25519:1' as KeyId,
  Buffer.from('YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA1', 'base64'),
);
const DOMAIN = 'domain' as ServerName;

function signatureBy(object: JsonObject, server: string, keyId: string): Json | undefined {
  return (object['signatures'] as Record<string, Record<string, Json>>)[server]?.[keyId];
}

describe('signing JSON', () => {
  test("gives the spec's signatures", () => {
    expect(signatureBy(signJson({}, DOMAIN, SPEC_KEY), 'domain', 'ed25519:1')).toBe(
      'K8280/U9SSy9IVtjBuVeLr+HpOB4BQFWbg+UZaADMtTdGYI7Geitb76LTrr5QV/7Xg4ahLwYGYZzuHGZKM5ZAQ',
    );
    expect(signatureBy(signJson({ one: 1, two: 'Two' }, DOMAIN, SPEC_KEY), 'domain', 'ed25519:1')).toBe(
      'KqmLSbO39/Bzb0QIYE82zqLwsA+PDzYIpIRA2sRQ4sL53+sN6/fpNSoqE7BP7vBZhG6kYdD13EIMJpvhJI+6Bw',
    );
  });

  test('keeps the signatures that are there, and signs neither them nor unsigned', () => {
    const first = signJson({ a: 1, unsigned: { b: 2 } }, DOMAIN, SPEC_KEY);
    const both = signJson(signJson(first, EXAMPLE, keyOf('x')), DOMAIN, keyOf('y', 'b'));
    expect(signatureBy(both, 'domain', 'ed25519:1')).toBe(signatureBy(first, 'domain', 'ed25519:1'));
    expect(signatureBy(both, 'domain', 'ed25519:b')).toBeTypeOf('string');
    expect(verifySignedJson({ ...both, unsigned: {} }, EXAMPLE, 'ed25519:a', keyOf('x').publicKey).ok).toBe(true);
  });

  test('verifies what it signed, and names what is wrong otherwise', () => {
    const signed = signJson({ a: 1 }, DOMAIN, SPEC_KEY);
    const ruleOf = (object: JsonObject, signer = 'domain', keyId = 'ed25519:1', key = SPEC_KEY.publicKey): string => {
      const verified = verifySignedJson(object, signer, keyId, key);
      return verified.ok ? 'verified' : verified.rule;
    };
    expect(ruleOf(signed)).toBe('verified');
    expect(ruleOf({ ...signed, a: 2 })).toBe('signature.wrong');
    expect(ruleOf(signed, 'other')).toBe('signature.missing');
    expect(ruleOf(signed, 'constructor', 'name')).toBe('signature.missing');
    expect(ruleOf(signed, 'domain', 'ed25519:2')).toBe('signature.missing');
    expect(ruleOf({ a: 1 })).toBe('signature.missing');
    expect(ruleOf(signed, 'domain', 'ed25519:1', keyOf('x').publicKey)).toBe('signature.wrong');
    expect(ruleOf(signed, 'domain', 'ed25519:1', 'AAAA')).toBe('signature.key');
    expect(ruleOf(signed, 'domain', 'ed25519:1', '*')).toBe('signature.key');
    expect(ruleOf({ a: 1, signatures: { domain: { 'ed25519:1': '*' } } })).toBe('signature.base64');
    for (const signatures of [null, 5, [], { domain: null }, { domain: { 'ed25519:1': 5 } }]) {
      expect(ruleOf({ a: 1, signatures })).toBe('signature.missing');
    }
  });
});

describe('signing events', () => {
  test("gives the spec's hashes and signatures", () => {
    const minimal = {
      room_id: '!x:domain',
      sender: '@a:domain',
      origin: 'domain',
      origin_server_ts: 1_000_000,
      signatures: {},
      hashes: {},
      type: 'X',
      content: {},
      prev_events: [],
      auth_events: [],
      depth: 3,
      unsigned: { age_ts: 1_000_000 },
    };
    expect(signEvent(minimal, rulesOf('1'), DOMAIN, SPEC_KEY)).toEqual({
      ...minimal,
      hashes: { sha256: '5jM4wQpv6lnBo7CLIghJuHdW+s2CMBJPUOGOC89ncos' },
      signatures: {
        domain: {
          'ed25519:1': 'KxwGjPSDEtvnFgU00fwFz+l6d2pJM6XBIaMEn81SXPTRl16AqLAYqfIReFGZlHi5KLjAWbOoMszkwsQma+lYAg',
        },
      },
    });
    const message = {
      content: { body: 'Here is the message content' },
      event_id: '$0:domain',
      origin: 'domain',
      origin_server_ts: 1_000_000,
      type: 'm.room.message',
      room_id: '!r:domain',
      sender: '@u:domain',
      signatures: {},
      unsigned: { age_ts: 1_000_000 },
    };
    expect(signatureBy(signEvent(message, rulesOf('1'), DOMAIN, SPEC_KEY), 'domain', 'ed25519:1')).toBe(
      'Wm+VzmOUOz08Ds+0NTWb1d4CZrVsJSikkeRxh6aCcUwu6pNC78FunoD7KNWzqFn241eYHYMGCA5McEiVPdhzBA',
    );
  });

  test.each(ROOM_VERSIONS)('in version %s outlives redaction and nothing else', (version) => {
    const key = keyOf('example.org');
    const signed = signEvent(sampleEvent(version), rulesOf(version), EXAMPLE, key);
    const verifies = (event: JsonObject): boolean =>
      verifyEventSignature(event, rulesOf(version), EXAMPLE, key.keyId, key.publicKey).ok;
    expect(checkContentHash(signed)).toBe('match');
    expect(verifies(signed)).toBe(true);
    expect(verifies(redact(signed, rulesOf(version)))).toBe(true);
    expect(verifies({ ...signed, content: {} })).toBe(true);
    expect(verifies({ ...signed, depth: 8 })).toBe(false);
    expect(verifies({ ...signed, hashes: { sha256: 'A'.repeat(43) } })).toBe(false);
  });
});

describe('the signatures on an object', () => {
  test('are those of Ed25519 with a proper key id, and at most a few', () => {
    const good = Object.fromEntries(Array.from({ length: 40 }, (_, i) => [`ed25519:k${i}`, 'x']));
    const odd = { 'rsa:1': 'x', 'ed25519:': 'x', 'ed25519:a b': 'x', ed25519: 'x', 'ed25519:n': 5 };
    const found = signaturesOf({ signatures: { [EXAMPLE]: { ...odd, ...good } } }, EXAMPLE);
    expect(found).toHaveLength(SIGNATURES_PER_SERVER_MAX);
    expect(found[0]).toEqual({ keyId: 'ed25519:k0', signature: 'x' });
    expect(signaturesOf({ signatures: { [EXAMPLE]: odd } }, EXAMPLE)).toEqual([]);
    expect(signaturesOf({}, EXAMPLE)).toEqual([]);
    expect(signaturesOf({ signatures: {} }, 'constructor' as ServerName)).toEqual([]);
  });
});

describe('the servers that must have signed', () => {
  function signersOf(version: string, changes: Record<string, Json>): readonly string[] | string {
    const parsed = parsePdu(sampleEvent(version, changes), rulesOf(version));
    if (!parsed.ok) return parsed.rule;
    const required = requiredSigners(parsed.pdu, rulesOf(version));
    return required.ok ? required.servers : required.rule;
  }
  const member = (membership: string, more: Record<string, Json> = {}): Record<string, Json> => ({
    type: 'm.room.member',
    state_key: '@bob:other.example.org',
    content: { membership, ...more },
  });

  test("are the sender's alone, for most events", () => {
    for (const version of ROOM_VERSIONS) expect(signersOf(version, {})).toEqual([EXAMPLE]);
    expect(signersOf('11', member('invite'))).toEqual([EXAMPLE]);
  });

  test('include the server in the event id in versions 1 and 2', () => {
    expect(signersOf('1', { event_id: `$x:${OTHER}` })).toEqual([EXAMPLE, OTHER]);
    expect(signersOf('2', { event_id: '$x:' })).toBe('signers.event_id');
  });

  test('include the server that vouched for a restricted join, where the version has restricted joins', () => {
    const join = member('join', { join_authorised_via_users_server: `@carol:${OTHER}` });
    expect(signersOf('7', join)).toEqual([EXAMPLE]);
    for (const version of ['8', '9', '10', '11', '12']) expect(signersOf(version, join)).toEqual([EXAMPLE, OTHER]);
    expect(signersOf('11', member('join', { join_authorised_via_users_server: `@carol:${EXAMPLE}` }))).toEqual([
      EXAMPLE,
    ]);
    expect(signersOf('11', member('leave', { join_authorised_via_users_server: `@carol:${OTHER}` }))).toEqual([
      EXAMPLE,
    ]);
    for (const value of [null, 5, {}, 'carol', '@carol:', '@carol:not a server']) {
      expect(signersOf('11', member('join', { join_authorised_via_users_server: value }))).toBe(
        'signers.join_authorised_via_users_server',
      );
    }
  });

  test("do not include the sender's for an invite made from a third-party invite", () => {
    expect(signersOf('11', member('invite', { third_party_invite: {} }))).toEqual([]);
    expect(signersOf('1', { ...member('invite', { third_party_invite: {} }), event_id: `$x:${OTHER}` })).toEqual([
      OTHER,
    ]);
    expect(signersOf('11', member('join', { third_party_invite: {} }))).toEqual([EXAMPLE]);
  });
});

describe('a signing key', () => {
  test('signs exactly as tweetnacl does', () => {
    for (const seed of [1, 2, 3]) {
      const key = signingKeyFromSeed('ed25519:1' as KeyId, new Uint8Array(32).fill(seed));
      const { secretKey, publicKey } = nacl.sign.keyPair.fromSeed(new Uint8Array(32).fill(seed));
      const message = Buffer.from(canonicalJson({ seed }));
      expect(signBytes(key, message)).toBe(
        Buffer.from(nacl.sign.detached(message, secretKey)).toString('base64').slice(0, -2),
      );
      expect(key.publicKey).toBe(Buffer.from(publicKey).toString('base64').slice(0, -1));
    }
  });

  test('is written to a file as other homeservers write it, and read back', () => {
    const line = formatSigningKey(SPEC_KEY);
    expect(line).toBe('ed25519 1 YJDBA9Xnr2sVqXD9Vj7XVUnmFZcZrlw8Md7kMW+3XA0\n');
    expect(parseSigningKey(line)?.publicKey).toBe(SPEC_KEY.publicKey);
    expect(parseSigningKey(line)?.keyId).toBe('ed25519:1');
  });

  test('is generated from the random bytes given', () => {
    const key = generateSigningKey((bytes) => new Uint8Array(bytes).fill(9));
    expect(key.keyId).toBe('ed25519:a_jjjj');
    expect(parseSigningKey(formatSigningKey(key))?.publicKey).toBe(key.publicKey);
  });

  test.each([
    '',
    'ed25519',
    'ed25519 1',
    'rsa 1 AAAA',
    'ed25519 1 AAAA',
    'ed25519 a:b AAAA',
    'ed25519 1 *',
    'ed25519 1 AAAA b',
  ])('is not read from %j', (text) => {
    expect(parseSigningKey(text)).toBeUndefined();
  });
});
