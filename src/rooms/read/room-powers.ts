/** Who may do what in a room, by its state. */
import { type PowerLevels, powerLevelsOf } from '../../matrix/auth/power-levels.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type RoomId } from '../../matrix/identifiers.ts';
import { type Sql } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { loadPdus, rulesOfJoined } from '../judge/load-pdus.ts';

const KEYS = ['m.room.create', 'm.room.power_levels'].map((type) => ({ type, stateKey: '' }));

/** `undefined`: the state has no create event. */
export async function readRoomPowers(
  sql: Sql,
  roomId: RoomId,
  state: SnapshotId,
  roomVersion: string,
): Promise<PowerLevels | undefined> {
  const entries = await readSnapshot(sql, roomId, state, { keys: KEYS });
  const rules = rulesOfJoined(roomVersion);
  const ids = entries.map(({ eventId }) => eventId);
  const { pdus } = await loadPdus(sql, roomId, rules, ids);
  const at = (type: string): Pdu | undefined => [...pdus.values()].find((pdu) => pdu.type === type);
  const create = at('m.room.create');
  return create && powerLevelsOf(create, at, rules);
}
