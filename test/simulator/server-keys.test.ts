import { describe, expect, test } from 'vitest';
import { type ServerName, parseKeyId } from '../../src/matrix/identifiers.ts';
import { signBytes, signingKeyFromSeed } from '../../src/matrix/signing/signing-key.ts';
import { serverKeysFromSeed } from '../../src/simulator/server-keys.ts';

const ONE = 'one.test' as ServerName;
const TWO = 'two.test' as ServerName;

describe('the keys of simulated servers', () => {
  test('are those that tweetnacl derives from the same secret', () => {
    for (const name of [ONE, TWO]) {
      const key = serverKeysFromSeed(1).of(name);
      const other = signingKeyFromSeed(key.keyId, key.seed);
      expect(key.publicKey).toBe(other.publicKey);
      expect(signBytes(key, Buffer.from('text'))).toBe(signBytes(other, Buffer.from('text')));
    }
  });

  test('have key ids of the grammar', () => {
    const { keyId } = serverKeysFromSeed(1).of(ONE);
    expect(parseKeyId(keyId)).toBe(keyId);
  });

  test('are the same for a seed and a name, and others for another seed or name', () => {
    const publicKey = serverKeysFromSeed(1).of(ONE).publicKey;
    expect(serverKeysFromSeed(1).of(ONE).publicKey).toBe(publicKey);
    expect(serverKeysFromSeed(2).of(ONE).publicKey).not.toBe(publicKey);
    expect(serverKeysFromSeed(1).of(TWO).publicKey).not.toBe(publicKey);
  });
});
