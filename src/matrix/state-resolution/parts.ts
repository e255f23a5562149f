/**
 * A long computation in parts: it stops after each, and whoever runs it may do something else before the next. Ten thousand
 * conflicts take half a second, for which nobody else would be answered; small ones are one part.
 */
export type InParts<T> = Generator<undefined, T, undefined>;

/** Steps of a loop in one part: some milliseconds of the dearest, which is judging an event. */
export const PART_STEPS = 256;

/** Runs all parts at once. */
export function whole<T>(parts: InParts<T>): T {
  for (;;) {
    const { done, value } = parts.next();
    if (done === true) return value;
  }
}
