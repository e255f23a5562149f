/** Corrections in a room of more events than are looked through in one statement. */
import { afterAll, expect, test } from 'vitest';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { correctSome } from '../../../src/rooms/resync/correct-events.ts';
import { countCorrectionsDue } from '../../../src/store/events/corrections.ts';
import { LOOKED_THROUGH_AT_ONCE } from '../../../src/store/events/expand-causes.ts';
import { readPdus } from '../../../src/store/events/pdus.ts';
import { expectFoldsRebuilt } from '../../support/folds.ts';
import { openTestStore } from '../../support/postgres.ts';
import { ADMIN, PartialRoom, member, message } from './partial-room.ts';

const { database, store } = await openTestStore();
afterAll(() => expectFoldsRebuilt(store));

const BOB = '@bob:there.test';
const AUTH = ['create', 'power', 'rules'];
const KNOWN = ['create', 'admin', 'power', 'rules'];
const PARTS = 3;
const invite = (name: string) => member(name, `@${name}:there.test`, 'invite', { sender: BOB, auth: [...AUTH, 'bob'] });
const progress = { signal: new AbortController().signal, heartbeat: () => undefined };

/** Bob's membership is in the state of a whole room; he invited somebody before, amid and after what else is held of it. */
async function bigRoom(): Promise<PartialRoom> {
  const room = new PartialRoom(store);
  await room.join();
  await room.hold(member('bob', BOB, 'join', { prev: ['elsewhere'], auth: AUTH }));
  await room.fetch(...KNOWN, 'bob');
  await room.walk();
  await room.hold(invite('first'));
  for (let part = 1; part < PARTS; part += 1) {
    await room.insert(
      ...Array.from({ length: LOOKED_THROUGH_AT_ONCE }, (_, i) =>
        message(`said-${part}-${i}`, ADMIN, { auth: ['create'] }),
      ),
    );
    await room.hold(invite(part === 1 ? 'amid' : 'last'));
  }
  return room;
}

async function rejectBob(room: PartialRoom): Promise<void> {
  const [head] = await store.query<{ position: number }>('SELECT position FROM journal_head');
  const why = { rule: 'auth-event-rejected', reason: 'it cites what is rejected', cause: head!.position };
  await room.journal({ type: 'VerdictChanged', eventId: room.id('bob'), was: 'accepted', is: 'rejected', ...why });
}

async function verdicts(room: PartialRoom): Promise<Record<EventId, string>> {
  const ids = ['first', 'amid', 'last'].map((name) => room.id(name));
  return Object.fromEntries(
    (await readPdus(store, room.roomId, ids)).map(({ eventId, verdict }) => [eventId, verdict]),
  );
}

test('a room of any size is looked through a part at a time, by one process after the other, and what rests on a change is found', async () => {
  const room = await bigRoom();
  await rejectBob(room);
  const stay = { roomId: room.roomId, epoch: 1 };
  const targets = async () =>
    (await store.query(`SELECT FROM correction_targets WHERE room_id = $1`, [room.roomId])).length;
  // The state at the anchor comes first.
  await correctSome(room.context, stay, progress);
  const found: number[] = [];
  for (let part = 0; part < PARTS; part += 1) {
    // Each time as a process that has just been started.
    const context = { ...room.context, store: database.openStore() };
    await correctSome(context, stay, progress, { taken: 1 });
    found.push(await targets());
  }
  // The children of what changed, our join among them, come with the last part.
  expect(found[0]).toBeGreaterThanOrEqual(1);
  expect(found[1]).toBe(found[0]! + 1);
  expect(found[2]).toBeGreaterThan(found[1]!);
  await room.correct();
  expect(new Set(Object.values(await verdicts(room)))).toEqual(new Set(['rejected']));
  expect(await countCorrectionsDue(store, room.roomId)).toBe(0);
}, 60_000);

test('an event that turns again while the room is looked through is looked for from the beginning', async () => {
  const room = await bigRoom();
  await rejectBob(room);
  const stay = { roomId: room.roomId, epoch: 1 };
  for (const taken of [0, 1]) await correctSome(room.context, stay, progress, { taken });
  const [head] = await store.query<{ position: number }>('SELECT position FROM journal_head');
  const again = { was: 'rejected', is: 'accepted', cause: head!.position } as const;
  await room.journal({ type: 'VerdictChanged', eventId: room.id('bob'), ...again });
  await room.correct();
  expect(new Set(Object.values(await verdicts(room)))).toEqual(new Set(['accepted']));
}, 60_000);
