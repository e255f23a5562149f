/** Answers that are arrays of events, written while these are read: memory holds a page, whatever the room's size. */
import { Readable } from 'node:stream';
import { type JsonObject } from '../matrix/pdu.ts';
import { type EventPages } from '../rooms/resident-contract.ts';

/** Members of the object that are written first, by name: each a JSON text. */
type Texts = Readonly<Record<string, string>>;

/** An object of some members, and of arrays of events after them. `around`: what stands before and behind the object. */
export function streamArrays(
  arrays: Readonly<Record<string, EventPages>>,
  texts: Texts = {},
  around: readonly [string, string] = ['', ''],
): Readable {
  return Readable.from(written(arrays, texts, around), { objectMode: false });
}

/** As members of an object are given to `streamArrays`. */
export function asTexts(members: JsonObject): Texts {
  return Object.fromEntries(Object.entries(members).map(([name, value]) => [name, JSON.stringify(value)]));
}

async function* written(
  arrays: Readonly<Record<string, EventPages>>,
  texts: Texts,
  [opening, closing]: readonly [string, string],
): AsyncGenerator<string> {
  const head = Object.entries(texts).map(([name, text]) => `${JSON.stringify(name)}:${text}`);
  let before = `${opening}{${head.map((member) => `${member},`).join('')}`;
  for (const [name, pages] of Object.entries(arrays)) {
    yield `${before}${JSON.stringify(name)}:[`;
    let isFirst = true;
    for await (const page of pages) {
      if (page.length === 0) continue;
      yield `${isFirst ? '' : ','}${page.join(',')}`;
      isFirst = false;
    }
    before = '],';
  }
  yield `]}${closing}`;
}
