/** An event of one of our users over a room as it stands: signed, checked as everybody else's is, and stored by nobody yet. */
import { authEventKeys } from '../../matrix/auth/auth-events.ts';
import {
  type Draft,
  chooseParents,
  depthAfter,
  givenEventId,
  referenceTo,
  sealEvent,
  unsignedEvent,
} from '../../matrix/compose.ts';
import { relationOf } from '../../matrix/client/relation.ts';
import { membershipOf } from '../../matrix/content.ts';
import { PREV_EVENTS_MAX, parsePdu } from '../../matrix/event-format.ts';
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { canonicalJson } from '../../matrix/json/canonical-json.ts';
import { type JsonObject, type Pdu } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { parseJsonObject } from '../../matrix/json/strict-json.ts';
import { type GraphParent, readGraphParents } from '../../store/events/graph-parents.ts';
import { type RoomStanding } from '../../store/journal/rooms.ts';
import { type Sql } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { type CheckedPdu } from '../../verification/contract.ts';
import { type RoomsContext } from '../context.ts';
import { RoomError } from '../error.ts';

export type ComposeContext = Pick<RoomsContext, 'serverName' | 'signingKey' | 'clock' | 'random'>;

/** Where an event of ours is put. */
export interface OwnPlace {
  /** `undefined`: of the create event of version 12. */
  readonly roomId: RoomId | undefined;
  readonly rules: RoomVersionRules;
  readonly parents: readonly GraphParent[];
  readonly authEvents: readonly Pick<GraphParent, 'eventId' | 'event'>[];
}

/** @throws RoomError `malformed` where no server would take such an event, `too-large` where it has too many bytes. */
export function composeOwn(context: ComposeContext, draft: Draft, place: OwnPlace): Pdu {
  const { serverName, signingKey, clock, random } = context;
  const { rules, roomId } = place;
  const cite = ({ eventId, event }: OwnPlace['authEvents'][number]) => referenceTo(eventId, event, rules);
  const unsigned = unsignedEvent(
    draft,
    {
      roomId,
      prevEvents: place.parents.map(cite),
      authEvents: place.authEvents.map(cite),
      depth: depthAfter(place.parents, rules),
      originServerTs: draft.originServerTs ?? clock.now(),
    },
    givenEventId(rules, draft.sender, random),
  );
  const parsed = parsePdu(sealEvent(unsigned, rules, serverName, signingKey).event, rules);
  if (parsed.ok) return parsed.pdu;
  throw new RoomError(parsed.rule === 'event.size' ? 'too-large' : 'malformed', parsed.reason);
}

/** The place of a new event: on at most twenty of the extremities, with the auth events that the current state has for it. */
export async function placeInRoom(
  sql: Sql,
  room: RoomStanding,
  rules: RoomVersionRules,
  { sender, type, stateKey, content }: Draft,
): Promise<OwnPlace> {
  const { roomId, currentState, extremities } = room;
  const keys = authEventKeys({ sender, type, stateKey, content }, rules);
  const authorising = currentState === null ? [] : await readSnapshot(sql, roomId, currentState, { keys });
  // Only versions 1 and 2 cite more than ids.
  const isHashed = rules.eventReferences === 'id-hash-pairs';
  const authIds = authorising.map(({ eventId }) => eventId);
  const cited = await readGraphParents(sql, roomId, [...extremities, ...(isHashed ? authIds : [])], isHashed);
  const bodyOf = (eventId: EventId) => cited.get(eventId)?.event;
  return {
    roomId,
    rules,
    parents: chooseParents(extremities.flatMap((eventId) => cited.get(eventId) ?? [])),
    authEvents: authIds.map((eventId) => ({ eventId, event: bodyOf(eventId) })),
  };
}

/** The extremities that a new event will cite, as the room stands. */
export async function readChosenParents(sql: Sql, { roomId, extremities }: RoomStanding): Promise<EventId[]> {
  if (extremities.length <= PREV_EVENTS_MAX) return [...extremities];
  const known = await readGraphParents(sql, roomId, extremities, false);
  return chooseParents(extremities.flatMap((eventId) => known.get(eventId) ?? [])).map(({ eventId }) => eventId);
}

/** As it is stored. */
export function checkedOwn(pdu: Pdu): CheckedPdu {
  const { eventId, roomId, type, sender, depth, originServerTs, prevEvents, authEvents, json } = pdu;
  return {
    ...{ eventId, roomId, type, sender, depth, originServerTs, prevEvents, authEvents },
    stateKey: pdu.stateKey ?? null,
    membership: type === 'm.room.member' ? (membershipOf(pdu) ?? null) : null,
    json: Buffer.from(canonicalJson(json)),
    hollow: false,
    relation: relationOf(pdu.content),
  };
}

/** Content that went through the database, or came from a client, as it is written into an event. */
export function readContent(json: string): JsonObject | undefined {
  const read = parseJsonObject(json);
  return read.ok ? read.value : undefined;
}
