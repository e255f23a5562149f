/**
 * State resolution of room versions 2 to 11 (v2) and 12 (v2.1): the events that decide who may do what are ordered by
 * power and replayed, then all other conflicted events along the mainline of the power levels that came out.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v2/#algorithm; v2.1: https://spec.matrix.org/v1.16/rooms/v12/#state-resolution
 */
import { authDifference, conflictedStateSubgraph } from './auth-chain.ts';
import { authEventIdsOf } from '../auth/auth-events.ts';
import { authoriseAgainstState } from '../auth/auth-rules.ts';
import { membershipOf } from '../content.ts';
import { type EventId } from '../identifiers.ts';
import { mainlineSort } from './mainline-sort.ts';
import { type InParts, PART_STEPS } from './parts.ts';
import { type Pdu } from '../pdu.ts';
import { reverseTopologicalPowerSort } from './power-sort.ts';
import { type StateMap, stateMapKey } from '../state-map.ts';
import { type Resolution } from './state-resolution-input.ts';

const POWER_LEVELS = stateMapKey('m.room.power_levels', '');

/** @returns what comes to stand at conflicted places, and at places that no state has. */
export function* resolveV2(resolution: Resolution): InParts<StateMap> {
  const { rules, fetchEvent, unconflictedAt } = resolution;
  const fullConflictedSet = new Map<EventId, Pdu>();
  for (const id of yield* fullConflictedIds(resolution)) {
    const event = fetchEvent(id);
    if (event === undefined) continue;
    fullConflictedSet.set(id, event);
    if (fullConflictedSet.size % PART_STEPS === 0) yield;
  }

  // 1. The power events, and those of their auth chains that are conflicted, in reverse topological power order.
  const powerEvents = [...fullConflictedSet.values()].filter(isPowerEvent);
  const sortedPowerEvents = yield* reverseTopologicalPowerSort(powerEvents, fullConflictedSet, resolution);
  // 2. Replay them: upon the unconflicted state, or in v2.1 upon nothing.
  const replayed = new Map<string, EventId>();
  const standingAt = (place: string): EventId | undefined =>
    replayed.get(place) ?? (rules.stateResolution === 'v2.1' ? undefined : unconflictedAt(place));
  yield* applyAuthChecks(sortedPowerEvents, replayed, standingAt, resolution);
  // 3. The others by the mainline of the power levels that came out. 4. Replay them.
  const power = new Set(sortedPowerEvents);
  const otherEvents = [...fullConflictedSet.values()].filter((event) => !power.has(event));
  const sorted = yield* mainlineSort(otherEvents, standingAt(POWER_LEVELS), resolution);
  yield* applyAuthChecks(sorted, replayed, standingAt, resolution);
  // 5. The unconflicted state prevails.
  for (const place of [...replayed.keys()]) if (unconflictedAt(place) !== undefined) replayed.delete(place);
  return replayed;
}

/** The full conflicted set: the conflicted events, the auth difference, and in v2.1 the conflicted state subgraph. */
function* fullConflictedIds(resolution: Resolution): InParts<Set<EventId>> {
  const { rules, authGraph } = resolution;
  const conflicted = new Set(resolution.conflicted.flatMap((state) => [...state.values()]));
  const full = new Set([...conflicted, ...(yield* authDifference(resolution, authGraph))]);
  if (rules.stateResolution === 'v2.1') {
    for (const id of yield* conflictedStateSubgraph(conflicted, authGraph)) full.add(id);
  }
  return full;
}

/** A power event: power levels, join rules, m.room.create, or a membership that takes somebody else out of the room. */
function isPowerEvent(event: Pdu): boolean {
  switch (event.type) {
    case 'm.room.power_levels':
    case 'm.room.join_rules':
    case 'm.room.create':
      return event.stateKey === '';
    case 'm.room.member': {
      const membership = membershipOf(event);
      return (membership === 'leave' || membership === 'ban') && event.sender !== event.stateKey;
    }
    default:
      return false;
  }
}

/**
 * The iterative auth checks: each event in turn is judged against its own auth events, overlaid by the state as resolved so
 * far, and takes its place in that state if it passes. Rejected auth events are left out.
 *
 * An event that was rejected on receipt stays out even if it would pass now: the spec lets it in, Synapse does not.
 */
function* applyAuthChecks(
  events: readonly Pdu[],
  replayed: Map<string, EventId>,
  standingAt: (place: string) => EventId | undefined,
  resolution: Resolution,
): InParts<void> {
  const { rules, fetchEvent, isRejected } = resolution;
  const acceptedEvent = (id: EventId): Pdu | undefined => {
    const event = fetchEvent(id);
    return event === undefined || isRejected(id) ? undefined : event;
  };
  let judged = 0;
  for (const event of events) {
    if (++judged % PART_STEPS === 0) yield;
    if (event.stateKey === undefined) continue;
    const own = new Map<string, Pdu>();
    for (const id of authEventIdsOf(event, rules)) {
      const authEvent = acceptedEvent(id);
      if (authEvent?.stateKey !== undefined) own.set(stateMapKey(authEvent.type, authEvent.stateKey), authEvent);
    }
    if (isRejected(event.eventId)) continue;
    const verdict = authoriseAgainstState(
      event,
      (type, stateKey) => {
        const place = stateMapKey(type, stateKey);
        const id = standingAt(place);
        return (id === undefined ? undefined : acceptedEvent(id)) ?? own.get(place);
      },
      rules,
    );
    if (verdict.ok) replayed.set(stateMapKey(event.type, event.stateKey), event.eventId);
    else resolution.onRefused(event.eventId);
  }
}
