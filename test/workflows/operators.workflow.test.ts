/**
 * What people do to a run, from Temporal's UI, its command line or ours, on a real Temporal server: they command, cancel, terminate
 * and reset it at any moment, and nothing is lost.
 */
import { describe, expect, test } from 'vitest';
import { type WorkflowHandle } from '@temporalio/client';
import { type ResyncEvent } from '../../src/resync/events.ts';
import { explain } from '../../src/resync/explain.ts';
import { commandRoom } from '../../src/rooms/operate/command-room.ts';
import { operatorReads } from '../../src/rooms/read/for-operators.ts';
import { readResyncEvents } from '../../src/store/journal/journal.ts';
import { overdueResyncs, readResync } from '../../src/store/journal/rooms.ts';
import { RESYNC_WORKFLOW_TYPE } from '../../src/temporal/names.ts';
import { eventually } from '../support/processes.ts';
import { MEMBERS, type Running, attributesOf, record, start, untilItWaits, whole, withoutLooks } from './running.ts';

const HOUR = 3_600_000;
/** Attributes are written ten seconds apart, and Temporal deletes when it comes to it. */
const SLOW = { timeout: 90_000 };
const patient = { firstRetryMs: 300_000, longestRetryMs: 300_000 };

/** A room that waits for its second round. */
async function waiting(): Promise<Running> {
  const running = await start({ policy: patient });
  running.resident.isWilling = false;
  await running.joinRoom();
  await untilItWaits(running.run);
  return running;
}

async function journalOf({ context, resident }: Running): Promise<ResyncEvent[]> {
  return (await readResyncEvents(context.store, resident.roomId, 1, 0)).map(({ event }) => event);
}

async function last({ context, resident }: Running): Promise<ResyncEvent> {
  const events = await readResyncEvents(context.store, resident.roomId, 1, 0);
  return events.at(-1)!.event;
}

const statusOf = async (run: WorkflowHandle): Promise<string> => (await run.describe()).status.name;

const untilClosed = (run: WorkflowHandle, status: string): Promise<unknown> =>
  eventually(`it is ${status}`, async () => ((await statusOf(run)) === status ? true : undefined));

/** A later run of the same workflow. */
async function resumedBySignal({ temporal, run, resident }: Running): Promise<void> {
  const { taskQueue } = await run.describe();
  await temporal.client.workflow.signalWithStart(RESYNC_WORKFLOW_TYPE, {
    workflowId: run.workflowId,
    taskQueue,
    args: [{ roomId: resident.roomId }],
    signal: 'resume',
    signalArgs: [{ by: 'me', reason: 'go on' }],
  });
}

describe('cancelling a run at Temporal', () => {
  test('journals that the room is parked, closes the run as cancelled, and no sweep starts it again', async () => {
    const running = await waiting();
    const { run, context, resident, sweep } = running;
    await run.cancel();
    await expect(run.result()).rejects.toMatchObject({ cause: { name: 'CancelledFailure' } });
    expect(await statusOf(run)).toBe('CANCELLED');
    expect(await last(running)).toMatchObject({ type: 'ResyncParked', because: 'cancelled' });
    expect(await attributesOf(run)).toMatchObject({ phase: 'parked' });
    const { runId } = await run.describe();
    const overdue = { now: context.clock.now() + 9 * HOUR, overdueMs: 0, limit: 9 };
    expect(await overdueResyncs(context.store, overdue)).toEqual([]);
    expect(await sweep()).toMatchObject({ rung: 0 });
    // A ring, as of an event that was pushed, has it look and close at once.
    await running.temporal.ring(resident.roomId);
    await eventually('another run', async () => ((await run.describe()).runId === runId ? undefined : true));
    expect(await run.result()).toMatchObject({ phase: 'parked' });
    expect(await withoutLooks(run)).toEqual([]);
    await record('rung-when-cancelled', run);
  });

  test('is taken back by a signal that starts a run, and the room becomes whole', async () => {
    const running = await waiting();
    const { run, resident } = running;
    await run.cancel();
    await untilClosed(run, 'CANCELLED');
    await record('cancelled', run);
    resident.isWilling = true;
    await resumedBySignal(running);
    expect(await run.result()).toEqual(whole(resident.roomId));
    const resumed = (await journalOf(running)).find(({ type }) => type === 'ResyncResumed');
    expect(resumed && explain(resumed)).toBe('Resumed: residents are asked again now (by me: go on)');
    await record('cancelled-and-resumed', run);
  });

  test('cuts off the request that is under way', async () => {
    const running = await start();
    const { run, resident, context, joinRoom } = running;
    resident.isSilent = true;
    await joinRoom();
    await eventually('it is asked', () => Promise.resolve(resident.unanswered > 0 ? true : undefined));
    await run.cancel();
    await untilClosed(run, 'CANCELLED');
    expect((await readResync(context.store, resident.roomId))?.state).toMatchObject({ phase: 'parked', attempt: null });
  });

  test('changes nothing in a whole room, whose gaps are tried on when the sweep comes', async () => {
    const running = await start();
    const { run, resident, joinRoom } = running;
    await joinRoom();
    expect(await run.result()).toEqual(whole(resident.roomId));
    const before = await journalOf(running);
    // It is closed already: Temporal says so itself, and a run that looks again ends at once.
    await running.temporal.ring(resident.roomId);
    await run.cancel().catch(() => undefined);
    await eventually('it is closed', async () => ((await statusOf(run)) === 'RUNNING' ? undefined : true));
    expect(await journalOf(running)).toEqual(before);
  });
});

