/** Run by a schedule: deletes what nothing needs any more. */
import { proxyActivities } from '@temporalio/workflow';
import { type Activities, type MaintainResult, type PassInput } from '../src/temporal/contract.ts';

const activities = proxyActivities<Pick<Activities, 'maintain'>>({
  startToCloseTimeout: '2 hours',
  heartbeatTimeout: '2 minutes',
  retry: { maximumAttempts: 3 },
});

export async function maintain(input: PassInput): Promise<MaintainResult> {
  return activities.maintain.executeWithOptions({ summary: 'Delete in batches' }, [input]);
}
