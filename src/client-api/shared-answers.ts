/**
 * Answers that many ask for in the same moment: whoever waited for a room is given the same list of its members. It is written once,
 * and kept for a few seconds: a short one as a whole, a long one part by part, as it is read and sent.
 */
import { Readable } from 'node:stream';
import { LRUCache } from 'lru-cache';
import { JsonText } from '../http/endpoint.ts';
import { type Frame, framed, joinParts } from '../http/json-stream.ts';
import { type ClientRows } from '../rooms/client-contract.ts';
import { type StateEvent } from '../rooms/contract.ts';
import { SharedBody } from './shared-body.ts';

/** Of an answer that is written as a whole: some three quarters of a megabyte, as memberships are. */
const ROWS_MAX = 2_000;
const WHOLE_BYTES_MAX = 8 * 1024 * 1024;
/** Of what is kept together: the members of two rooms of 100,000. */
const KEPT_BYTES_MAX = 96 * 1024 * 1024;
const ANSWERS_MAX = 8;
/** Those who wait for one thing come within seconds; the body of an event may be completed later under the same name. */
const KEPT_MS = 5_000;

/** How rows are written: `kind` tells apart what is made of the same rows. */
export interface Writing extends Frame {
  readonly kind: string;
  readonly rowJson: (row: StateEvent) => string;
}

interface Kept {
  readonly body: Promise<JsonText | SharedBody>;
  bytes: number;
}

export class SharedAnswers {
  #bytes = 0;
  readonly #answers = new LRUCache<string, Kept>({
    max: ANSWERS_MAX,
    ttlAutopurge: true,
    dispose: ({ bytes }) => {
      this.#bytes -= bytes;
    },
  });

  async write(rows: ClientRows, writing: Writing): Promise<JsonText | Readable> {
    const name = `${writing.kind} ${rows.name}`;
    const body = await (this.#answers.get(name) ?? this.#begin(name, rows, writing)).body;
    if (body instanceof JsonText) return body;
    await body.begun();
    const again = async () => framed(writing, (await rows.open()).pages, writing.rowJson);
    return Readable.from(body.read(again), { objectMode: false, highWaterMark: 64 * 1024 });
  }

  #begin(name: string, rows: ClientRows, writing: Writing): Kept {
    const keep = (bytes: number): boolean => {
      if (this.#answers.peek(name) !== kept || this.#bytes + bytes > KEPT_BYTES_MAX) {
        this.#forget(name, kept);
        return false;
      }
      kept.bytes += bytes;
      this.#bytes += bytes;
      return true;
    };
    const body = rows.open().then(async ({ size, pages }) => {
      if (size > ROWS_MAX) return new SharedBody(framed(writing, pages, writing.rowJson), keep);
      const text = new JsonText(Buffer.from(await joinParts(writing, pages, writing.rowJson)));
      if (text.bytes.length > WHOLE_BYTES_MAX || !keep(text.bytes.length)) this.#forget(name, kept);
      return text;
    });
    const kept: Kept = { body, bytes: 0 };
    // As long as it is written, and a few seconds more.
    this.#answers.set(name, kept, { ttl: 0 });
    body
      .then((written) => (written instanceof SharedBody ? written.written : true))
      .then(
        (isWhole) => {
          if (!isWhole) this.#forget(name, kept);
          else if (this.#answers.peek(name) === kept) this.#answers.set(name, kept, { ttl: KEPT_MS });
        },
        () => this.#forget(name, kept),
      );
    return kept;
  }

  #forget(name: string, kept: Kept): void {
    if (this.#answers.peek(name) === kept) this.#answers.delete(name);
  }
}