describe('a room that is cancelled by a command', () => {
  test('is parked while its resident is silent, its run ends by itself, and a further join takes it up', async () => {
    const running = await start();
    const { run, resident, context, joinRoom } = running;
    resident.isSilent = true;
    await joinRoom();
    await eventually('it is asked', () => Promise.resolve(resident.unanswered > 0 ? true : undefined));
    const said = { by: 'me', reason: 'it is too much' };
    const cancel = () => commandRoom(context, resident.roomId, { type: 'cancel' }, said);
    expect(await cancel()).toMatchObject({ isChanged: true });
    expect(await run.result()).toMatchObject({ phase: 'parked' });
    expect(await cancel()).toEqual({ isChanged: false, because: 'it is cancelled already' });
    await expect(commandRoom(context, resident.roomId, { type: 'retry' }, said)).rejects.toMatchObject({
      kind: 'inapplicable',
      message: expect.stringContaining('cancelled by me: it is too much') as string,
    });
  });
});

describe('commands of people at Temporal', () => {
  test('pin and retry by signals with plain JSON: who wants it, and why, is in the journal', async () => {
    const running = await waiting();
    const { run, resident } = running;
    await run.signal('pin-resident', { resident: resident.serverName, by: 'me', reason: 'it is near' });
    await eventually('it is journalled', async () =>
      (await last(running)).type === 'ResidentPinned' ? true : undefined,
    );
    resident.isWilling = true;
    await run.signal('retry');
    expect(await run.result()).toEqual(whole(resident.roomId));
    expect(await withoutLooks(run)).toEqual([
      ...['fetchState', 'endRound', 'commandRoom', 'commandRoom'],
      ...['fetchState', 'walkEvents'],
    ]);
    const told = (await journalOf(running)).map(explain);
    expect(told).toContain(`${resident.serverName} is pinned: it is asked before all others (by me: it is near)`);
    expect(told).toContain('Resumed: residents are asked again now (by somebody at Temporal)');
    await record('pinned-and-retried', run);
  });

  test('are answered where they are updates, in words, and refused ones fail nothing but the update', async () => {
    const running = await waiting();
    const { run, resident } = running;
    const update = (name: string, body?: unknown): Promise<unknown> =>
      run.executeUpdate<unknown, [unknown]>(name, { args: [body] });
    const ban = { resident: 'evil.example', by: 'me' };
    expect(await update('ban-resident', ban)).toEqual({
      changed: true,
      explanation: 'evil.example is banned: it is asked nothing about the room (by me)',
    });
    expect(await update('ban-resident', ban)).toEqual({
      changed: false,
      explanation: 'evil.example is banned already',
    });
    const before = await journalOf(running);
    await expect(update('pin-resident', { resident: 'elsewhere.example' })).rejects.toMatchObject({
      cause: { message: expect.stringContaining('not known to be in the room') as string },
    });
    await expect(update('pin-resident', { resident: 7 })).rejects.toMatchObject({
      cause: { message: 'resident: expected a server name, such as example.org' },
    });
    expect(await journalOf(running)).toEqual(before);
    resident.isWilling = true;
    expect(await update('retry')).toMatchObject({ changed: true });
    expect(await run.result()).toEqual(whole(resident.roomId));
  });

  test('of any content fail neither the run nor a task, and what is refused is journalled', async () => {
    const running = await waiting();
    const { run, resident, temporal } = running;
    await run.signal('pin-resident');
    await run.signal('pin-resident', null);
    await run.signal('set-policy', { policy: { purge: 'x'.repeat(20_000) } });
    await run.signal('explode', { now: true });
    const raw = (data: string, encoding: string) => ({
      payloads: [{ metadata: { encoding: Buffer.from(encoding) }, data: Buffer.from(data) }],
    });
    for (const [data, encoding] of [
      ['{"resident":', 'json/plain'],
      ['\u0000\u0001', 'binary/unheard-of'],
    ] as const) {
      await temporal.client.workflowService.signalWorkflowExecution({
        namespace: temporal.client.options.namespace,
        workflowExecution: { workflowId: run.workflowId },
        signalName: 'ban-resident',
        input: raw(data, encoding),
      });
      await temporal.client.workflowService.signalWorkflowExecution({
        namespace: temporal.client.options.namespace,
        workflowExecution: { workflowId: run.workflowId },
        signalName: 'ring',
        input: raw(data, encoding),
      });
    }
    const refused = await eventually('six refusals', async () => {
      const all = (await journalOf(running)).filter(({ type }) => type === 'CommandRefused');
      return all.length === 6 ? all : undefined;
    });
    const told = refused.map(explain).join('\n');
    expect(told).toContain('The command explode was refused, and nothing is changed: there is no such command');
    expect(told).toContain('resident: expected a server name');
    expect(told).toContain('body: expected a JSON object');
    resident.isWilling = true;
    await run.signal('retry');
    expect(await run.result()).toEqual(whole(resident.roomId));
    const { events } = await run.fetchHistory();
    expect((events ?? []).filter((event) => event.workflowTaskFailedEventAttributes)).toEqual([]);
  });

  test('are told of in words, with what each wants, and queries say where the room is', async () => {
    const running = await waiting();
    const { run, resident } = running;
    expect(await run.query('status')).toContain('every resident failed');
    expect(await run.query('state')).toMatchObject({ roomId: resident.roomId, state: { phase: 'waiting' } });
    const metadata = await run.query('__temporal_workflow_metadata');
    const text = JSON.stringify(metadata);
    for (const name of ['retry', 'resume', 'cancel', 'pin-resident', 'ban-resident', 'set-policy']) {
      expect(text).toContain(`"name":"${name}"`);
    }
    expect(text).toContain('JSON: {\\"resident\\": \\"example.org\\"');
  });
});

