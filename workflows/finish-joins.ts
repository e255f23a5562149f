/** Run by a schedule: finishes joins that a resident accepted and this server lost before it could journal them. */
import { proxyActivities } from '@temporalio/workflow';
import { type Activities, type FinishJoinsResult } from '../src/temporal/contract.ts';

// Each join may take as long as a resident lets us wait. A pass that fails is not retried long: the schedule goes on.
const { finishJoins } = proxyActivities<Pick<Activities, 'finishJoins'>>({
  startToCloseTimeout: '6 hours',
  heartbeatTimeout: '10 seconds',
  retry: { maximumAttempts: 3 },
});

export async function finishLostJoins(): Promise<FinishJoinsResult> {
  return finishJoins.executeWithOptions({ summary: 'Send signed joins again' }, []);
}
