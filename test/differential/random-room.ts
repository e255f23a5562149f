/**
 * Random rooms: event graphs with forks, bans, power fights, restricted joins, third-party invites, rejected events and
 * events that were let in though they should not have been. Every event's id is the one its room version gives it.
 */
import { authEventKeys } from '../../src/matrix/auth/auth-events.ts';
import { authoriseAgainstState } from '../../src/matrix/auth/auth-rules.ts';
import { type AuthState } from '../../src/matrix/auth/auth-verdict.ts';
import {
  type EventId,
  type KeyId,
  type RoomId,
  type UserId,
  parseKeyId,
  parseServerName,
} from '../../src/matrix/identifiers.ts';
import { type Json, type JsonObject, type Pdu } from '../../src/matrix/pdu.ts';
import { type RoomVersionRules } from '../../src/matrix/room-versions.ts';
import { signJson } from '../../src/matrix/signing/signatures.ts';
import { type SigningKey, signingKeyFromSeed } from '../../src/matrix/signing/signing-key.ts';
import { type StateMap, stateMapKey } from '../../src/matrix/state-map.ts';
import { resolveState } from '../../src/matrix/state-resolution/state-resolution.ts';
import { type Random } from './random.ts';
import { pduOf } from './rules-answers.ts';

export const USERS = ['@creator:one', '@alice:one', '@bob:two', '@carol:two', '@dave:three', '@erin:three'] as UserId[];
const IDENTITY_SERVER = parseServerName('identity.example')!;
const DUMMY_HASH = 'A'.repeat(43);

/** The identity server that vouches in third-party invites. */
export const IDENTITY_KEY: SigningKey = signingKeyFromSeed(
  parseKeyId('ed25519:0') as KeyId,
  new Uint8Array(32).fill(7),
);

/** An event as the room's author made it up, before it gets its place in the graph. */
export interface Draft {
  readonly type: string;
  readonly sender: UserId;
  readonly stateKey?: string | undefined;
  readonly content: JsonObject;
  readonly redacts?: string;
}

export class RandomRoom {
  readonly events = new Map<EventId, Pdu>();
  readonly rejected = new Set<EventId>();
  /** The state after each event. */
  readonly stateAfter = new Map<EventId, StateMap>();
  readonly rules: RoomVersionRules;
  readonly random: Random;
  roomId = '!room:one' as RoomId;
  #serial = 0;

  constructor(rules: RoomVersionRules, random: Random) {
    this.rules = rules;
    this.random = random;
  }

  /** The wire form of a draft at a place in the graph. */
  wire(draft: Draft, prevEvents: readonly EventId[], authEvents: readonly EventId[]): JsonObject {
    const { rules, random } = this;
    const reference = (ids: readonly EventId[]): Json =>
      rules.eventReferences === 'ids' ? ids : ids.map((id) => [id, { sha256: DUMMY_HASH }]);
    const depth = prevEvents.reduce((max, id) => Math.max(max, Number(this.events.get(id)?.depth ?? 0)), 0) + 1;
    const isRoomless = rules.roomIdIsCreateHash && draft.type === 'm.room.create';
    return {
      type: draft.type,
      sender: draft.sender,
      content: draft.content,
      ...(draft.stateKey !== undefined && { state_key: draft.stateKey }),
      ...(draft.redacts !== undefined && { redacts: draft.redacts }),
      ...(!isRoomless && { room_id: this.roomId }),
      ...(rules.eventIdFormat === 'given' && {
        event_id: `$${String(this.#serial++)}:${draft.sender.slice(draft.sender.indexOf(':') + 1)}`,
      }),
      prev_events: reference(prevEvents),
      auth_events: reference(authEvents),
      depth: random.chance(0.05) ? random.integer(20) : depth,
      // Few distinct times, so that ties are broken by id.
      origin_server_ts: 1_000 + this.events.size + random.integer(4),
      hashes: { sha256: DUMMY_HASH },
      signatures: {},
    };
  }

  /** The ids to cite for a draft in a state. */
  select(draft: Draft, state: StateMap): EventId[] {
    return authEventKeys(draft as Pick<Pdu, 'type' | 'stateKey' | 'sender' | 'content'> & Draft, this.rules)
      .map(({ type, stateKey }) => state.get(stateMapKey(type, stateKey)))
      .filter((id) => id !== undefined);
  }

