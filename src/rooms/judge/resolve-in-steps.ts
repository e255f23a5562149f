/**
 * Resolution where an answer has to be: of what is in the timeline already, and of a room that is to be completed. More states
 * than are resolved at once, which no honest room has, are resolved some at a time: the outcome then depends on our order, which
 * is that of their names, and is what we can say.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../../store/open-store.ts';
import { ResolutionTooLarge, resolveSnapshots } from './resolve.ts';

/** As `resolveSnapshots`, and never too large. Of two states that are too far apart for us the first in order stands. */
export async function resolveInSteps(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  snapshots: readonly SnapshotId[],
): Promise<SnapshotId> {
  const states = [...new Set(snapshots)].sort();
  try {
    return await resolveSnapshots(sql, roomId, rules, states);
  } catch (error) {
    const [first] = states;
    if (!(error instanceof ResolutionTooLarge) || first === undefined) throw error;
    if (states.length <= 2) return first;
    const half = Math.ceil(states.length / 2);
    const resolved = [
      await resolveInSteps(sql, roomId, rules, states.slice(0, half)),
      await resolveInSteps(sql, roomId, rules, states.slice(half)),
    ];
    return resolveInSteps(sql, roomId, rules, resolved);
  }
}
