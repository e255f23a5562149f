/** Durations and sizes as people write them in rejoinder.yaml: `250ms`, `30s`, `5m`, `1h`, `7d`; `512K`, `10M`, `2G`. */

const DURATION_MS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;
/** Powers of 1024, as Synapse's configuration counts them. */
const SIZE_BYTES = { '': 1, K: 1024, M: 1024 ** 2, G: 1024 ** 3 } as const;

/** A timer of Node fires at once when it is set to more than this (2³¹ − 1 ms, 24.8 days). */
const TIMER_MS_MAX = 2_147_483_647;

/** Milliseconds, or `undefined` when the text is no duration or longer than a timer can be. A bare number has no unit: refused. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,9})(ms|s|m|h|d)$/.exec(text);
  if (match === null) return undefined;
  const ms = Number(match[1]) * DURATION_MS[match[2] as keyof typeof DURATION_MS];
  return ms <= TIMER_MS_MAX ? ms : undefined;
}

/** As `parseDuration` reads it, in the longest unit that is exact. */
export function writtenDuration(ms: number): string {
  const [unit, unitMs] = Object.entries(DURATION_MS).findLast(([, size]) => ms % size === 0) ?? ['ms', 1];
  return `${ms / unitMs}${unit}`;
}

/** Bytes, or `undefined` when the text is no size or not exact in a number. */
export function parseSize(text: string): number | undefined {
  const match = /^(\d{1,15})([KMG]?)$/.exec(text);
  if (match === null) return undefined;
  const bytes = Number(match[1]) * SIZE_BYTES[match[2] as keyof typeof SIZE_BYTES];
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}
