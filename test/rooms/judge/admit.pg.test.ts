import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../../src/clock.ts';
import { type EventId, type ServerName } from '../../../src/matrix/identifiers.ts';
import { type Pdu } from '../../../src/matrix/pdu.ts';
import { roomVersionRules } from '../../../src/matrix/room-versions.ts';
import { defaultResyncPolicy } from '../../../src/resync/policy.ts';
import { admitEvents } from '../../../src/rooms/judge/admit.ts';
import { type Admission } from '../../../src/rooms/judge/admission.ts';
import { inOrderOfComing } from '../../../src/rooms/judge/order-of-coming.ts';
import { readEventFacts } from '../../../src/store/events/event-story.ts';
import { readGaps } from '../../../src/store/events/gaps.ts';
import { insertPdus } from '../../../src/store/events/pdus.ts';
import { append } from '../../../src/store/journal/journal.ts';
import { lockRoom } from '../../../src/store/journal/rooms.ts';
import { type Store, withTransaction } from '../../../src/store/open-store.ts';
import { silent } from '../../federation/tls-server.ts';
import { makeRandomRoom } from '../../differential/random-room.ts';
import { createRandom } from '../../differential/random.ts';
import { type TestDatabase, createTestDatabase } from '../../support/postgres.ts';
import { statementsOf } from '../../support/statements.ts';
import {
  CREATOR,
  QuietRoom,
  checked,
  decided,
  membership,
  message,
  openPartialRoom,
  openRoom,
  orderOfArrival,
  shuffled,
  user,
} from './rooms-to-admit.ts';

const SEED = Number(process.env['SEED'] ?? 20_260_101);
const ROOM_EVENTS = 60;
const clock = systemClock;
const beside = { clock, ring: () => Promise.resolve(), logger: silent, policy: defaultResyncPolicy };

const databases: TestDatabase[] = [];
afterAll(() => Promise.all(databases.map((database) => database.drop())));

async function openDatabase(): Promise<Store> {
  const database = await createTestDatabase();
  databases.push(database);
  return database.openStore();
}

/** Of a partial room: what happened before our join. */
const EVENTS_BEFORE = 20;

describe(`a random room, seed ${SEED}`, () => {
  test.each(
    ['1', '2', '6', '10', '11', '12'].flatMap((version) => [
      [version, 'whole'] as const,
      [version, 'partial'] as const,
    ]),
  )(
    'of version %s that is %s is decided by batches as by its events one by one',
    async (version, completeness) => {
      const rules = roomVersionRules(version)!;
      const random = createRandom(SEED + Number(version));
      const room = makeRandomRoom(rules, random, ROOM_EVENTS);
      const events = orderOfArrival(room.events.values(), random).map((id) => room.events.get(id)!);
      const before = completeness === 'whole' ? [] : events.splice(0, EVENTS_BEFORE);
      const known = new Set(before.map(({ eventId }) => eventId).filter(() => random.chance(0.5)));
      // Numbers of rows, which name states, are the same in both.
      const [inBatches, oneByOne] = [await openDatabase(), await openDatabase()];
      for (const store of [inBatches, oneByOne]) {
        if (completeness === 'whole') await openRoom(store, room.roomId, rules, events);
        else await openPartialRoom(store, room, before, events, (id) => known.has(id));
      }
      while (events.length > 0) {
        const batch = shuffled(events.splice(0, 1 + random.integer(50)), random);
        const ids = batch.map(({ eventId }) => eventId);
        const admitted = await admitEvents({ ...beside, store: inBatches }, room.roomId, ids);
        const alone = new Map<EventId, Admission>();
        for (const { eventId } of inOrderOfComing(batch)) {
          for (const one of await admitEvents({ ...beside, store: oneByOne }, room.roomId, [eventId])) {
            alone.set(...one);
          }
        }
        expect(admitted).toEqual(alone);
        expect(await decided(inBatches, room.roomId)).toEqual(await decided(oneByOne, room.roomId));
      }
    },
    120_000,
  );
});

