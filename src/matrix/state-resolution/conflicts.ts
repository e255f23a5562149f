/**
 * What resolution is about: the places at which states differ, and what it may have to know of the others. The states
 * themselves may be far too big to be at hand.
 *
 * Source: https://spec.matrix.org/v1.16/rooms/v2/#definitions
 */
import { type EventId } from '../identifiers.ts';
import { type StateMap } from '../state-map.ts';

export interface Conflicts {
  /** Of each state, the events at the places at which not all states have the same one. A place may be empty in some. */
  readonly conflicted: readonly StateMap[];
  /** The event that all states have at a place; `undefined`: none has one, or the place is conflicted. */
  readonly unconflictedAt: (place: string) => EventId | undefined;
  /** Whether all states have this event. */
  readonly isUnconflicted: (id: EventId) => boolean;
  /** Those of `ids` that are in the auth chain of some unconflicted event. */
  readonly reachedByUnconflicted: (ids: ReadonlySet<EventId>) => ReadonlySet<EventId>;
}
