/**
 * The reverse topological power ordering of state resolution v2: every event after those it cites, and among those free to
 * come next the one whose sender had the most power, then the oldest, then the one with the smallest id.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v2/#definitions
 */
import { authEventIdsOf } from '../auth/auth-events.ts';
import { type EventId } from '../identifiers.ts';
import { type Pdu } from '../pdu.ts';
import {
  CREATOR_LEVEL,
  type Level,
  above,
  creatorOf,
  isPrivilegedCreator,
  statedUserLevel,
} from '../auth/power-levels.ts';
import { type InParts, PART_STEPS } from './parts.ts';
import { PriorityQueue } from './priority-queue.ts';
import { type Resolution } from './state-resolution-input.ts';

type Lookup = Pick<Resolution, 'rules' | 'fetchEvent'>;

/** Order of code points, in which servers agree to compare ids; JavaScript's own is that of UTF-16 units. */
export function compareIds(a: EventId, b: EventId): number {
  return Buffer.compare(Buffer.from(a, 'utf8'), Buffer.from(b, 'utf8'));
}

/**
 * Sorts `powerEvents` and those events of their auth chains that are reached without leaving the full conflicted set.
 * Events in a cycle of auth events never come free and are left out.
 */
export function* reverseTopologicalPowerSort(
  powerEvents: readonly Pdu[],
  fullConflictedSet: ReadonlyMap<EventId, Pdu>,
  lookup: Lookup,
): InParts<Pdu[]> {
  const cited = new Map<EventId, Set<EventId>>();
  const citedBy = new Map<EventId, EventId[]>();
  const pending = [...powerEvents];
  for (let event = pending.pop(); event !== undefined; event = pending.pop()) {
    if (cited.has(event.eventId)) continue;
    const citations = new Set<EventId>();
    cited.set(event.eventId, citations);
    if (cited.size % PART_STEPS === 0) yield;
    for (const id of authEventIdsOf(event, lookup.rules)) {
      const authEvent = fullConflictedSet.get(id);
      if (authEvent === undefined || citations.has(id)) continue;
      citations.add(id);
      const citing = citedBy.get(id);
      if (citing === undefined) citedBy.set(id, [event.eventId]);
      else citing.push(event.eventId);
      pending.push(authEvent);
    }
  }

  const free = new PriorityQueue<{ event: Pdu; senderLevel: Level }>(comparePower);
  const release = (id: EventId): void => {
    const event = fullConflictedSet.get(id);
    if (event !== undefined) free.push({ event, senderLevel: senderLevelOf(event, lookup) });
  };
  let looked = 0;
  for (const [id, citations] of cited) {
    if (citations.size === 0) release(id);
    if (++looked % PART_STEPS === 0) yield;
  }
  const sorted: Pdu[] = [];
  for (let next = free.pop(); next !== undefined; next = free.pop()) {
    if (sorted.push(next.event) % PART_STEPS === 0) yield;
    for (const id of citedBy.get(next.event.eventId) ?? []) {
      const citations = cited.get(id);
      citations?.delete(next.event.eventId);
      if (citations?.size === 0) release(id);
    }
  }
  return sorted;
}

function comparePower(a: { event: Pdu; senderLevel: Level }, b: { event: Pdu; senderLevel: Level }): number {
  // By value: a number and a bigint may be equal, which `===` denies.
  if (above(a.senderLevel, b.senderLevel)) return -1;
  if (above(b.senderLevel, a.senderLevel)) return 1;
  return a.event.originServerTs - b.event.originServerTs || compareIds(a.event.eventId, b.event.eventId);
}

/** The sender's power by the event's own auth events; 0 where it cannot be read. */
function senderLevelOf(event: Pdu, { rules, fetchEvent }: Lookup): Level {
  let create: Pdu | undefined;
  let powerLevels: Pdu | undefined;
  for (const id of authEventIdsOf(event, rules)) {
    const authEvent = fetchEvent(id);
    if (authEvent?.stateKey !== '') continue;
    if (authEvent.type === 'm.room.create') create = authEvent;
    if (authEvent.type === 'm.room.power_levels') powerLevels = authEvent;
  }
  if (create !== undefined && isPrivilegedCreator(create, event.sender, rules) === true) return CREATOR_LEVEL;
  if (powerLevels !== undefined) return statedUserLevel(powerLevels.content, event.sender) ?? 0;
  return create !== undefined && creatorOf(create, rules) === event.sender ? 100 : 0;
}
