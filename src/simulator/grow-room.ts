/**
 * A simulated room that grows: the create event first, then whatever is drafted on top. The generator and everybody who
 * appends later come through here.
 */
import { invariant } from '../invariant.ts';
import { authEventKeys } from '../matrix/auth/auth-events.ts';
import { type AuthState } from '../matrix/auth/auth-verdict.ts';
import { type Draft, type GraphPlace, chooseParents, depthAfter, sealEvent, unsignedEvent } from '../matrix/compose.ts';
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { readInteger } from '../matrix/json/json-numbers.ts';
import { eventIdOf, signedText } from '../matrix/signing/hashes.ts';
import {
  type EventId,
  type RoomAlias,
  type RoomId,
  type ServerName,
  type UserId,
  domainOf,
} from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { stateMapKey } from '../matrix/state-map.ts';
import { createCrowd } from './crowd.ts';
import { emptyEventGraph } from './event-graph.ts';
import { referencedIds, referencesOf } from './references.ts';
import { roomState } from './room-state.ts';
import { authStateOfRoom, pduOf, verdictOn } from './room-verdicts.ts';
import { type Crowd, type SimulatedEvent, type SimulatedRoom } from './room.ts';
import { type SeededRandom } from './seeded-random.ts';
import { type ServerKeys } from './server-keys.ts';

export interface NewRoom {
  readonly rules: RoomVersionRules;
  readonly creator: UserId;
  /** What stands before the opaque part of the room's id, where that is no hash. */
  readonly idBegins: string;
  readonly alias: RoomAlias;
  readonly createContent: JsonObject;
  readonly createdAtMs: number;
  readonly keys: ServerKeys;
  /** Decides opaque ids and the time between appended events. */
  readonly random: SeededRandom;
}

/** When and where an event of the history stands. */
export interface Placing {
  readonly originServerTsMs: number;
  /** The extremities, unless an event is to have a sibling, or to be put elsewhere. */
  readonly prevEvents?: readonly EventId[] | undefined;
  /** Of the current state when absent, for siblings too: they must not touch what the other rests on. */
  readonly authEvents?: readonly EventId[] | undefined;
}

export interface GrowingRoom {
  readonly room: SimulatedRoom;
  /** Adds an event of the history. */
  readonly place: (draft: Draft, placing: Placing) => SimulatedEvent;
  /** Keeps the states before events from now on. There must be one extremity. */
  readonly keepStates: () => void;
  /** Adds so many who joined when the newest event was there, on these servers. */
  readonly gather: (size: number, servers: readonly ServerName[]) => void;
}

const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ';
/** As long as those of Synapse. */
const OPAQUE_ID_LENGTH = 18;
/** Time between appended events: up to a minute. */
const APPENDED_STEP_MS_MAX = 60_000;

