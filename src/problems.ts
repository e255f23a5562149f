/** What is wrong with input from outside, in words: where, and what was expected there. */
import { type z } from 'zod';

/** Of one input; more of them are mostly one mistake. */
const PROBLEMS_MAX = 5;
const KEYS_MAX = 5;

/** One line. `whole`: what the input as a whole is called, such as `body`. */
export function problemsOf({ issues }: z.ZodError, whole: string): string {
  const problems = issues.map((issue) => {
    if (issue.code === 'unrecognized_keys') return `${issue.keys.slice(0, KEYS_MAX).join(', ')}: not known here`;
    return `${issue.path.join('.') || whole}: expected ${issue.message}`;
  });
  return problems.slice(0, PROBLEMS_MAX).join('; ');
}
