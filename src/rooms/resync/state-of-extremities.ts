/** The current state of a room from what it is made of. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { invariant } from '../../invariant.ts';
import { readEventStates } from '../../store/events/event-states.ts';
import { type LockedRoom, readRoom } from '../../store/journal/rooms.ts';
import { type Sql } from '../../store/open-store.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { resolveInSteps } from '../judge/resolve-in-steps.ts';
import { type Resolve, resolveSnapshots } from '../judge/resolve.ts';

/**
 * The resolution of the full states after the extremities; where none has one, the state at the join.
 *
 * @param resolve under a room's lock one that is given up where it takes long (`resolveBriefly`)
 */
export async function stateOfExtremities(
  sql: Sql,
  roomId: RoomId,
  extremities: LockedRoom['extremities'],
  resolve: Resolve = resolveSnapshots,
): Promise<SnapshotId> {
  const room = await readRoom(sql, roomId);
  invariant(room !== undefined, 'the row of a room stays');
  const { joinEventId, roomVersion } = room;
  const events = await readEventStates(sql, roomId, [...extremities, ...(joinEventId === null ? [] : [joinEventId])]);
  const full = extremities.flatMap((eventId) => events.get(eventId) ?? []).filter(({ partial }) => !partial);
  const join = joinEventId === null ? undefined : events.get(joinEventId);
  const states = full.length > 0 || join === undefined ? full : [join];
  invariant(states.length > 0, `the join that opened the stay in ${roomId} is in its timeline`);
  return resolveInSteps(
    sql,
    roomId,
    rulesOfJoined(roomVersion),
    states.map(({ stateAfter }) => stateAfter),
    new Map(),
    resolve,
  );
}
