/** Rooms in a database into which tests admit events: unsigned ones, since signatures are checked before. */
import { type EventId, type RoomId, type ServerName, type UserId } from '../../../src/matrix/identifiers.ts';
import { type Pdu } from '../../../src/matrix/pdu.ts';
import { type RoomVersionRules } from '../../../src/matrix/room-versions.ts';
import { type StateMap, parseStateMapKey, stateMapKey } from '../../../src/matrix/state-map.ts';
import { type Verdict } from '../../../src/store/events/event-states.ts';
import { insertPdus, recordOutlierVerdicts } from '../../../src/store/events/pdus.ts';
import { append } from '../../../src/store/journal/journal.ts';
import { createRoom, lockRoom, openEpoch } from '../../../src/store/journal/rooms.ts';
import { type Store, withTransaction } from '../../../src/store/open-store.ts';
import { createSnapshot } from '../../../src/store/snapshots/snapshots.ts';
import { type CheckedPdu } from '../../../src/verification/contract.ts';
import { type Draft, RandomRoom } from '../../differential/random-room.ts';
import { type Random, createRandom } from '../../differential/random.ts';
import { pduOf } from '../../differential/rules-answers.ts';

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

/** Opens a stay of somebody of us in an empty room, into which its create event may be admitted, and stores events. */
export async function openRoom(
  store: Store,
  roomId: RoomId,
  rules: RoomVersionRules,
  events: Iterable<Pdu>,
): Promise<void> {
  await insertPdus(store, [...events].map(checked));
  await withTransaction(store, async (tx) => {
    await openEpoch(tx, await createRoom(tx, roomId, rules.version));
    await tx.query(
      `INSERT INTO local_members (room_id, user_id, membership, event_id) VALUES ($1, $2, 'join', '$join')`,
      [roomId, '@us:here.test'],
    );
  });
}

/** A room in which everything is as it should be, event by event. */
export class QuietRoom {
  readonly graph: RandomRoom;

  /** With its creator, public, and with `members` joined users beside, `@user0:there.test` first. */
  constructor(rules: RoomVersionRules, members: number, roomId: string) {
    this.graph = new RandomRoom(rules, createRandom(1));
    this.graph.roomId = roomId as RoomId;
    const creator = CREATOR;
    this.add({ type: 'm.room.create', sender: creator, stateKey: '', content: { room_version: rules.version } });
    this.add({ type: 'm.room.member', sender: creator, stateKey: creator, content: { membership: 'join' } });
    const levels = { type: 'm.room.power_levels', sender: creator, stateKey: '' };
    this.add({ ...levels, content: { users: rules.privilegedCreators ? {} : { [creator]: 100 } } });
    this.add({ type: 'm.room.join_rules', sender: creator, stateKey: '', content: { join_rule: 'public' } });
    for (let i = 0; i < members; i += 1) this.add(membership(user(i), user(i), 'join'));
  }

  get roomId(): RoomId {
    return this.graph.roomId;
  }

  get events(): Pdu[] {
    return [...this.graph.events.values()];
  }

  get last(): Pdu {
    const last = this.events.at(-1);
    if (last === undefined) throw new Error('the room has no event yet');
    return last;
  }

  stateAfter(event: Pdu): StateMap {
    return this.graph.stateAfter.get(event.eventId) ?? new Map();
  }

  /** Adds an event after `parents`, or after the last one, with the auth events that the state there demands. */
  add(draft: Draft, parents: readonly Pdu[] = this.events.slice(-1), authEvents?: readonly EventId[]): Pdu {
    const room = this.graph;
    const before = room.resolved(parents.map((parent) => this.stateAfter(parent)));
    const prevEvents = parents.map(({ eventId }) => eventId);
    const event = pduOf(room.wire(draft, prevEvents, authEvents ?? room.select(draft, before)), room.rules);
    if (event.type === 'm.room.create') room.roomId = event.roomId;
    room.events.set(event.eventId, event);
    const after = new Map(before);
    if (event.stateKey !== undefined) after.set(stateMapKey(event.type, event.stateKey), event.eventId);
    room.stateAfter.set(event.eventId, after);
    return event;
  }
}

export const CREATOR = '@creator:there.test' as UserId;

export function user(i: number): UserId {
  return `@user${String(i)}:there.test` as UserId;
}

export function message(sender: UserId, body = 'hello'): Draft {
  return { type: 'm.room.message', sender, content: { body } };
}

export function membership(sender: UserId, stateKey: UserId, what: string): Draft {
  return { type: 'm.room.member', sender, stateKey, content: { membership: what } };
}

/**
 * Opens a room as a join without memberships leaves it: the events `before` are held as outliers, and are anchors with a
 * state after them that lacks memberships by chance, the same in all. Stores `after`.
 */
export async function openPartialRoom(
  store: Store,
  { roomId, rules, rejected, stateAfter }: RandomRoom,
  before: readonly Pdu[],
  after: readonly Pdu[],
  isKnown: (eventId: EventId) => boolean,
): Promise<void> {
  await openRoom(store, roomId, rules, [...before, ...after]);
  const verdicts = before.map(({ eventId }) => {
    const verdict: Verdict = rejected.has(eventId) ? 'rejected' : 'accepted';
    return { eventId, verdict, authDepth: null };
  });
  await recordOutlierVerdicts(store, roomId, verdicts);
  const known = [...(stateAfter.get(before.at(-1)!.eventId) ?? new Map<string, EventId>())]
    .filter(([place, eventId]) => parseStateMapKey(place).type !== 'm.room.member' || isKnown(eventId))
    .map(([, eventId]) => eventId);
  const stateBefore = await createSnapshot(store, roomId, known);
  await withTransaction(store, async (tx) => {
    const room = (await lockRoom(tx, roomId))!;
    await append(tx, room, [
      {
        type: 'PartialStateJoined',
        joinEventId: '$join:here.test' as EventId,
        userId: '@me:here.test' as UserId,
        roomVersion: rules.version,
        joinedVia: 'one' as ServerName,
        serversInRoom: ['one' as ServerName],
        fetchAt: before.map(({ eventId }) => eventId),
        stateBefore,
        at: 1,
      },
    ]);
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
              reason, partial, auth_depth, auth_state
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
