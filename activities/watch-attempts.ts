/**
 * What all activities have in common: failures are translated for Temporal (failure.ts), which tries them again for ever; each attempt
 * is told to whoever counts; and one of many in a row says so in the log, since by then somebody has to mend something.
 */
import { activityInfo } from '@temporalio/activity';
import { CancelledFailure } from '@temporalio/common';
import { type RoomsContext } from '../src/rooms/context.ts';
import { type Activities } from '../src/temporal/contract.ts';
import { asFailure } from './failure.ts';

/** After some four minutes, and then every ten: a database that is away stops all rooms at once. */
const LOGGED_EACH = 10;

/** `attempt` counts from 1. */
export type AttemptObserver = (activity: keyof Activities, attempt: number) => void;

export function watchAttempts(
  activities: Activities,
  logger: RoomsContext['logger'],
  onAttempt: AttemptObserver,
): Activities {
  const watched = async (
    name: keyof Activities,
    run: (input: never) => Promise<unknown>,
    input: never,
  ): Promise<unknown> => {
    const { attempt, workflowExecution } = activityInfo();
    onAttempt(name, attempt);
    try {
      return await run(input);
    } catch (error) {
      if (attempt % LOGGED_EACH === 0 && !(error instanceof CancelledFailure)) {
        const workflowId = workflowExecution?.workflowId;
        logger.error({ err: error, activity: name, attempt, workflowId }, 'an activity fails again and again');
      }
      throw asFailure(error);
    }
  };
  return Object.fromEntries(
    Object.entries(activities).map(([name, run]: [string, (input: never) => Promise<unknown>]) => [
      name,
      (input: never) => watched(name as keyof Activities, run, input),
    ]),
  ) as unknown as Activities;
}
