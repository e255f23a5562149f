/**
 * State resolution: one state out of several that contradict each other, the same on every server. This file is what
 * callers use; the algorithms of the room versions have files of their own.
 *
 * Pure and synchronous: events come from functions. A caller whose events are in a database notes what its functions were
 * asked for in vain, loads it, and calls again until nothing is wanting.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#room-state-resolution
 */
import { authEventIdsOf } from '../auth/auth-events.ts';
import { type EventId } from '../identifiers.ts';
import { type StateMap, stateMapKey } from '../state-map.ts';
import { type Conflicts } from './conflicts.ts';
import { type InParts, whole } from './parts.ts';
import { separate } from './separate.ts';
import { type Resolution, type ResolutionEvents, type ResolutionInput } from './state-resolution-input.ts';
import { resolveV1 } from './state-resolution-v1.ts';
import { resolveV2 } from './state-resolution-v2.ts';

export { type ResolutionEvents, type ResolutionInput } from './state-resolution-input.ts';
export { type InParts } from './parts.ts';
export { type Conflicts } from './conflicts.ts';

/**
 * Resolves the states into one. Never throws and never hangs: missing events, rejected ones and cycles of auth events are
 * passed over. The result does not depend on the order of the states.
 */
export function resolveState(input: ResolutionInput): StateMap {
  const [first, ...others] = new Set(input.stateSets);
  if (first === undefined) return new Map();
  if (others.length === 0) return first;
  const events = completed(input);
  const placeOf = (id: EventId): string | undefined => {
    const event = events.fetchEvent(id);
    return event?.stateKey === undefined ? undefined : stateMapKey(event.type, event.stateKey);
  };
  const conflicts = separate(input.stateSets, events.authGraph, placeOf);
  return new Map([...conflicts.unconflicted, ...whole(resolve({ ...events, ...conflicts }))]);
}

/**
 * Resolves the places at which states differ, in parts. As `resolveState`, for states that are not at hand as a whole. Between two
 * parts the events' functions must go on to say the same.
 *
 * @returns the events that come to stand where the states differ, and at places that no state has; a conflicted place that
 *   is not among them is empty.
 */
export function resolveConflicts(conflicts: Conflicts, events: ResolutionEvents): InParts<StateMap> {
  return resolve({ ...completed(events), ...conflicts });
}

function* resolve(resolution: Resolution): InParts<StateMap> {
  if (resolution.conflicted.every((state) => state.size === 0)) return new Map();
  return yield* resolution.rules.stateResolution === 'v1' ? resolveV1(resolution) : resolveV2(resolution);
}

function completed(input: ResolutionEvents): Omit<Resolution, keyof Conflicts> {
  const { rules, roomId } = input;
  const fetchEvent: Resolution['fetchEvent'] = (id) => {
    const event = input.fetchEvent(id);
    return event?.roomId === roomId ? event : undefined;
  };
  const authEventsOf = (id: EventId): readonly EventId[] | undefined => {
    const event = fetchEvent(id);
    return event && authEventIdsOf(event, rules);
  };
  return {
    rules,
    fetchEvent,
    isRejected: input.isRejected ?? (() => false),
    onRefused: input.onRefused ?? (() => undefined),
    authGraph: { authEventsOf, authDepthOf: input.authDepthOf },
  };
}
