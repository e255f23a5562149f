import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type SynapseRoom, createPopulatedRoom } from '../../src/launch/synapse-room.ts';
import { type RoomId } from '../../src/matrix/identifiers.ts';
import { SEARCH_ATTRIBUTES, resyncWorkflowId } from '../../src/temporal/names.ts';
import { parseSeries } from '../metrics/series.ts';
import { type RejoinderProcesses, eventually, startProcesses } from '../support/processes.ts';
import { type TestSynapse, startTestSynapse, whySynapseIsMissing } from '../support/synapse.ts';
import { journalOf, ourView, theirView } from './room-of-synapse.ts';

const missing = await whySynapseIsMissing();
const STATE_BODY = /^GET \/_matrix\/federation\/v1\/state\//;

describe.skipIf(missing !== undefined)('a server and a worker beside a real Synapse', () => {
  let synapse: TestSynapse;
  let rejoinder: RejoinderProcesses;
  beforeAll(async () => {
    synapse = await startTestSynapse();
    rejoinder = await startProcesses(synapse, { hasMetrics: true });
    await Promise.all([rejoinder.serve(), rejoinder.worker()]);
  });
  afterAll(async () => {
    await rejoinder.stop();
    await synapse.stop();
  });

  const populate = (roomVersion: string, aliasLocalpart: string): Promise<SynapseRoom> =>
    createPopulatedRoom({ synapse, members: 20, roomVersion, aliasLocalpart, progress: () => undefined });

  test.each(['10', '11'])('a room of version %s has the members and the state that Synapse has', async (version) => {
    const room = await populate(version, `room${version}`);
    const join = await rejoinder.ask('/rooms/join', { room: room.alias, user_id: 'me' });
    expect(join).toMatchObject({ status: 200, body: { room_id: room.roomId, partial: true, members_omitted: true } });

    const ours = await ourView(rejoinder, room.roomId);
    expect(ours).toEqual(await theirView(room.owner, room.roomId));
    expect(ours.members).toHaveLength(20 + 3);

    const run = rejoinder.temporal.workflow.getHandle(resyncWorkflowId(room.roomId as RoomId));
    expect(await run.result()).toMatchObject({ roomId: room.roomId, phase: 'complete', members: 21, corrected: 0 });
    const { typedSearchAttributes, memo, staticSummary } = await run.describe().then(async (described) => ({
      typedSearchAttributes: described.typedSearchAttributes,
      memo: described.memo,
      staticSummary: await described.staticSummary(),
    }));
    const written = typedSearchAttributes.getAll().map(({ key, value }) => [key.name, value]);
    expect(Object.fromEntries(written)).toMatchObject({
      [SEARCH_ATTRIBUTES.room]: room.roomId,
      [SEARCH_ATTRIBUTES.phase]: 'complete',
      [SEARCH_ATTRIBUTES.resident]: synapse.serverName,
    });
    expect(memo).toEqual({ room: room.roomId });
    expect(staticSummary).toBe(`Make ${room.roomId} whole`);
  });

  test('server and worker tell Prometheus each what it did for a room', async () => {
    const room = await populate('11', 'counted');
    const scrapeBoth = async () => ({
      serve: parseSeries(await rejoinder.scrape('serve')),
      worker: parseSeries(await rejoinder.scrape('worker')),
    });
    const before = await scrapeBoth();
    await rejoinder.ask('/rooms/join', { room: room.alias, user_id: 'me' });
    await ourView(rejoinder, room.roomId);
    const run = rejoinder.temporal.workflow.getHandle(resyncWorkflowId(room.roomId as RoomId));
    await run.result();

    const after = await scrapeBoth();
    const grown = (role: 'serve' | 'worker', name: string): number =>
      (after[role].get(name) ?? NaN) - (before[role].get(name) ?? NaN);
    expect(grown('serve', 'rejoinder_joins_total{outcome="partial"}')).toBe(1);
    expect(grown('serve', 'rejoinder_join_seconds_count')).toBe(1);
    expect(grown('serve', 'rejoinder_federation_requests_total{endpoint="send_join",outcome="ok"}')).toBe(1);
    expect(grown('serve', 'rejoinder_resync_seconds_count{outcome="straight"}')).toBe(0);
    expect(grown('worker', 'rejoinder_resync_seconds_count{outcome="straight"}')).toBe(1);
    expect(grown('worker', 'rejoinder_state_fetch_total{outcome="fetched"}')).toBe(1);
    expect(grown('worker', 'rejoinder_state_fetch_seconds_count')).toBe(1);
    expect(grown('worker', 'rejoinder_fetched_events_total{endpoint="state"}')).toBeGreaterThan(20);
    expect(grown('worker', 'rejoinder_fetched_bytes_total{endpoint="state"}')).toBeGreaterThan(20 * 300);
    expect(grown('worker', 'rejoinder_verifications_total{outcome="passed"}')).toBeGreaterThan(20);
    expect(after.worker.get('rejoinder_verification_queue_events')).toBe(0);
  });

  test('what is said and who comes while the room is partial is judged at once and again with full state', async () => {
    const room = await populate('11', 'lively');
    const newcomer = await synapse.registerUser('newcomer');
    const held = synapse.proxy.inject({ match: STATE_BODY, fault: { kind: 'hold', afterBytes: 1_000 } });
    await rejoinder.ask('/rooms/join', { room: room.alias, user_id: 'me' });
    await held.held;

    const sent = await room.joined[2]?.sendMessage(room.roomId, 'seen while partial');
    await newcomer.join(room.roomId);
    const renamed = await room.owner.sendState(room.roomId, 'm.room.name', '', { name: 'Renamed while partial' });
    const join = (await room.owner.members(room.roomId)).get(newcomer.userId)?.eventId;
    const verdicts = (): Promise<{ eventId: string; verdict: string; partial: boolean }[]> =>
      rejoinder.store.query(
        `SELECT event_id AS "eventId", verdict, partial FROM event_states WHERE event_id = ANY ($1) ORDER BY position`,
        [[sent, join, renamed]],
      );
    const judged = (partial: boolean) =>
      [sent, join, renamed].map((eventId) => ({ eventId, verdict: 'accepted', partial }));
    await eventually('the events arrive', async () => ((await verdicts()).length === 3 ? true : undefined));
    expect(await verdicts()).toEqual(judged(true));
    const early = await rejoinder.ask(`/rooms/${encodeURIComponent(room.roomId)}`);
    expect(early.body).toMatchObject({ phase: 'fetching', name: 'Renamed while partial' });
    const unready = await rejoinder.ask(`/rooms/${encodeURIComponent(room.roomId)}/members?wait_ms=0`);
    expect(unready).toMatchObject({ status: 503, body: { errcode: 'M_UNABLE_DUE_TO_PARTIAL_STATE' } });

    held.remove();
    held.release();
    expect(await ourView(rejoinder, room.roomId)).toEqual(await theirView(room.owner, room.roomId));
    expect(await verdicts()).toEqual(judged(false));
    expect(await journalOf(rejoinder, room.roomId)).toMatchObject([
      { type: 'PartialStateJoined' },
      { type: 'StateFetchStarted' },
      { type: 'StateFetched' },
      { type: 'EventsWalked', walked: 4, corrected: 0 },
      { type: 'ResyncCompleted', members: 22 },
    ]);
  });

  test('a second user of ours joins a partial room through its residents, and one resync serves both', async () => {
    const room = await populate('10', 'shared');
    const held = synapse.proxy.inject({ match: STATE_BODY, fault: { kind: 'hold', afterBytes: 1_000 } });
    await rejoinder.ask('/rooms/join', { room: room.alias, user_id: 'first' });
    await held.held;
    const joinsBefore = synapse.proxy.counts().get('PUT /_matrix/federation/v2/send_join')?.requests ?? 0;
    const second = await rejoinder.ask('/rooms/join', { room: room.alias, user_id: 'second' });
    expect(second).toMatchObject({ status: 200, body: { room_id: room.roomId, partial: true } });
    expect(synapse.proxy.counts().get('PUT /_matrix/federation/v2/send_join')?.requests).toBe(joinsBefore + 1);

    held.remove();
    held.release();
    const ours = await ourView(rejoinder, room.roomId);
    expect(ours).toEqual(await theirView(room.owner, room.roomId));
    const journal = await journalOf(rejoinder, room.roomId);
    expect(journal.filter(({ type }) => type === 'PartialStateJoined')).toHaveLength(1);
    expect(journal).toContainEqual(
      expect.objectContaining({ type: 'ResidentsLearned', userId: `@second:${rejoinder.serverName}` }),
    );
    expect(journal.at(-1)).toMatchObject({ type: 'ResyncCompleted', members: 22 });
  });
});
