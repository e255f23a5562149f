import { describe, expect, test } from 'vitest';
import { systemClock } from '../../src/clock.ts';
import { type ServerName, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';
import { NAMED_FAULTS } from '../../src/simulator/named-faults.ts';
import { type SimulatedStage, digestOf, joinIt, simulatedStage } from '../support/simulated-stage.ts';

const signal = new AbortController().signal;

/** What the journal tells of the state fetches: who was asked and how it ended. */
async function fetches({ ours, roomId }: SimulatedStage): Promise<string[]> {
  const { journal } = await ours.reads.describeRoom(roomId);
  return journal.flatMap(({ event }) => {
    if (event.type === 'StateFetchFailed') return [`${event.resident} ${event.failure}`];
    return event.type === 'StateFetched' ? [`${event.resident} gave it`] : [];
  });
}

describe('a room of the simulated federation', () => {
  test('of 300 members on 40 servers is partial after the join, and whole and equal after the resync', async () => {
    const here = await simulatedStage();
    const { simulator, ours, roomId } = here;
    expect(await joinIt(here)).toMatchObject({ roomId, partial: true, membersOmitted: true });
    expect(ours.rung).toEqual([roomId]);
    expect(await ours.reads.state(roomId, { waitMs: 0, members: true, signal })).toMatchObject({ ready: false });
    expect(await ours.resync(roomId)).toBe('complete');
    expect(await digestOf(here)).toEqual(await simulator.digest(roomId));

    const counts = await simulator.counts();
    const requestsOf = (endpoint: string): number =>
      counts.filter((row) => row.endpoint === endpoint).reduce((sum, row) => sum + row.requests, 0);
    // The one event is the parent of the join, a message; the one server asked for its own keys is the notary.
    expect({ state: requestsOf('state'), stateIds: requestsOf('state_ids'), event: requestsOf('event') }).toEqual({
      state: 1,
      stateIds: 1,
      event: 1,
    });
    expect(counts.filter(({ endpoint }) => endpoint === 'server_keys').map(({ server }) => server)).toEqual([
      simulator.residents[0],
    ]);
    expect(counts.filter(({ failed }) => failed > 0)).toEqual([]);
  });

  test.each(['1', '2', '3', '4', '5', '6', '7', '8', '9', '10', '12'])(
    'of version %s becomes whole',
    async (roomVersion) => {
      const here = await simulatedStage({ members: 40, servers: 12, roomVersion });
      expect(await joinIt(here)).toMatchObject({ partial: true });
      expect(await here.ours.resync(here.roomId)).toBe('complete');
      expect(await digestOf(here)).toEqual(await here.simulator.digest(here.roomId));
    },
  );

  test('with a crowd whose joins are made while they are sent is whole and equal', async () => {
    const here = await simulatedStage({ members: 20, servers: 5, crowd: 1_500 });
    expect(here.simulator.room.members).toBe(1_520);
    expect(await joinIt(here)).toMatchObject({ partial: true });
    expect(await here.ours.resync(here.roomId)).toBe('complete');
    expect(await digestOf(here)).toEqual(await here.simulator.digest(here.roomId));
  });

  test('that goes on while it is partial is whole with everything that happened in it', async () => {
    const here = await simulatedStage();
    const { simulator, ours, roomId } = here;
    await joinIt(here);
    const speakers = await simulator.speakers(roomId, 30);
    const { creator } = simulator.room;
    const others = speakers.filter((userId) => userId !== creator);
    const member = (sender: UserId, stateKey: UserId, membership: string) => ({
      sender,
      type: 'm.room.member',
      stateKey,
      content: { membership },
    });
    await simulator.emit(roomId, [
      ...others.map((sender) => ({ sender, type: 'm.room.message', content: { body: 'hello', msgtype: 'm.text' } })),
      member(others[0]!, others[0]!, 'leave'),
      member(creator, others[1]!, 'ban'),
      { sender: creator, type: 'm.room.topic', stateKey: '', content: { topic: 'while it is partial' } },
    ]);
    await simulator.pushesSettled();
    const pushed = (await simulator.counts()).filter(({ direction }) => direction === 'sent');
    expect(pushed.filter(({ failed }) => failed > 0)).toEqual([]);
    await ours.judged(roomId);
    expect(await ours.resync(roomId)).toBe('complete');
    expect(await digestOf(here)).toEqual(await simulator.digest(roomId));
  });
});

describe('a room with events of nearly the size that events may have', () => {
  /** Power levels of some 40,000 bytes, nearly twice as many when they are indented, and a topic of 36,000, escaped 72,000. */
  async function withLargeEvents(): Promise<SimulatedStage> {
    const here = await simulatedStage({ members: 20, servers: 5 });
    const { simulator, roomId } = here;
    const { creator } = simulator.room;
    const levels = (await simulator.stateEvent(roomId, 'm.room.power_levels', ''))!.content;
    const others = Array.from({ length: 1_300 }, (_, i) => [`@user-${i}:one-of-many.test`, 1] as const);
    const users = { ...(levels['users'] as JsonObject), ...Object.fromEntries(others) };
    await simulator.emit(roomId, [
      { sender: creator, type: 'm.room.power_levels', stateKey: '', content: { ...levels, users } },
      { sender: creator, type: 'm.room.topic', stateKey: '', content: { topic: '\u6f22'.repeat(12_000) } },
    ]);
    return here;
  }

  // https://spec.matrix.org/v1.16/client-server-api/#size-limits: the limit is on canonical JSON, and `unsigned` is not weighed.
  test.each(['escaped', 'indented', 'unsigned'] as const)(
    'whose residents send them in a longer text (%s) is joined, and becomes whole and equal at the first attempt',
    async (text) => {
      const here = await withLargeEvents();
      const { simulator, ours, roomId } = here;
      await simulator.inject({ fault: { kind: 'long-text', text, events: { share: 1 } } });
      expect(await joinIt(here)).toMatchObject({ roomId, partial: true });
      expect(await ours.resync(roomId)).toBe('complete');
      expect((await fetches(here)).map((outcome) => outcome.replace(/^\S+ /, ''))).toEqual(['gave it']);
      expect(await digestOf(here)).toEqual(await simulator.digest(roomId));
    },
  );
});

// https://spec.matrix.org/v1.16/appendices/#room-ids: whatever code points, but for NUL and the colon.
test.each(['a\tb', 'a\nb', 'a\r\n\u0001b', 'a\u007fb', 'a/b?c#d%2Fe', '\u{1f41f} "\\{}'])(
  'a room whose id and alias begin with %j is joined, talked in while it is partial, and whole and equal after the resync',
  async (namesBegin) => {
    const here = await simulatedStage({ members: 20, servers: 4, namesBegin });
    const { simulator, ours, roomId } = here;
    expect(roomId.startsWith(`!${namesBegin}`)).toBe(true);
    expect(await joinIt(here)).toMatchObject({ roomId, partial: true });
    const said = { type: 'm.room.message', content: { body: 'hello', msgtype: 'm.text' } };
    const speakers = await simulator.speakers(roomId, 4);
    await simulator.emit(roomId, [
      ...speakers.map((sender) => ({ ...said, sender })),
      { sender: simulator.room.creator, type: 'm.room.topic', stateKey: '', content: { topic: 'while it is partial' } },
    ]);
    await simulator.pushesSettled();
    expect((await simulator.counts()).filter(({ direction, failed }) => direction === 'sent' && failed > 0)).toEqual(
      [],
    );
    await ours.judged(roomId);
    expect(await ours.resync(roomId)).toBe('complete');
    expect(await digestOf(here)).toEqual(await simulator.digest(roomId));
  },
);

test('who joins a room of a version that no resident may give us is told so, and not that it is forbidden', async () => {
  const here = await simulatedStage({ members: 10, servers: 3 });
  const fault = { kind: 'status', status: 400, errcode: 'M_INCOMPATIBLE_ROOM_VERSION' } as const;
  await here.simulator.inject({ fault, endpoint: 'make_join' });
  await expect(joinIt(here)).rejects.toMatchObject({ kind: 'unsupported-version' });
});

describe('a resident that fails in the middle of the state fetch', () => {
  test('by cutting the state short: what came before the cut is kept, and the next one is asked for the rest', async () => {
    const here = await simulatedStage({ members: 120, servers: 10 });
    const { simulator, ours, roomId } = here;
    const { joinedVia } = await joinIt(here);
    const { fault, endpoint } = NAMED_FAULTS['truncate']!;
    await simulator.inject({ fault, server: joinedVia, ...(endpoint === undefined ? {} : { endpoint }) });
    expect(await ours.resync(roomId)).toBe('complete');
    const { journal } = await ours.reads.describeRoom(roomId);
    const fetched = journal.flatMap(({ event }) => (event.type === 'StateFetched' ? [event.counts.fetched] : []));
    // 162 events are to be had beside those of the join: 92 of them come before the cut.
    expect(fetched).toHaveLength(1);
    expect(fetched[0]).toBeLessThan(100);
  });

  test('by leaving out events, and the others too: the room waits, and says why', async () => {
    const here = await simulatedStage({ members: 60, servers: 3 });
    const { simulator, ours, roomId } = here;
    await joinIt(here);
    await simulator.inject({ fault: { kind: 'missing-events', events: { share: 0.2 } }, endpoint: 'state' });
    await simulator.inject({ fault: { kind: 'status', status: 404, errcode: 'M_NOT_FOUND' }, endpoint: 'event' });
    expect(await ours.resync(roomId)).not.toBe('complete');
    const servers: ServerName[] = [...simulator.residents];
    expect((await fetches(here)).sort()).toEqual(servers.map((server) => `${server} incomplete`));
    const { resync, journal } = await ours.reads.describeRoom(roomId);
    const reasons = journal.flatMap(({ event }) => (event.type === 'StateFetchFailed' ? [event.reason] : []));
    for (const reason of reasons) expect(reason).toMatch(/\d+ events named but not delivered/);
    expect(resync.nextWakeAt).toBeGreaterThan(systemClock.now());
  });
});
