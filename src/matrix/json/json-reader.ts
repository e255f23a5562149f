/**
 * The careful reader of JSON: the slow path of strict-json.ts, taken by the rare text that holds numbers which a
 * JavaScript number misrepresents, whose keys are not unique, or that is nested deeper than calls should be. The text is valid
 * JSON already, so this reader only walks it, with a stack of its own: it keeps the spelling of numbers and names the first
 * duplicate key.
 */
import { NUMBER_SPELLINGS, type SpelledNumbers, literalSpelling } from './json-numbers.ts';
import { type Json } from '../pdu.ts';
import { type Refusal, refuse } from '../refusal.ts';

const NUMBER = /-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/y;
const WHITESPACE = /[ \t\n\r]*/y;
export const LONE_SURROGATE = /\p{Surrogate}/u;

/** Reads valid JSON `text`. Refuses duplicate keys, lone surrogates, and numbers beyond any double or digit limit. */
export function readJsonCarefully(text: string): { readonly ok: true; readonly value: Json } | Refusal {
  const reader = new Reader(text);
  const value = reader.read();
  return reader.refusal ?? { ok: true, value };
}

interface Read {
  readonly json: Json;
  readonly spelling?: string | undefined;
}

/** A list or object that is being read. */
type Open =
  | { readonly closer: ']'; readonly container: Json[] }
  | { readonly closer: '}'; readonly container: Record<string, Json>; key: string };

class Reader {
  readonly #text: string;
  readonly #open: Open[] = [];
  #at = 0;
  refusal: Refusal | undefined;

  constructor(text: string) {
    this.#text = text;
  }

  /** The value; what was read so far where something is refused. */
  read(): Json {
    for (;;) {
      let read = this.#start();
      // Adds what was read to what holds it, and ends that, until there is a next value to read.
      for (;;) {
        const top = this.#open.at(-1);
        if (top === undefined || this.refusal !== undefined) return read?.json ?? null;
        if (read !== undefined) this.#add(top, read);
        if (!this.#ends(top.closer)) {
          if (top.closer === '}') top.key = this.#key();
          break;
        }
        this.#open.pop();
        read = { json: top.container };
      }
    }
  }

  /** Reads a value that holds no others; `undefined`: one that does has begun. */
  #start(): Read | undefined {
    this.#token(WHITESPACE);
    switch (this.#text.charAt(this.#at)) {
      case '{':
        this.#open.push({ closer: '}', container: {}, key: '' });
        return undefined;
      case '[':
        this.#open.push({ closer: ']', container: [] });
        return undefined;
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

  #add(top: Open, { json, spelling }: Read): void {
    if (top.closer === ']') {
      if (spelling !== undefined) spell(top.container, String(top.container.length), spelling);
      top.container.push(json);
      return;
    }
    const { container, key } = top;
    if (Object.hasOwn(container, key)) {
      this.#refuse('json.duplicate-key', `the key ${JSON.stringify(key)} stands twice`);
    }
    setOwn(container, key, json);
    if (spelling !== undefined) spell(container, key, spelling);
  }

  #key(): string {
    const key = this.#string();
    this.#token(WHITESPACE);
    this.#at++;
    return key;
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
    const text = JSON.parse(this.#text.slice(start, this.#at)) as string;
    if (LONE_SURROGATE.test(text)) this.#refuse('json.surrogate', 'a string holds a lone surrogate');
    return text;
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
