/**
 * Resolution where an answer has to be: of what is in the timeline already, of forward extremities, and of a room that is to be
 * completed. More states than are resolved at once, which no honest room has, are resolved in groups: the outcome then depends on
 * our order, which is that of their names, and is what we can say.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../../store/open-store.ts';
import { resolutionName } from '../../store/snapshots/resolution-cache.ts';
import { ResolutionTooLarge, type Resolve, resolveSnapshots } from './resolve.ts';

/**
 * So many states are resolved as one, some 10 ms. Of more, 60 ms for 650, whoever adds one fork after the other would have all of
 * them resolved for each: in groups by the digits of their names one more state concerns one group and those above it.
 */
const STATES_AT_ONCE_MAX = 100;

/** Outcomes of a piece of work during which verdicts stay as they are, by `resolutionName`: a group is looked at once in it. */
export type ResolvedGroups = Map<string, SnapshotId>;

/**
 * As `resolveSnapshots`, and never too large. Of two states that are too far apart for us the first in order stands.
 *
 * @param resolve how those of a group are resolved; what it throws but for `ResolutionTooLarge` is thrown
 */
export async function resolveInSteps(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  snapshots: readonly SnapshotId[],
  known: ResolvedGroups = new Map(),
  resolve: Resolve = resolveSnapshots,
): Promise<SnapshotId> {
  const resolveAll = async (states: readonly SnapshotId[], digit: number): Promise<SnapshotId> => {
    const name = resolutionName(roomId, states);
    const before = known.get(name);
    if (before !== undefined) return before;
    const resolved =
      states.length > STATES_AT_ONCE_MAX ? await inGroups(groupsOf(states, digit), digit + 1) : await atOnce(states);
    known.set(name, resolved);
    return resolved;
  };

  const inGroups = async (groups: readonly (readonly SnapshotId[])[], digit: number): Promise<SnapshotId> => {
    const resolved = new Set<SnapshotId>();
    for (const group of groups) resolved.add(await resolveAll(group, digit));
    return resolveAll([...resolved].sort(), digit);
  };

  const atOnce = async (states: readonly SnapshotId[]): Promise<SnapshotId> => {
    try {
      return await resolve(sql, roomId, rules, states);
    } catch (error) {
      const [first] = states;
      if (!(error instanceof ResolutionTooLarge) || first === undefined) throw error;
      if (states.length <= 2) return first;
      const half = Math.ceil(states.length / 2);
      return inGroups([states.slice(0, half), states.slice(half)], 0);
    }
  };

  return resolveAll([...new Set(snapshots)].sort(), 0);
}

/** Sorted states by one hexadecimal digit of their names. */
function groupsOf(states: readonly SnapshotId[], digit: number): SnapshotId[][] {
  const groups = new Map<string, SnapshotId[]>();
  for (const state of states) {
    const at = state.charAt(digit);
    const group = groups.get(at);
    if (group === undefined) groups.set(at, [state]);
    else group.push(state);
  }
  return [...groups.values()];
}
