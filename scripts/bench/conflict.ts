/** Two states of a room that disagree about many events: what state resolution costs at its worst. */
import { type EventId, type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../../src/matrix/pdu.ts';
import { roomVersionRules } from '../../src/matrix/room-versions.ts';
import { type StateMap, stateMapKey } from '../../src/matrix/state-map.ts';
import { type ResolutionInput } from '../../src/matrix/state-resolution/state-resolution.ts';

/** On each side of the conflict, power levels in a chain; bans; the rest are changes of profiles. */
const POWER_LEVELS_OF_SIDE = 100;
const BANS_OF_SIDE = 400;

/**
 * A fork with `events` state events on its two sides together, under labels. On each side the creator changes the power
 * levels again and again and bans people; everybody else changes their profile. All of it is in conflict.
 */
export function conflict(version: string, events: number): ResolutionInput {
  const rules = roomVersionRules(version)!;
  const roomId = (rules.roomIdIsCreateHash ? '!create' : '!room:one') as RoomId;
  const known = new Map<EventId, Pdu>();
  const creator = '@creator:one' as UserId;
  let depth = 0;
  const add = (type: string, sender: UserId, stateKey: string, content: JsonObject, cited: readonly Pdu[]): Pdu => {
    depth++;
    const event: Pdu = {
      eventId: (type === 'm.room.create' ? '$create' : `$${depth.toString(36).padStart(6, '0')}`) as EventId,
      roomId,
      type,
      stateKey,
      sender,
      content,
      prevEvents: [],
      authEvents: cited
        .filter((other) => !(rules.roomIdIsCreateHash && other === create))
        .map(({ eventId }) => eventId),
      depth: BigInt(depth),
      originServerTs: depth,
      json: content,
    };
    known.set(event.eventId, event);
    return event;
  };
  const member = (user: UserId, sender: UserId, membership: string, cited: readonly Pdu[]): Pdu =>
    add('m.room.member', sender, user, { membership, displayname: `User at ${depth}` }, cited);

  const create: Pdu = add('m.room.create', creator, '', { room_version: version, creator }, []);
  const joined = member(creator, creator, 'join', [create]);
  const users = rules.privilegedCreators ? {} : { [creator]: 100 };
  const power = add('m.room.power_levels', creator, '', { users }, [create, joined]);
  const open = add('m.room.join_rules', creator, '', { join_rule: 'public' }, [create, power, joined]);
  const count = events / 2 - POWER_LEVELS_OF_SIDE;
  const members = Array.from({ length: count }, (_, i) => {
    const user = `@user${i}:two` as UserId;
    return member(user, user, 'join', [create, power, open]);
  });

  const side = (): StateMap => {
    const state = new Map(
      [create, joined, open].map((event) => [stateMapKey(event.type, event.stateKey!), event.eventId]),
    );
    let level = power;
    for (let i = 1; i <= POWER_LEVELS_OF_SIDE; i++) {
      level = add('m.room.power_levels', creator, '', { users, events: { 'm.room.topic': i % 100 } }, [
        create,
        level,
        joined,
      ]);
    }
    state.set(stateMapKey(level.type, ''), level.eventId);
    for (const [i, before] of members.entries()) {
      const user = before.stateKey as UserId;
      const event =
        i < BANS_OF_SIDE
          ? member(user, creator, 'ban', [create, level, joined, before])
          : member(user, user, 'join', [create, level, open, before]);
      state.set(stateMapKey(event.type, user), event.eventId);
    }
    return state;
  };
  return { rules, roomId, stateSets: [side(), side()], fetchEvent: (id) => known.get(id) };
}
