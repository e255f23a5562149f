/**
 * Walks of the graph that auth events make: the auth difference of several states, and the conflicted state subgraph of
 * state resolution v2.1.
 *
 * With auth depths that *we* computed (greater than that of every event in the chain; an event's own `depth` is a claim and
 * may lie) the walks stop as soon as everything below is common; without, they visit the chains they start from once.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v2/#definitions
 */
import { type EventId } from '../identifiers.ts';
import { PriorityQueue } from './priority-queue.ts';
import { type StateMap } from '../state-map.ts';

export interface AuthGraph {
  /** The auth events of an event, as `authEventIdsOf` gives them; `undefined` when the event is not at hand. */
  readonly authEventsOf: (id: EventId) => readonly EventId[] | undefined;
  /** Trusted, for every event with `authEventsOf`; when absent, depths are computed by visiting the chains. */
  readonly authDepthOf?: ((id: EventId) => number | undefined) | undefined;
}

/** A graph in which every depth is known; an event that is not at hand may have none. */
type MeasuredAuthGraph = AuthGraph & { readonly authDepthOf: (id: EventId) => number | undefined };

/**
 * The ids reachable from `roots`, each after those it cites (cycles, which only forged ids can make, are cut where they
 * close).
 */
function postorder(
  roots: Iterable<EventId>,
  graph: AuthGraph,
  isWithin: (id: EventId) => boolean = () => true,
): EventId[] {
  const order: EventId[] = [];
  const entered = new Set<EventId>();
  const stack: { id: EventId; authEvents: readonly EventId[]; next: number }[] = [];
  const enter = (id: EventId): void => {
    if (entered.has(id) || !isWithin(id)) return;
    entered.add(id);
    stack.push({ id, authEvents: graph.authEventsOf(id) ?? [], next: 0 });
  };
  for (const root of roots) {
    enter(root);
    for (let top = stack.at(-1); top !== undefined; top = stack.at(-1)) {
      const child = top.authEvents[top.next++];
      if (child === undefined) {
        order.push(top.id);
        stack.pop();
      } else {
        enter(child);
      }
    }
  }
  return order;
}

/** The graph with depths: its own, or those found by visiting everything reachable from `roots`. */
function withAuthDepths(roots: Iterable<EventId>, graph: AuthGraph): MeasuredAuthGraph {
  if (graph.authDepthOf !== undefined) return { authEventsOf: graph.authEventsOf, authDepthOf: graph.authDepthOf };
  const depths = new Map<EventId, number>();
  for (const id of postorder(roots, graph)) {
    let depth = 0;
    for (const authEvent of graph.authEventsOf(id) ?? []) depth = Math.max(depth, 1 + (depths.get(authEvent) ?? 0));
    depths.set(id, depth);
  }
  return { authEventsOf: graph.authEventsOf, authDepthOf: (id) => depths.get(id) };
}

export interface ConflictedStates {
  /** By place, the events that all states have there. */
  readonly unconflicted: StateMap;
  /** The others, of each state. */
  readonly conflicted: readonly (readonly EventId[])[];
}

/**
 * The auth difference: the events that are in the full auth chain of some of the states, but not of all. A state's events
 * count as part of its chain (as in Synapse). Conflicted events may be in the answer or not: they are in the full conflicted
 * set anyway.
 *
 * What an unconflicted event reaches is reached by all states, so only the chains of conflicted events can differ, and those
 * mostly end at unconflicted power levels and memberships. So the chains of the unconflicted state, tens of thousands of
 * memberships in a big room, are looked at only as far as a doubt remains.
 *
 * @param placeOf the key in a state map of an event at hand.
 */
