/** A scrape as tests look at it: the value of each series by its name and labels, as they stand in the text. */
import { type Metrics } from '../../src/metrics.ts';

export type Series = ReadonlyMap<string, number>;

export function parseSeries(text: string): Series {
  const lines = text.split('\n').filter((line) => line !== '' && !line.startsWith('#'));
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.split(' ').at(-1))]));
}

/** Series that are there and not 0, without buckets. */
export async function nonZero(metrics: Metrics, prefix = 'rejoinder_'): Promise<Record<string, number>> {
  const series = parseSeries(await metrics.scrape());
  return Object.fromEntries(
    [...series].filter(([name, value]) => name.startsWith(prefix) && !name.includes('_bucket{') && value !== 0),
  );
}
