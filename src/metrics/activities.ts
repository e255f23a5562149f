/** Attempts of activities after the first: trouble of our own, which is tried again for ever, so that somebody has to be told. */
import { type Instruments } from './instruments.ts';

/** Nine take some four minutes; what is over by itself, such as a restart of the database, is over by then. */
const LATE_FROM = 10;

/** What the activities tell of every attempt as it begins, counted. */
export function countAttempts({ retries, lateAttempts }: Instruments): (activity: string, attempt: number) => void {
  return (activity, attempt) => {
    if (attempt > 1) retries.inc({ activity });
    if (attempt >= LATE_FROM) lateAttempts.inc({ activity });
  };
}