  /** Adds an event after `prevEvents`; it is let in, rejected or wrongly let in. Returns the event. */
  add(draft: Draft, prevEvents: readonly EventId[]): Pdu {
    const { random, rules } = this;
    const before = this.resolved(prevEvents.map((id) => this.stateAfter.get(id)!));
    let authEvents = this.select(draft, before);
    // Another branch's view: some auth events from elsewhere, some left out.
    if (random.chance(0.1)) authEvents = this.select(draft, random.pick([...this.stateAfter.values()]));
    if (random.chance(0.02)) authEvents = authEvents.filter(() => random.chance(0.8));
    const event = pduOf(this.wire(draft, prevEvents, authEvents), rules);
    if (rules.roomIdIsCreateHash && event.type === 'm.room.create' && this.events.size === 0) {
      this.roomId = event.roomId;
    }
    this.events.set(event.eventId, event);
    const verdict = authoriseAgainstState(event, this.lookup(before), rules);
    const isStanding = verdict.ok ? !random.chance(0.03) : random.chance(0.15);
    if (!isStanding) this.rejected.add(event.eventId);
    const after = new Map(before);
    if (isStanding && event.stateKey !== undefined) after.set(stateMapKey(event.type, event.stateKey), event.eventId);
    this.stateAfter.set(event.eventId, after);
    return event;
  }

  lookup(state: StateMap): (type: string, stateKey: string) => Pdu | undefined {
    return (type, stateKey) => {
      const id = state.get(stateMapKey(type, stateKey));
      return id === undefined ? undefined : this.events.get(id);
    };
  }

  resolved(stateSets: readonly StateMap[]): StateMap {
    return resolveState({
      rules: this.rules,
      roomId: this.roomId,
      stateSets,
      fetchEvent: (id) => this.events.get(id),
      isRejected: (id) => this.rejected.has(id),
    });
  }
}

/** A room of about `size` events. */
export function makeRandomRoom(rules: RoomVersionRules, random: Random, size: number): RandomRoom {
  const room = new RandomRoom(rules, random);
  const creator = USERS[0]!;
  const create = room.add(
    {
      type: 'm.room.create',
      sender: creator,
      stateKey: '',
      content: {
        room_version: rules.version,
        ...(!rules.creatorIsSender && { creator }),
        ...(random.chance(0.1) && { 'm.federate': random.pick<Json>([true, false, 'false', null]) }),
        ...(random.chance(0.4) && { additional_creators: [random.pick(USERS)] }),
      },
    },
    [],
  );
  // The create event stands whatever the dice say.
  room.rejected.clear();
  room.stateAfter.set(create.eventId, new Map([[stateMapKey('m.room.create', ''), create.eventId]]));
  let tips: EventId[] = [create.eventId];
  const opening: Draft[] = [
    { type: 'm.room.member', sender: creator, stateKey: creator, content: { membership: 'join' } },
    ...(random.chance(0.9) ? [powerLevelsDraft(room, creator)] : []),
    ...(random.chance(0.8) ? [joinRulesDraft(room, creator)] : []),
    ...(random.chance(0.5) ? [thirdPartyInviteDraft(room, creator)] : []),
    ...USERS.slice(1)
      .filter(() => random.chance(0.6))
      .map((user): Draft => ({ type: 'm.room.member', sender: user, stateKey: user, content: { membership: 'join' } })),
  ];
  for (const draft of opening) tips = [room.add(draft, tips).eventId];
  while (room.events.size < size) {
    const prevEvents = [random.pick(tips)];
    if (random.chance(0.25)) prevEvents.push(random.pick(tips));
    // Fork from the past now and then.
    if (random.chance(0.15)) prevEvents[0] = random.pick([...room.events.keys()]);
    const unique = [...new Set(prevEvents)];
    const event = room.add(randomDraft(room, room.stateAfter.get(unique[0]!)!), unique);
    tips = [...tips.filter((id) => !unique.includes(id) || random.chance(0.4)), event.eventId].slice(-5);
  }
  return room;
}

