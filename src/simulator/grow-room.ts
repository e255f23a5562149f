/**
 * A simulated room that grows: the create event first, then whatever is drafted on top. The generator and everybody who
 * appends later come through here.
 */
import { createHash } from 'node:crypto';
import { invariant } from '../invariant.ts';
import { authEventKeys } from '../matrix/auth-events.ts';
import { canonicalJson } from '../matrix/canonical-json.ts';
import { eventIdOf, signedText } from '../matrix/hashes.ts';
import { domainOf, type EventId, type RoomAlias, type RoomId, type UserId } from '../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { stateMapKey } from '../matrix/state-map.ts';
import { emptyEventGraph } from './event-graph.ts';
import { memberCounts } from './member-counts.ts';
import { type EventDraft, type SimulatedEvent, type SimulatedRoom } from './room.ts';
import { type SeededRandom } from './seeded-random.ts';
import { type ServerKeys } from './server-keys.ts';
import { referenceHash, signDraft, type PlacedDraft, unsignedEvent } from './sign-draft.ts';

export interface NewRoom {
  readonly rules: RoomVersionRules;
  readonly creator: UserId;
  readonly alias: RoomAlias;
  readonly createContent: JsonObject;
  readonly createdAtMs: number;
  readonly keys: ServerKeys;
  /** Decides opaque ids and the time between appended events. */
  readonly random: SeededRandom;
}

/** Where and when an event of the history stands. */
export interface Placing {
  readonly originServerTsMs: number;
  /** The extremities, unless an event is to have a sibling. */
  readonly prevEvents?: readonly EventId[];
}

export interface GrowingRoom {
  readonly room: SimulatedRoom;
  /** Adds an event of the history. */
  place(draft: EventDraft, placing: Placing): SimulatedEvent;
  /** Keeps the states before events from now on. There must be one extremity. */
  keepStates(): void;
}

const LETTERS = 'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ';
/** As long as those of Synapse. */
const OPAQUE_ID_LENGTH = 18;
/** Time between appended events: up to a minute. */
const APPENDED_STEP_MS_MAX = 60_000;

