/**
 * What answers hold beside their events, read in bounded time: small values as JSON, and lists of names, which may be long, name by
 * name. A megabyte of numbers costs the strict reader half a second, and whoever waits for this thread waits with it.
 */
import { type Json } from '../matrix/pdu.ts';
import { IDENTIFIER_BYTES_MAX } from '../matrix/identifiers.ts';
import { EventSplitter, SplitError } from '../matrix/json/event-splitter.ts';
import { parseJson } from '../matrix/json/strict-json.ts';

/** A name or id of which each byte is escaped, and its quotes. */
const STRING_BYTES_MAX = 6 * IDENTIFIER_BYTES_MAX + 2;

/** A value that is small where it is what it should be; `undefined` for what is no JSON, or longer than any name. */
export function readSmall(bytes: Uint8Array): Json | undefined {
  if (bytes.length > STRING_BYTES_MAX) return undefined;
  const parsed = parseJson(bytes);
  return parsed.ok ? parsed.value : undefined;
}

/** The text of a JSON string, without its quotes; `undefined` for what is none, or longer than any name or id. */
export function readString(bytes: Uint8Array): string | undefined {
  if (bytes.length > STRING_BYTES_MAX) return undefined;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('utf8');
  if (!text.includes('\\')) return text.slice(1, -1);
  const value = readSmall(bytes);
  return typeof value === 'string' ? value : undefined;
}

/** The strings of a JSON list of strings; `undefined` for anything else. Those longer than any name are passed over. */
export function readStrings(bytes: Uint8Array): string[] | undefined {
  const splitter = new EventSplitter({ arrays: ['list'], members: 'strings', restBytesMax: bytes.length + 16 });
  const strings: string[] = [];
  const take = (_array: string, text: Uint8Array): void => {
    const string = readString(text);
    if (string !== undefined) strings.push(string);
  };
  try {
    splitter.push(Buffer.from('{"list":'), take);
    splitter.push(bytes, take);
    splitter.push(Buffer.from('}'), take);
    return splitter.end().dropped > 0 ? undefined : strings;
  } catch (error) {
    if (error instanceof SplitError) return undefined;
    throw error;
  }
}
