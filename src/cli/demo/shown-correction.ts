/** A verdict that turned out otherwise, as the operator API tells it and the demo shows it. */
import { z } from 'zod';
import { correctionsAnswer } from '../../operator/answer-forms.ts';

/** Of corrections that are verdicts; states that were corrected have other members. */
const verdictData = z.object({
  event_id: z.string(),
  was: z.string(),
  is: z.string(),
  reason: z.string().optional(),
});

export type ShownCorrection = z.output<typeof verdictData> & { readonly at: number };

/** The verdicts among a page of corrections, in its order, and where the page ends. */
export function correctedVerdicts(body: unknown): {
  readonly corrections: readonly ShownCorrection[];
  readonly next: number;
} {
  const { corrections, next } = correctionsAnswer.parse(body);
  const found: ShownCorrection[] = [];
  for (const { recorded_at: at, data } of corrections) {
    const verdict = verdictData.safeParse(data);
    if (verdict.success) found.push({ ...verdict.data, at: Date.parse(at) });
  }
  return { corrections: found, next };
}
