import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { readFile } from 'node:fs/promises';
import { readJoinTemplate } from '../../src/federation/join-template.ts';
import { freePort } from '../../src/launch/ports.ts';
import { type SynapseRoom, createPopulatedRoom } from '../../src/launch/synapse-room.ts';
import { type SynapseUser } from '../../src/launch/synapse-user.ts';
import {
  type EventId,
  type RoomAlias,
  type RoomId,
  type ServerName,
  type UserId,
} from '../../src/matrix/identifiers.ts';
import { ROOM_VERSIONS } from '../../src/matrix/room-versions.ts';
import { joinRoom } from '../../src/rooms/join/join.ts';
import { readEventStates } from '../../src/store/events/event-states.ts';
import { readRoom } from '../../src/store/journal/rooms.ts';
import { readSnapshot } from '../../src/store/snapshots/snapshots.ts';
import { type FaultProxy, startFaultProxy } from '../../src/simulator/tls-proxy.ts';
import { type TestRejoinder, startTestRejoinder } from '../support/rejoinder.ts';
import { type TestSynapse, startTestSynapse, whySynapseIsMissing } from '../support/synapse.ts';

const missing = await whySynapseIsMissing();
const signal = new AbortController().signal;

const MAKE_JOIN = /^GET \/_matrix\/federation\/v1\/make_join\//;
const SEND = /^PUT \/_matrix\/federation\/v1\/send\//;
/** More than one get_missing_events gives, and more than ten do at their least. */
const MISSED = 120;

interface Page {
  readonly chunk: readonly { readonly event_id: string }[];
  readonly end?: string;
}

/** Everything in the room since an event, that event included, as the homeserver tells one of its users. */
async function timelineSince(user: SynapseUser, roomId: string, since: string): Promise<Set<string>> {
  const path = `/_matrix/client/v3/rooms/${encodeURIComponent(roomId)}/messages?dir=b&limit=100`;
  const seen = new Set<string>();
  for (let from = ''; ;) {
    const page = (await user.call('GET', `${path}${from}`)) as unknown as Page;
    for (const event of page.chunk) {
      seen.add(event.event_id);
      if (event.event_id === since) return seen;
    }
    if (page.end === undefined) throw new Error(`${since} is not in the timeline`);
    from = `&from=${encodeURIComponent(page.end)}`;
  }
}

