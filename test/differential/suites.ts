/** Every suite of the differential tests, for the long run. */
import { type Suite } from './differ.ts';
import { RULES_SUITE } from './rules-suite.ts';

export const SUITES: readonly Suite<never>[] = [RULES_SUITE as unknown as Suite<never>];
