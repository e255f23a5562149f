/** Checks an answer of the operator API by its form (src/operator/answer-forms.ts). */
import { type z } from 'zod';
import { CliError } from './failure.ts';

/** Throws a `CliError` for one of another form. */
export function understood<Schema extends z.ZodType>(schema: Schema, body: unknown): z.output<Schema> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  throw new CliError('the server answered in a form that this command does not know', {
    hint: 'Use a command line of the version of the server; --json prints the answer as it is.',
  });
}