describe.skipIf(missing !== undefined)('a room of a real Synapse whose members speak while we join it', () => {
  let synapse: TestSynapse;
  let room: SynapseRoom;
  let roomId: RoomId;
  beforeAll(async () => {
    synapse = await startTestSynapse();
    room = await createPopulatedRoom({
      synapse,
      members: 8,
      roomVersion: '11',
      aliasLocalpart: 'beside',
      progress: () => undefined,
    });
    roomId = room.roomId as RoomId;
  });
  afterAll(() => synapse.stop());

  /** A Rejoinder that Synapse reaches through a proxy of its own, so that what is pushed can be lost on the way. */
  async function reachedThroughProxy(): Promise<{ ours: TestRejoinder; inbound: FaultProxy }> {
    const { certificates } = synapse;
    const listensOn = await freePort();
    const inbound = await startFaultProxy({
      certificatePem: await readFile(certificates.certificateFile, 'utf8'),
      keyPem: await readFile(certificates.keyFile, 'utf8'),
      upstream: { port: listensOn, authorityPem: await readFile(certificates.authorityFile, 'utf8') },
    });
    onTestFinished(() => inbound.stop());
    return { ours: await startTestRejoinder(synapse, undefined, { listensOn, reachedAt: inbound.port }), inbound };
  }

  /** What Synapse would build on now, as its template for a further join says. */
  async function theirExtremities({ context }: TestRejoinder): Promise<readonly EventId[]> {
    const another = `@another:${context.serverName}` as UserId;
    const resident = synapse.serverName as ServerName;
    const answer = await context.federation.makeJoin(resident, roomId, another, ROOM_VERSIONS, { signal });
    const reading = readJoinTemplate(answer, ROOM_VERSIONS, { roomId, userId: another });
    if (!reading.ok) throw new Error(reading.reason);
    return reading.template.prevEventIds;
  }

  async function untilTaken({ context }: TestRejoinder, eventId: string): Promise<void> {
    const isTaken = async (): Promise<boolean> =>
      (await readEventStates(context.store, roomId, [eventId as EventId])).size > 0;
    await vi.waitUntil(isTaken, { timeout: 25_000, interval: 50 });
  }

  /** Ours, as the journal's folds have it: timeline since the join, state, extremities. */
  async function ourRoom({ context: { store } }: TestRejoinder, joinEventId: string) {
    const held = await store.query<{ eventId: string }>(
      // Synapse joins loose ends of the graph by events that it shows to nobody.
      `SELECT e.event_id AS "eventId" FROM event_states e JOIN pdus p ON p.nid = e.event_nid
        WHERE e.room_id = $1 AND e.verdict = 'accepted' AND p.type <> 'org.matrix.dummy_event'`,
      [roomId],
    );
    const extremities = await store.query<{ eventId: string }>(
      `SELECT event_id AS "eventId" FROM forward_extremities WHERE room_id = $1`,
      [roomId],
    );
    const { currentState, partial } = (await readRoom(store, roomId))!;
    const state = await readSnapshot(store, roomId, currentState!);
    const timeline = new Set(held.map(({ eventId }) => eventId));
    expect(timeline.has(joinEventId)).toBe(true);
    return {
      partial,
      timeline,
      state: new Set(state.map(({ eventId }) => eventId as string)),
      extremities: new Set(extremities.map(({ eventId }) => eventId)),
    };
  }

  test('has the same timeline since the join, state and extremities on both sides, also after a gap', async () => {
    const { ours, inbound } = await reachedThroughProxy();
    const say = (n: number, text: string): Promise<string> =>
      room.joined[n % room.joined.length]!.sendMessage(roomId, `${text} ${n}`);

    // Between make_join and send_join: these stand beside our join, on parents of its own.
    const template = synapse.proxy.inject({ match: MAKE_JOIN, fault: { kind: 'hold', afterBytes: 0 } });
    const userId = `@me:${ours.context.serverName}` as UserId;
    const joining = joinRoom(ours.context, { room: room.alias as RoomAlias, userId, via: [], signal });
    await template.held;
    const beside = [await say(1, 'beside'), await say(2, 'beside'), await say(3, 'beside')];
    synapse.proxy.clear();
    const { eventId: joinEventId, partial } = await joining;
    expect(partial).toBe(true);
    await untilTaken(ours, await say(4, 'after'));
    expect(await ours.resync(roomId)).toBe('complete');
    await untilTaken(ours, await say(5, 'in the whole room'));

    // Nothing arrives any more, until a request of ours tells Synapse that we are there.
    inbound.inject({ match: SEND, fault: { kind: 'status', status: 503, body: '{}' } });
    let last = '';
    for (let n = 0; n < MISSED; n += 1) last = await say(n, 'missed');
    await room.owner.sendState(roomId, 'm.room.topic', '', { topic: 'changed meanwhile' });
    inbound.clear();
    await theirExtremities(ours);
    last = await say(6, 'at last');
    await untilTaken(ours, last);

    const [here, theirState] = [await ourRoom(ours, joinEventId), await room.owner.state(roomId)];
    const theirTimeline = await timelineSince(room.owner, roomId, beside[0]!);
    expect(here.partial).toBe(false);
    expect([...theirTimeline].filter((eventId) => !here.timeline.has(eventId))).toEqual([]);
    expect([...here.timeline].filter((eventId) => !theirTimeline.has(eventId))).toEqual([]);
    expect(here.state).toEqual(new Set(theirState.map((event) => event.event_id)));
    expect(here.extremities).toEqual(new Set(await theirExtremities(ours)));
  }, 60_000);
});
