/**
 * State resolution: one state out of several that contradict each other, the same on every server. This file finds the
 * conflicts and hands them to the algorithm of the room version.
 *
 * Pure and synchronous: events come from a function. A caller whose events are in a database asks
 * `eventsNeededForResolution` for what is missing, loads it, and asks again until nothing is.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#room-state-resolution
 */
import { authEventIdsOf } from './auth-events.ts';
import { type AuthGraph } from './auth-chain.ts';
import { type EventId, type RoomId } from './identifiers.ts';
import { type Pdu } from './pdu.ts';
import { type RoomVersionRules } from './room-versions.ts';
import { type StateMap } from './state-map.ts';
import { resolveV1 } from './state-resolution-v1.ts';
import { resolveV2 } from './state-resolution-v2.ts';

export interface ResolutionInput {
  readonly rules: RoomVersionRules;
  readonly roomId: RoomId;
  /** The states to resolve; equal ones may repeat. Every event in them is a state event of this room. */
  readonly stateSets: readonly StateMap[];
  /** An event of the room, rejected ones included; `undefined` counts as missing. Events of other rooms count so too. */
  readonly fetchEvent: (id: EventId) => Pdu | undefined;
  /** Whether an event was rejected on receipt. Rejected events never enter the resolved state. */
  readonly isRejected?: (id: EventId) => boolean;
  /** The auth graph, where the caller holds it apart from the events; by default it is read off them. */
  readonly authGraph?: AuthGraph;
}

/** The input as the algorithms take it: no optional parts, and only events of the room. */
export interface Resolution {
  readonly rules: RoomVersionRules;
  readonly stateSets: readonly StateMap[];
  readonly fetchEvent: (id: EventId) => Pdu | undefined;
  readonly isRejected: (id: EventId) => boolean;
  readonly authGraph: AuthGraph;
}

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
    authGraph: input.authGraph ?? { authEventsOf },
  };
}
