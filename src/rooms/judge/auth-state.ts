/**
 * The part of a stored state that the auth rules may look at for an event, for checks 5 and 6. A batch of events costs a
 * handful of statements, and none where the same places were looked at lately.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type AuthState } from '../../matrix/auth/auth-rules.ts';
import { stateNeededToAuthorise } from '../../matrix/auth/auth-events.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../../store/open-store.ts';
import { lookUpPlaces } from '../../store/snapshots/snapshots-in-numbers.ts';
import { readStateKeys } from '../../store/snapshots/state-keys.ts';
import { invariant } from '../../invariant.ts';
import { loadAuthEvents } from './auth-events.ts';

/** An event and the state that it is judged against. */
export interface AgainstSnapshot {
  readonly snapshot: SnapshotId;
  readonly event: Pdu;
}

/** What the auth rules may read of `snapshot` for `event`. */
export async function authStateOf(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  snapshot: SnapshotId,
  event: Pdu,
): Promise<AuthState> {
  const [state] = await authStatesOf(sql, roomId, rules, [{ snapshot, event }]);
  invariant(state !== undefined, 'an event has its state');
  return state;
}

/** As `authStateOf` for many events at once, in their order. */
export async function authStatesOf(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  wanted: readonly AgainstSnapshot[],
): Promise<AuthState[]> {
  const needed = wanted.map(({ event }) => stateNeededToAuthorise(event, rules));
  const keys = await readStateKeys(sql, needed.flat());
  const places = wanted.map(({ snapshot }, i) => {
    const ofEvent = needed[i]?.map(({ type, stateKey }) => keys.get(stateMapKey(type, stateKey))) ?? [];
    return { snapshot, keys: new Set(ofEvent.filter((key) => key !== undefined)) };
  });
  const states = await lookUpPlaces(sql, roomId, places);
  const nids = new Set(states.flatMap((state) => [...state.values()]));
  const loaded = await loadAuthEvents(sql, roomId, rules, { nids });
  invariant(loaded.length === nids.size, `events of a snapshot of ${roomId} are not stored`);
  const byNid = new Map(loaded.map(({ nid, pdu }) => [nid, pdu]));
  return states.map((state) => (type, stateKey) => {
    const nid = state.get(keys.get(stateMapKey(type, stateKey)) ?? -1);
    return nid === undefined ? undefined : byNid.get(nid);
  });
}
