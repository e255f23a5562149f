/**
 * What stands for the state at gaps, where a room is made whole before they are closed: the state of all that is judged, without what
 * is judged by it. The states that residents gave, at our join for one, may name events that build on a gap: such an event would rest on
 * itself, be refused for what it did, taken out of the state for that, accepted again, and so on.
 */
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type AuthEvent } from '../../store/events/auth-event-cache.ts';
import { readJudgements, readRestingOnPartial } from '../../store/events/auth-events.ts';
import { type Sql } from '../../store/open-store.ts';
import { type TrieChange, type TrieKey } from '../../store/snapshots/snapshot-trie.ts';
import { changePlaces, lookUpPlaces } from '../../store/snapshots/snapshots-in-numbers.ts';
import { loadAuthEvents } from '../judge/auth-events.ts';
import { type Resolve } from '../judge/resolve.ts';
import { stateOfExtremities } from './state-of-extremities.ts';

/** The state to assume, where all events that are still partial build on gaps. `resolve`: as for `stateOfExtremities`. */
export async function assumedState(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  extremities: readonly EventId[],
  resolve?: Resolve,
): Promise<SnapshotId> {
  const state = await stateOfExtremities(sql, roomId, extremities, resolve);
  const nids = await readRestingOnPartial(sql, roomId);
  const unknown = await loadAuthEvents(sql, roomId, rules, { nids });
  const keys = new Set(unknown.flatMap(({ key }) => key ?? []));
  const [places = new Map<TrieKey, number>()] = await lookUpPlaces(sql, roomId, [{ snapshot: state, keys }]);
  const inState = unknown.filter(({ key, nid }) => key !== null && places.get(key) === nid);
  return changePlaces(sql, roomId, state, await changesBack(sql, roomId, rules, inState, unknown));
}

/** At each of these places what their events cite as having been there before: that is known of memberships and power levels. */
async function changesBack(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  events: readonly AuthEvent[],
  unknown: readonly AuthEvent[],
): Promise<TrieChange[]> {
  const byId = new Map(unknown.map((event) => [event.pdu.eventId, event]));
  const cited = events.map((event) => citedBefore(event, byId));
  const known = await loadAuthEvents(sql, roomId, rules, { eventIds: cited.flat() });
  const ids = known.map(({ pdu }) => pdu.eventId);
  const judgements = await readJudgements(sql, roomId, ids);
  const accepted = new Map(
    known.flatMap((event) =>
      judgements.get(event.pdu.eventId)?.verdict === 'accepted' ? [[event.pdu.eventId, event]] : [],
    ),
  );
  return events.flatMap(({ key }, i) => {
    const before = cited[i]?.flatMap((id) => accepted.get(id) ?? []).find((event) => event.key === key);
    return key === null ? [] : [{ key, value: before?.nid ?? null }];
  });
}

/** Auth events of the first event at the place that does not cite another unknown one there. */
function citedBefore(event: AuthEvent, unknown: ReadonlyMap<EventId, AuthEvent>): readonly EventId[] {
  const passed = new Set([event]);
  // A set gives what is added to it while it is gone through.
  let cited: readonly EventId[] = [];
  for (const { pdu } of passed) {
    cited = pdu.authEvents;
    const before = cited.flatMap((id) => unknown.get(id) ?? []).find(({ key }) => key === event.key);
    if (before !== undefined) passed.add(before);
  }
  return cited;
}
