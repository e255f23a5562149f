import { type Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { SharedAnswers, type Writing } from '../../src/client-api/shared-answers.ts';
import { JsonText } from '../../src/http/endpoint.ts';
import { type EventId } from '../../src/matrix/identifiers.ts';
import { type ClientRows } from '../../src/rooms/client-contract.ts';
import { type StateEvent } from '../../src/rooms/contract.ts';

const PAGE = 500;

class Written {
  opened = 0;
  pagesRead = 0;
  failsAt = Number.POSITIVE_INFINITY;
  readonly #size: number;
  readonly #rowBytes: number;

  constructor(size: number, rowBytes = 10) {
    this.#size = size;
    this.#rowBytes = rowBytes;
  }

  rows(name = 'members of a room'): ClientRows {
    return { ready: true, name, open: () => Promise.resolve(this.#open()) };
  }

  get text(): string {
    return `[${Array.from({ length: this.#size }, (_, i) => this.#row(i).json).join(',')}]`;
  }

  #open() {
    this.opened += 1;
    return { size: this.#size, pages: this.#pages() };
  }

  async *#pages(): AsyncGenerator<readonly StateEvent[]> {
    for (let start = 0; start < this.#size; start += PAGE) {
      await Promise.resolve();
      if (this.pagesRead >= this.failsAt) throw new Error('the database is away');
      this.pagesRead += 1;
      yield Array.from({ length: Math.min(PAGE, this.#size - start) }, (_, i) => this.#row(start + i));
    }
  }

  #row(i: number): StateEvent {
    return { eventId: `$${i}` as EventId, json: `"${String(i).padStart(this.#rowBytes, '0')}"` };
  }
}

const writing: Writing = { kind: 'list', opening: '[', closing: () => ']', rowJson: ({ json }) => json };

async function textOf(answer: JsonText | Readable): Promise<string> {
  if (answer instanceof JsonText) return answer.bytes.toString();
  const parts: Buffer[] = [];
  for await (const part of answer) parts.push(part as Buffer);
  return Buffer.concat(parts).toString();
}

describe.each([
  ['a short answer', 700],
  ['a long one', 20_000],
])('%s', (_name, size) => {
  test('is read once, however many ask for it, and whenever they begin to take it', async () => {
    const written = new Written(size);
    const answers = new SharedAnswers();
    const first = await Promise.all(Array.from({ length: 50 }, () => answers.write(written.rows(), writing)));
    for (const answer of first) expect(await textOf(answer)).toBe(written.text);
    expect(await textOf(await answers.write(written.rows(), writing))).toBe(written.text);
    expect(written).toMatchObject({ opened: 1, pagesRead: Math.ceil(size / PAGE) });
  });

  test('of another name, or written in another way, is another one', async () => {
    const written = new Written(size);
    const answers = new SharedAnswers();
    await textOf(await answers.write(written.rows(), writing));
    await textOf(await answers.write(written.rows('others'), writing));
    await textOf(await answers.write(written.rows(), { ...writing, kind: 'chunk' }));
    expect(written.opened).toBe(3);
  });

  test('that fails is told to all who wait, and read anew by who comes then', async () => {
    const written = new Written(size);
    written.failsAt = 0;
    const answers = new SharedAnswers();
    const asked = [answers.write(written.rows(), writing), answers.write(written.rows(), writing)];
    for (const answer of await Promise.allSettled(asked)) expect(answer.status).toBe('rejected');
    written.failsAt = Number.POSITIVE_INFINITY;
    expect(await textOf(await answers.write(written.rows(), writing))).toBe(written.text);
  });
});

test('an answer that is too long to be kept is written on by each for himself, and whole for all', async () => {
  const written = new Written(5_000, 25_000);
  const answers = new SharedAnswers();
  const texts = await Promise.all([1, 2].map(async () => textOf(await answers.write(written.rows(), writing))));
  expect(texts.map((text) => text === written.text)).toEqual([true, true]);
  expect(written.opened).toBe(3);
});

test('one that fails in its midst cuts off who takes it', async () => {
  const written = new Written(20_000);
  written.failsAt = 3;
  const answer = await new SharedAnswers().write(written.rows(), writing);
  await expect(textOf(answer)).rejects.toThrow('the database is away');
});
