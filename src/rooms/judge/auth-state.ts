/**
 * The part of a stored snapshot that the auth rules may look at for one event. Everything a caller of check 5 or 6 needs:
 * `authStatesOf` for events whose state is whole, `partialAuthStatesOf` for those whose state is partial.
 */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type AuthState } from '../../matrix/auth/auth-rules.ts';
import { authStateOf as authStateOfEvents, stateNeededToAuthorise } from '../../matrix/auth/auth-events.ts';
import { stateSetsForPartialCheck } from '../../matrix/pdu-checks.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { stateMapKey } from '../../matrix/state-map.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { loadPdus } from './load-pdus.ts';
import { readStateMap, resolveStateMaps } from './resolve.ts';

/** An event and the state that it is judged against. */
export interface AgainstSnapshot {
  readonly snapshot: SnapshotId;
  readonly event: Pdu;
}

/** An event, what is known of the state before it, and its auth events, which passed check 4. */
export interface AgainstPartialSnapshot extends AgainstSnapshot {
  readonly authEvents: readonly Pdu[];
}

/** What the auth rules may read of `snapshot` for `event`. */
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
    roomId,
    rules,
    entries.map(({ eventId }) => eventId),
  );
  const byKey = new Map(entries.map((entry) => [stateMapKey(entry.type, entry.stateKey), pdus.get(entry.eventId)]));
  return (type, stateKey) => byKey.get(stateMapKey(type, stateKey));
}

/** As `authStateOf` for many events at once, in their order. */
export async function authStatesOf(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  wanted: readonly AgainstSnapshot[],
): Promise<AuthState[]> {
  const states: AuthState[] = [];
  for (const { snapshot, event } of wanted) states.push(await authStateOf(sql, roomId, rules, snapshot, event));
  return states;
}

/** Check 5 on partial state: what we know of the state, resolved with what the event's own auth events claim (MSC3902). */
export async function partialAuthStateOf(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  snapshot: SnapshotId,
  event: Pdu,
  authEvents: readonly Pdu[],
): Promise<AuthState> {
  const [state] = await partialAuthStatesOf(sql, roomId, rules, [{ snapshot, event, authEvents }]);
  return state ?? (() => undefined);
}

/** As `partialAuthStateOf` for many events at once, in their order. */
export async function partialAuthStatesOf(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  wanted: readonly AgainstPartialSnapshot[],
): Promise<AuthState[]> {
  const states: AuthState[] = [];
  for (const { snapshot, authEvents } of wanted) {
    const known = await readStateMap(sql, roomId, snapshot);
    const resolved = await resolveStateMaps(sql, roomId, rules, stateSetsForPartialCheck(known, authEvents));
    const { pdus } = await loadPdus(sql, roomId, rules, [...resolved.values()]);
    states.push(authStateOfEvents(pdus.values()));
  }
  return states;
}
