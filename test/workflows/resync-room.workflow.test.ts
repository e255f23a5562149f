/** `resyncRoom` on a real Temporal server, with the real activities over a real database and a small resident. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { launchTemporal } from '../../src/launch/temporal.ts';
import { type ResyncPolicy, defaultParkPolicy, defaultResyncPolicy } from '../../src/resync/policy.ts';
import { type ControlEvents } from '../../src/temporal/contract.ts';
import { SEARCH_ATTRIBUTE_TYPES } from '../../src/temporal/names.ts';
import { append } from '../../src/store/journal/journal.ts';
import { lockRoom, readRoom } from '../../src/store/journal/rooms.ts';
import { withTransaction } from '../../src/store/open-store.ts';
import { eventually } from '../support/processes.ts';
import {
  BUNDLE,
  MEMBERS,
  type Running,
  activitiesOf,
  attributesOf,
  ended,
  folder,
  leaveRoom,
  record,
  start,
  untilItWaits,
  whole,
  withoutLooks,
} from './running.ts';

test('a run goes straight from the fetch over the walk to its close, and says so for good', async () => {
  const { joinRoom, run, resident } = await start();
  await joinRoom();
  expect(await run.result()).toEqual(whole(resident.roomId));
  expect(await attributesOf(run)).toEqual({
    room: resident.roomId,
    phase: 'complete',
    resident: resident.serverName,
    gaps: 0,
    failure: undefined,
    members: MEMBERS + 1,
    joinedAt: expect.any(Date) as Date,
    waiters: '0',
  });
  const activities = await activitiesOf(run);
  // The ring that starts a run may be heard before or after the first look at the journal.
  expect(activities.filter((name) => name !== 'loadResync')).toEqual(['fetchState', 'walkEvents']);
  await record('straight-through', run);
});

test('a run whose residents all failed sleeps until the next round, and a ring alone does not shorten its sleep', async () => {
  const { joinRoom, run, resident, temporal, context } = await start({
    policy: { firstRetryMs: 3_000, longestRetryMs: 3_000 },
  });
  resident.isWilling = false;
  await joinRoom();
  await untilItWaits(run);
  resident.isWilling = true;
  await temporal.ring(resident.roomId);
  expect(await run.result()).toEqual(whole(resident.roomId));

  expect((await activitiesOf(run)).filter((name) => name !== 'loadResync')).toEqual([
    'fetchState',
    'endRound',
    'fetchState',
    'walkEvents',
  ]);
  const [times] = await context.store.query<{ wakeAt: string; startedAt: string }>(
    `SELECT max(data->>'wakeAt') AS "wakeAt", max(data->>'at') FILTER (WHERE type = 'StateFetchStarted') AS "startedAt"
       FROM journal WHERE stream = 'resync'`,
  );
  expect(Number(times?.startedAt)).toBeGreaterThanOrEqual(Number(times?.wakeAt));
  await record('failed-waited-rung', run);
});

test('a long wait begins with a new run of the same workflow, and a ring wakes it', async () => {
  const hour = 3_600_000;
  const { joinRoom, run, resident, temporal, context } = await start({
    policy: { firstRetryMs: hour, longestRetryMs: hour },
  });
  resident.isWilling = false;
  await joinRoom();
  const first = (await run.describe()).runId;
  await eventually('a second run', async () => ((await run.describe()).runId === first ? undefined : true));
  const second = await run.describe();
  expect(second.status.name).toBe('RUNNING');
  await untilItWaits(run);

  // A ring says only: look again. What is found here is that the wait is over.
  resident.isWilling = true;
  const { rowCount } = await context.store.pool.query(
    `UPDATE resyncs SET state = jsonb_set(state::jsonb, '{nextWakeAt}', '0')::json WHERE room_id = $1`,
    [resident.roomId],
  );
  expect(rowCount).toBe(1);
  await temporal.ring(resident.roomId);
  expect(await run.result()).toEqual(whole(resident.roomId));
  expect((await run.describe()).runId).toBe(second.runId);
  expect(await attributesOf(run)).toMatchObject({ phase: 'complete' });
});

test('a run looks again when an activity found that nothing was to be journalled', async () => {
  let refusals = 2;
  const { joinRoom, run, resident } = await start({
    activities: (real) => ({
      // As when its clock is ahead of the workflow's: it decides otherwise and writes nothing.
      fetchState: (input): Promise<ControlEvents> =>
        refusals-- > 0 ? Promise.resolve({ epoch: input.epoch, events: [] }) : real.fetchState(input),
    }),
  });
  await joinRoom();
  expect(await run.result()).toEqual(whole(resident.roomId));
  expect(refusals).toBe(-1);
});

test('a run whose attempts at gaps all fail goes on, though nothing is journalled and other gaps are due still', async () => {
  const nextAt = 1;
  let attempts = 0;
  const { joinRoom, run, resident } = await start({
    activities: (real) => ({
      loadResync: async (input) => {
        const loaded = await real.loadResync(input);
        const isOpen = loaded.state.phase === 'complete' && attempts < 5;
        return isOpen ? { ...loaded, gaps: { open: 2, nextAt, untried: 0, attempts } } : loaded;
      },
      fetchGaps: ({ epoch }): Promise<ControlEvents> => {
        attempts += 1;
        const gaps = { open: 2, nextAt, untried: 0, attempts };
        return Promise.resolve({ epoch, events: [], ...(attempts < 5 ? { gaps } : {}) });
      },
      walkEvents: async (input) => {
        const walked = await real.walkEvents(input);
        return { ...walked, gaps: { open: 2, nextAt, untried: 0, attempts } };
      },
    }),
  });
  await joinRoom();
  expect(await run.result()).toEqual(whole(resident.roomId));
  expect(attempts).toBe(5);
});

test('corrections and gaps that are due all the time take turns in a whole room', async () => {
  let done = 0;
  const gaps = () => ({ open: 1, nextAt: 1, untried: 0, attempts: done });
  const due = () => (done < 4 ? { gaps: gaps(), corrections: 5 - done } : {});
  const doOne = ({ epoch }: { readonly epoch: number }): Promise<ControlEvents> => {
    done += 1;
    return Promise.resolve({ epoch, events: [], ...due() });
  };
  const { joinRoom, run, resident } = await start({
    activities: (real) => ({
      correctEvents: doOne,
      fetchGaps: doOne,
      walkEvents: async (input) => ({ ...(await real.walkEvents(input)), ...due() }),
    }),
  });
  await joinRoom();
  expect(await run.result()).toEqual(whole(resident.roomId));
  const expected = ['fetchState', 'walkEvents', 'correctEvents', 'fetchGaps', 'correctEvents', 'fetchGaps'];
  expect(await withoutLooks(run)).toEqual(expected);
});

test('a run whose activities never write anything fails after three rounds', async () => {
  let rounds = 0;
  const { joinRoom, run } = await start({
    activities: () => ({
      fetchState: (input): Promise<ControlEvents> => {
        rounds += 1;
        return Promise.resolve({ epoch: input.epoch, events: [] });
      },
    }),
  });
  await joinRoom();
  await expect(run.result()).rejects.toMatchObject({ cause: { type: 'JournalStalled' } });
  expect(rounds).toBe(3);
});

/** An event that we lack is cited in the room. */
async function openGap(
  { context, resident }: Pick<Running, 'context' | 'resident'>,
  roomId = resident.roomId,
): Promise<void> {
  const missed = resident.missedOf(roomId);
  await withTransaction(context.store, async (tx) => {
    const room = (await lockRoom(tx, roomId))!;
    const origin = resident.serverName;
    const assumedState = room.partial ? room.currentState : null;
    const at = systemClock.now();
    await append(tx, room, [{ type: 'GapOpened', eventIds: [missed], origin, assumedState, at }]);
  });
}

