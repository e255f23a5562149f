import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { systemClock } from '../../../src/clock.ts';
import { type EventId } from '../../../src/matrix/identifiers.ts';
import { roomVersionRules } from '../../../src/matrix/room-versions.ts';
import { admitEvents } from '../../../src/rooms/judge/admit.ts';
import { type Admission } from '../../../src/rooms/judge/admission.ts';
import { parentsFirst } from '../../../src/rooms/judge/parents-first.ts';
import { type Store } from '../../../src/store/open-store.ts';
import { makeRandomRoom } from '../../differential/random-room.ts';
import { createRandom } from '../../differential/random.ts';
import { type TestDatabase, createTestDatabase } from '../../support/postgres.ts';
import { decided, openRoom, orderOfArrival, shuffled } from './rooms-to-admit.ts';

const SEED = Number(process.env['SEED'] ?? 20_260_101);
const ROOM_EVENTS = 60;
const clock = systemClock;

/** Two of each, since event ids are unique in one; numbers of rows, which name states, are the same in both. */
let databases: readonly [TestDatabase, TestDatabase];
let inBatches: Store;
let oneByOne: Store;
beforeAll(async () => {
  databases = [await createTestDatabase(), await createTestDatabase()];
  [inBatches, oneByOne] = [databases[0].openStore(), databases[1].openStore()];
});
afterAll(() => Promise.all(databases.map((database) => database.drop())));

describe(`a random room, seed ${SEED}`, () => {
  test.each(['1', '2', '6', '10', '11', '12'])(
    'of version %s is decided by batches as by its events one by one',
    async (version) => {
      const rules = roomVersionRules(version)!;
      const random = createRandom(SEED + Number(version));
      for (let i = 0; i < 3; i += 1) {
        const room = makeRandomRoom(rules, random, ROOM_EVENTS);
        await openRoom(inBatches, room.roomId, rules, room.events.values());
        await openRoom(oneByOne, room.roomId, rules, room.events.values());
        const order = orderOfArrival(room.events.values(), random);
        while (order.length > 0) {
          const batch = shuffled(order.splice(0, 1 + random.integer(50)), random);
          const admitted = await admitEvents({ store: inBatches, clock }, room.roomId, batch);
          const alone = new Map<EventId, Admission>();
          for (const { eventId } of parentsFirst(batch.map((id) => room.events.get(id)!))) {
            for (const one of await admitEvents({ store: oneByOne, clock }, room.roomId, [eventId])) alone.set(...one);
          }
          expect(admitted).toEqual(alone);
          expect(await decided(inBatches, room.roomId)).toEqual(await decided(oneByOne, room.roomId));
        }
        await forget(inBatches, room.roomId);
        await forget(oneByOne, room.roomId);
      }
    },
    120_000,
  );
});

/** Rooms of versions 1 and 2 give their events the same ids. */
async function forget(store: Store, roomId: string): Promise<void> {
  for (const table of [
    'event_states',
    'event_edges',
    'forward_extremities',
    'journal',
    'rooms',
    'local_members',
    'pdus',
  ]) {
    await store.query(`DELETE FROM ${table} WHERE room_id = $1`, [roomId]);
  }
  await store.query(`DELETE FROM outlier_verdicts`);
}