describe('admitting events', () => {
  const rules = roomVersionRules('11')!;
  let store: Store;
  let rooms = 0;
  beforeAll(async () => {
    store = await openDatabase();
  });

  /** A room of 60 members, in the timeline up to its last join. */
  async function admitted(): Promise<{ room: QuietRoom; admit: (events: readonly Pdu[]) => Promise<Admission[]> }> {
    rooms += 1;
    const room = new QuietRoom(rules, 60, `!room${String(rooms)}:there.test`);
    await openRoom(store, room.roomId, rules, room.events);
    const admit = async (events: readonly Pdu[]): Promise<Admission[]> => {
      await insertPdus(store, events.map(checked));
      const admissions = await admitEvents(
        { ...beside, store },
        room.roomId,
        events.map(({ eventId }) => eventId),
      );
      return events.map(({ eventId }) => admissions.get(eventId)!);
    };
    for (const some of [room.events.slice(0, 50), room.events.slice(50)]) await admit(some);
    return { room, admit };
  }

  const accepted = { outcome: 'admitted', verdict: 'accepted' };

  test('a message alone takes at most 12 statements, and fifty at most 20 together', async () => {
    const { room, admit } = await admitted();
    await admit([room.add(message(user(0)))]);
    const one = room.add(message(user(1)));
    const fifty = Array.from({ length: 50 }, (_, i) => room.add(message(user(i))));
    await insertPdus(store, [one, ...fifty].map(checked));
    const ofOne = await statementsOf(() => admit([one]));
    expect(ofOne.length - 2).toBeLessThanOrEqual(12);
    const ofFifty = await statementsOf(async () => expect(await admit(fifty)).toEqual(fifty.map(() => accepted)));
    expect(ofFifty.length - 2).toBeLessThanOrEqual(20);
  });

  test('in a partial room, whose state lacks the senders, it takes no more', async () => {
    const room = new QuietRoom(rules, 60, '!partial:there.test');
    const before = room.events;
    const [first, one] = [room.add(message(user(51))), room.add(message(user(52)))];
    const fifty = Array.from({ length: 50 }, (_, i) => room.add(message(user(i))));
    await openPartialRoom(store, room.graph, before, [first, one, ...fifty], () => false);
    const admit = (events: readonly Pdu[]) =>
      admitEvents(
        { ...beside, store },
        room.roomId,
        events.map(({ eventId }) => eventId),
      );
    await admit([first]);
    const ofOne = await statementsOf(async () => expect([...(await admit([one])).values()]).toEqual([accepted]));
    expect(ofOne.length).toBeLessThanOrEqual(15);
    const ofFifty = await statementsOf(async () =>
      expect([...(await admit(fifty)).values()]).toEqual(fifty.map(() => accepted)),
    );
    expect(ofFifty.length).toBeLessThanOrEqual(20);
  });

  test('fifty changes of the state, each upon the one before, take at most 20 statements together', async () => {
    const { room, admit } = await admitted();
    const fifty = Array.from({ length: 50 }, (_, i) => room.add(membership(user(i), user(i), 'leave')));
    await insertPdus(store, fifty.map(checked));
    const statements = await statementsOf(async () => expect(await admit(fifty)).toEqual(fifty.map(() => accepted)));
    expect(statements.length - 2).toBeLessThanOrEqual(20);
  });

  test('an event is judged by those before it in the batch: who was banned in it says nothing more', async () => {
    const { room, admit } = await admitted();
    const before = room.last;
    const ban = room.add(membership(CREATOR, user(0), 'ban'));
    const after = room.add(message(user(0)), [ban], room.add(message(user(0)), [before]).authEvents);
    const aside = room.add(message(user(0)), [before]);
    expect(await admit([after, aside, ban])).toEqual([
      { outcome: 'admitted', verdict: 'rejected' },
      // Before the ban in its place, after it in its coming.
      { outcome: 'admitted', verdict: 'accepted' },
      accepted,
    ]);
  });

  test('events whose parents are not held wait, and so do those upon them; what is known is known', async () => {
    const { room, admit } = await admitted();
    const missing = room.add(message(user(0)));
    const [child, grandchild] = [room.add(message(user(1))), room.add(message(user(2)))];
    expect(await admit([grandchild, child])).toEqual([
      { outcome: 'waits', missingParents: [child.eventId], missingAuthEvents: [] },
      { outcome: 'waits', missingParents: [missing.eventId], missingAuthEvents: [] },
    ]);
    expect(await admit([grandchild, missing, child])).toEqual([accepted, accepted, accepted]);
    expect(await admit([child])).toEqual([{ outcome: 'known' }]);
  });

  test('an event that cites an auth event which nobody judged is not judged, and names it', async () => {
    const { room, admit } = await admitted();
    const base = room.last;
    const levels = room.add({ type: 'm.room.power_levels', sender: CREATOR, stateKey: '', content: {} }, [base]);
    await insertPdus(store, [checked(levels)]);
    const authEvents = room.add(message(user(0)), [levels]).authEvents;
    const citing = room.add(message(user(0), 'again'), [base], authEvents);
    expect(authEvents).toContain(levels.eventId);
    expect(await admit([citing])).toMatchObject([{ outcome: 'unjudged', missingAuthEvents: [levels.eventId] }]);
    expect(await admit([citing, levels])).toEqual([accepted, accepted]);
  });

  test('who loses the room to somebody else decides again, and nothing is taken in twice', async () => {
    const { room, admit } = await admitted();
    const base = room.last;
    const rivals = Array.from({ length: 6 }, (_, i) => room.add(message(user(i)), [base]));
    const common = room.add(message(user(9)), [base]);
    const outcomes = await Promise.all(rivals.map((rival) => admit([rival, common])));
    expect(outcomes.map(([rival]) => rival)).toEqual(rivals.map(() => accepted));
    expect(outcomes.filter(([, shared]) => shared?.outcome === 'admitted')).toHaveLength(1);
    const { extremities } = await withTransaction(store, async (tx) => (await lockRoom(tx, room.roomId))!);
    expect(extremities).toEqual([...rivals, common].map(({ eventId }) => eventId).sort());
  });

  test('a verdict names the events that it was made by', async () => {
    const { room, admit } = await admitted();
    const said = room.add(message(user(0)));
    await admit([said]);
    expect(new Set((await readEventFacts(store, room.roomId, said.eventId))?.authState)).toEqual(
      new Set(said.authEvents),
    );
  });

  test('an event that was missed fills its gap with its verdict, and stands before what was built over the gap', async () => {
    const { room, admit } = await admitted();
    const missed = room.add(message(user(0)));
    const over = room.add(message(user(1)));
    await insertPdus(store, [checked(missed)]);
    await withTransaction(store, async (tx) => {
      const locked = (await lockRoom(tx, room.roomId))!;
      await append(tx, locked, [
        {
          type: 'GapOpened',
          eventIds: [missed.eventId],
          origin: 'there.test' as ServerName,
          assumedState: locked.currentState,
          at: 1,
        },
      ]);
    });
    expect(await admit([over])).toEqual([accepted]);
    expect(await admit([missed])).toEqual([accepted]);
    expect(await readGaps(store, room.roomId)).toEqual([]);
    const { extremities } = await withTransaction(store, async (tx) => (await lockRoom(tx, room.roomId))!);
    expect(extremities).toEqual([over.eventId]);
  });
});