test('a whole room is run again for a gap, says so while it is open, and closes with it', async () => {
  const running = await start({ policy: { firstRetryMs: 3_000, longestRetryMs: 3_000 } });
  const { joinRoom, run, resident, temporal } = running;
  resident.omitsMembers = false;
  await joinRoom();
  resident.isWilling = false;
  await openGap(running);
  await temporal.ring(resident.roomId);
  await untilItWaits(run);
  expect(await attributesOf(run)).toMatchObject({ phase: 'complete', gaps: 1 });
  resident.isWilling = true;
  expect(await run.result()).toMatchObject({ phase: 'complete' });
  expect(await attributesOf(run)).toMatchObject({ phase: 'complete', gaps: 0 });
  expect(await withoutLooks(run)).toEqual(['fetchGaps', 'fetchGaps']);
  await record('gap-in-a-whole-room', run);
});

test('eight rooms in which one server is silent about gaps keep the state of a room that is joined from nobody', async () => {
  const { joinRoom, run, resident, temporal, context, startAnother } = await start();
  const { other, runs } = await startAnother(8);
  other.omitsMembers = false;
  for (const roomId of other.roomIds) {
    await joinRoom(roomId, other);
    await openGap({ context, resident: other }, roomId);
  }
  other.isSilent = true;
  for (const roomId of other.roomIds) await temporal.ring(roomId);
  for (const each of runs) {
    const isTried = async () => ((await withoutLooks(each)).includes('fetchGaps') ? true : undefined);
    await eventually('its gap is tried', isTried);
  }
  // A server has as many of the places for gaps.
  await eventually('it is asked', () => Promise.resolve(other.unanswered >= 4 ? true : undefined));
  await joinRoom();
  expect(await run.result()).toEqual(whole(resident.roomId));
  expect(other.unanswered).toBe(4);
});

