/**
 * JSON as servers must read it from strangers. `JSON.parse` cannot see bad UTF-8, lone surrogates, duplicate keys or the
 * difference between 1 and 1.0; a parser that sees them costs several times as much. So: one cheap scan of the bytes,
 * `JSON.parse` for the values, a count of keys against the scan, and the careful reader only where the scan asks.
 *
 * Duplicate keys are refused. The reference implementation keeps the last value and re-serialises before it forwards, so
 * servers never see duplicates but from a sender who hopes that two readers read differently; whatever is accepted here
 * hashes the same everywhere. `__proto__` is an ordinary key. Whether unusual numbers are allowed is the room version's
 * question, not this file's: they keep their spelling (json-numbers.ts).
 *
 * Source: https://spec.matrix.org/v1.16/appendices/#canonical-json
 */
import { isUtf8 } from 'node:buffer';
import { LONE_SURROGATE, readJsonCarefully } from './json-reader.ts';
import { scanJson } from './json-scan.ts';
import { type Json, type JsonObject } from '../pdu.ts';
import { type Refusal, refuse } from '../refusal.ts';

/** Far above anything real, far below what recursion over values could not bear; events have a lower limit of their own. */
export const JSON_DEPTH_MAX = 512;
/** The deepest that any homeserver's library reads (Go's); a deeper body was written by none. */
const WHOLE_DEPTH_MAX = 10_000;

export type ParsedJson = { readonly ok: true; readonly value: Json } | Refusal;

/** Parses one JSON text, given as UTF-8 bytes or as a string. Rules: `json.utf8`, `.depth`, `.syntax`, `.surrogate`, `.duplicate-key`, `.number`. */
export function parseJson(source: Uint8Array | string): ParsedJson {
  return parseToDepth(source, JSON_DEPTH_MAX);
}

/**
 * Values of a whole request, a quarter of a microsecond each, or two and a half where they must be read carefully. Fifty events
 * and a hundred EDUs of 64 KiB hold as many, if somebody makes them of nothing but `0,`: an honest server passes on what its users
 * write, and whoever is refused one transaction never sends the next. Where one number is unusual, fifty such events.
 */
const WHOLE_VALUES = { max: 5_000_000, carefullyMax: 1_700_000 };
const NO_LIMIT = { max: Infinity, carefullyMax: Infinity };

/**
 * Parses a JSON object that is nested deeper than `parseJson` takes: a request is signed as a whole, and one deep event in it
 * must not cost the others. Only `canonicalJson` bears such a value; its parts are read one by one, by `parseJson`. Adds the
 * rule `json.values`: a body of 13 MB may hold some six million values, which take seconds.
 */
export function parseWholeObject(source: Uint8Array): { readonly ok: true; readonly value: JsonObject } | Refusal {
  return requireObject(parseToDepth(source, WHOLE_DEPTH_MAX, WHOLE_VALUES));
}

function parseToDepth(source: Uint8Array | string, depthMax: number, values = NO_LIMIT): ParsedJson {
  const bytes = typeof source === 'string' ? Buffer.from(source, 'utf8') : source;
  if (!isUtf8(bytes)) return refuse('json.utf8', 'not valid UTF-8');
  const scan = scanJson(bytes);
  if (scan.depth > depthMax) return refuse('json.depth', `nested ${scan.depth} deep; at most ${depthMax}`);
  if (scan.values > values.max) return tooMany(values.max);
  const text = typeof source === 'string' ? source : decode(source);
  const readCarefully = (): ParsedJson =>
    scan.values > values.carefullyMax ? tooMany(values.carefullyMax) : readJsonCarefully(text);
  let value: Json;
  try {
    value = JSON.parse(text) as Json;
  } catch {
    return refuse('json.syntax', 'not valid JSON');
  }
  if (scan.depth > JSON_DEPTH_MAX) return readCarefully();
  if ((scan.surrogateEscapes || typeof source === 'string') && !isWellFormed(value)) {
    return refuse('json.surrogate', 'a string holds a lone surrogate');
  }
  if (scan.unusualNumbers || countKeys(value) !== scan.keys) return readCarefully();
  return { ok: true, value };
}

function tooMany(max: number): Refusal {
  return refuse('json.values', `over ${max} values`);
}

/** Parses one JSON text that must be an object. Adds the rule `json.object`. */
export function parseJsonObject(
  source: Uint8Array | string,
): { readonly ok: true; readonly value: JsonObject } | Refusal {
  return requireObject(parseJson(source));
}

function requireObject(parsed: ParsedJson): { readonly ok: true; readonly value: JsonObject } | Refusal {
  if (!parsed.ok) return parsed;
  return isJsonObject(parsed.value) ? { ok: true, value: parsed.value } : refuse('json.object', 'not a JSON object');
}

/** Whether a value is an object, no list and not null. */
export function isJsonObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function decode(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
}

function countKeys(value: Json): number {
  if (typeof value !== 'object' || value === null) return 0;
  let keys = 0;
  if (Array.isArray(value)) {
    for (const item of value as readonly Json[]) keys += countKeys(item);
    return keys;
  }
  const object = value as JsonObject;
  for (const key in object) keys += 1 + countKeys(object[key] as Json);
  return keys;
}

function isWellFormed(value: Json): boolean {
  if (typeof value === 'string') return !LONE_SURROGATE.test(value);
  if (typeof value !== 'object' || value === null) return true;
  if (Array.isArray(value)) return (value as readonly Json[]).every(isWellFormed);
  return Object.entries(value as JsonObject).every(([key, item]) => !LONE_SURROGATE.test(key) && isWellFormed(item));
}
