import { expect, test } from 'vitest';
import { readMigrations } from '../../src/store/migration-files.ts';

/** Those that grow with what rooms say: a statement over one of them takes as long as it is big. */
const BIG = ['pdus', 'event_states', 'event_edges', 'journal', 'outlier_verdicts', 'received_transactions'];
const THE_FIRST = 1;

/** Every other table may be named with or without quotes. */
function locks(statement: string): boolean {
  return BIG.some((table) => new RegExp(`^ALTER TABLE "?${table}"?\\s`, 'm').test(statement));
}

function isLong(statement: string): boolean {
  return /^(UPDATE|DELETE|INSERT INTO[^;]*\b(SELECT|WITH)\b)/m.test(statement);
}

function indexes(statement: string): boolean {
  return BIG.some((table) => new RegExp(`^CREATE (UNIQUE )?INDEX "[^"]*" ON "?${table}"? `, 'm').test(statement));
}

test('no migration keeps everybody from a big table for as long as it takes to go through one', () => {
  const wrong = readMigrations().flatMap(({ statements, inTransaction }, i) => {
    if (i < THE_FIRST || !inTransaction) return [];
    const created = statements.filter((statement) => /^CREATE TABLE/m.test(statement)).join('\n');
    const isNew = BIG.filter((table) => created.includes(`CREATE TABLE "${table}"`));
    const others = statements.filter((statement) => !isNew.some((table) => statement.includes(`ON "${table}"`)));
    const first = others.findIndex(locks);
    const isHeld = first !== -1 && others.slice(first).some(isLong);
    return isHeld || others.some(indexes) ? [i] : [];
  });
  expect(wrong).toEqual([]);
});

test('what runs outside a transaction bears repetition', () => {
  const wrong = readMigrations()
    .filter(({ inTransaction }) => !inTransaction)
    .flatMap(({ statements }) => statements)
    .filter(
      (statement) =>
        /^CREATE TABLE (?!IF NOT EXISTS)/m.test(statement) ||
        /ADD COLUMN (?!IF NOT EXISTS)/.test(statement) ||
        /^CREATE (UNIQUE )?INDEX (?!CONCURRENTLY|IF NOT EXISTS)/m.test(statement) ||
        (/^INSERT/m.test(statement) && !/ON CONFLICT DO NOTHING/.test(statement)),
    );
  expect(wrong).toEqual([]);
});