test(
  'a hundred rooms whose resident is silent about their state keep another from nothing, its walk neither',
  { timeout: 90_000 },
  async () => {
    const { joinRoom, run, resident, startAnother } = await start();
    const { other, runs } = await startAnother(101);
    other.isSilent = true;
    for (const roomId of other.roomIds) await joinRoom(roomId, other);
    for (const each of runs) {
      const isAsked = async () => ((await withoutLooks(each)).includes('fetchState') ? true : undefined);
      await eventually('its state is asked for', isAsked);
    }
    await eventually('it is asked', () => Promise.resolve(other.unanswered >= 4 ? true : undefined));
    await joinRoom();
    expect(await run.result()).toEqual(whole(resident.roomId));
    expect(other.unanswered).toBe(4);
  },
);

test('a gap of a partial room is tried in the pause between two rounds', async () => {
  const running = await start({ policy: { firstRetryMs: 4_000, longestRetryMs: 4_000 } });
  const { joinRoom, run, resident, temporal } = running;
  resident.isWilling = false;
  await joinRoom();
  await untilItWaits(run);
  resident.isWilling = true;
  await openGap(running);
  await temporal.ring(resident.roomId);
  expect(await run.result()).toMatchObject({ phase: 'complete', members: MEMBERS + 1 });
  expect((await withoutLooks(run)).slice(0, 4)).toEqual(['fetchState', 'endRound', 'fetchGaps', 'fetchState']);
  await record('gap-in-a-partial-room', run);
});

test('what a degraded room lacks is looked for before its run closes', async () => {
  const degrade = { rounds: 0, afterMs: 0, answers: 1, atLastMs: 86_400_000 };
  const { joinRoom, run, resident } = await start({ policy: { ...defaultResyncPolicy, degrade } });
  resident.withholds = true;
  await joinRoom();
  expect(await run.result()).toMatchObject({ phase: 'degraded', members: MEMBERS });
  expect(await withoutLooks(run)).toEqual(['fetchState', 'walkEvents', 'seekMissing']);
  await record('seeks-what-is-missing', run);
});

test('what is found late in a degraded room is carried on before its run closes', async () => {
  const degrade = { rounds: 0, afterMs: 0, answers: 1, atLastMs: 86_400_000 };
  const running: Running = await start({
    policy: { ...defaultResyncPolicy, degrade },
    activities: (real) => ({
      seekMissing: (input): Promise<ControlEvents> => {
        running.resident.withholds = false;
        return real.seekMissing(input);
      },
    }),
  });
  const { joinRoom, run, resident, context } = running;
  resident.withholds = true;
  await joinRoom();
  const result = await run.result();
  expect(result).toMatchObject({ phase: 'complete', members: MEMBERS + 1 });
  expect(result).not.toHaveProperty('degraded');
  expect(await withoutLooks(run)).toEqual(['fetchState', 'walkEvents', 'seekMissing', 'correctEvents']);
  const entries = await context.store.query<{ type: string }>(
    `SELECT type FROM journal WHERE position > (SELECT position FROM journal WHERE type = 'MissingSought') ORDER BY position`,
  );
  expect(entries.map(({ type }) => type)).toEqual(expect.arrayContaining(['AnchorCorrected', 'EventsCorrected']));
  await record('carries-corrections-on', run);
});

test('a run whose residents do not know what the join cites asks for the state before the join', async () => {
  const { joinRoom, run, resident } = await start();
  resident.knowsParents = false;
  await joinRoom();
  expect(await run.result()).toMatchObject({ phase: 'complete', members: MEMBERS + 1 });
  expect(await withoutLooks(run)).toEqual(['fetchState', 'fetchState', 'walkEvents']);
  await record('state-at-the-join', run);
});

const givenUpAtOnce = (then: 'park' | 'leave'): ResyncPolicy => ({
  ...{ firstRetryMs: 300_000, longestRetryMs: 300_000 },
  park: { ...defaultParkPolicy, refusedRounds: 1, then },
});