export function authDifference(
  { unconflicted, conflicted }: ConflictedStates,
  graph: AuthGraph,
  placeOf: (id: EventId) => string | undefined,
): Set<EventId> {
  const common = new Set(unconflicted.values());
  const decided = new Set(conflicted.flat());
  const inDoubt = (difference: Set<EventId>): EventId[] => [...difference].filter((id) => !decided.has(id));

  // First as if nothing were below the unconflicted events: what is in no doubt here is in none at all.
  const shallow: AuthGraph = { ...graph, authEventsOf: (id) => (common.has(id) ? [] : graph.authEventsOf(id)) };
  let difference = differenceWithin(conflicted, [], common, shallow);
  if (inDoubt(difference).length === 0) return difference;
  // Then with the chains of those unconflicted events that succeed a doubtful one at its place, and likely cite it.
  const successors = inDoubt(difference).map((id) => unconflicted.get(placeOf(id) ?? ''));
  const roots = successors.filter((id) => id !== undefined);
  difference = differenceWithin(conflicted, roots, common, graph);
  if (inDoubt(difference).length === 0) return difference;
  return differenceWithin(conflicted, [...common], common, graph);
}

/** The difference of the chains of `states`, given that all of them reach `roots`, and reach `common` where it is met. */
function differenceWithin(
  states: readonly (readonly EventId[])[],
  roots: readonly EventId[],
  common: ReadonlySet<EventId>,
  unmeasured: AuthGraph,
): Set<EventId> {
  const graph = withAuthDepths([...states.flat(), ...roots], unmeasured);
  // Who reaches an event: a bit for each state. An event is taken up only after all that cite it, deepest first, so that
  // its bits are complete by then; once everything still queued is reached by all, so is everything below.
  const all = (1n << BigInt(states.length)) - 1n;
  const reachedBy = new Map<EventId, bigint>();
  const queued = new Set<EventId>();
  const queue = new PriorityQueue<{ id: EventId; depth: number }>((a, b) => b.depth - a.depth);
  let queuedInPart = 0;
  const reach = (id: EventId, bits: bigint): void => {
    const before = reachedBy.get(id) ?? 0n;
    const after = common.has(id) ? all : before | bits;
    if (before === after) return;
    reachedBy.set(id, after);
    if (queued.has(id)) {
      if (after === all) queuedInPart--;
      return;
    }
    queued.add(id);
    queue.push({ id, depth: graph.authDepthOf(id) ?? 0 });
    if (after !== all) queuedInPart++;
  };
  for (const root of roots) reach(root, all);
  states.forEach((events, index) => {
    for (const id of events) reach(id, 1n << BigInt(index));
  });
  const visited: EventId[] = [];
  while (queuedInPart > 0) {
    const entry = queue.pop();
    if (entry === undefined) break;
    queued.delete(entry.id);
    const bits = reachedBy.get(entry.id) ?? 0n;
    if (bits !== all) queuedInPart--;
    visited.push(entry.id);
    for (const authEvent of graph.authEventsOf(entry.id) ?? []) reach(authEvent, bits);
  }
  // Only a cycle makes an event gain bits after its visit; it was queued again then.
  return new Set(visited.filter((id) => reachedBy.get(id) !== all));
}

/**
 * The conflicted state subgraph (v2.1): every event on a path of auth events from one conflicted event to another, ends
 * included.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v12/#state-resolution
 */
export function conflictedStateSubgraph(conflicted: ReadonlySet<EventId>, unmeasured: AuthGraph): ReadonlySet<EventId> {
  const graph = withAuthDepths(conflicted, unmeasured);
  let shallowest = Number.POSITIVE_INFINITY;
  for (const id of conflicted) shallowest = Math.min(shallowest, graph.authDepthOf(id) ?? 0);
  const isWithin = (id: EventId): boolean => (graph.authDepthOf(id) ?? 0) >= shallowest;
  const subgraph = new Set<EventId>();
  for (const id of postorder(conflicted, graph, isWithin)) {
    if (conflicted.has(id) || (graph.authEventsOf(id) ?? []).some((authEvent) => subgraph.has(authEvent))) {
      subgraph.add(id);
    }
  }
  return subgraph;
}
