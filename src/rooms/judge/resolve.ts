/** State resolution over stored snapshots: loads what the pure algorithm asks for, in rounds, and stores the outcome. */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type StateMap, stateMapKey } from '../../matrix/state-map.ts';
import { resolveState } from '../../matrix/state-resolution/state-resolution.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { createSnapshot, readSnapshot } from '../../store/snapshots/snapshots.ts';
import { type Sql } from '../../store/open-store.ts';
import { type LoadedPdus, emptyLoadedPdus, loadPdus } from './load-pdus.ts';

/** Far above any real room: the event that needs it waits. Our own limit, so no verdict on anything follows from it. */
export class ResolutionTooLarge extends Error {
  override readonly name = 'ResolutionTooLarge';
  /** Distinct states that were to be resolved. */
  readonly states: number;
  /** Places in which they differ, as far as counted. */
  readonly places: number;

  constructor(states: number, places: number) {
    super(`${String(states)} states that differ in ${String(places)} places or more are too much to resolve`);
    this.states = states;
    this.places = places;
  }
}

/** Distinct states resolved at once; a room has as many as forward extremities that differ. */
const STATES_MAX = 500;

/**
 * The state that follows from several: `snapshots` themselves when they are equal, their resolution otherwise.
 * Rejected events take no part, as the algorithm demands.
 *
 * @throws ResolutionTooLarge
 */
export async function resolveSnapshots(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  snapshots: readonly SnapshotId[],
): Promise<SnapshotId> {
  const distinct = [...new Set(snapshots)];
  const [only] = distinct;
  if (only !== undefined && distinct.length === 1) return only;

  if (distinct.length > STATES_MAX) throw new ResolutionTooLarge(distinct.length, 0);

  const stateSets: StateMap[] = [];
  for (const snapshot of distinct) stateSets.push(await readStateMap(sql, roomId, snapshot));
  const resolved = await resolveStateMaps(sql, roomId, rules, stateSets);
  return createSnapshot(sql, roomId, [...resolved.values()]);
}

/** A whole stored state in memory; of a partial one that is little. */
export async function readStateMap(sql: Sql, roomId: RoomId, snapshot: SnapshotId): Promise<StateMap> {
  const entries = await readSnapshot(sql, roomId, snapshot);
  return new Map(entries.map((entry) => [stateMapKey(entry.type, entry.stateKey), entry.eventId]));
}

/** Resolves states in memory whose events are stored; `loaded` collects what had to be read for it. */
export async function resolveStateMaps(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  stateSets: readonly StateMap[],
  loaded: LoadedPdus = emptyLoadedPdus(),
): Promise<StateMap> {
  for (;;) {
    const wanted = new Set<EventId>();
    const resolved = resolveState({
      rules,
      roomId,
      stateSets,
      isRejected: (eventId) => loaded.rejected.has(eventId),
      fetchEvent: (eventId) => {
        const pdu = loaded.pdus.get(eventId);
        if (pdu === undefined && !loaded.absent.has(eventId)) wanted.add(eventId);
        return pdu;
      },
    });
    if (wanted.size === 0) return resolved;
    await loadPdus(sql, roomId, rules, [...wanted], loaded);
  }
}
