/** Throws when the code itself is wrong; never for input. */
export function invariant(condition: unknown, message: string): asserts condition {
  if (condition !== true && !condition) throw new Error(`invariant: ${message}`);
}