describe('what is done to a run without asking it', () => {
  test('terminated while it waits, the sweep starts a fresh run that goes on where the journal is', async () => {
    const running = await waiting();
    const { run, resident, context, sweep } = running;
    await run.terminate('a test');
    resident.isWilling = true;
    await context.store.query(
      `UPDATE resyncs SET state = jsonb_set(state::jsonb, '{nextWakeAt}', '0')::json, next_wake_at = 0`,
    );
    expect(await sweep()).toMatchObject({ rung: 1 });
    expect(await run.result()).toEqual(whole(resident.roomId));
  });

  test('terminated in the middle of a fetch, the attempt goes on under its own number', async () => {
    const running = await start();
    const { run, resident, context, sweep, joinRoom } = running;
    resident.isSilent = true;
    await joinRoom();
    await eventually('it is asked', () => Promise.resolve(resident.unanswered > 0 ? true : undefined));
    await run.terminate('a test');
    resident.isSilent = false;
    await context.store.query(`UPDATE resyncs SET next_wake_at = 0, rung_at = NULL`);
    expect(await sweep()).toMatchObject({ rung: 1 });
    expect(await run.result()).toEqual(whole(resident.roomId));
    const started = (await journalOf(running)).filter(({ type }) => type === 'StateFetchStarted');
    expect(started).toHaveLength(1);
  });

  test('reset to its begin while it waits, or when it is over, it does nothing twice', async () => {
    const running = await waiting();
    const { run, resident, temporal } = running;
    const reset = async (): Promise<void> => {
      const { events } = await run.fetchHistory();
      const first = (events ?? []).find((event) => event.workflowTaskCompletedEventAttributes);
      await temporal.client.workflowService.resetWorkflowExecution({
        namespace: temporal.client.options.namespace,
        workflowExecution: { workflowId: run.workflowId, runId: (await run.describe()).runId },
        reason: 'a test',
        requestId: `reset ${(await run.describe()).runId}`,
        workflowTaskFinishEventId: first?.eventId ?? null,
      });
    };
    await reset();
    await untilItWaits(run);
    expect((await journalOf(running)).map(({ type }) => type)).toEqual([
      ...['PartialStateJoined', 'StateFetchStarted', 'StateFetchFailed', 'RoundFailed'],
    ]);
    resident.isWilling = true;
    await run.signal('retry');
    expect(await run.result()).toEqual(whole(resident.roomId));
    const before = await journalOf(running);
    await reset();
    expect(await run.result()).toEqual(whole(resident.roomId));
    const after = await journalOf(running);
    // The signal is given to the new run, too, and has nothing to resume.
    expect(after.filter(({ type }) => type !== 'CommandRefused')).toEqual(before);
  });
});

