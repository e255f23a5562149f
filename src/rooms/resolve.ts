/** State resolution over stored snapshots: loads what the pure algorithm asks for, in rounds, and stores the outcome. */
import { type EventId, type RoomId } from '../matrix/identifiers.ts';
import { type Pdu } from '../matrix/pdu.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { type StateMap, stateMapKey } from '../matrix/state-map.ts';
import { eventsNeededForResolution, resolveState } from '../matrix/state-resolution.ts';
import { type SnapshotId } from '../resync/events.ts';
import { createSnapshot, readSnapshot } from '../store/snapshots.ts';
import { type Sql } from '../store/open-store.ts';
import { type LoadedPdus, loadPdus } from './load-pdus.ts';

/**
 * The state that follows from several: `snapshots` themselves when they are equal, their resolution otherwise.
 * Rejected events take no part, as the algorithm demands.
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

  const stateSets: StateMap[] = [];
  for (const snapshot of distinct) {
    const entries = await readSnapshot(sql, roomId, snapshot);
    stateSets.push(new Map(entries.map((entry) => [stateMapKey(entry.type, entry.stateKey), entry.eventId])));
  }
  const loaded: LoadedPdus = { pdus: new Map<EventId, Pdu>(), rejected: new Set<EventId>(), absent: new Set<EventId>() };
  const known = (eventId: EventId): Pdu | undefined => loaded.pdus.get(eventId);
  const asked = new Set<EventId>();
  for (;;) {
    const wanted = [...eventsNeededForResolution({ rules, stateSets, fetchEvent: known })].filter((id) => !asked.has(id));
    if (wanted.length === 0) break;
    for (const eventId of wanted) asked.add(eventId);
    await loadPdus(sql, rules, wanted, loaded);
  }
  const resolved = resolveState({
    rules,
    stateSets,
    fetchEvent: known,
    isRejected: (eventId) => loaded.rejected.has(eventId),
  });
  return createSnapshot(sql, roomId, [...resolved.values()]);
}
