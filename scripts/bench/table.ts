/** What benches print: aligned columns of plain text, and the spread of a few runs. */

export interface Spread {
  readonly min: number;
  readonly median: number;
  readonly max: number;
}

/** Of an even number of values the median is the upper of the two in the middle: nothing is made up between them. */
export function spreadOf(values: readonly number[]): Spread {
  return { min: quantile(values, 0), median: quantile(values, 0.5), max: quantile(values, 1) };
}

/** The smallest value that at least this share of all values does not exceed; NaN of nothing. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(Math.floor(share * sorted.length), sorted.length - 1)] ?? NaN;
}

/** Lines of a table: the first column to the left, all others to the right; two spaces in front and between. */
export function tableLines(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  return all.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .reduce((line, cell) => `${line}  ${cell}`, '')
      .trimEnd(),
  );
}

export const seconds = (value: number, digits = 2): string => value.toFixed(digits);
export const megabytes = (bytes: number): string => (bytes / 1e6).toFixed(1);
export const count = (value: number): string => Math.round(value).toLocaleString('en');
export const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
