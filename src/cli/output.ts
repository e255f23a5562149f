/** What commands print: tables for people, JSON for programs. Text of strangers cannot move the cursor or forge a line. */
import type picocolors from 'picocolors';

type Colours = ReturnType<typeof picocolors.createColors>;

export interface Output {
  /** Bold, red and so on; without effect where colours are not wanted. */
  readonly colours: Colours;
  /** One line of the result, on standard output. */
  line(text?: string): void;
  json(value: unknown): void;
  /** Written as it is: large results in pieces. Resolves when the reader has taken it. */
  raw(text: string): Promise<void>;
  /** One line about how it goes, on standard error. */
  note(text: string): void;
  /** Of the terminal at which somebody watches, where a line can be written over; `undefined`: nobody does. */
  readonly columns: number | undefined;
  /** The line at the bottom of a terminal, written over by the next and taken away by none; nothing anywhere else. */
  status(text?: string): void;
}

/** Takes a terminal's line away, the cursor at its start. */
const ERASE_LINE = '\r\u001b[2K';
const TERMINAL_COLUMNS = 80;

/** `isWatched`: both streams are the terminal of a person. */
export function createOutput(
  stdout: NodeJS.WritableStream,
  stderr: NodeJS.WritableStream & { readonly columns?: number },
  colours: Colours,
  isWatched = false,
): Output {
  let status: string | undefined;
  const columns = (): number => stderr.columns ?? TERMINAL_COLUMNS;
  const aboveStatus = (write: () => void): void => {
    if (status !== undefined) stderr.write(ERASE_LINE);
    write();
    if (status !== undefined) stderr.write(status);
  };
  return {
    colours,
    get columns() {
      return isWatched ? columns() : undefined;
    },
    line: (text = '') => aboveStatus(() => stdout.write(`${text}\n`)),
    json: (value) => aboveStatus(() => stdout.write(`${JSON.stringify(value, undefined, 2)}\n`)),
    raw: (text) =>
      new Promise((resolve, reject) => {
        stdout.write(text, (error) => (error ? reject(error) : resolve()));
      }),
    note: (text) => aboveStatus(() => stderr.write(`${text}\n`)),
    status: (text) => {
      if (!isWatched) return;
      // A line that breaks could not be taken away again.
      const next = text?.slice(0, columns() - 1);
      if (next === status) return;
      if (status !== undefined) stderr.write(ERASE_LINE);
      status = next;
      if (status !== undefined) stderr.write(status);
    },
  };
}

/** Controls, line and paragraph separators, and characters that reorder or hide what stands beside them. */
const UNPRINTABLE =
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]/g;

/** Text of a stranger, safe to print within a line. */
export function printable(text: string): string {
  return text.replaceAll(UNPRINTABLE, '\ufffd');
}

const CELL_CHARS_MAX = 60;

/** Rows under a head, in columns as wide as their widest cell. Cells are made printable and cut at 60 characters. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const cells = rows.map((row) =>
    row.map((cell) => {
      const characters = Array.from(printable(cell));
      return characters.length > CELL_CHARS_MAX
        ? `${characters.slice(0, CELL_CHARS_MAX - 1).join('')}…`
        : characters.join('');
    }),
  );
  const widths = head.map((title, at) => Math.max(title.length, ...cells.map((row) => row[at]?.length ?? 0)));
  const format = (row: readonly string[]): string =>
    row
      .map((cell, at) => cell.padEnd(widths[at] ?? 0))
      .join('  ')
      .trimEnd();
  return [head, ...cells].map(format);
}

/** `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`. */
export function humanDuration(ms: number): string {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

const COUNT = new Intl.NumberFormat('en');

/** `13,000`. */
export function humanCount(count: number): string {
  return COUNT.format(count);
}

/** `0 B`, `999 B`, `1.5 KB`, `12 MB`: decimal, as networks count. */
export function humanSize(bytes: number): string {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  let value = Math.max(0, bytes);
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  return `${unit === 0 || value >= 9.95 ? Math.round(value) : value.toFixed(1)} ${units[unit] ?? ''}`;
}
