/**
 * What is summed up of an event beside it: the newest edit, its thread, and what refers to it. What was taken back does not count, and what the
 * user may not see is not shown. Of what lies before our stay that is seen by who sees the event.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#aggregations-of-child-events
 */
import { shownEvent } from '../../matrix/client/client-event.ts';
import { type EventId, type UserId } from '../../matrix/identifiers.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { readVisibleEvents } from '../journal/visible-events.ts';
import { type Sql } from '../open-store.ts';
import { type GivenBody, readTaken } from './redactions.ts';
import {
  type EventOfRoom,
  type RelatedChildren,
  type RelatedParent,
  readBodies,
  readRelated,
  readShownPdus,
} from './relations.ts';

/** What events replaced is not told of here. */
const NO_BYTES = 0;
/** Of what is shown in sums of all events together; of those that do not fit nothing is told. */
const BODIES_BYTES_MAX = 8 * 1024 * 1024;
/** Of one event that are looked at, the newest. */
const EDITS_MAX = 3;

/** `m.relations` of those events that have some: one statement where nothing relates to any, a few more otherwise. `now`: milliseconds since the Unix epoch. */
export async function readBundles(
  sql: Sql,
  parents: readonly RelatedParent[],
  userId: UserId,
  now: number,
): Promise<ReadonlyMap<EventId, JsonObject>> {
  const related = parents.length === 0 ? [] : await readRelated(sql, parents);
  return bundlesOf(sql, parents, related.flat(), userId, now);
}

/** The same of what is known to relate to them. */
export async function bundlesOf(
  sql: Sql,
  parents: readonly RelatedParent[],
  related: readonly RelatedChildren[],
  userId: UserId,
  now: number,
): Promise<ReadonlyMap<EventId, JsonObject>> {
  if (related.length === 0) return new Map();
  const rooms = new Map(parents.map(({ eventId, roomId }) => [eventId, roomId]));
  const inRoom = (one: RelatedChildren, eventIds: readonly EventId[]): EventOfRoom[] => {
    const roomId = rooms.get(one.parent);
    return roomId === undefined ? [] : eventIds.map((eventId) => ({ eventId, roomId }));
  };
  const taken = await readTaken(
    sql,
    related.flatMap((one) => inRoom(one, one.doubtful)),
  );
  const bodies = await readBodies(
    sql,
    related.flatMap((one) => inRoom(one, candidatesOf(one, taken))),
    BODIES_BYTES_MAX,
  );
  const latest = new Map(related.map((one) => [one, latestOf(one, taken, bodies)]));
  const seen = await seenOf(sql, parents, latest, userId);
  const bundles = new Map<EventId, JsonObject>();
  for (const one of related) {
    const said = summedUp(one, taken, seen.get(latest.get(one)?.eventId ?? ('' as EventId)), now);
    if (said !== undefined) bundles.set(one.parent, { ...bundles.get(one.parent), [one.kind]: said });
  }
  return bundles;
}

/** The newest that were not taken back: of edits some, since what says so may be none. */
function candidatesOf({ kind, newest, doubtful, places }: RelatedChildren, taken: ReadonlySet<EventId>): EventId[] {
  if (kind === 'm.reference') return [];
  return [...newest, ...doubtful]
    .map((eventId, i) => ({ eventId, place: places[i] ?? 0 }))
    .filter(({ eventId }) => !taken.has(eventId))
    .toSorted((a, b) => a.place - b.place)
    .slice(0, kind === 'm.replace' ? EDITS_MAX : 1)
    .map(({ eventId }) => eventId);
}

function latestOf(
  one: RelatedChildren,
  taken: ReadonlySet<EventId>,
  bodies: ReadonlyMap<EventId, GivenBody>,
): GivenBody | undefined {
  const left = candidatesOf(one, taken).flatMap((eventId) => bodies.get(eventId) ?? []);
  return left.find((body) => one.kind !== 'm.replace' || isEdit(body));
}

/** What replaces the content stands in the event, or is encrypted with it. */
function isEdit({ json }: GivenBody): boolean {
  const { type, content } = JSON.parse(json) as JsonObject;
  return type === 'm.room.encrypted' || (isJsonObject(content) && isJsonObject(content['m.new_content']));
}

/** Of the latest events those that the user may see. */
async function seenOf(
  sql: Sql,
  parents: readonly RelatedParent[],
  latest: ReadonlyMap<RelatedChildren, GivenBody | undefined>,
  userId: UserId,
): Promise<ReadonlyMap<EventId, GivenBody>> {
  const joinedSince = new Map(parents.map((parent) => [parent.eventId, parent.joinedSince]));
  const wanted = [...latest].flatMap(([{ parent }, body]) => (body === undefined ? [] : [{ parent, body }]));
  const bodies = new Map(wanted.map(({ body }) => [body.eventId, body]));
  const parentOf = new Map(wanted.map(({ parent, body }) => [body.eventId, parent]));
  const placed = await readShownPdus(sql, [...bodies.values()]);
  const asked = placed.map((pdu) => ({
    pdu,
    joinedSince: joinedSince.get(parentOf.get(pdu.eventId) ?? pdu.eventId) ?? false,
    isPartial: pdu.partial,
  }));
  const { seen } = await readVisibleEvents(sql, asked, userId, NO_BYTES);
  const hidden = new Set(placed.map(({ eventId }) => eventId));
  for (const { eventId } of seen) hidden.delete(eventId);
  return new Map([...bodies].filter(([eventId]) => !hidden.has(eventId)));
}

function summedUp(
  { kind, count, isParticipant, doubtful, references }: RelatedChildren,
  taken: ReadonlySet<EventId>,
  latest: GivenBody | undefined,
  now: number,
): JsonObject | undefined {
  if (kind === 'm.reference') {
    const left = references.filter((eventId) => !taken.has(eventId));
    return left.length === 0 ? undefined : { chunk: left.map((eventId) => ({ event_id: eventId })) };
  }
  if (latest === undefined) return undefined;
  const event = shownEvent(latest, now);
  if (kind === 'm.replace') return event;
  const left = count - doubtful.filter((eventId) => taken.has(eventId)).length;
  return { latest_event: event, count: left, current_user_participated: isParticipant };
}
