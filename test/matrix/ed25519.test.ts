import fc from 'fast-check';
import nacl from 'tweetnacl';
import { describe, expect, it } from 'vitest';
import { prepareKey, verifyWith } from '../../src/matrix/ed25519.ts';

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

function ours(publicKey: Uint8Array, message: Uint8Array, signature: Uint8Array): boolean {
  const key = prepareKey(publicKey);
  return key !== undefined && verifyWith(key, message, signature);
}

function pairOf(seed: number): nacl.SignKeyPair {
  return nacl.sign.keyPair.fromSeed(new Uint8Array(32).fill(seed));
}

function littleEndian(value: bigint): Buffer {
  return Buffer.from(value.toString(16).padStart(64, '0'), 'hex').reverse();
}

describe('Ed25519 verification', () => {
  it('agrees with tweetnacl on random signatures, whole or with any one bit flipped', () => {
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

  it('refuses the second spelling S + L of a signature, which tweetnacl takes', () => {
    const pair = pairOf(7);
    const message = Buffer.from('message');
    const signature = Buffer.from(nacl.sign.detached(message, pair.secretKey));
    const s = BigInt(`0x${Buffer.from(signature.subarray(32)).reverse().toString('hex')}`);
    const malleable = Buffer.concat([signature.subarray(0, 32), littleEndian(s + GROUP_ORDER)]);
    expect(nacl.sign.detached.verify(message, malleable, pair.publicKey)).toBe(true);
    expect(ours(pair.publicKey, message, malleable)).toBe(false);
    expect(ours(pair.publicKey, message, signature)).toBe(true);
  });

  it('refuses S = L and S above, and takes no S for less than it is', () => {
    const pair = pairOf(7);
    for (const s of [GROUP_ORDER, GROUP_ORDER + 1n, 2n ** 256n - 1n]) {
      const signature = Buffer.concat([pair.publicKey, littleEndian(s)]);
      expect(ours(pair.publicKey, Buffer.from('m'), signature)).toBe(false);
    }
  });

  it('refuses every key of small order', () => {
    for (const point of SMALL_ORDER) expect(prepareKey(point), point.toString('hex')).toBeUndefined();
  });

  it('refuses the signature of all messages under a key of small order, which node:crypto alone would take', () => {
    const identity = SMALL_ORDER[1]!;
    const forged = Buffer.concat([identity, Buffer.alloc(32)]);
    expect(ours(identity, Buffer.from('anything'), forged)).toBe(false);
  });

  it('refuses a commitment R of small order under an honest key', () => {
    for (const point of SMALL_ORDER)
      expect(ours(pairOf(7).publicKey, Buffer.from('m'), Buffer.concat([point, Buffer.alloc(32)]))).toBe(false);
  });

  it('refuses keys whose y is not reduced', () => {
    for (let low = 0xed; low <= 0xff; low++)
      for (const high of [0x7f, 0xff]) {
        const key = Buffer.alloc(32, 0xff);
        key[0] = low;
        key[31] = high;
        expect(prepareKey(key)).toBeUndefined();
      }
  });

  it('refuses keys and signatures of the wrong length', () => {
    const pair = pairOf(7);
    const signature = nacl.sign.detached(Buffer.from('m'), pair.secretKey);
    expect(prepareKey(pair.publicKey.subarray(1))).toBeUndefined();
    expect(prepareKey(new Uint8Array(33))).toBeUndefined();
    expect(ours(pair.publicKey, Buffer.from('m'), signature.subarray(0, 63))).toBe(false);
    expect(ours(pair.publicKey, Buffer.from('m'), new Uint8Array(0))).toBe(false);
  });

  it('refuses, without throwing, keys that are no point of the curve', () => {
    const noPoint = Buffer.alloc(32, 0);
    noPoint[0] = 2;
    expect(ours(noPoint, Buffer.from('m'), Buffer.alloc(64))).toBe(false);
  });
});
