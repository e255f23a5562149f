/** Separates states that are at hand into what they agree on and what they do not. */
import { type EventId } from '../identifiers.ts';
import { type StateMap } from '../state-map.ts';
import { type AuthGraph, reachedFrom } from './auth-chain.ts';
import { type Conflicts } from './conflicts.ts';

/** @param placeOf the key in a state map of an event at hand. */
export function separate(
  stateSets: readonly StateMap[],
  graph: AuthGraph,
  placeOf: (id: EventId) => string | undefined,
): Conflicts & { readonly unconflicted: StateMap } {
  const [first = new Map<string, EventId>(), ...others] = stateSets;
  const unconflicted = new Map<string, EventId>();
  for (const [place, id] of first) {
    if (others.every((state) => state.get(place) === id)) unconflicted.set(place, id);
  }
  const ids = new Set(unconflicted.values());
  return {
    unconflicted,
    conflicted: stateSets.map((state) => new Map([...state].filter(([place]) => !unconflicted.has(place)))),
    unconflictedAt: (place) => unconflicted.get(place),
    isUnconflicted: (id) => ids.has(id),
    reachedByUnconflicted: (wanted) => {
      // First from those that succeed a wanted event at its place, since they likely cite it.
      const successors = [...wanted].map((id) => unconflicted.get(placeOf(id) ?? ''));
      return reachedFrom([...successors.filter((id) => id !== undefined), ...ids], wanted, graph);
    },
  };
}
