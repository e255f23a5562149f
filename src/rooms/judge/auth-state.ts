/** The part of a stored snapshot that the auth rules may look at for one event, loaded in one query for keys and bodies. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type AuthState } from '../../matrix/auth/auth-rules.ts';
import { stateNeededToAuthorise } from '../../matrix/auth/auth-events.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { loadPdus } from './load-pdus.ts';

export async function authStateOf(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  snapshot: SnapshotId,
  event: Pdu,
): Promise<AuthState> {
  const entries = await readSnapshot(sql, roomId, snapshot, { keys: stateNeededToAuthorise(event, rules) });
  const { pdus } = await loadPdus(
    sql,
    rules,
    entries.map(({ eventId }) => eventId),
  );
  const byKey = new Map(entries.map((entry) => [stateMapKey(entry.type, entry.stateKey), pdus.get(entry.eventId)]));
  return (type, stateKey) => byKey.get(stateMapKey(type, stateKey));
}
