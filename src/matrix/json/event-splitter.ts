/**
 * Cuts a streamed answer, one top-level JSON object, into the raw events of its arrays, without building the tree:
 * ≥ 150 MB/s in memory bounded by one event, where a parser for streams reached 37 MB/s. It knows only as much of JSON
 * as finding the ends takes (quotes, escapes, brackets of the right kind); what is inside an event is judged later by
 * whoever parses it. All other members of the top level are kept as bytes, within a limit.
 *
 * A state machine over bytes that can stop after any byte: chunk boundaries fall anywhere.
 */
import { isUtf8 } from 'node:buffer';

/**
 * The longest text that may be an event. The limit of 65,536 bytes is on canonical JSON, and `unsigned` is not weighed
 * (https://spec.matrix.org/v1.16/client-server-api/#size-limits); servers write JSON as they like. Escaped as `\u0041` a byte
 * becomes six; `unsigned` may hold another event, the content that this one replaced, escaped just so. That makes twelve times
 * the limit; a third on top of it is for white space. What a longer text holds is weighed by whoever parses it.
 */
export const EVENT_WIRE_BYTES_MAX = 16 * 65_536;
/** Down to here brackets must match in kind. What is nested deeper than any event may be is left to whoever parses it. */
const MATCHED_DEPTH_MAX = 1024;
/** The first buffer for what lies across chunks; most events fit. */
const CARRY_BYTES = 4096;

export class SplitError extends Error {
  override readonly name = 'SplitError';
  readonly kind: 'malformed' | 'too-large';

  constructor(kind: 'malformed' | 'too-large', reason: string) {
    super(reason);
    this.kind = kind;
  }
}

export interface Split {
  /** Events handed out, by array. */
  readonly events: Readonly<Record<string, number>>;
  /** Array members that were no event: too large, not an object, not UTF-8. */
  readonly dropped: number;
  readonly rest: ReadonlyMap<string, Uint8Array>;
}

export interface SplitterOptions<Name extends string> {
  /** The arrays at the top level whose members are events. Other members may be anything. */
  readonly arrays: readonly Name[];
  /** What the members of those arrays are: events, unless they are ids of events. */
  readonly members?: 'objects' | 'strings';
  /** Of a member of those arrays; `EVENT_WIRE_BYTES_MAX` by default. */
  readonly memberBytesMax?: number;
  /** Of all names and values at the top level that are not these arrays. */
  readonly restBytesMax: number;
}

/** What the next byte may be. The two `in-…` states are values that end somewhere ahead. */
type State =
  | 'start'
  | 'first-name'
  | 'name'
  | 'in-string-or-nested'
  | 'in-scalar'
  | 'colon'
  | 'value'
  | 'after-member'
  | 'first-element'
  | 'element'
  | 'after-element'
  | 'end';

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const COLON = 0x3a;
const OPEN_ARRAY = 0x5b;
const CLOSE_ARRAY = 0x5d;
const OPEN_OBJECT = 0x7b;
const CLOSE_OBJECT = 0x7d;
/** In ASCII both closing brackets stand two after their opening ones. */
const TO_CLOSER = 2;

/** For one body. Both methods throw a `SplitError` for a body that is no such answer, or over a limit. */
export class EventSplitter<Name extends string> {
  readonly #arrays: ReadonlySet<string>;
  /** What a member of these arrays begins with. */
  readonly #wantedByte: number;
  readonly #memberBytesMax: number;
  readonly #restBytesMax: number;
  readonly #counts = new Map<Name, number>();
  readonly #rest = new Map<string, Uint8Array>();
  #restBytes = 0;
  #dropped = 0;
  #state: State = 'start';
  /** The member of the top level that is being read; `undefined` while its name is. */
  #name: string | undefined;
  /** Set while the members of one of the arrays are being read. */
  #array: Name | undefined;

  // The value that is being scanned.
  #depth = 0;
  #inString = false;
  #escaped = false;
  readonly #closers = new Uint8Array(MATCHED_DEPTH_MAX);
  #isKept = true;
  /** What earlier chunks held of it: copied, so that neither many tiny chunks nor their buffers pile up. */
  #carry = Buffer.alloc(CARRY_BYTES);
  #carried = 0;

  constructor({ arrays, members, memberBytesMax, restBytesMax }: SplitterOptions<Name>) {
    this.#arrays = new Set(arrays);
    this.#wantedByte = members === 'strings' ? QUOTE : OPEN_OBJECT;
    this.#memberBytesMax = memberBytesMax ?? EVENT_WIRE_BYTES_MAX;
    this.#restBytesMax = restBytesMax;
  }