test('a parked run stays open without a timer until somebody resumes it, and says so', async () => {
  const { joinRoom, run, resident, temporal } = await start({ policy: givenUpAtOnce('park') });
  resident.forbids = true;
  await joinRoom();
  await eventually('a run of its own', async () => {
    const [started] = (await run.fetchHistory()).events ?? [];
    const before = started?.workflowExecutionStartedEventAttributes?.continuedExecutionRunId ?? '';
    return before === '' ? undefined : true;
  });
  await eventually('it is parked', async () => ((await attributesOf(run)).phase === 'parked' ? true : undefined));
  await eventually('it has looked', async () => ((await activitiesOf(run)).length > 0 ? true : undefined));
  // A ring says only: look again.
  await temporal.ring(resident.roomId);
  await eventually('it has looked again', async () => ((await activitiesOf(run)).length > 1 ? true : undefined));
  const { events } = await run.fetchHistory();
  expect((events ?? []).some((event) => event.timerStartedEventAttributes)).toBe(false);
  expect((await run.describe()).status.name).toBe('RUNNING');

  resident.forbids = false;
  await run.signal('resume', { by: 'me', reason: 'they are back' });
  expect(await run.result()).toEqual(whole(resident.roomId));
  expect(await withoutLooks(run)).toEqual(['commandRoom', 'fetchState', 'walkEvents']);
  await record('parked-and-resumed', run);
});

test('a run that is resumed while it waits for a round asks residents at once', async () => {
  const { joinRoom, run, resident } = await start({ policy: { firstRetryMs: 300_000, longestRetryMs: 300_000 } });
  resident.isWilling = false;
  await joinRoom();
  await untilItWaits(run);
  resident.isWilling = true;
  await run.signal('resume');
  expect(await run.result()).toEqual(whole(resident.roomId));
  expect(await withoutLooks(run)).toEqual(['fetchState', 'endRound', 'commandRoom', 'fetchState', 'walkEvents']);
  await record('waited-and-resumed', run);
});

test('a run that gives the room up has our users leave it, where that is the policy', async () => {
  const { joinRoom, run, resident } = await start({ policy: givenUpAtOnce('leave') });
  resident.forbids = true;
  await joinRoom();
  expect(await run.result()).toEqual({ ...ended(resident.roomId), members: null, walked: 0 });
  const given = await withoutLooks(run);
  expect(given.filter((name) => name !== 'fetchState')).toEqual(['endRound', 'leaveRoom', 'endStay']);
  await record('given-up-and-left', run);
});

test('a run that waits for a round when everybody leaves makes one more, and ends the stay', async () => {
  const running = await start({ policy: { firstRetryMs: 300_000, longestRetryMs: 300_000 } });
  const { joinRoom, run, resident } = running;
  resident.isWilling = false;
  await joinRoom();
  await untilItWaits(run);
  await leaveRoom(running);
  expect(await run.result()).toEqual({ ...ended(resident.roomId), members: null, walked: 0 });
  expect(await attributesOf(run)).toMatchObject({ phase: 'ended' });
  expect(await withoutLooks(run)).toEqual(['fetchState', 'endRound', 'fetchState', 'endStay']);
  await record('everybody-left', run);
});

test('a run whose last round gives the state walks it, and the stay ends with a whole room', async () => {
  const running = await start({ policy: { firstRetryMs: 300_000, longestRetryMs: 300_000 } });
  const { joinRoom, run, resident, context } = running;
  resident.isWilling = false;
  await joinRoom();
  await untilItWaits(run);
  resident.isWilling = true;
  await leaveRoom(running);
  // Without him, and with his join and his leave.
  expect(await run.result()).toEqual({ ...ended(resident.roomId), members: MEMBERS, walked: 2 });
  expect(await readRoom(context.store, resident.roomId)).toMatchObject({ partial: false });
});

test('a resident that is silent when everybody leaves is waited for until the last round is over', async () => {
  const running = await start();
  const { joinRoom, run, resident, context } = running;
  resident.isSilent = true;
  await joinRoom();
  await eventually('it is asked', async () => {
    const room = await readRoom(context.store, resident.roomId);
    return room?.resync.attempt === null ? undefined : true;
  });
  await leaveRoom(running, { agoMs: 55_000 });
  expect(await run.result()).toEqual({ ...ended(resident.roomId), members: null, walked: 0 });
  expect(await withoutLooks(run)).toEqual(['fetchState', 'endStay']);
  const room = await readRoom(context.store, resident.roomId);
  expect(room?.resync.lastFailure?.reason).toContain('everybody of us has left');
  expect((room?.resync.completedAt ?? 0) - (room?.resync.joinedAt ?? 0)).toBeGreaterThan(4_000);
});

