import fc from 'fast-check';
import { expect, test } from 'vitest';
import { EventIdTable } from '../../src/columns/event-id-table.ts';
import { TextArena } from '../../src/columns/text-arena.ts';
import { hashText } from '../../src/columns/hash-text.ts';
import { type EventId } from '../../src/matrix/identifiers.ts';
import { stateDigest } from '../../src/matrix/state-digest.ts';
import { digestOfRows } from '../../src/rooms/resync/digest-of-rows.ts';

/** As a sender or an id of a stranger may be: of any units, lone surrogates included, and as long as an event. */
const anyText = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.constantFrom('\ud800', 'ÿ', 'Ā', '', '€\udc00'),
);

test('a table of ids is a set and a list: each id has the row of its first coming', () => {
  fc.assert(
    fc.property(fc.array(anyText, { maxLength: 300 }), (texts) => {
      const ids = texts as EventId[];
      const table = new EventIdTable();
      const rows = ids.map((id) => table.add(id));
      const distinct = [...new Set(ids)];
      expect([...table]).toEqual(distinct);
      expect(rows).toEqual(ids.map((id) => distinct.indexOf(id)));
      expect(distinct.map((id) => table.rowOf(id))).toEqual(distinct.map((_, row) => row));
    }),
  );
});

test('an id that was never added has no row, in a table of a hundred thousand', () => {
  const table = new EventIdTable();
  for (let i = 0; i < 100_000; i += 1) table.add(`$${i}` as EventId);
  expect(table.size).toBe(100_000);
  expect(table.rowOf('$99999' as EventId)).toBe(99_999);
  expect(table.rowOf('$100000' as EventId)).toBeUndefined();
  expect(table.idOf(31_415)).toBe('$31415');
});

test('a string comes back as it was put in, whatever it holds and however long it is', () => {
  const arena = new TextArena();
  const texts = ['', '@a:b', 'ü', '日本', '\ud800', 'x'.repeat(65_535), '日'.repeat(65_535), 'last'];
  const places = texts.map((text) => arena.add(text));
  expect(places.map((place) => arena.get(place))).toEqual(texts);
  places.forEach((place, i) => {
    expect(texts.map((text) => arena.isAt(place, text))).toEqual(texts.map((_, j) => i === j));
    expect([arena.unitAt(place, 0), arena.unitAt(place, 1)]).toEqual([0, 1].map((at) => texts[i]!.charCodeAt(at) || 0));
  });
});

test('strings that differ in one unit, or in length, have different hashes', () => {
  const texts = ['', 'a', 'b', 'aa', 'ab', 'ba', 'a\0', '\0', '\0\0', 'aaa', `${'x'.repeat(43)}y`, 'x'.repeat(44)];
  expect(new Set(texts.map(hashText)).size).toBe(texts.length);
  for (const text of texts) expect(hashText(` ${text}`.slice(1))).toBe(hashText(text));
});

test('the digest of rows is that of their ids, however these begin', async () => {
  const ids = fc.array(
    anyText.map((text) => `$${text}`),
    { maxLength: 200 },
  );
  await fc.assert(
    fc.asyncProperty(ids, async (texts) => {
      const table = new EventIdTable();
      const rows = new Set(texts.map((id) => table.add(id as EventId)));
      expect(await digestOfRows(table, Uint32Array.from(rows))).toBe(stateDigest(table));
    }),
  );
});
