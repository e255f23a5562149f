/**
 * State resolution of room versions 2 to 11 (v2) and 12 (v2.1): the events that decide who may do what are ordered by
 * power and replayed, then all other conflicted events along the mainline of the power levels that came out.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v2/#algorithm; v2.1: https://spec.matrix.org/v1.16/rooms/v12/#state-resolution
 */
import { type ConflictedStates, authDifference, conflictedStateSubgraph } from './auth-chain.ts';
import { authEventIdsOf } from '../auth/auth-events.ts';
import { authoriseAgainstState } from '../auth/auth-rules.ts';
import { membershipOf } from '../content.ts';
import { type EventId } from '../identifiers.ts';
import { mainlineSort } from './mainline-sort.ts';
import { type Pdu } from '../pdu.ts';
import { reverseTopologicalPowerSort } from './power-sort.ts';
import { type StateMap, stateMapKey } from '../state-map.ts';
import { type Resolution } from './state-resolution-input.ts';

const POWER_LEVELS = stateMapKey('m.room.power_levels', '');

export function resolveV2(resolution: Resolution): StateMap {
  const { rules, fetchEvent, stateSets } = resolution;
  const states = separate(stateSets);
  const { unconflicted } = states;
  if (states.conflicted.every((ids) => ids.length === 0)) return unconflicted;

  const fullConflictedSet = new Map<EventId, Pdu>();
  for (const id of fullConflictedIds(resolution, states)) {
    const event = fetchEvent(id);
    if (event !== undefined) fullConflictedSet.set(id, event);
  }

  // 1. The power events, and those of their auth chains that are conflicted, in reverse topological power order.
  const powerEvents = [...fullConflictedSet.values()].filter(isPowerEvent);
  const sortedPowerEvents = reverseTopologicalPowerSort(powerEvents, fullConflictedSet, resolution);
  // 2. Replay them: upon the unconflicted state, or in v2.1 upon nothing.
  const resolved = new Map<string, EventId>(rules.stateResolution === 'v2.1' ? [] : unconflicted);
  applyAuthChecks(sortedPowerEvents, resolved, resolution);
  // 3. The others by the mainline of the power levels that came out. 4. Replay them.
  const replayed = new Set(sortedPowerEvents);
  const otherEvents = [...fullConflictedSet.values()].filter((event) => !replayed.has(event));
  applyAuthChecks(mainlineSort(otherEvents, resolved.get(POWER_LEVELS), resolution), resolved, resolution);
  // 5. The unconflicted state prevails.
  for (const [place, id] of unconflicted) resolved.set(place, id);
  return resolved;
}

/** Unconflicted: the places at which all states have the same event. A place that a state lacks is conflicted. */
function separate(stateSets: readonly StateMap[]): ConflictedStates {
  const [first = new Map<string, EventId>(), ...others] = stateSets;
  const unconflicted = new Map<string, EventId>();
  for (const [place, id] of first) {
    if (others.every((state) => state.get(place) === id)) unconflicted.set(place, id);
  }
  const conflicted = stateSets.map((state) =>
    [...state].filter(([place]) => !unconflicted.has(place)).map(([, id]) => id),
  );
  return { unconflicted, conflicted };
}

/** The full conflicted set: the conflicted events, the auth difference, and in v2.1 the conflicted state subgraph. */
function fullConflictedIds({ rules, authGraph, fetchEvent }: Resolution, states: ConflictedStates): Set<EventId> {
  const conflicted = new Set(states.conflicted.flat());
  const placeOf = (id: EventId): string | undefined => {
    const event = fetchEvent(id);
    return event?.stateKey === undefined ? undefined : stateMapKey(event.type, event.stateKey);
  };
  const full = new Set([...conflicted, ...authDifference(states, authGraph, placeOf)]);
  if (rules.stateResolution === 'v2.1') for (const id of conflictedStateSubgraph(conflicted, authGraph)) full.add(id);
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
function applyAuthChecks(events: readonly Pdu[], resolved: Map<string, EventId>, resolution: Resolution): void {
  const { rules, fetchEvent, isRejected } = resolution;
  const acceptedEvent = (id: EventId): Pdu | undefined => {
    const event = fetchEvent(id);
    return event === undefined || isRejected(id) ? undefined : event;
  };
  for (const event of events) {
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
        const id = resolved.get(place);
        return (id === undefined ? undefined : acceptedEvent(id)) ?? own.get(place);
      },
      rules,
    );
    if (verdict.ok) resolved.set(stateMapKey(event.type, event.stateKey), event.eventId);
    else resolution.onRefused(event.eventId);
  }
}