/** Makes the create event, and what a room is from there on. */
export function growRoom(start: NewRoom): GrowingRoom {
  const { rules, keys, random } = start;
  const graph = emptyEventGraph();
  const members = memberCounts();
  const state = new Map<string, EventId>();
  const referenceHashes = new Map<EventId, string>();
  let extremities: readonly EventId[] = [];
  let kept: { readonly base: ReadonlyMap<string, EventId>; readonly from: number } | undefined;
  let lastTsMs = start.createdAtMs;
  let digestOfState: string | undefined;

  const known = (eventId: EventId): SimulatedEvent => {
    const number = graph.numberOf(eventId);
    invariant(number !== undefined, `event ${eventId} is not of the simulated room`);
    return graph.at(number);
  };
  const eventOf = (eventId: EventId): SimulatedEvent | undefined => {
    const number = graph.numberOf(eventId);
    return number === undefined ? undefined : graph.at(number);
  };
  const currentEvent = (type: string, stateKey: string): SimulatedEvent | undefined => {
    const eventId = state.get(stateMapKey(type, stateKey));
    return eventId === undefined ? undefined : known(eventId);
  };
  const asReferences = (ids: readonly EventId[]): Json[] =>
    rules.eventReferences === 'ids' ? [...ids] : ids.map((id) => [id, { sha256: referenceHashes.get(id) ?? '' }]);

  const citedBy = (draft: EventDraft): EventId[] =>
    authEventKeys({ ...draft, stateKey: draft.stateKey }, rules)
      .map(({ type, stateKey }) => state.get(stateMapKey(type, stateKey)))
      .filter((id) => id !== undefined);

  /** Takes an event into the graph, the extremities and the current state. */
  const take = (event: SimulatedEvent): SimulatedEvent => {
    const isFirst = graph.length === 0;
    graph.add(event, rules.roomIdIsCreateHash && !isFirst ? [...event.authEvents, createId()] : event.authEvents);
    extremities = [...extremities.filter((id) => !event.prevEvents.includes(id)), event.eventId];
    if (event.stateKey !== undefined) {
      const key = stateMapKey(event.type, event.stateKey);
      if (event.type === 'm.room.member') {
        const before = state.get(key);
        members.change(event.stateKey, before === undefined ? undefined : known(before).membership, event.membership);
      }
      state.set(key, event.eventId);
      digestOfState = undefined;
    }
    return event;
  };
  const createId = (): EventId => graph.at(0).eventId;

  const opaqueId = (): string => random.text(OPAQUE_ID_LENGTH, LETTERS);
  const origin = domainOf(start.creator);
  let roomId = rules.roomIdIsCreateHash ? undefined : (`!${opaqueId()}:${origin}` as RoomId);

  const placed = (draft: EventDraft, prevEvents: readonly EventId[], originServerTsMs: number) => {
    const authEvents = citedBy(draft);
    const depth = 1 + prevEvents.reduce((deepest, id) => Math.max(deepest, known(id).depth), 0);
    const givenId =
      rules.eventIdFormat === 'given' ? (`$${opaqueId()}:${domainOf(draft.sender)}` as EventId) : undefined;
    const json: PlacedDraft = {
      draft,
      roomId,
      prevEvents: asReferences(prevEvents),
      authEvents: asReferences(authEvents),
      depth,
      originServerTsMs,
      givenId,
    };
    return { json, prevEvents, authEvents, depth };
  };

  const place = (draft: EventDraft, { originServerTsMs, prevEvents = extremities }: Placing): SimulatedEvent => {
    const { json: drafted, authEvents, depth } = placed(draft, prevEvents, originServerTsMs);
    const server = domainOf(draft.sender);
    const signed = signDraft(drafted, server, keys.of(server), rules);
    if (signed.referenceHash !== undefined) referenceHashes.set(signed.eventId, signed.referenceHash);
    lastTsMs = Math.max(lastTsMs, originServerTsMs);
    const { sender, type, stateKey } = draft;
    return take({
      eventId: signed.eventId,
      type,
      ...(stateKey !== undefined && { stateKey }),
      sender,
      ...membershipIn(type, draft.content),
      depth,
      prevEvents,
      authEvents,
      json: signed.json,
    });
  };

  const createDraft = { sender: start.creator, type: 'm.room.create', stateKey: '', content: start.createContent };
  const created = place(createDraft, { originServerTsMs: start.createdAtMs });
  roomId ??= `!${created.eventId.slice(1)}` as RoomId;

  const room: SimulatedRoom = {
    roomId,
    roomVersion: rules.version,
    rules,
    alias: start.alias,
    get extremities() {
      return extremities;
    },
    event: eventOf,
    stateBefore(eventId) {
      const number = graph.numberOf(eventId);
      if (kept === undefined || number === undefined || number < kept.from) return undefined;
      const { base, from } = kept;
      // The event before the first has the base for its state after; everything older is out of reach.
      const ancestors = graph.ancestors(number, from - 1);
      const reachesFurther = ancestors.concat(number).some((ancestor) => {
        const isBase = ancestor === from - 1;
        return !isBase && graph.at(ancestor).prevEvents.some((id) => (graph.numberOf(id) ?? 0) < from - 1);
      });
      if (reachesFurther) return undefined;
      const before = new Map(base);
      for (const ancestor of ancestors) {
        const { type, stateKey, eventId: ancestorId } = graph.at(ancestor);
        if (ancestor >= from && stateKey !== undefined) before.set(stateMapKey(type, stateKey), ancestorId);
      }
      return before;
    },
    currentState: () => new Map(state),
    currentEvent,
    authChain: (eventIds) => graph.authChain(eventIds),
    serversInRoom: () => members.servers(),
    joinedCount: () => members.joined(),
    append: (draft) => place(draft, { originServerTsMs: lastTsMs + 1 + random.below(APPENDED_STEP_MS_MAX) }),
    accept(event) {
      const eventId = eventIdOf(event, rules);
      const held = eventOf(eventId);
      if (held !== undefined) return held;
      if (rules.eventReferences !== 'ids') referenceHashes.set(eventId, referenceHash(signedText(event, rules)));
      lastTsMs = Math.max(lastTsMs, event['origin_server_ts'] as number);
      return take(readAccepted(eventId, event));
    },
    joinTemplate(userId) {
      const content = { membership: 'join' };
      const draft = { sender: userId, type: 'm.room.member', stateKey: userId, content };
      const { json } = placed(draft, extremities, lastTsMs + 1);
      return { room_version: rules.version, event: unsignedEvent({ ...json, givenId: undefined }, origin, rules) };
    },
    missingEvents: (latest, earliest, limit) => graph.between(latest, earliest, limit).reverse(),
    digest() {
      digestOfState ??= createHash('sha256')
        .update([...state.values()].sort().join('\n'))
        .digest('hex');
      return digestOfState;
    },
  };
  return {
    room,
    place,
    keepStates() {
      invariant(extremities.length === 1, 'states are kept from a point where the room has one extremity');
      kept = { base: new Map(state), from: graph.length };
    },
  };
}

function readAccepted(eventId: EventId, event: JsonObject): SimulatedEvent {
  const type = event['type'] as string;
  const stateKey = event['state_key'] as string | undefined;
  return {
    eventId,
    type,
    ...(stateKey !== undefined && { stateKey }),
    sender: event['sender'] as UserId,
    ...membershipIn(type, event['content'] as JsonObject),
    depth: event['depth'] as number,
    prevEvents: referencedIds(event['prev_events'] as readonly Json[]),
    authEvents: referencedIds(event['auth_events'] as readonly Json[]),
    json: Buffer.from(canonicalJson(event)),
  };
}

function membershipIn(type: string, content: JsonObject): { membership?: string } {
  const membership = type === 'm.room.member' ? content['membership'] : undefined;
  return typeof membership === 'string' ? { membership } : {};
}

function referencedIds(references: readonly Json[]): EventId[] {
  return references.map((reference) => (Array.isArray(reference) ? (reference[0] as Json) : reference) as EventId);
}
