/**
 * What of a room's state a response gives. A client takes `state` before the timeline, and the events of the timeline as they
 * come; with MSC4222 it takes `state_after` alone. So `state` holds what the timeline does not say, and what it says wrong is
 * owed: the next response says it. Pure.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#syncing, https://github.com/matrix-org/matrix-spec-proposals/pull/4222
 */
import { type TrieDifference } from '../store/snapshots/compare-tries.ts';
import { type TrieKey } from '../store/snapshots/snapshot-trie.ts';

type Differences = ReadonlyMap<TrieKey, TrieDifference>;
const NOTHING: Differences = new Map();

export interface StateSpan {
  /** From what the client knows to the state before the timeline; absent where that is all there is. */
  readonly toTimeline?: Differences | undefined;
  /** From there to the newest state. */
  readonly toNow: Differences;
  /** Of each place that the timeline says something about, the last event that it gives, by number. */
  readonly timeline: ReadonlyMap<TrieKey, number>;
}

export interface StateDelta {
  /** Events by place. */
  readonly events: ReadonlyMap<TrieKey, number>;
  /** Places that the client knows an event of, by its number, and that are empty now. */
  readonly removed: ReadonlyMap<TrieKey, number>;
}

/** What has to be told. With `isStateAfter` the timeline says nothing of the state. */
export function stateDelta({ toTimeline = NOTHING, toNow, timeline }: StateSpan, isStateAfter: boolean): StateDelta {
  const events = new Map<TrieKey, number>();
  const removed = new Map<TrieKey, number>();
  for (const key of new Set([...toTimeline.keys(), ...toNow.keys()])) {
    const [first, second] = [toTimeline.get(key), toNow.get(key)];
    const before = (first ?? second)?.before ?? null;
    const isSaid = !isStateAfter && timeline.has(key);
    const after = (isSaid ? first : (second ?? first))?.after ?? null;
    if (after !== null) {
      if (after !== before) events.set(key, after);
    } else if (!isSaid && before !== null) {
      removed.set(key, before);
    }
  }
  return { events, removed };
}

/** Places of which the timeline's last event is not the current one. */
export function saidWrong(
  timeline: ReadonlyMap<TrieKey, number>,
  current: ReadonlyMap<TrieKey, number>,
): ReadonlySet<TrieKey> {
  return new Set([...timeline].flatMap(([key, nid]) => (current.get(key) === nid ? [] : [key])));
}