/** Makes the create event, and what a room is from there on. */
export function growRoom(about: NewRoom): GrowingRoom {
  const { rules, creator, idBegins, alias, createContent, createdAtMs, keys, random } = about;
  const graph = emptyEventGraph();
  const state = roomState(graph);
  const references = referencesOf(rules);
  const opaqueId = (): string => random.text(OPAQUE_ID_LENGTH, LETTERS);
  let roomId = rules.roomIdIsCreateHash ? undefined : (`!${idBegins}${opaqueId()}:${domainOf(creator)}` as RoomId);
  let extremities: readonly EventId[] = [];
  let lastTsMs = createdAtMs;

  const authEventsOf = (draft: Draft): EventId[] =>
    authEventKeys({ ...draft, stateKey: draft.stateKey }, rules)
      .map(({ type, stateKey }) => state.get(type, stateKey))
      .filter((eventId) => eventId !== undefined);

  /** The event before it is signed. Versions up to 10 name the origin, as servers of their time did. */
  const composed = (draft: Draft, placing: Placing, givenId?: EventId) => {
    const { originServerTsMs, prevEvents = extremities, authEvents = authEventsOf(draft) } = placing;
    const parents = chooseParents(prevEvents.map((eventId) => graph.event(eventId)).filter(isThere));
    const prevIds = parents.map(({ eventId }) => eventId);
    const depth = depthAfter(parents, rules);
    const place: GraphPlace = {
      roomId,
      prevEvents: references.to(prevIds),
      authEvents: references.to(authEvents),
      depth,
      originServerTs: originServerTsMs,
    };
    const unsigned = unsignedEvent(draft, place, givenId);
    const json = rules.redaction.keepsObsoleteTopLevelKeys ? { ...unsigned, origin: domainOf(draft.sender) } : unsigned;
    return { json, prevEvents: prevIds, authEvents, depth };
  };

  const hold = (event: SimulatedEvent): void => {
    const { authEvents } = event;
    // Version 12 does not cite the create event, which the room id names.
    const isImplied = rules.roomIdIsCreateHash && roomId !== undefined;
    graph.add(event, isImplied ? [...authEvents, `$${roomId?.slice(1)}` as EventId] : authEvents);
  };

  /** Lets an event that is held count: the extremities and the current state follow it. */
  const build = (event: SimulatedEvent): SimulatedEvent => {
    const { eventId, prevEvents } = event;
    state.apply(event);
    extremities = [...extremities.filter((extremity) => !prevEvents.includes(extremity)), eventId];
    return event;
  };

  const made = (draft: Draft, placing: Placing): SimulatedEvent => {
    const { sender, type, stateKey, content } = draft;
    const server = domainOf(sender);
    const givenId = rules.eventIdFormat === 'given' ? (`$${opaqueId()}:${server}` as EventId) : undefined;
    const { json: unsigned, prevEvents, authEvents, depth } = composed(draft, placing, givenId);
    const { eventId, event, signedText } = sealEvent(unsigned, rules, server, keys.of(server));
    const json = Buffer.from(canonicalJson(event));
    references.note(eventId, signedText);
    lastTsMs = Math.max(lastTsMs, placing.originServerTsMs);
    const held = { eventId, ...described(type, stateKey, sender, content), depth, prevEvents, authEvents, json };
    hold(held);
    return held;
  };

  const place = (draft: Draft, placing: Placing): SimulatedEvent => build(made(draft, placing));

  /** As `authStateOfRoom`, before an event that may stand anywhere. */
  const authStateBefore = (event: SimulatedEvent): AuthState => {
    const before = state.before(event.eventId);
    invariant(before !== undefined, 'the state before what is appended is kept');
    return (type, stateKey) => {
      const standing = graph.event(before.get(stateMapKey(type, stateKey)));
      return standing && pduOf(standing, rules);
    };
  };

  const created = place(
    { sender: creator, type: 'm.room.create', stateKey: '', content: createContent },
    { originServerTsMs: createdAtMs },
  );
  roomId ??= `!${created.eventId.slice(1)}` as RoomId;

  const crowdOf = (size: number, servers: readonly ServerName[]): Crowd => {
    const userId = `@crowd:${domainOf(creator)}` as UserId;
    const draft = { sender: userId, type: 'm.room.member', stateKey: userId, content: { membership: 'join' } };
    const parent = graph.event(extremities.at(-1)) ?? created;
    const authEvents = authEventsOf(draft);
    return createCrowd({ size, rules, roomId, servers, keys, parent, authEvents, originServerTsMs: lastTsMs });
  };
  let crowd = crowdOf(0, []);

  const room: SimulatedRoom = {
    roomId,
    roomVersion: rules.version,
    rules,
    alias,
    get extremities() {
      return extremities;
    },
    get crowd() {
      return crowd;
    },
    event: (eventId) => graph.event(eventId) ?? crowd.event(eventId),
    stateBefore: (eventId) => state.before(eventId),
    currentState: () => state.current(),
    currentEvent: (type, stateKey) => graph.event(state.get(type, stateKey)),
    authChain: (eventIds) => graph.authChain(eventIds),
    serversInRoom: () => state.servers(),
    joinedCount: () => state.joined(),
    append({ prevEvents, authEvents, ...draft }) {
      const originServerTsMs = lastTsMs + 1 + random.below(APPENDED_STEP_MS_MAX);
      const event = made(draft, { originServerTsMs, prevEvents, authEvents });
      // A copy of the whole state is made only for what does not stand on top of it.
      const stateBefore = prevEvents === undefined ? authStateOfRoom(room) : authStateBefore(event);
      if (verdictOn(room, pduOf(event, rules), stateBefore).outcome === 'accept') return build(event);
      state.reject(event.eventId);
      return event;
    },
    isRejected: (eventId) => state.isRejected(eventId),
    accept(event) {
      const eventId = eventIdOf(event, rules);
      const held = graph.event(eventId);
      if (held !== undefined) return held;
      const accepted = readAccepted(eventId, event);
      hold(accepted);
      build(accepted);
      references.note(eventId, signedText(event, rules));
      lastTsMs = Math.max(lastTsMs, event['origin_server_ts'] as number);
      return accepted;
    },
    joinTemplate(userId) {
      const draft = { sender: userId, type: 'm.room.member', stateKey: userId, content: { membership: 'join' } };
      return { room_version: rules.version, event: composed(draft, { originServerTsMs: lastTsMs + 1 }).json };
    },
    missingEvents: (latest, earliest, limit) => graph.ancestorsBetween(latest, earliest, limit).reverse(),
    digest: () => state.digest(),
  };
  const keepStates = (): void => {
    invariant(extremities.length === 1, 'states are kept from a point where the room has one extremity');
    state.keepFromHere();
  };
  const gather = (size: number, servers: readonly ServerName[]): void => {
    crowd = crowdOf(size, servers);
  };
  return { room, place, keepStates, gather };
}

function readAccepted(eventId: EventId, event: JsonObject): SimulatedEvent {
  const { type, state_key: stateKey, sender, content } = event;
  return {
    eventId,
    ...described(type as string, stateKey as string | undefined, sender as UserId, content as JsonObject),
    depth: readInteger(event, 'depth') ?? 0n,
    prevEvents: referencedIds(event['prev_events']),
    authEvents: referencedIds(event['auth_events']),
    json: Buffer.from(canonicalJson(event)),
  };
}

/** What an event says of itself, without the keys that it does not have. */
function described(
  type: string,
  stateKey: string | undefined,
  sender: UserId,
  content: JsonObject,
): Pick<SimulatedEvent, 'type' | 'stateKey' | 'sender' | 'membership'> {
  const membership = type === 'm.room.member' ? content['membership'] : undefined;
  return {
    type,
    ...(stateKey !== undefined && { stateKey }),
    sender,
    ...(typeof membership === 'string' && { membership }),
  };
}

function isThere(event: SimulatedEvent | undefined): event is SimulatedEvent {
  return event !== undefined;
}
