import fc from 'fast-check';
import nacl from 'tweetnacl';
import { describe, expect, test } from 'vitest';
import { libsodiumVerifies, opensslVerifies, prepareKey, verifyWith } from '../../../src/matrix/signing/ed25519.ts';

const GROUP_ORDER = 2n ** 252n + 27742317777372353535851937790883648493n;

/** The eight points of small order, and the spellings of them that are not canonical. Masked sign bits are set apart. */
const SMALL_ORDER = [
  '0000000000000000000000000000000000000000000000000000000000000000',
  '0100000000000000000000000000000000000000000000000000000000000000',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
  '0000000000000000000000000000000000000000000000000000000000000080',
  '0100000000000000000000000000000000000000000000000000000000000080',
  'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
].map((hex) => Buffer.from(hex, 'hex'));

/** Public key and signature, in hexadecimal. */
const MIXED = {
  message: Buffer.from('hello'),
  commitment: [
    '7767a3242dc9b58bbc68488c1265cc6cc5f26c6f3c88a5d55e901b0734dca572',
    '85b3f2ac54bb21b92ad954b2cc4a6b845462885097801f5f6ae75a0920b57914a6c0ed64043b1ff415f71f7143b31d2eead922c1edb4bb8339b4b71390b29704',
  ],
  key: [
    '6a84d583f06569edb3f5ed77df65544b27d6948b4f0b2cb76f33dd8413b20719',
    '684c0d53ab44de46d526ab4d33b5947bab9d77af687fe0a09518a5f6df4a86ebb7ab40fba78157e744451cd416f9050f637d2b4b2b2041686c242014b5224004',
  ],
  cancelled: [
    '6a84d583f06569edb3f5ed77df65544b27d6948b4f0b2cb76f33dd8413b20719',
    '99d3af3cf29c1c13efa6de9f29f60ecd0bbc61bf16381b6dcb9b128bd16c9d23492c95ea3f8134b26ce9e03385319c24a021ce60829b861a8dcfb546341d6f09',
  ],
} as const;

/** What we say, whoever does the mathematics: the two must not differ. */
function ours(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  const key = prepareKey(publicKey);
  if (key === undefined) return false;
  const verdict = verifyWith(key, message, signature, opensslVerifies);
  if (libsodiumVerifies !== undefined) expect(verifyWith(key, message, signature, libsodiumVerifies)).toBe(verdict);
  expect(verifyWith(key, message, signature)).toBe(verdict);
  return verdict;
}

function pairOf(seed: number): nacl.SignKeyPair {
  return nacl.sign.keyPair.fromSeed(new Uint8Array(32).fill(seed));
}

function littleEndian(value: bigint): Buffer {
  return Buffer.from(value.toString(16).padStart(64, '0'), 'hex').reverse();
}

