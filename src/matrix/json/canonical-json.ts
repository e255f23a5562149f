/**
 * Canonical JSON: what is hashed and signed. Keys in the order of their code points (JavaScript compares UTF-16 units,
 * which puts U+1F600 before U+FFFF), the shortest escapes, no white space.
 *
 * Source: https://spec.matrix.org/v1.16/appendices/#canonical-json
 */
import { NUMBER_SPELLINGS, type SpelledNumbers, canonicalNumber } from './json-numbers.ts';
import { type Json, type JsonObject } from '../pdu.ts';

/** The canonical JSON of a value as `parseJson` gives it, or made by code. Throws for NaN and infinities. */
export function canonicalJson(value: Json): string {
  return write(value, undefined);
}

/** The canonical JSON of an object without the keys that `omit` names. */
export function canonicalJsonWithout(object: JsonObject, omit: ReadonlySet<string>): string {
  return write(object, omit);
}

/** A list or object of which the first `at` members are written. */
interface Open {
  readonly container: readonly Json[] | JsonObject;
  /** In their order; `undefined`: a list. */
  readonly keys: readonly string[] | undefined;
  readonly spellings: ReadonlyMap<string, string> | undefined;
  at: number;
}

/** With a stack of its own, not the machine's: how deep a stranger's JSON nests must not matter. No slower than calls. */
function write(root: Json, omit: ReadonlySet<string> | undefined): string {
  const stack: Open[] = [];
  let text = begin(root, stack, omit);
  for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
    const { container, keys, spellings } = top;
    const at = top.at++;
    if (at === (keys ?? (container as readonly Json[])).length) {
      text += keys === undefined ? ']' : '}';
      stack.pop();
      continue;
    }
    const key = keys === undefined ? String(at) : (keys[at] as string);
    if (at > 0) text += ',';
    if (keys !== undefined) text += `${quoted(key)}:`;
    text += spellings?.get(key) ?? begin((container as JsonObject)[key] as Json, stack, undefined);
  }
  return text;
}

/** All of a value that holds no others; the opening bracket of one that does, which goes onto the stack. */
function begin(value: Json, stack: Open[], omit: ReadonlySet<string> | undefined): string {
  if (typeof value === 'string') return quoted(value);
  if (typeof value === 'number') return canonicalNumber(value);
  if (typeof value === 'boolean') return value ? 'true' : 'false';
  if (value === null) return 'null';
  const spellings = (value as SpelledNumbers)[NUMBER_SPELLINGS];
  if (Array.isArray(value)) {
    stack.push({ container: value as readonly Json[], keys: undefined, spellings, at: 0 });
    return '[';
  }
  const keys = sortedKeys(value as JsonObject);
  const kept = omit === undefined ? keys : keys.filter((key) => !omit.has(key));
  stack.push({ container: value, keys: kept, spellings, at: 0 });
  return '{';
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
