/** Every suite of the differential tests, for the long run. */
import { type Suite } from './differ.ts';
import { EVENTS_SUITE } from './events-suite.ts';
import { RULES_SUITE } from './rules-suite.ts';

export const SUITES: readonly Suite<never>[] = [
  EVENTS_SUITE as unknown as Suite<never>,
  RULES_SUITE as unknown as Suite<never>,
];
