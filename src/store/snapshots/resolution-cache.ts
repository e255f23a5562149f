/** Outcomes of state resolution by what was resolved: a room with two ends resolves the same two states for every event. */
import { LRUCache } from 'lru-cache';
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';

/** Verdicts that entries rest on, of all entries together: some 40 MB. More than the largest resolution has (src/rooms/judge/resolve.ts). */
const VERDICTS_MAX = 400_000;

/**
 * An outcome, and what was known of the events it was made from. It is the outcome for as long as this is so, and as long as
 * it is stored: the transaction that stored it may have been rolled back.
 */
export interface ResolutionOutcome {
  readonly snapshot: SnapshotId;
  /** The verdict on every event that the resolution asked for, and whether its content was redacted; `undefined`: it was not held. */
  readonly heldToBe: ReadonlyMap<EventId, string | undefined>;
}

/** The most recently used outcomes. Whether one still holds is for the caller to ask (src/rooms/judge/resolve.ts). */
export class ResolutionCache {
  readonly #outcomes = new LRUCache<string, ResolutionOutcome>({
    maxSize: VERDICTS_MAX,
    sizeCalculation: ({ heldToBe }) => 1 + heldToBe.size,
  });

  /** @param snapshots distinct and sorted. */
  get(roomId: RoomId, snapshots: readonly SnapshotId[]): ResolutionOutcome | undefined {
    return this.#outcomes.get(resolutionName(roomId, snapshots));
  }

  set(roomId: RoomId, snapshots: readonly SnapshotId[], outcome: ResolutionOutcome): void {
    this.#outcomes.set(resolutionName(roomId, snapshots), outcome);
  }
}

/** Names what is to be resolved; `snapshots` are distinct and sorted. */
export function resolutionName(roomId: RoomId, snapshots: readonly SnapshotId[]): string {
  return `${snapshots.join('')}${roomId}`;
}
