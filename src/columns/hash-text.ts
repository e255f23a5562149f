/**
 * HalfSipHash-1-3 of a string under a key that this process has drawn: strangers choose ids, and with a hash that they could work out
 * they would choose such as all fall on one place.
 *
 * Source: https://github.com/veorq/SipHash (HalfSipHash), with one round a word and three at the end.
 */
import { randomBytes } from 'node:crypto';

const KEY = randomBytes(8);
const KEY_0 = KEY.readInt32LE(0);
const KEY_1 = KEY.readInt32LE(4);
const FINAL_ROUNDS = 3;

/** 32 bits, not negative. Each word is two UTF-16 units; the last holds what is left, and the length. */
export function hashText(text: string): number {
  const { length } = text;
  const words = length >> 1;
  let v0 = KEY_0;
  let v1 = KEY_1;
  let v2 = 0x6c796765 ^ KEY_0;
  let v3 = 0x74656462 ^ KEY_1;
  for (let i = 0; i <= words + FINAL_ROUNDS; i += 1) {
    let word = 0;
    if (i < words) {
      word = text.charCodeAt(i * 2) | (text.charCodeAt(i * 2 + 1) << 16);
    } else if (i === words) {
      word = (length & 1 ? text.charCodeAt(length - 1) : 0) | (length << 16);
    } else if (i === words + 1) {
      v2 ^= 0xff;
    }
    v3 ^= word;
    v0 = (v0 + v1) | 0;
    v1 = ((v1 << 5) | (v1 >>> 27)) ^ v0;
    v0 = (v0 << 16) | (v0 >>> 16);
    v2 = (v2 + v3) | 0;
    v3 = ((v3 << 8) | (v3 >>> 24)) ^ v2;
    v0 = (v0 + v3) | 0;
    v3 = ((v3 << 7) | (v3 >>> 25)) ^ v0;
    v2 = (v2 + v1) | 0;
    v1 = ((v1 << 13) | (v1 >>> 19)) ^ v2;
    v2 = (v2 << 16) | (v2 >>> 16);
    v0 ^= word;
  }
  return (v1 ^ v3) >>> 0;
}
