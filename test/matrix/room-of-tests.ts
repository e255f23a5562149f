/** Small rooms for tests of the rules: events under labels, without hashes or signatures, which the rules don't look at. */
import { authStateOf } from '../../src/matrix/auth/auth-events.ts';
import { type AuthState } from '../../src/matrix/auth/auth-verdict.ts';
import { type EventId, type RoomId, type UserId } from '../../src/matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../../src/matrix/pdu.ts';
import { type RoomVersionRules, roomVersionRules } from '../../src/matrix/room-versions.ts';
import { type StateMap, stateMapKey } from '../../src/matrix/state-map.ts';

export const CREATOR = '@creator:one';
export const ALICE = '@alice:one';
export const BOB = '@bob:two';
export const CAROL = '@carol:three';

/** In version 12 the create event's label has to be the room id's. */
export const ROOM = '!room:one' as RoomId;
export const CREATE_ID = '$room:one' as EventId;

export function rulesOf(version: string): RoomVersionRules {
  return roomVersionRules(version)!;
}

export interface EventFields {
  readonly id?: string;
  readonly roomId?: string;
  readonly type: string;
  readonly sender?: string;
  readonly stateKey?: string;
  readonly content?: JsonObject;
  readonly prev?: readonly string[];
  readonly auth?: readonly string[];
  readonly depth?: number;
  readonly ts?: number;
  readonly redacts?: string;
}

let serial = 0;

export function event(fields: EventFields): Pdu {
  const roomId = (fields.roomId ?? ROOM) as RoomId;
  const sender = (fields.sender ?? CREATOR) as UserId;
  const content = fields.content ?? {};
  return {
    eventId: (fields.id ?? `$event${String(++serial)}:one`) as EventId,
    roomId,
    type: fields.type,
    stateKey: fields.stateKey,
    sender,
    content,
    prevEvents: (fields.prev ?? ['$previous:one']) as EventId[],
    authEvents: (fields.auth ?? []) as EventId[],
    depth: BigInt(fields.depth ?? 1),
    originServerTs: fields.ts ?? 0,
    json: {
      type: fields.type,
      sender,
      content,
      ...(fields.redacts !== undefined && { redacts: fields.redacts }),
    },
  };
}

export function create(version: string, content: JsonObject = {}, fields: Partial<EventFields> = {}): Pdu {
  const base: JsonObject = rulesOf(version).creatorIsSender ? {} : { creator: CREATOR };
  return event({
    type: 'm.room.create',
    id: CREATE_ID,
    stateKey: '',
    prev: [],
    content: { ...base, room_version: version, ...content },
    ...fields,
  });
}

export function member(user: string, membership: string, fields: Partial<EventFields> = {}): Pdu {
  const { content, ...others } = fields;
  return event({
    type: 'm.room.member',
    sender: user,
    stateKey: user,
    content: { membership, ...content },
    ...others,
  });
}

export function powerLevels(content: JsonObject, fields: Partial<EventFields> = {}): Pdu {
  return event({ type: 'm.room.power_levels', stateKey: '', content, ...fields });
}

export function joinRules(rule: string, fields: Partial<EventFields> = {}): Pdu {
  return event({ type: 'm.room.join_rules', stateKey: '', content: { join_rule: rule }, ...fields });
}

/** A room with its creator joined, and what else is given; later events replace earlier ones. */
export function room(version: string, ...events: Pdu[]): AuthState {
  return authStateOf([create(version), member(CREATOR, 'join'), ...events]);
}

export function stateMapOf(...events: Pdu[]): StateMap {
  return new Map(events.map((stateEvent) => [stateMapKey(stateEvent.type, stateEvent.stateKey!), stateEvent.eventId]));
}
