/**
 * Server-sent events as a reader takes them apart: blocks of lines, of which `id` and `data` matter here.
 *
 * Source: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
 */
import { CliError } from './failure.ts';
import { LineSplitter, OVERLONG } from './lines.ts';

export interface ServerEvent {
  /** Of the newest event, or of what was passed over; empty: nothing was said of it. */
  readonly id: string;
  /** `undefined`: no event, and only the id has moved on. */
  readonly data: string | undefined;
}

/** Far above any entry of a journal. */
const LINE_BYTES_MAX = 4_000_000;

/** Events of a body, as they come; one that is cut short is left out. */
export async function* readServerEvents(body: AsyncIterable<Uint8Array>): AsyncGenerator<ServerEvent> {
  const splitter = new LineSplitter({ isSplitting: true, bytesMax: LINE_BYTES_MAX });
  let id = '';
  let said = '';
  let data: string[] = [];
  for await (const chunk of body) {
    for (const line of splitter.push(chunk)) {
      if (line === OVERLONG) throw new CliError('the server sent an event that is too long to be one');
      const text = Buffer.from(line).toString('utf8').replace(/\r$/, '');
      const [, field, value = ''] = /^([^:]*)(?:: ?(.*))?$/s.exec(text) ?? [];
      if (field === 'id') id = value;
      if (field === 'data') data.push(value);
      if (text === '') {
        if (data.length > 0 || id !== said) yield { id, data: data.length > 0 ? data.join('\n') : undefined };
        said = id;
        data = [];
      }
    }
  }
}
