/**
 * Canonical JSON: what is hashed and signed. Keys in the order of their code points (JavaScript compares UTF-16 units,
 * which puts U+1F600 before U+FFFF), the shortest escapes, no white space.
 *
 * Source: https://spec.matrix.org/v1.16/appendices/#canonical-json
 */
import { invariant } from '../../invariant.ts';
import { NUMBER_SPELLINGS, type SpelledNumbers, canonicalNumber } from './json-numbers.ts';
import { type Json, type JsonObject } from '../pdu.ts';
import { JSON_DEPTH_MAX } from './strict-json.ts';

/**
 * The canonical JSON of a value as `parseJson` gives it, or made by code. Throws for NaN, infinities, and values nested
 * deeper than any that `parseJson` lets through.
 */
export function canonicalJson(value: Json): string {
  return canonicalValue(value, 0);
}

/** The canonical JSON of an object without the keys that `omit` names. */
export function canonicalJsonWithout(object: JsonObject, omit: ReadonlySet<string>): string {
  return canonicalObject(object, 0, omit);
}

function canonicalValue(value: Json, depth: number): string {
  if (typeof value === 'string') return quoted(value);
  if (typeof value === 'number') return canonicalNumber(value);
  if (typeof value === 'boolean') return value ? 'true' : 'false';
  if (value === null) return 'null';
  invariant(depth < JSON_DEPTH_MAX, 'canonical JSON of a value nested too deep');
  return Array.isArray(value)
    ? canonicalArray(value as readonly Json[], depth)
    : canonicalObject(value as JsonObject, depth, undefined);
}

function canonicalArray(array: readonly Json[], depth: number): string {
  const spellings = (array as SpelledNumbers)[NUMBER_SPELLINGS];
  let text = '[';
  for (let i = 0; i < array.length; i++) {
    if (i > 0) text += ',';
    text += spellings?.get(String(i)) ?? canonicalValue(array[i] as Json, depth + 1);
  }
  return text + ']';
}

function canonicalObject(object: JsonObject, depth: number, omit: ReadonlySet<string> | undefined): string {
  const spellings = (object as SpelledNumbers)[NUMBER_SPELLINGS];
  let text = '{';
  for (const key of sortedKeys(object)) {
    if (omit?.has(key) === true) continue;
    text += text.length > 1 ? `,${quoted(key)}:` : `${quoted(key)}:`;
    text += spellings?.get(key) ?? canonicalValue(object[key] as Json, depth + 1);
  }
  return text + '}';
}

/** Most objects have a handful of ASCII keys, often sorted already: an insertion sort beats `sort` there. */
const INSERTION_SORT_MAX = 24;

function sortedKeys(object: JsonObject): string[] {
  const keys = Object.keys(object);
  const count = keys.length;
  if (count > INSERTION_SORT_MAX) {
    keys.sort();
  } else {
    for (let i = 1; i < count; i++) {
      const key = keys[i] as string;
      let at = i;
      while (at > 0 && (keys[at - 1] as string) > key) {
        keys[at] = keys[at - 1] as string;
        at--;
      }
      keys[at] = key;
    }
  }
  // The two orders differ only between surrogates and U+E000 to U+FFFF.
  for (const key of keys) if (SURROGATE_OR_ABOVE.test(key)) return keys.sort(byCodePoint);
  return keys;
}

const SURROGATE_OR_ABOVE = /[\ud800-\uffff]/;

function byCodePoint(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const unitA = a.charCodeAt(i);
    const unitB = b.charCodeAt(i);
    if (unitA === unitB) continue;
    return codePointRank(unitA) - codePointRank(unitB);
  }
  return a.length - b.length;
}

/** Surrogates stand for code points above U+FFFF, so they sort after every other unit. */
function codePointRank(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}

const NEEDS_ESCAPE = /["\\\u0000-\u001f]/;

/** `JSON.stringify` uses the same shortest escapes; it escapes lone surrogates too, which never come this far. */
function quoted(text: string): string {
  return NEEDS_ESCAPE.test(text) ? JSON.stringify(text) : `"${text}"`;
}
