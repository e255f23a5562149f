/**
 * Answers that many ask for in the same moment: whoever waited for a room is given the same list of its members. It is written once,
 * and kept for a few seconds. Long ones are not kept: they are read as they are sent.
 */
import { type Readable } from 'node:stream';
import { LRUCache } from 'lru-cache';
import { JsonText } from '../http/endpoint.ts';
import { type Frame, joinParts, streamParts } from '../http/json-stream.ts';
import { type ClientRows } from '../rooms/client-contract.ts';
import { type StateEvent } from '../rooms/contract.ts';

/** Some three quarters of a megabyte, as memberships are. */
const ROWS_MAX = 2_000;
/** Of one that is kept, and how many are: 64 MiB in all. */
const BYTES_MAX = 8 * 1024 * 1024;
const ANSWERS_MAX = 8;
/** Those who wait for one thing come within seconds; the body of an event may be completed later under the same name. */
const KEPT_MS = 5_000;

/** How rows are written: `kind` tells apart what is made of the same rows. */
export interface Writing extends Frame {
  readonly kind: string;
  readonly rowJson: (row: StateEvent) => string;
}

export class SharedAnswers {
  /** `null`: it is too long to be shared. */
  readonly #answers = new LRUCache<string, Promise<JsonText | null>>({ max: ANSWERS_MAX, ttl: KEPT_MS });

  async write(rows: ClientRows, writing: Writing): Promise<JsonText | Readable> {
    const name = `${writing.kind} ${rows.name}`;
    const known = this.#answers.get(name);
    if (known === undefined) return this.#begin(name, rows, writing);
    return (await known) ?? stream(rows, writing);
  }

  async #begin(name: string, rows: ClientRows, writing: Writing): Promise<JsonText | Readable> {
    const opening = rows.open();
    const shared = opening.then(async ({ size, pages }) =>
      size > ROWS_MAX ? null : new JsonText(Buffer.from(await joinParts(writing, pages, writing.rowJson))),
    );
    this.#answers.set(name, shared);
    const forget = (): void => {
      if (this.#answers.peek(name) === shared) this.#answers.delete(name);
    };
    shared.then((text) => {
      if (text !== null && text.bytes.length > BYTES_MAX) forget();
    }, forget);
    const text = await shared;
    return text ?? streamParts(writing, (await opening).pages, writing.rowJson);
  }
}

async function stream(rows: ClientRows, writing: Writing): Promise<Readable> {
  return streamParts(writing, (await rows.open()).pages, writing.rowJson);
}