test(
  'rooms of one resident are retried at once by a batch of Temporal, found by what it was last asked',
  SLOW,
  async () => {
    const running = await start({ policy: patient });
    const { startAnother, joinRoom, temporal } = running;
    const { other, runs } = await startAnother(3);
    other.isWilling = false;
    for (const roomId of other.roomIds) await joinRoom(roomId, other);
    for (const each of runs) await untilItWaits(each);
    for (const each of runs) {
      await eventually('it is written', async () =>
        (await attributesOf(each)).phase === 'waiting' ? true : undefined,
      );
      expect(await attributesOf(each)).toMatchObject({
        ...{ phase: 'waiting', resident: other.serverName, failure: 'transient', waiters: '0' },
        joinedAt: expect.any(Date) as Date,
      });
    }
    other.isWilling = true;
    const query = `RejoinderResident = '${other.serverName}' AND RejoinderFailure = 'transient' AND ExecutionStatus = 'Running'`;
    await eventually('all are found', async () => {
      const { count } = await temporal.client.workflow.count(query);
      return count === 3 ? true : undefined;
    });
    await temporal.client.workflowService.startBatchOperation({
      namespace: temporal.client.options.namespace,
      jobId: `retry ${other.serverName}`,
      reason: 'a test',
      visibilityQuery: query,
      signalOperation: { signal: 'retry', identity: 'a test' },
    });
    for (const each of runs) expect(await each.result()).toMatchObject({ phase: 'complete', members: MEMBERS + 1 });
  },
);

test('a room tells its whole story when Temporal has forgotten its histories', SLOW, async () => {
  const running = await waiting();
  const { run, resident, temporal, context } = running;
  await run.cancel();
  await untilClosed(run, 'CANCELLED');
  const { runId: cancelled } = await run.describe();
  resident.isWilling = true;
  await resumedBySignal(running);
  expect(await run.result()).toEqual(whole(resident.roomId));
  for (const runId of [cancelled, (await run.describe()).runId]) {
    await temporal.client.workflowService.deleteWorkflowExecution({
      namespace: temporal.client.options.namespace,
      workflowExecution: { workflowId: run.workflowId, runId },
    });
  }
  await eventually('Temporal knows nothing of it', async () =>
    run.describe().then(
      () => undefined,
      () => true,
    ),
  );
  const { journal } = await operatorReads(context).describeRoom(resident.roomId);
  const told = journal.map(({ event }) => explain(event));
  expect(told.map((line) => line.split(/[ :,(]/)[0])).toEqual([
    ...[`@me:${context.serverName}`.split(':')[0], 'Attempt', 'Attempt', 'Round', 'Parked', 'Resumed', 'Attempt'],
    ...[resident.serverName.split(':')[0], 'Events', 'The'],
  ]);
  expect(told).toContain('Parked (cancelled): cancelled by somebody at Temporal: the run was cancelled');
});
