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
import { type StateMap } from '../state-map.ts';
import { type Conflicts } from './conflicts.ts';
import { type InParts, PART_STEPS } from './parts.ts';
import { PriorityQueue } from './priority-queue.ts';

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
function* postorder(
  roots: Iterable<EventId>,
  graph: AuthGraph,
  isWithin: (id: EventId) => boolean = () => true,
): InParts<EventId[]> {
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
        if (order.length % PART_STEPS === 0) yield;
      } else {
        enter(child);
      }
    }
  }
  return order;
}

/** The graph with depths: its own, or those found by visiting everything reachable from `roots`. */
function* withAuthDepths(roots: Iterable<EventId>, graph: AuthGraph): InParts<MeasuredAuthGraph> {
  if (graph.authDepthOf !== undefined) return { authEventsOf: graph.authEventsOf, authDepthOf: graph.authDepthOf };
  const depths = new Map<EventId, number>();
  for (const id of yield* postorder(roots, graph)) {
    let depth = 0;
    for (const authEvent of graph.authEventsOf(id) ?? []) depth = Math.max(depth, 1 + (depths.get(authEvent) ?? 0));
    depths.set(id, depth);
    if (depths.size % PART_STEPS === 0) yield;
  }
  return { authEventsOf: graph.authEventsOf, authDepthOf: (id) => depths.get(id) };
}

/**
 * The auth difference: the events that are in the full auth chain of some of the states, but not of all. A state's events
 * count as part of its chain (as in Synapse). Conflicted events may be in the answer or not: they are in the full conflicted
 * set anyway.
 *
 * What an unconflicted event reaches is reached by all states. So the chains of conflicted events are walked as if nothing
 * were below unconflicted ones, at which they mostly end: what only some states reach on such a walk is in the difference,
 * unless an unconflicted event reaches it too. This is asked last and for few events, since the chains of the unconflicted
 * state are those of tens of thousands of memberships in a big room.
 */
export function* authDifference(
  { conflicted, isUnconflicted, reachedByUnconflicted }: Omit<Conflicts, 'unconflictedAt'>,
  graph: AuthGraph,
): InParts<Set<EventId>> {
  const shallow: AuthGraph = { ...graph, authEventsOf: (id) => (isUnconflicted(id) ? [] : graph.authEventsOf(id)) };
  const difference = yield* differenceWithin(conflicted, isUnconflicted, shallow);
  const decided = new Set(conflicted.flatMap((state) => [...state.values()]));
  const inDoubt = new Set([...difference].filter((id) => !decided.has(id)));
  if (inDoubt.size > 0) for (const id of reachedByUnconflicted(inDoubt)) difference.delete(id);
  return difference;
}

/** What the chains of some states reach and not those of all, given that all reach an unconflicted event. */
function* differenceWithin(
  states: readonly StateMap[],
  isUnconflicted: (id: EventId) => boolean,
  unmeasured: AuthGraph,
): InParts<Set<EventId>> {
  const conflicted = new Set(states.flatMap((state) => [...state.values()]));
  const graph = yield* withAuthDepths(conflicted, unmeasured);
  // Who reaches an event: a bit for each state. An event is taken up only after all that cite it, deepest first, so that
  // its bits are complete by then; once everything still queued is reached by all, so is everything below.
  const all = (1n << BigInt(states.length)) - 1n;
  const reachedBy = new Map<EventId, bigint>();
  const queued = new Set<EventId>();
  const queue = new PriorityQueue<{ id: EventId; depth: number }>((a, b) => b.depth - a.depth);
  let queuedInPart = 0;
  const reach = (id: EventId, bits: bigint): void => {
    const before = reachedBy.get(id);
    if (before === all) return;
    const after = isUnconflicted(id) ? all : (before ?? 0n) | bits;
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
  let begun = 0;
  for (const [id, bits] of bitsOf(states)) {
    reach(id, bits);
    if (++begun % PART_STEPS === 0) yield;
  }
  const visited: EventId[] = [];
  while (queuedInPart > 0) {
    const entry = queue.pop();
    if (entry === undefined) break;
    queued.delete(entry.id);
    const bits = reachedBy.get(entry.id) ?? 0n;
    if (bits !== all) queuedInPart--;
    visited.push(entry.id);
    if (visited.length % PART_STEPS === 0) yield;
    for (const authEvent of graph.authEventsOf(entry.id) ?? []) reach(authEvent, bits);
  }
  // Only a cycle makes an event gain bits after its visit; it was queued again then.
  return new Set(visited.filter((id) => reachedBy.get(id) !== all));
}

/** A bit for each state that holds the event. */
function bitsOf(states: readonly StateMap[]): Map<EventId, bigint> {
  const bits = new Map<EventId, bigint>();
  states.forEach((state, index) => {
    const bit = 1n << BigInt(index);
    for (const id of state.values()) bits.set(id, (bits.get(id) ?? 0n) | bit);
  });
  return bits;
}

/**
 * Those of `wanted` that are among `roots` or below them. Looks no further than it must: not below what stands no deeper
 * than the shallowest wanted event, where depths are known, and nowhere once all are found.
 */
export function reachedFrom(
  roots: Iterable<EventId>,
  wanted: ReadonlySet<EventId>,
  { authEventsOf, authDepthOf }: AuthGraph,
): Set<EventId> {
  const found = new Set<EventId>();
  const entered = new Set<EventId>();
  let shallowest = authDepthOf === undefined ? 0 : Number.POSITIVE_INFINITY;
  if (authDepthOf !== undefined) for (const id of wanted) shallowest = Math.min(shallowest, authDepthOf(id) ?? 0);
  for (const root of roots) {
    const stack = [root];
    for (let id = stack.pop(); id !== undefined; id = stack.pop()) {
      if (found.size === wanted.size) return found;
      if (entered.has(id)) continue;
      entered.add(id);
      if (wanted.has(id)) found.add(id);
      if (authDepthOf === undefined || (authDepthOf(id) ?? 0) > shallowest) stack.push(...(authEventsOf(id) ?? []));
    }
  }
  return found;
}

/**
 * The conflicted state subgraph (v2.1): every event on a path of auth events from one conflicted event to another, ends
 * included.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v12/#state-resolution
 */
export function* conflictedStateSubgraph(
  conflicted: ReadonlySet<EventId>,
  unmeasured: AuthGraph,
): InParts<ReadonlySet<EventId>> {
  const graph = yield* withAuthDepths(conflicted, unmeasured);
  let shallowest = Number.POSITIVE_INFINITY;
  for (const id of conflicted) shallowest = Math.min(shallowest, graph.authDepthOf(id) ?? 0);
  const isWithin = (id: EventId): boolean => (graph.authDepthOf(id) ?? 0) >= shallowest;
  const subgraph = new Set<EventId>();
  let looked = 0;
  for (const id of yield* postorder(conflicted, graph, isWithin)) {
    if (++looked % PART_STEPS === 0) yield;
    if (conflicted.has(id) || (graph.authEventsOf(id) ?? []).some((authEvent) => subgraph.has(authEvent))) {
      subgraph.add(id);
    }
  }
  return subgraph;
}