test('a run whose history grows long starts anew, when the server suggests it, and goes on where it was', async () => {
  const server = await launchTemporal({
    ...{
      dataDirectory: 'memory',
      uiPort: 'none',
      namespace: 'short-histories',
      searchAttributes: SEARCH_ATTRIBUTE_TYPES,
    },
    ...{ env: process.env, progress: () => undefined },
    dynamicConfig: ['limit.historyCount.suggestContinueAsNew=40'],
  });
  onTestFinished(() => server.stop());
  const { joinRoom, run, resident, temporal, context } = await start({
    policy: { firstRetryMs: 60_000, longestRetryMs: 60_000 },
    server: { address: server.address, namespace: 'short-histories' },
  });
  resident.isWilling = false;
  await joinRoom();
  const first = await run.describe();
  await untilItWaits(run);
  const entries = () =>
    context.store.query(`SELECT type, data::text FROM journal WHERE stream = 'resync' ORDER BY position`);
  const before = await entries();
  await eventually('a second run', async () => {
    await temporal.ring(resident.roomId);
    return (await run.describe()).runId === first.runId ? undefined : true;
  });
  const second = await run.describe();
  expect(second.status.name).toBe('RUNNING');
  const ofFirst = temporal.client.workflow.getHandle(first.workflowId, first.runId);
  expect((await ofFirst.describe()).status.name).toBe('CONTINUED_AS_NEW');
  // It waits for the same round, and asks nobody before.
  await untilItWaits(run);
  expect(await entries()).toEqual(before);
  expect(await attributesOf(run)).toMatchObject({ room: resident.roomId, phase: 'waiting' });

  resident.isWilling = true;
  await context.store.query(`UPDATE resyncs SET state = jsonb_set(state::jsonb, '{nextWakeAt}', '0')::json`);
  await temporal.ring(resident.roomId);
  expect(await run.result()).toEqual(whole(resident.roomId));
});

/** Temporal offers a task to the worker that is gone for ten seconds first, and tries a failed one again ever more slowly. */
const REPLACED_TEST_MS_MAX = 90_000;

/** The workflows of today with one line changed. */
async function bundleWith(pattern: RegExp, replacement: string): Promise<string> {
  const text = await readFile(BUNDLE, 'utf8');
  const other = text.replace(pattern, replacement);
  expect(other).not.toBe(text);
  const path = join(folder, 'another-bundle.js');
  await writeFile(path, other);
  return path;
}

/** What a resync is whose wait is over and that was rung in vain. */
async function makeOverdue({ context }: Running, rungAt: number | null): Promise<void> {
  await context.store.query(
    `UPDATE resyncs SET state = jsonb_set(state::jsonb, '{nextWakeAt}', '0')::json, next_wake_at = 0, rung_at = $1`,
    [rungAt],
  );
}

test('a run that fails by a fault of the workflow is replaced by the sweep', async () => {
  const running = await start({
    bundle: await bundleWith(/let heard = bell\.rings;/, `throw new TypeError('a fault of the workflow');`),
  });
  const { joinRoom, run, resident, replaceWorker, sweep } = running;
  await joinRoom();
  await expect(run.result()).rejects.toMatchObject({ cause: { message: 'a fault of the workflow' } });
  await replaceWorker();
  await makeOverdue(running, null);
  expect(await sweep()).toEqual({ rung: 1, revived: 0, woken: 0 });
  expect(await run.result()).toEqual(whole(resident.roomId));
});

test(
  'a run that the workflow of today would not make is replaced by the sweep, also where Temporal will not let it fail',
  async () => {
    const day = 86_400_000;
    const running = await start({
      policy: { firstRetryMs: day, longestRetryMs: day },
      // Looks at the journal twice where today's looks once. What today's does instead collides with a timer of the history.
      bundle: await bundleWith(/let resync = (await load\([^;]*;)/, '$1 let resync = $1'),
    });
    const { joinRoom, run, resident, temporal, replaceWorker, sweep } = running;
    resident.isWilling = false;
    await joinRoom();
    await untilItWaits(run);
    const { runId } = await run.describe();
    await replaceWorker();
    await temporal.ring(resident.roomId);
    await eventually('a task that fails again and again', async () => {
      const { raw, status } = await run.describe();
      return status.name === 'FAILED' || (raw.pendingWorkflowTask?.attempt ?? 0) > 4 ? true : undefined;
    });

    resident.isWilling = true;
    await makeOverdue(running, 1);
    expect(await sweep()).toMatchObject({ rung: 1 });
    expect(await run.result()).toEqual(whole(resident.roomId));
    expect((await run.describe()).runId).not.toBe(runId);
  },
  REPLACED_TEST_MS_MAX,
);
