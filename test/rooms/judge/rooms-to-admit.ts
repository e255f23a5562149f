/** Rooms in a database into which tests admit events: unsigned ones, since signatures are checked before. */
import { type EventId, type RoomId } from '../../../src/matrix/identifiers.ts';
import { type Pdu } from '../../../src/matrix/pdu.ts';
import { type RoomVersionRules } from '../../../src/matrix/room-versions.ts';
import { insertPdus } from '../../../src/store/events/pdus.ts';
import { createRoom, openEpoch } from '../../../src/store/journal/rooms.ts';
import { type Store, withTransaction } from '../../../src/store/open-store.ts';
import { type CheckedPdu } from '../../../src/verification/contract.ts';
import { type Random } from '../../differential/random.ts';

/** An event as the checks before admission leave it. */
export function checked(event: Pdu): CheckedPdu {
  const { content, stateKey, json, ...columns } = event;
  const membership = event.type === 'm.room.member' ? content['membership'] : null;
  return {
    ...columns,
    json: Buffer.from(JSON.stringify(json)),
    stateKey: stateKey ?? null,
    membership: typeof membership === 'string' ? membership : null,
    hollow: false,
  };
}

/** Opens a stay in an empty room, into which its create event may be admitted, and stores events. */
export async function openRoom(
  store: Store,
  roomId: RoomId,
  rules: RoomVersionRules,
  events: Iterable<Pdu>,
): Promise<void> {
  await insertPdus(store, [...events].map(checked));
  await withTransaction(store, async (tx) => {
    await openEpoch(tx, await createRoom(tx, roomId, rules.version));
  });
}

/** A random order in which parents come before their children. */
export function orderOfArrival(events: Iterable<Pdu>, random: Random): EventId[] {
  const waiting = new Map([...events].map((event) => [event.eventId, event]));
  const order: EventId[] = [];
  while (waiting.size > 0) {
    const ready = [...waiting.values()].filter(({ prevEvents, authEvents }) =>
      [...prevEvents, ...authEvents].every((id) => !waiting.has(id)),
    );
    const { eventId } = random.pick(ready);
    waiting.delete(eventId);
    order.push(eventId);
  }
  return order;
}

export function shuffled<Item>(items: readonly Item[], random: Random): Item[] {
  return items
    .map((item) => ({ item, at: random.next() }))
    .sort((a, b) => a.at - b.at)
    .map(({ item }) => item);
}

/** All that was decided about a room, in a form that compares. */
export async function decided(store: Store, roomId: RoomId): Promise<unknown> {
  const [events, extremities, rooms] = await Promise.all([
    store.query(
      `SELECT event_id, encode(state_before, 'hex') AS before, encode(state_after, 'hex') AS after, verdict, soft_failed, rule,
              reason, partial, auth_depth
         FROM event_states WHERE room_id = $1 ORDER BY event_id`,
      [roomId],
    ),
    store.query(`SELECT event_id FROM forward_extremities WHERE room_id = $1 ORDER BY event_id`, [roomId]),
    store.query(
      `SELECT encode(current_state, 'hex') AS current, partial, state_version FROM rooms WHERE room_id = $1`,
      [roomId],
    ),
  ]);
  return { events, extremities, rooms };
}
