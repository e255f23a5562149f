/** What the doctor finds about one thing that Rejoinder needs. */
export interface Finding {
  readonly subject: string;
  /** `ok`; `note`: works, or is needed for one purpose only; `bad`: the server would not start or not work. */
  readonly verdict: 'ok' | 'note' | 'bad';
  /** One line: what is there. */
  readonly found: string;
  /** What to do about it; a sentence. */
  readonly remedy?: string;
}

/** The first line of anything thrown, for a finding. */
export function firstLine(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(String).join('; ');
  const message = error instanceof Error ? error.message || error.name : String(error);
  return message.split('\n')[0] ?? message;
}
