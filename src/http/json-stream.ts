/** JSON with one long list, sent while its rows are read: memory holds a page, whatever the room's size. */
import { Readable } from 'node:stream';
import { type FastifyReply } from 'fastify';

/** A reader that takes nothing for this long loses its connection, and with it the cursor it holds. */
const READER_IDLE_MS = 60_000;

/** `{…head, "<name>": [rows], "total": n}`, as `streamParts`. */
export async function streamRows<Row>(
  head: Readonly<Record<string, unknown>>,
  name: string,
  pages: AsyncIterable<readonly Row[]>,
  rowJson: (row: Row) => string,
): Promise<Readable> {
  const begun = JSON.stringify(head).slice(0, -1);
  const opening = `${begun}${begun === '{' ? '' : ','}${JSON.stringify(name)}:[`;
  return streamParts({ opening, closing: (total) => `],"total":${total}}` }, pages, rowJson);
}

/** What stands around rows, which are joined by commas. */
export interface Frame {
  readonly opening: string;
  readonly closing: (total: number) => string;
}

/**
 * Rows in their frame. The first page is read before this resolves, so that a failure there can still be answered; one later
 * destroys the connection, and the caller sees a cut body instead of a short list.
 */
export async function streamParts<Row>(
  frame: Frame,
  pages: AsyncIterable<readonly Row[]>,
  rowJson: (row: Row) => string,
): Promise<Readable> {
  const parts = framed(frame, pages, rowJson);
  const first = await parts.next();

  async function* body(): AsyncGenerator<string> {
    try {
      if (first.done !== true) yield first.value;
      yield* parts;
    } finally {
      // A caller who went away must not leave a cursor open.
      await parts.return(undefined);
    }
  }
  return Readable.from(body(), { objectMode: false, highWaterMark: 64 * 1024 });
}

/** The text in parts, a page each. */
export async function* framed<Row>(
  { opening, closing }: Frame,
  pages: AsyncIterable<readonly Row[]>,
  rowJson: (row: Row) => string,
): AsyncGenerator<string, undefined> {
  let before = opening;
  let total = 0;
  for await (const page of pages) {
    if (page.length === 0) continue;
    yield before + page.map(rowJson).join(',');
    total += page.length;
    before = ',';
  }
  yield (total === 0 ? opening : '') + closing(total);
}

/** The same as one text, for answers that are short. */
export async function joinParts<Row>(
  frame: Frame,
  pages: AsyncIterable<readonly Row[]>,
  rowJson: (row: Row) => string,
): Promise<string> {
  const parts: string[] = [];
  for await (const part of framed(frame, pages, rowJson)) parts.push(part);
  return parts.join('');
}

/** Sends a stream of JSON text as it is read. */
export function sendJsonStream(reply: FastifyReply, rows: Readable): FastifyReply {
  reply.raw.setTimeout(READER_IDLE_MS, () => reply.raw.destroy());
  return reply.type('application/json; charset=utf-8').send(rows);
}

/** Sends JSON that is written already. */
export function sendJsonText(reply: FastifyReply, bytes: Buffer): FastifyReply {
  reply.raw.setTimeout(READER_IDLE_MS, () => reply.raw.destroy());
  return reply.type('application/json; charset=utf-8').send(bytes);
}