  /** Takes the next bytes, which must not change afterwards; calls `onEvent` for each event that ends in them. */
  push(chunk: Uint8Array, onEvent: (array: Name, event: Uint8Array) => void): void {
    let at = 0;
    let from = 0;
    while (at < chunk.length) {
      if (this.#state === 'in-string-or-nested') {
        const end = this.#scanNested(chunk, at);
        if (end < 0) break;
        this.#endValue(chunk.subarray(from, end), onEvent);
        at = end;
      } else if (this.#state === 'in-scalar') {
        while (at < chunk.length && isScalarByte(chunk[at] as number)) at += 1;
        if (at === chunk.length) break;
        this.#endValue(chunk.subarray(from, at), onEvent);
      } else if (isWhitespace(chunk[at] as number)) {
        at += 1;
      } else if (this.#step(chunk[at] as number)) {
        from = at;
      } else {
        at += 1;
      }
    }
    if (this.#state === 'in-string-or-nested' || this.#state === 'in-scalar') this.#carryOver(chunk.subarray(from));
  }

  /** The body is over. Throws when it was cut short. */
  end(): Split {
    if (this.#state !== 'end') throw new SplitError('malformed', 'the answer is cut short');
    return { events: Object.fromEntries(this.#counts), dropped: this.#dropped, rest: this.#rest };
  }

  /** Takes one byte between values; true when it is the first of a value, which must then be scanned from it. */
  #step(byte: number): boolean {
    switch (this.#state) {
      case 'start':
        if (byte !== OPEN_OBJECT) throw new SplitError('malformed', 'the answer is not a JSON object');
        this.#state = 'first-name';
        return false;
      case 'first-name':
      case 'name':
        if (byte === CLOSE_OBJECT && this.#state === 'first-name') {
          this.#state = 'end';
          return false;
        }
        if (byte !== QUOTE) throw unexpected(byte);
        this.#name = undefined;
        this.#startOf(byte);
        return true;
      case 'colon':
        if (byte !== COLON) throw unexpected(byte);
        this.#state = 'value';
        return false;
      case 'value':
        if (byte === OPEN_ARRAY && this.#name !== undefined && this.#arrays.has(this.#name)) {
          this.#startArray(this.#name as Name);
          this.#state = 'first-element';
          return false;
        }
        this.#startOf(byte);
        return true;
      case 'first-element':
        if (byte === CLOSE_ARRAY) {
          this.#array = undefined;
          this.#state = 'after-member';
          return false;
        }
        this.#startOf(byte);
        return true;
      case 'element':
        this.#startOf(byte);
        return true;
      case 'after-element':
        if (byte !== COMMA && byte !== CLOSE_ARRAY) throw unexpected(byte);
        this.#state = byte === COMMA ? 'element' : 'after-member';
        if (byte === CLOSE_ARRAY) this.#array = undefined;
        return false;
      case 'after-member':
        if (byte !== COMMA && byte !== CLOSE_OBJECT) throw unexpected(byte);
        this.#state = byte === COMMA ? 'name' : 'end';
        return false;
      case 'in-string-or-nested':
      case 'in-scalar':
      case 'end':
        throw unexpected(byte);
    }
  }

  #startOf(byte: number): void {
    const isNestedOrString = byte === OPEN_OBJECT || byte === OPEN_ARRAY || byte === QUOTE;
    if (!isNestedOrString && !isScalarByte(byte)) throw unexpected(byte);
    this.#startValue(isNestedOrString, this.#array === undefined || byte === this.#wantedByte);
  }

  #startValue(isNestedOrString: boolean, isWanted: boolean): void {
    this.#state = isNestedOrString ? 'in-string-or-nested' : 'in-scalar';
    this.#depth = 0;
    this.#inString = false;
    this.#escaped = false;
    this.#isKept = isWanted;
    this.#carried = 0;
  }

  #endValue(lastPart: Uint8Array, onEvent: (array: Name, event: Uint8Array) => void): void {
    this.#isKept = this.#isKept && this.#fits(lastPart.length);
    const isWhole = this.#carried === 0;
    if (!isWhole) this.#carryOver(lastPart);
    const bytes = isWhole ? lastPart : Uint8Array.prototype.slice.call(this.#carry, 0, this.#carried);
    if (this.#array !== undefined) {
      this.#state = 'after-element';
      if (this.#isKept && isUtf8(bytes)) {
        this.#counts.set(this.#array, (this.#counts.get(this.#array) ?? 0) + 1);
        onEvent(this.#array, bytes);
      } else {
        this.#dropped += 1;
      }
      return;
    }
    this.#restBytes += bytes.length;
    if (this.#name === undefined) {
      this.#name = parseName(bytes);
      this.#state = 'colon';
      return;
    }
    this.#state = 'after-member';
    if (!this.#arrays.has(this.#name)) this.#rest.set(this.#name, bytes);
    // Servers written in Go send null for an empty list.
    else if (Buffer.from(bytes).toString('latin1') === 'null') this.#startArray(this.#name as Name);
    else throw new SplitError('malformed', `${this.#name} is not a list`);
    this.#array = undefined;
  }

  #startArray(which: Name): void {
    if (this.#counts.has(which)) throw new SplitError('malformed', `${which} is there twice`);
    this.#counts.set(which, 0);
    this.#array = which;
  }

  /** Scans on in a string, object or array; returns the offset after its end, or -1 when it goes on in the next chunk. */
  #scanNested(chunk: Uint8Array, from: number): number {
    const length = chunk.length;
    let at = from;
    if (this.#escaped && at < length) {
      this.#escaped = false;
      at += 1;
    }
    let level = this.#depth;
    let quoted = this.#inString;
    while (at < length) {
      if (quoted) {
        let byte = 0;
        while (at < length && (byte = chunk[at] as number) !== QUOTE) at += byte === BACKSLASH ? 2 : 1;
        if (at >= length) break;
        quoted = false;
        at += 1;
        if (level === 0) return at;
        continue;
      }
      const byte = chunk[at] as number;
      at += 1;
      if (byte === QUOTE) {
        quoted = true;
      } else if (byte === OPEN_OBJECT || byte === OPEN_ARRAY) {
        if (level < MATCHED_DEPTH_MAX) this.#closers[level] = byte + TO_CLOSER;
        level += 1;
      } else if (byte === CLOSE_OBJECT || byte === CLOSE_ARRAY) {
        level -= 1;
        if (level < MATCHED_DEPTH_MAX && this.#closers[level] !== byte) {
          throw new SplitError('malformed', 'the answer has brackets that do not match');
        }
        if (level === 0) return at;
      }
    }
    this.#escaped = at > length;
    this.#depth = level;
    this.#inString = quoted;
    return -1;
  }

  /** Whether so many more bytes of the value may be kept; an event that is too large is dropped, more of the rest fatal. */
  #fits(more: number): boolean {
    if (this.#array === undefined && this.#restBytes + this.#carried + more > this.#restBytesMax) {
      throw new SplitError('too-large', `the answer holds over ${this.#restBytesMax} bytes beside its events`);
    }
    if (this.#array !== undefined && this.#carried + more > this.#memberBytesMax) this.#isKept = false;
    return this.#isKept;
  }

  #carryOver(part: Uint8Array): void {
    if (!this.#isKept || !this.#fits(part.length)) return;
    if (this.#carried + part.length > this.#carry.length) {
      const larger = Buffer.alloc(Math.max(2 * this.#carry.length, this.#carried + part.length));
      this.#carry.copy(larger, 0, 0, this.#carried);
      this.#carry = larger;
    }
    this.#carry.set(part, this.#carried);
    this.#carried += part.length;
  }
}

function isWhitespace(byte: number): boolean {
  return byte === 0x20 || byte === 0x0a || byte === 0x0d || byte === 0x09;
}

/** The bytes of numbers and of `true`, `false` and `null`. */
function isScalarByte(byte: number): boolean {
  return (
    (byte >= 0x30 && byte <= 0x39) ||
    (byte >= 0x61 && byte <= 0x7a) ||
    byte === 0x2d ||
    byte === 0x2b ||
    byte === 0x2e ||
    byte === 0x45
  );
}

function parseName(bytes: Uint8Array): string {
  try {
    if (isUtf8(bytes)) return JSON.parse(Buffer.from(bytes).toString('utf8')) as string;
  } catch {
    // Falls through to the one error there is.
  }
  throw new SplitError('malformed', 'the answer has a member whose name is no JSON string');
}

function unexpected(byte: number): SplitError {
  return new SplitError(
    'malformed',
    `the answer is not JSON: byte 0x${byte.toString(16).padStart(2, '0')} is out of place`,
  );
}
