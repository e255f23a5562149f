/** The core's dialect of failure: a value that says no, which rule said it, and why, in a line a person can read. */
export interface Refusal {
  readonly ok: false;
  /** Short and stable, for counting and for tests: `json.duplicate-key`, `event.size`. */
  readonly rule: string;
  readonly reason: string;
}

export function refuse(rule: string, reason: string): Refusal {
  return { ok: false, rule, reason };
}
