/**
 * Activities whose worker was killed: Temporal misses their heartbeats after ten seconds, and the workflow's next task waits as long
 * for the worker that had it in memory. A worker that starts and knows that its predecessor is dead ends both at once.
 */
import { type Client } from '@temporalio/client';
import { ApplicationFailure } from '@temporalio/common';
import pLimit from 'p-limit';

/** A look costs the server a few milliseconds. */
const LOOKS_AT_ONCE = 15;
/** temporal.api.enums.v1.PendingActivityState. */
const STARTED = 2;

export interface OrphansQuery {
  /** Of runs that may have one. One that has closed or never was is passed over. */
  readonly workflowIds: readonly string[];
  /** Whether the worker that had this identity can be at work no more. */
  readonly isDead: (identity: string) => boolean;
}

/** Gives how many it ended: they are tried again at once, as after any failure of ours, under the next attempt's number. */
export async function endOrphans(client: Client, { workflowIds, isDead }: OrphansQuery): Promise<number> {
  const limit = pLimit(LOOKS_AT_ONCE);
  const ended = await Promise.all(
    workflowIds.map((workflowId) => limit(() => endOrphansOf(client, workflowId, isDead).catch(() => 0))),
  );
  return ended.reduce((sum, count) => sum + count, 0);
}

async function endOrphansOf(client: Client, workflowId: string, isDead: OrphansQuery['isDead']): Promise<number> {
  const { raw, runId } = await client.workflow.getHandle(workflowId).describe();
  const orphans = (raw.pendingActivities ?? []).filter(
    ({ state, lastWorkerIdentity }) => Number(state) === STARTED && isDead(lastWorkerIdentity ?? ''),
  );
  for (const { activityId, lastWorkerIdentity } of orphans) {
    const failure = ApplicationFailure.create({
      message: `its worker, ${lastWorkerIdentity ?? ''}, has ended`,
      type: 'WorkerDied',
      nextRetryDelay: '1 millisecond',
    });
    await client.activity.fail({ workflowId, runId, activityId: activityId ?? '' }, failure);
  }
  if (orphans.length > 0) {
    const execution = { workflowId, runId };
    await client.workflowService.resetStickyTaskQueue({ namespace: client.options.namespace, execution });
  }
  return orphans.length;
}
