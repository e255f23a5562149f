/** A JSON object with one long array, sent while its rows are read: memory holds a page, whatever the room's size. */
import { Readable } from 'node:stream';
import { type FastifyReply } from 'fastify';

/** A reader that takes nothing for this long loses its connection, and with it the cursor it holds. */
const READER_IDLE_MS = 60_000;

/**
 * `{…head, "<name>": [rows], "total": n}`. The first page is read before this resolves, so that a failure there can still
 * be answered; one later destroys the connection, and the caller sees a cut body instead of a short list.
 */
export async function streamRows<Row>(
  head: Readonly<Record<string, unknown>>,
  name: string,
  pages: AsyncIterable<readonly Row[]>,
  rowJson: (row: Row) => string,
): Promise<Readable> {
  const iterator = pages[Symbol.asyncIterator]();
  const first = await iterator.next();

  async function* body(): AsyncGenerator<string> {
    const opening = JSON.stringify(head).slice(0, -1);
    yield `${opening}${opening === '{' ? '' : ','}${JSON.stringify(name)}:[`;
    let total = 0;
    try {
      for (let page = first; page.done !== true; page = await iterator.next()) {
        if (page.value.length === 0) continue;
        yield (total === 0 ? '' : ',') + page.value.map(rowJson).join(',');
        total += page.value.length;
      }
    } finally {
      // A caller who went away must not leave a cursor open.
      await iterator.return?.();
    }
    yield `],"total":${total}}`;
  }
  return Readable.from(body(), { objectMode: false, highWaterMark: 64 * 1024 });
}

/** Sends a stream of JSON text as it is read. */
export function sendJsonStream(reply: FastifyReply, rows: Readable): FastifyReply {
  reply.raw.setTimeout(READER_IDLE_MS, () => reply.raw.destroy());
  return reply.type('application/json; charset=utf-8').send(rows);
}
