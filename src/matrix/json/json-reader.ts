/**
 * The careful reader of JSON: the slow path of strict-json.ts, taken by the rare text that holds numbers which a
 * JavaScript number misrepresents, or whose keys are not unique. The text is valid JSON of bounded depth already, so this
 * reader only walks it: it keeps the spelling of numbers and names the first duplicate key.
 */
import { NUMBER_SPELLINGS, type SpelledNumbers, literalSpelling } from './json-numbers.ts';
import { type Json, type JsonObject } from '../pdu.ts';
import { type Refusal, refuse } from '../refusal.ts';

const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WHITESPACE = /[ \t\n\r]*/y;

/** Reads valid JSON `text` of bounded depth. Refuses duplicate keys and numbers beyond any double or digit limit. */
export function readJsonCarefully(text: string): { readonly ok: true; readonly value: Json } | Refusal {
  const reader = new Reader(text);
  const value = reader.value();
  return reader.refusal ?? { ok: true, value: value.json };
}

interface Read {
  readonly json: Json;
  readonly spelling?: string | undefined;
}

/** Recursive descent; its depth is bounded by the scan that came before it. */
class Reader {
  readonly #text: string;
  #at = 0;
  refusal: Refusal | undefined;

  constructor(text: string) {
    this.#text = text;
  }

  value(): Read {
    this.#token(WHITESPACE);
    switch (this.#text.charAt(this.#at)) {
      case '{':
        return { json: this.#object() };
      case '[':
        return { json: this.#array() };
      case '"':
        return { json: this.#string() };
      case 't':
        this.#at += 4;
        return { json: true };
      case 'f':
        this.#at += 5;
        return { json: false };
      case 'n':
        this.#at += 4;
        return { json: null };
      default:
        return this.#number();
    }
  }

  #object(): JsonObject {
    const object: Record<string, Json> = {};
    while (!this.#ends('}') && this.refusal === undefined) {
      const key = this.#string();
      this.#token(WHITESPACE);
      this.#at++;
      const read = this.value();
      if (Object.hasOwn(object, key)) this.#refuse('json.duplicate-key', `the key ${JSON.stringify(key)} stands twice`);
      setOwn(object, key, read.json);
      if (read.spelling !== undefined) spell(object, key, read.spelling);
    }
    return object;
  }

  #array(): Json[] {
    const array: Json[] = [];
    while (!this.#ends(']') && this.refusal === undefined) {
      const read = this.value();
      if (read.spelling !== undefined) spell(array, String(array.length), read.spelling);
      array.push(read.json);
    }
    return array;
  }

  /** Moves past the opening bracket or the comma; true, past the closing bracket, when the container is at its end. */
  #ends(bracket: string): boolean {
    this.#token(WHITESPACE);
    if (this.#text[this.#at] === bracket) {
      this.#at++;
      return true;
    }
    this.#at++;
    this.#token(WHITESPACE);
    if (this.#text[this.#at] !== bracket) return false;
    this.#at++;
    return true;
  }

  #string(): string {
    const start = this.#at;
    do {
      this.#at = this.#text.indexOf('"', this.#at + 1);
    } while (this.#isEscaped(this.#at));
    this.#at++;
    return JSON.parse(this.#text.slice(start, this.#at)) as string;
  }

  #isEscaped(at: number): boolean {
    let backslashes = 0;
    while (this.#text[at - 1 - backslashes] === '\\') backslashes++;
    return backslashes % 2 === 1;
  }

  #number(): Read {
    const literal = this.#token(NUMBER);
    const spelled = literalSpelling(literal);
    if (spelled === 'out-of-range') {
      this.#refuse('json.number', 'a number is beyond the range of a double, or has too many digits');
      return { json: 0 };
    }
    return { json: Number(literal), spelling: spelled.spelling };
  }

  #token(pattern: RegExp): string {
    pattern.lastIndex = this.#at;
    const token = pattern.exec(this.#text)?.[0] ?? '';
    this.#at += token.length;
    return token;
  }

  #refuse(rule: string, reason: string): void {
    this.refusal ??= refuse(rule, reason);
  }
}

/** Plain assignment to `__proto__` would set the prototype. */
function setOwn(object: Record<string, Json>, key: string, value: Json): void {
  if (key !== '__proto__') object[key] = value;
  else Object.defineProperty(object, key, { value, enumerable: true, configurable: true, writable: true });
}

function spell(container: object, key: string, spelling: string): void {
  const spelled: SpelledNumbers = container;
  const spellings = spelled[NUMBER_SPELLINGS];
  if (spellings !== undefined) spellings.set(key, spelling);
  else spelled[NUMBER_SPELLINGS] = new Map([[key, spelling]]);
}
