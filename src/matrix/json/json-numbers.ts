/**
 * Numbers that a JavaScript number cannot hold as they were written: `1.0`, `1e3`, `123456789012345678901`. Room versions
 * 6 and later refuse them; 1 to 5 let them pass, and their hashes depend on how such a number is spelled in canonical
 * JSON. The reader hangs the canonical spelling on the array or object that holds the number, under a symbol, where
 * only canonical JSON and the strict check look; everything else sees an ordinary number.
 *
 * The spec leaves the spelling open for those versions; servers agree on that of the reference implementation: integers
 * keep their digits, everything else is the shortest decimal that reads back as the same double, in Python's notation.
 */
import { invariant } from '../../invariant.ts';
import { type JsonObject } from '../pdu.ts';

/** Enumerable, so that a spread copy of an object keeps the spellings. */
export const NUMBER_SPELLINGS: unique symbol = Symbol('canonical spellings of numbers');

/** A value that may carry spellings, by key or index. */
export interface SpelledNumbers {
  [NUMBER_SPELLINGS]?: Map<string, string>;
}

/** Python refuses to read integers of more digits; so does every server that follows it. */
const INTEGER_DIGITS_MAX = 4300;

/** The spelling in canonical JSON of a number that has none of its own: a value made by code, or a safe integer. */
export function canonicalNumber(value: number): string {
  if (Number.isSafeInteger(value)) return String(value === 0 ? 0 : value);
  invariant(Number.isFinite(value), 'canonical JSON has no spelling for NaN and infinities');
  return floatSpelling(value);
}

/** The canonical spelling of a number literal, or `undefined` when an ordinary number already has that spelling. */
export function literalSpelling(literal: string): { readonly spelling: string | undefined } | 'out-of-range' {
  if (!/[.eE]/.test(literal)) {
    if (literal.length > INTEGER_DIGITS_MAX) return 'out-of-range';
    return { spelling: Number.isSafeInteger(Number(literal)) ? undefined : literal };
  }
  const value = Number(literal);
  return Number.isFinite(value) ? { spelling: floatSpelling(value) } : 'out-of-range';
}

/** The 64-bit integer under a key, written without fraction or exponent: `5.0` is refused. */
export function readInteger(object: JsonObject, key: string): bigint | undefined {
  const value = object[key];
  if (typeof value !== 'number') return undefined;
  const spelling = (object as SpelledNumbers)[NUMBER_SPELLINGS]?.get(key);
  if (spelling === undefined) return Number.isSafeInteger(value) ? BigInt(value) : undefined;
  if (!/^-?\d{1,19}$/.test(spelling)) return undefined;
  const integer = BigInt(spelling);
  return BigInt.asIntN(64, integer) === integer ? integer : undefined;
}

/** The object with an integer under a key, spelled in full where a JavaScript number cannot hold it. */
export function withInteger(object: JsonObject, key: string, integer: bigint): JsonObject {
  const value = Number(integer);
  const spellings = (object as SpelledNumbers)[NUMBER_SPELLINGS];
  const isExact = Number.isSafeInteger(value);
  if (isExact && spellings?.has(key) !== true) return { ...object, [key]: value };
  const others = new Map(spellings ?? []);
  others.delete(key);
  return { ...object, [key]: value, [NUMBER_SPELLINGS]: isExact ? others : others.set(key, String(integer)) };
}

/** The shortest digits are the same in both languages; only where the exponent starts and how it is written differ. */
function floatSpelling(value: number): string {
  if (Object.is(value, -0)) return '-0.0';
  if (value === 0) return '0.0';
  const [mantissa, exponentText] = value.toExponential().split('e') as [string, string];
  const exponent = Number(exponentText);
  const sign = mantissa.startsWith('-') ? '-' : '';
  const digits = mantissa.replace('-', '').replace('.', '');
  if (exponent < -4 || exponent >= 16) {
    const fraction = digits.length > 1 ? `.${digits.slice(1)}` : '';
    const magnitude = String(Math.abs(exponent)).padStart(2, '0');
    return `${sign}${digits.slice(0, 1)}${fraction}e${exponent < 0 ? '-' : '+'}${magnitude}`;
  }
  if (exponent < 0) return `${sign}0.${'0'.repeat(-exponent - 1)}${digits}`;
  if (digits.length <= exponent + 1) return `${sign}${digits}${'0'.repeat(exponent + 1 - digits.length)}.0`;
  return `${sign}${digits.slice(0, exponent + 1)}.${digits.slice(exponent + 1)}`;
}
