/**
 * State resolution: one state out of several that contradict each other, the same on every server. This file is what
 * callers use; the algorithms of the room versions have files of their own.
 *
 * Pure and synchronous: events come from a function. A caller whose events are in a database asks
 * `eventsNeededForResolution` for what is missing, loads it, and asks again until nothing is.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#room-state-resolution
 */
import { authEventIdsOf } from '../auth/auth-events.ts';
import { type EventId } from '../identifiers.ts';
import { type Pdu } from '../pdu.ts';
import { type StateMap } from '../state-map.ts';
import { type Resolution, type ResolutionInput } from './state-resolution-input.ts';
import { resolveV1 } from './state-resolution-v1.ts';
import { resolveV2 } from './state-resolution-v2.ts';

export { type ResolutionInput } from './state-resolution-input.ts';

/**
 * Resolves the states into one. Never throws and never hangs: missing events, rejected ones and cycles of auth events are
 * passed over. The result does not depend on the order of the states.
 */
export function resolveState(input: ResolutionInput): StateMap {
  const [first, ...others] = new Set(input.stateSets);
  if (first === undefined) return new Map();
  if (others.length === 0) return first;
  const resolution = completed(input);
  return input.rules.stateResolution === 'v1' ? resolveV1(resolution) : resolveV2(resolution);
}

/**
 * The ids that the resolution would ask for and not get, without those already tried in vain. Call it in rounds, loading
 * what it names, until it names nothing; then `resolveState` has all it can have. A caller that loads whole auth chains of
 * what is named needs two or three rounds; one that loads only the named events needs as many as the chains are long.
 *
 * @param isTried whether the caller knows that the event is not to be had.
 */
export function eventsNeededForResolution(
  input: ResolutionInput,
  isTried: (id: EventId) => boolean = () => false,
): readonly EventId[] {
  const needed = new Set<EventId>();
  const note = <T>(id: EventId, found: T | undefined): T | undefined => {
    if (found === undefined && !isTried(id)) needed.add(id);
    return found;
  };
  const graph = input.authGraph;
  resolveState({
    ...input,
    fetchEvent: (id) => note(id, input.fetchEvent(id)),
    ...(graph && { authGraph: { ...graph, authEventsOf: (id) => note(id, graph.authEventsOf(id)) } }),
  });
  return [...needed];
}

function completed(input: ResolutionInput): Resolution {
  const { rules, roomId } = input;
  const fetchEvent = (id: EventId): Pdu | undefined => {
    const event = input.fetchEvent(id);
    return event?.roomId === roomId ? event : undefined;
  };
  const authEventsOf = (id: EventId): readonly EventId[] | undefined => {
    const event = fetchEvent(id);
    return event && authEventIdsOf(event, rules);
  };
  return {
    rules,
    stateSets: input.stateSets,
    fetchEvent,
    isRejected: input.isRejected ?? (() => false),
    onRefused: input.onRefused ?? (() => undefined),
    authGraph: input.authGraph ?? { authEventsOf },
  };
}
