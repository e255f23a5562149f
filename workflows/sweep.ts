/** Run by a schedule: finds the rooms that should be moving and are not, and rings them. */
import { proxyActivities } from '@temporalio/workflow';
import { type Activities, type PassInput, type SweepResult } from '../src/temporal/contract.ts';

// A pass that fails is not retried long: the schedule starts the next one anyway.
const { sweep } = proxyActivities<Pick<Activities, 'sweep'>>({
  startToCloseTimeout: '10 minutes',
  heartbeatTimeout: '10 seconds',
  retry: { maximumAttempts: 3 },
});

export async function sweepOverdueResyncs(input: PassInput): Promise<SweepResult> {
  return sweep.executeWithOptions({ summary: 'Ring rooms that are overdue' }, [input]);
}
