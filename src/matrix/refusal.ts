/** The core's dialect of failure: a value that says no, which rule said it, and why, in a line a person can read. */
export interface Refusal<Rule extends string = string> {
  readonly ok: false;
  /** Short and stable, for counting, for tests and for the journal: `json.duplicate-key`, `event.size`. */
  readonly rule: Rule;
  /** One sentence; ids and names in it may be a stranger's and are not escaped. */
  readonly reason: string;
}

/** Says no. */
export function refuse<Rule extends string>(rule: Rule, reason: string): Refusal<Rule> {
  return { ok: false, rule, reason };
}
