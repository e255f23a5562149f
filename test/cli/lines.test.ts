import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { LineSplitter, OVERLONG } from '../../src/cli/lines.ts';

/** The lines of a text that comes in chunks of `chunkBytes`. */
function linesOf(text: string, chunkBytes: number, isSplitting = true, bytesMax = 1_000): (string | symbol)[] {
  const splitter = new LineSplitter({ isSplitting, bytesMax });
  const bytes = Buffer.from(text);
  const texts: (string | symbol)[] = [];
  const take = (found: Iterable<Uint8Array | typeof OVERLONG>): void => {
    for (const line of found) texts.push(line === OVERLONG ? OVERLONG : Buffer.from(line).toString());
  };
  for (let at = 0; at < bytes.length; at += chunkBytes) take(splitter.push(bytes.subarray(at, at + chunkBytes)));
  take(splitter.end());
  return texts;
}

describe('a stream of lines', () => {
  test('is split at line feeds and nothing else, however it comes in chunks', () => {
    const odd = fc.array(fc.constantFrom('a', '{', '\r', '\u2028', '\u2029', '\u0085', '\v', '\f', '\n'), {
      maxLength: 40,
    });
    fc.assert(
      fc.property(odd, fc.integer({ min: 1, max: 9 }), (characters, chunkBytes) => {
        const text = characters.join('');
        const expected = text.split('\n');
        if (expected.at(-1) === '') expected.pop();
        expect(linesOf(text, chunkBytes)).toEqual(expected);
      }),
    );
  });

  test('has a last line without an end, and empty lines', () => {
    expect(linesOf('a\n\nb', 100)).toEqual(['a', '', 'b']);
    expect(linesOf('', 100)).toEqual([]);
  });

  test('is one line where lines have no end', () => {
    expect(linesOf('a\n\nb\n', 2, false)).toEqual(['a\n\nb\n']);
    expect(linesOf('', 2, false)).toEqual(['']);
  });

  test('lets go of a line beyond the limit, and goes on behind it', () => {
    expect(linesOf(`a\n${'x'.repeat(11)}\nb\n${'y'.repeat(10)}\n`, 3, true, 10)).toEqual([
      'a',
      OVERLONG,
      'b',
      'y'.repeat(10),
    ]);
  });
});
