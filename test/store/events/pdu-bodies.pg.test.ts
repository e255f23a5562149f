import { describe, expect, test, vi } from 'vitest';
import {
  type PduBody,
  streamMemberBodies,
  streamPduBodies,
  streamStateBodies,
} from '../../../src/store/events/pdu-bodies.ts';
import { insertPdus } from '../../../src/store/events/pdus.ts';
import { createSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ROOM, ids, member, message, state } from '../events.ts';

const { store } = await openTestStore();

test('bodies come byte for byte, a page at a time in the order asked for, without those that are not stored', async () => {
  const json = (name: string): string => String.raw`{"body":"\u0000 ${name}","n":1e3}`;
  const names = ['$a', '$b', '$c', '$d', '$e'];
  await insertPdus(
    store,
    names.map((name) => message(name, { json: json(name) })),
  );
  const pages: unknown[] = [];
  for await (const page of streamPduBodies(store, ids('$e', '$b', '$not-stored', '$a', '$d'), 2)) {
    pages.push(page.map(({ eventId, json: body }) => [eventId, body]).sort());
  }
  const body = (name: string): [string, string] => [name, json(name)];
  expect(pages).toEqual([[body('$b'), body('$e')], [body('$a')], [body('$d')]]);
  expect((await streamPduBodies(store, [], 2).next()).done).toBe(true);
});

test('a reader who leaves early is not followed by the failure of the page that was being read', async () => {
  const unhandled = vi.fn();
  process.on('unhandledRejection', unhandled);
  const failing = vi.spyOn(store, 'query').mockResolvedValueOnce([]).mockRejectedValueOnce(new Error('gone'));
  for await (const page of streamPduBodies(store, ids('$a', '$b'), 1)) {
    expect(page).toEqual([]);
    break;
  }
  await new Promise((resolve) => setImmediate(resolve));
  expect(failing).toHaveBeenCalledTimes(2);
  expect(unhandled).not.toHaveBeenCalled();
  process.off('unhandledRejection', unhandled);
  failing.mockRestore();
});

describe('the bodies of a state', () => {
  const events = [
    state('$create', 'm.room.create', ''),
    // A state event of another type whose key looks like a member.
    state('$profile', 'org.example.profile', '@user-1:there.test'),
    member('$odd', '@odd:there.test', 'odd\u0000membership'),
    member('$none', '@none:there.test', 'join', { membership: null }),
    ...Array.from({ length: 300 }, (_, i) =>
      member(`$m${i}`, `@user-${i}:there.test`, i % 10 === 0 ? 'leave' : 'join'),
    ),
  ];
  const eventIds = events.map(({ eventId }) => eventId);

  async function read(pages: AsyncIterable<readonly PduBody[]>) {
    const bodies: PduBody[] = [];
    const sizes: number[] = [];
    for await (const page of pages) {
      bodies.push(...page);
      sizes.push(page.length);
    }
    return { bodies, ids: bodies.map(({ eventId }) => eventId).sort(), sizes };
  }
  const named = (wanted: (event: (typeof events)[number]) => boolean): string[] =>
    events
      .filter(wanted)
      .map(({ eventId }) => eventId)
      .sort();

  test('are all there, or those of its memberships, or of one kind of membership', async () => {
    await insertPdus(store, [...events, member('$of-no-state', '@user-1:there.test')]);
    const id = await createSnapshot(store, ROOM, eventIds);
    const all = await read(streamStateBodies(store, ROOM, id, 100));
    expect(all).toMatchObject({ ids: named(() => true), sizes: [100, 100, 100, 4] });
    const members = (membership: string | null) => read(streamMemberBodies(store, ROOM, id, { membership }, 150));
    expect(await members(null)).toMatchObject({
      ids: named(({ type }) => type === 'm.room.member'),
      sizes: [150, 150, 2],
    });
    for (const wanted of ['join', 'leave', 'odd\u0000membership', 'ban']) {
      expect((await members(wanted)).ids).toEqual(named(({ membership }) => membership === wanted));
    }
    expect((await members('odd\u0000membership')).bodies).toEqual([
      { eventId: '$odd', json: Buffer.from(events[2]!.json).toString() },
    ]);
  });

  test('are read to their end or not at all: an event that is gone fails its page', async () => {
    const id = await createSnapshot(store, ROOM, ids('$create', '$m1', '$m2'));
    await store.query(`DELETE FROM pdus WHERE event_id = '$m2'`);
    await expect(read(streamStateBodies(store, ROOM, id, 100))).rejects.toThrow('not stored');
    await expect(read(streamMemberBodies(store, ROOM, id, { membership: null }, 100))).rejects.toThrow('not stored');
  });
});