/** One thing that somebody tries to do, allowed or not. */
export function randomDraft(room: RandomRoom, state: StateMap): Draft {
  const { random, rules } = room;
  const lookup = room.lookup(state);
  const joined = USERS.filter((user) => lookup('m.room.member', user)?.content['membership'] === 'join');
  const sender = random.pick(joined.length > 0 && random.chance(0.75) ? joined : USERS);
  const target = random.pick(USERS);
  const member = (membership: string, stateKey: string, more: JsonObject = {}): Draft => ({
    type: 'm.room.member',
    sender,
    stateKey,
    content: { membership, ...more },
  });
  const drafts: (readonly [number, () => Draft])[] = [
    [8, () => member('join', sender, random.chance(0.3) ? { displayname: String(random.integer(9)) } : {})],
    [6, () => member('join', sender, { join_authorised_via_users_server: target })],
    [1, () => member('join', target)],
    [5, () => member('leave', sender)],
    [6, () => member('leave', target)],
    [7, () => member('ban', target)],
    [6, () => member('invite', target)],
    [3, () => member('knock', random.chance(0.9) ? sender : target)],
    [1, () => member('sulk', sender)],
    [3, () => thirdPartyInviteDraft(room, sender)],
    [5, () => thirdPartyInvitation(room, lookup, sender, target)],
    [12, () => powerLevelsDraft(room, sender)],
    [8, () => joinRulesDraft(room, sender)],
    [6, () => ({ type: 'm.room.topic', sender, stateKey: '', content: { topic: String(random.integer(99)) } })],
    [3, () => ({ type: 'm.room.name', sender, stateKey: '', content: { name: String(random.integer(99)) } })],
    [2, () => ({ type: 'org.example', sender, stateKey: random.pick([sender, target, 'x', '']), content: {} })],
    // Long in bytes, not in code points: rejected in versions 1 to 10; later ones would drop it.
    [
      rules.strictByteLimits ? 0 : 1,
      () => ({ type: 'org.example', sender, stateKey: 'é'.repeat(random.pick([127, 128])), content: {} }),
    ],
    [2, () => ({ type: 'm.room.message', sender, content: { body: String(random.integer(99)) } })],
    [2, () => ({ type: 'm.room.aliases', sender, stateKey: random.pick(['one', 'two', 'three', '']), content: {} })],
    [
      2,
      () => ({
        type: 'm.room.redaction',
        sender,
        content: {},
        redacts: random.pick(rules.eventIdFormat === 'given' ? ['$1:one', '$2:two', 'none'] : ['$other']),
      }),
    ],
  ];
  let at = random.next() * drafts.reduce((sum, [weight]) => sum + weight, 0);
  for (const [weight, make] of drafts) {
    at -= weight;
    if (at < 0) return make();
  }
  return drafts[0]![1]();
}

function randomLevel(room: RandomRoom): Json {
  const { random, rules } = room;
  const level = random.pick([0, 0, 25, 50, 50, 75, 100, 100, -1]);
  return !rules.integerPowerLevels && random.chance(0.1)
    ? random.pick<Json>([String(level), ` ${level} `, `+${level}`])
    : level;
}

function powerLevelsDraft(room: RandomRoom, sender: UserId): Draft {
  const { random, rules } = room;
  const latest = [...room.events.values()].filter((event) => event.type === 'm.room.power_levels').at(-1);
  const content = structuredClone((latest?.content ?? { users: { [USERS[0]!]: 100 } }) as Record<string, Json>);
  const users = new Map(Object.entries(content['users'] as JsonObject));
  for (let i = 0; i <= random.integer(3); i++) users.set(random.pick(USERS), randomLevel(room));
  if (random.chance(0.2)) users.delete(random.pick(USERS));
  if (rules.privilegedCreators && random.chance(0.85)) users.delete(USERS[0]!);
  content['users'] = Object.fromEntries(users);
  for (const name of ['users_default', 'events_default', 'state_default', 'ban', 'kick', 'redact', 'invite']) {
    if (random.chance(0.08)) content[name] = randomLevel(room);
  }
  for (const name of ['events', 'notifications']) {
    if (random.chance(0.15)) {
      content[name] = {
        [random.pick(['m.room.topic', 'm.room.name', 'room'])]: randomLevel(room),
        extra: randomLevel(room),
      };
    }
  }
  return { type: 'm.room.power_levels', sender, stateKey: random.chance(0.97) ? '' : 'odd', content };
}

function joinRulesDraft({ random }: RandomRoom, sender: UserId): Draft {
  const rule = random.pick<Json>([
    'public',
    'public',
    'invite',
    'knock',
    'restricted',
    'knock_restricted',
    'private',
    7,
  ]);
  return {
    type: 'm.room.join_rules',
    sender,
    stateKey: '',
    content: random.chance(0.95) ? { join_rule: rule, allow: [] } : {},
  };
}

function thirdPartyInviteDraft({ random }: RandomRoom, sender: UserId): Draft {
  const key = IDENTITY_KEY.publicKey;
  const content = random.pick<JsonObject>([
    { public_key: key },
    { public_keys: [{ public_key: key }] },
    { public_key: DUMMY_HASH, public_keys: [{ public_key: key }] },
    { public_key: DUMMY_HASH },
    { public_keys: [{}, { public_key: key }] },
    {},
  ]);
  return { type: 'm.room.third_party_invite', sender, stateKey: random.pick(['token1', 'token2']), content };
}

/** An invite by a token, mostly sent by who announced the token. */
function thirdPartyInvitation(room: RandomRoom, lookup: AuthState, anybody: UserId, target: UserId): Draft {
  const { random } = room;
  const token = random.pick(['token1', 'token2']);
  const mxid = random.chance(0.95) ? target : '@other:one';
  const block = signJson({ mxid, token }, IDENTITY_SERVER, IDENTITY_KEY);
  const signed = random.chance(0.9) ? block : { ...block, extra: 1 };
  return {
    type: 'm.room.member',
    sender: (random.chance(0.8) ? lookup('m.room.third_party_invite', token)?.sender : undefined) ?? anybody,
    stateKey: target,
    content: { membership: 'invite', third_party_invite: { signed } },
  };
}
