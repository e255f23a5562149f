/**
 * Random numbers that a seed determines. A seed and a label make a stream of their own, so that drawing more of one
 * thing leaves all others as they were.
 */
import { hash } from 'node:crypto';
import { invariant } from '../invariant.ts';

/** A stream of random choices. */
export interface SeededRandom {
  /** Uniform in [0, 1), 32 bits fine. */
  fraction(): number;
  /** Uniform from 0 to `count` − 1. */
  below(count: number): number;
  /** True with a probability. */
  chance(probability: number): boolean;
  /** One of a list that is not empty. */
  pick<T>(list: readonly T[]): T;
  /** So many characters of an alphabet. */
  text(length: number, alphabet: string): string;
  /** Reorders a list in place. */
  shuffle(list: unknown[]): void;
}

const UINT32 = 2 ** 32;

/** The stream of a seed and a label. The generator is sfc32 of PractRand, whose state here is a hash of the two. */
export function seededRandom(seed: number, label: string): SeededRandom {
  const state = hash('sha256', `${String(seed)} ${label}`, 'buffer');
  let a = state.readInt32LE(0);
  let b = state.readInt32LE(4);
  let c = state.readInt32LE(8);
  let counter = state.readInt32LE(12);
  const fraction = (): number => {
    const sum = (((a + b) | 0) + counter) | 0;
    counter = (counter + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = (((c << 21) | (c >>> 11)) + sum) | 0;
    return (sum >>> 0) / UINT32;
  };
  const below = (count: number): number => Math.floor(fraction() * count);
  return {
    fraction,
    below,
    chance: (probability) => fraction() < probability,
    pick<T>(list: readonly T[]): T {
      invariant(list.length > 0, 'a choice from an empty list');
      return list[below(list.length)] as T;
    },
    text(length, alphabet) {
      let text = '';
      for (let i = 0; i < length; i++) text += alphabet.charAt(below(alphabet.length));
      return text;
    },
    shuffle(list) {
      for (let i = list.length - 1; i > 0; i--) {
        const j = below(i + 1);
        [list[i], list[j]] = [list[j], list[i]];
      }
    },
  };
}