describe('Ed25519 verification', () => {
  test('agrees with tweetnacl on random signatures, whole or with any one bit flipped', () => {
    const flip = fc.option(fc.tuple(fc.constantFrom('key', 'message', 'signature'), fc.nat(), fc.nat(7)), {
      nil: null,
    });
    fc.assert(
      fc.property(fc.nat(255), fc.uint8Array({ minLength: 1, maxLength: 80 }), flip, (seed, message, change) => {
        const pair = pairOf(seed);
        const parts = { key: pair.publicKey, message, signature: nacl.sign.detached(message, pair.secretKey) };
        if (change !== null) {
          const [part, at, bit] = change;
          const bytes = Uint8Array.from(parts[part]);
          bytes[at % bytes.length]! ^= 1 << bit;
          parts[part] = bytes;
        }
        expect(ours(parts.key, parts.message, parts.signature)).toBe(
          nacl.sign.detached.verify(parts.message, parts.signature, parts.key),
        );
      }),
      { numRuns: 150 },
    );
  });

  test('refuses the second spelling S + L of a signature, which tweetnacl takes', () => {
    const pair = pairOf(7);
    const message = Buffer.from('message');
    const signature = Buffer.from(nacl.sign.detached(message, pair.secretKey));
    const s = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString('hex')}`);
    const malleable = Buffer.concat([signature.subarray(0, 32), littleEndian(s + GROUP_ORDER)]);
    expect(nacl.sign.detached.verify(message, malleable, pair.publicKey)).toBe(true);
    expect(ours(pair.publicKey, message, malleable)).toBe(false);
    expect(ours(pair.publicKey, message, signature)).toBe(true);
  });

  test('refuses S = L and S above, and takes no S for less than it is', () => {
    const pair = pairOf(7);
    for (const s of [GROUP_ORDER, GROUP_ORDER + 1n, 2n ** 256n - 1n]) {
      const signature = Buffer.concat([pair.publicKey, littleEndian(s)]);
      expect(ours(pair.publicKey, Buffer.from('m'), signature)).toBe(false);
    }
  });

  test('refuses every key of small order', () => {
    for (const point of SMALL_ORDER) expect(prepareKey(point), point.toString('hex')).toBeUndefined();
  });

  test('refuses the signature of all messages under a key of small order, which node:crypto alone would take', () => {
    const identity = SMALL_ORDER[1]!;
    const forged = Buffer.concat([identity, Buffer.alloc(32)]);
    expect(ours(identity, Buffer.from('anything'), forged)).toBe(false);
  });

  test('refuses a commitment R of small order under an honest key', () => {
    for (const point of SMALL_ORDER) {
      expect(ours(pairOf(7).publicKey, Buffer.from('m'), Buffer.concat([point, Buffer.alloc(32)]))).toBe(false);
    }
  });

  test('refuses keys whose y is not reduced', () => {
    for (let low = 0xed; low <= 0xff; low++) {
      for (const high of [0x7f, 0xff]) {
        const key = Buffer.alloc(32, 0xff);
        key[0] = low;
        key[31] = high;
        expect(prepareKey(key)).toBeUndefined();
      }
    }
  });

  test('refuses keys and signatures of the wrong length', () => {
    const pair = pairOf(7);
    const signature = nacl.sign.detached(Buffer.from('m'), pair.secretKey);
    expect(prepareKey(pair.publicKey.subarray(1))).toBeUndefined();
    expect(prepareKey(new Uint8Array(33))).toBeUndefined();
    expect(ours(pair.publicKey, Buffer.from('m'), signature.subarray(0, 63))).toBe(false);
    expect(ours(pair.publicKey, Buffer.from('m'), new Uint8Array(0))).toBe(false);
  });

  test('refuses, without throwing, keys that are no point of the curve', () => {
    const noPoint = Buffer.alloc(32, 0);
    noPoint[0] = 2;
    expect(ours(noPoint, Buffer.from('m'), Buffer.alloc(64))).toBe(false);
  });

  test('has libsodium where its package has a build', () => {
    const built = ['linux-x64', 'linux-arm64', 'darwin-x64', 'darwin-arm64'];
    const { glibcVersionRuntime } = (process.report.getReport() as { header: { glibcVersionRuntime?: string } }).header;
    const isMusl = process.platform === 'linux' && glibcVersionRuntime === undefined;
    const isBuilt = built.includes(`${process.platform}-${process.arch}`) && !isMusl;
    expect(libsodiumVerifies !== undefined).toBe(isBuilt);
  });

  // Made by curve arithmetic: points with a component in the small subgroup, which no key generator makes.
  test.each([
    ['a commitment with a component of order 2', MIXED.message, MIXED.commitment, false],
    ['a key with a component of order 8', MIXED.message, MIXED.key, false],
    ['a key with a component of order 8 that the hash happens to cancel', MIXED.message, MIXED.cancelled, true],
  ])('judges %s as tweetnacl does', (_name, message, [publicKey, signature], expected) => {
    const [key, bytes] = [Buffer.from(publicKey, 'hex'), Buffer.from(signature, 'hex')];
    expect(nacl.sign.detached.verify(message, bytes, key)).toBe(expected);
    expect(ours(key, message, bytes)).toBe(expected);
  });
});
