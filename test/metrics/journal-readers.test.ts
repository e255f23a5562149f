import { expect, test } from 'vitest';
import { createMetrics } from '../../src/metrics.ts';
import { type JournalPart, type JournalReads } from '../../src/rooms/contract.ts';
import { RoomError } from '../../src/rooms/error.ts';
import { silent } from '../federation/tls-server.ts';
import { nonZero } from './series.ts';

const metricsOfTest = () => createMetrics({ version: 'test', role: 'test', clock: { now: () => 0 }, logger: silent });
const query = { after: 0 };

async function* endless(): AsyncGenerator<JournalPart> {
  const entries = [{}, {}] as JournalPart['entries'][number][];
  for (;;) yield await Promise.resolve({ entries, next: 2 });
}

test('readers of the journal are counted while they are there, with what they are handed and whether they are cut', async () => {
  const metrics = metricsOfTest();
  let cuts = 0;
  const reads = { follow: () => Promise.resolve({ parts: endless(), cut: () => (cuts += 1) }) };
  const counted = metrics.countJournalReaders(reads as unknown as JournalReads);
  const gone = new AbortController();
  const follower = await counted.follow(query, gone.signal);
  const other = await counted.follow(query, new AbortController().signal);
  const iterator = follower.parts[Symbol.asyncIterator]();
  await iterator.next();
  await iterator.next();
  follower.cut();
  expect(await nonZero(metrics, 'rejoinder_journal_')).toEqual({
    rejoinder_journal_readers: 2,
    rejoinder_journal_entries_sent_total: 4,
    rejoinder_journal_readers_cut_total: 1,
  });
  expect(cuts).toBe(1);
  gone.abort();
  await iterator.return?.();
  expect(await nonZero(metrics, 'rejoinder_journal_readers')).toMatchObject({ rejoinder_journal_readers: 1 });
  const others = other.parts[Symbol.asyncIterator]();
  await others.next();
  await others.return?.();
  expect(await nonZero(metrics, 'rejoinder_journal_readers')).toEqual({ rejoinder_journal_readers_cut_total: 1 });
});

test('a reader who is not let in is not counted', async () => {
  const metrics = metricsOfTest();
  const reads = { follow: () => Promise.reject(new RoomError('too-many', 'no')) } as unknown as JournalReads;
  await expect(metrics.countJournalReaders(reads).follow(query, new AbortController().signal)).rejects.toThrow('no');
  expect(await nonZero(metrics, 'rejoinder_journal_')).toEqual({});
});
