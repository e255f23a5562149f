import pLimit from 'p-limit';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type RoomAlias, type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { type SynapseRoom, createPopulatedRoom } from '../../src/launch/synapse-room.ts';
import { joinRoom } from '../../src/rooms/join/join.ts';
import { type RoomError } from '../../src/rooms/error.ts';
import { countPartial } from '../../src/store/events/event-states.ts';
import { readRoom } from '../../src/store/journal/rooms.ts';
import { startTestRejoinder } from '../support/rejoinder.ts';
import { type TestSynapse, startTestSynapse, whySynapseIsMissing } from '../support/synapse.ts';

const missing = await whySynapseIsMissing();
const signal = new AbortController().signal;

describe.skipIf(missing !== undefined)('a room of a real Synapse', () => {
  let synapse: TestSynapse;
  beforeAll(async () => {
    synapse = await startTestSynapse();
  });
  afterAll(() => synapse.stop());

  const populate = (version: string, aliasLocalpart: string): Promise<SynapseRoom> =>
    createPopulatedRoom({ synapse, members: 8, roomVersion: version, aliasLocalpart, progress: () => undefined });

  async function drain<Row>(
    reading: { ready: true; pages: AsyncIterable<readonly Row[]> } | { ready: false; reason: string },
  ): Promise<Row[]> {
    if (!reading.ready) throw new Error(reading.reason);
    const rows: Row[] = [];
    for await (const page of reading.pages) rows.push(...page);
    return rows;
  }

  test.each(['1', '10', '11', '12'])(
    'is partial after the join and whole after the resync, in version %s',
    async (version) => {
      const room = await populate(version, `whole${version}`);
      const { context, reads, rung, resync } = await startTestRejoinder(synapse);
      const userId = `@me:${context.serverName}` as UserId;

      const joined = await joinRoom(context, { room: room.alias as RoomAlias, userId, via: [], signal });
      expect(joined).toMatchObject({ roomId: room.roomId, partial: true, membersOmitted: true });
      expect(rung).toEqual([room.roomId]);
      const roomId = room.roomId as RoomId;
      const names = await drain(await reads.state(roomId, { waitMs: 0, members: false, signal }));
      expect(names.length).toBeGreaterThan(4);
      expect(await reads.members(roomId, { waitMs: 0, membership: null, signal })).toMatchObject({ ready: false });

      expect(await resync(roomId)).toBe('complete');
      const [ours, theirs] = [
        await drain(await reads.state(roomId, { waitMs: 0, members: true, signal })),
        await room.owner.state(room.roomId),
      ];
      expect(ours.map(({ eventId }) => eventId).sort()).toEqual(theirs.map((event) => event.event_id).sort());
      const members = await drain(await reads.members(roomId, { waitMs: 0, membership: 'join', signal }));
      expect(members.map((member) => member.userId).sort()).toEqual(
        [userId, ...room.joined.map((user) => user.userId)].sort(),
      );
      expect((await readRoom(context.store, roomId))?.resync).toMatchObject({
        phase: 'complete',
        corrected: 0,
        walked: 1,
      });
    },
  );

  test('a message sent while the room is partial is judged at once and again with full state', async () => {
    const room = await populate('11', 'live');
    const { context, reads, resync } = await startTestRejoinder(synapse);
    const userId = `@me:${context.serverName}` as UserId;
    const { roomId } = await joinRoom(context, { room: room.alias as RoomAlias, userId, via: [], signal });
    const head =
      (await context.store.query<{ position: number }>('SELECT position FROM journal_head'))[0]?.position ?? 0;
    await room.joined[1]?.sendMessage(room.roomId, 'seen while partial');
    const seen = await context.notifier.waitFor(
      roomId,
      async () => {
        const [row] = await context.store.query<{ position: number }>('SELECT position FROM journal_head');
        return (row?.position ?? 0) > head ? row : undefined;
      },
      { signal, timeoutMs: 10_000, pollMs: 200 },
    );
    expect(seen).toBeDefined();
    expect(await resync(roomId)).toBe('complete');
    expect((await readRoom(context.store, roomId))?.resync).toMatchObject({ walked: 2, corrected: 0 });
    expect((await reads.describeRoom(roomId)).journal.map(({ event }) => event.type)).toEqual([
      'PartialStateJoined',
      'StateFetchStarted',
      'StateFetched',
      'EventsWalked',
      'ResyncCompleted',
    ]);
  });

  test('more partial events than one batch holds are judged in several, parents first', async () => {
    const room = await populate('11', 'busy');
    const { context, reads, resync } = await startTestRejoinder(synapse);
    const userId = `@me:${context.serverName}` as UserId;
    const { roomId } = await joinRoom(context, { room: room.alias as RoomAlias, userId, via: [], signal });
    const limit = pLimit(8);
    const messages = 220;
    const send = (text: string): Promise<string> => room.owner.sendMessage(room.roomId, text);
    await Promise.all(Array.from({ length: messages }, (_, n) => limit(() => send(`Message ${n}`))));
    const partial = await context.notifier.waitFor(
      roomId,
      async () => ((await countPartial(context.store, roomId)) > messages ? true : undefined),
      { signal, timeoutMs: 25_000, pollMs: 200 },
    );
    expect(partial).toBe(true);
    expect(await resync(roomId)).toBe('complete');
    expect((await readRoom(context.store, roomId))?.resync).toMatchObject({ walked: messages + 1, corrected: 0 });
    const { journal } = await reads.describeRoom(roomId);
    const walks = journal.flatMap(({ event }) => (event.type === 'EventsWalked' ? [event.walked] : []));
    expect(walks).toEqual([200, 21]);
  }, 60_000);

  test('a banned user is refused, and nothing of the join stays behind', async () => {
    const room = await populate('10', 'banned');
    const { context } = await startTestRejoinder(synapse);
    const userId = `@bad:${context.serverName}` as UserId;
    await room.owner.ban(room.roomId, userId);
    const join = joinRoom(context, { room: room.alias as RoomAlias, userId, via: [], signal });
    await expect(join).rejects.toMatchObject({ kind: 'forbidden' } satisfies Partial<RoomError>);
    expect(await context.store.query('SELECT 1 FROM join_intents UNION ALL SELECT 1 FROM rooms')).toEqual([]);
  });
});
