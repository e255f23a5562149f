/**
 * What a list says of a room: how many are in it, and what it calls itself. Columns of the room's row, kept as its current
 * state changes (fold-current-state.ts). Where they are not known, they are read from the state once, and written down:
 * of rooms from before these columns, and while an event that names the room is hollow, since its body may come yet.
 */
import { type RoomAlias, type RoomId, parseRoomAlias } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { readPdus } from '../events/pdus.ts';
import { type Sql } from '../open-store.ts';
import { countMembers, readSnapshot } from '../snapshots/snapshots.ts';
import { storable } from '../storable-text.ts';
import { type RoomRow, type RoomSummary } from './rooms.ts';

/** The events, with an empty state key, that say what a room is called. */
export const CALLED_BY = ['m.room.name', 'm.room.canonical_alias'] as const;

/** What is in the place of such an event; without a body: nothing. */
export interface NamingEvent {
  readonly type: string;
  readonly json: string | null;
  readonly hollow: boolean | null;
}

type Names = Pick<RoomSummary, 'name' | 'canonicalAlias'>;

/** Whether its body is a redacted one, and may be completed (complete-hollow.ts). */
export function isHollow({ hollow }: NamingEvent): boolean {
  return hollow === true;
}

/** What a room is called by these events. */
export function namesOf(events: readonly NamingEvent[]): Names {
  const content = (type: (typeof CALLED_BY)[number]): JsonObject => {
    const json = events.find((event) => event.type === type)?.json ?? '{}';
    return (JSON.parse(json) as { content?: JsonObject }).content ?? {};
  };
  const { name } = content('m.room.name');
  return {
    name: typeof name === 'string' ? name : null,
    canonicalAlias: parseRoomAlias(content('m.room.canonical_alias')['alias']) ?? null,
  };
}

/** As text columns hold them. */
export function storableNames({ name, canonicalAlias }: Names): { name: string | null; canonicalAlias: string | null } {
  return {
    name: name === null ? null : storable(name),
    canonicalAlias: canonicalAlias === null ? null : storable(canonicalAlias),
  };
}

/** What a list says of a room, from its row where it is known there. A room without a state has no members and no name. */
export async function summaryOf(
  sql: Sql,
  { roomId, currentState, summary }: Pick<RoomRow, 'roomId' | 'currentState' | 'summary'>,
): Promise<RoomSummary> {
  if (summary !== null) return summary;
  if (currentState === null) return { members: 0, name: null, canonicalAlias: null };
  const keys = CALLED_BY.map((type) => ({ type, stateKey: '' }));
  const places = await readSnapshot(sql, roomId, currentState, { keys });
  const events = await readPdus(
    sql,
    roomId,
    places.map(({ eventId }) => eventId),
  );
  const read = { members: await countMembers(sql, roomId, currentState), ...namesOf(events) };
  if (!events.some(isHollow)) await fillIn(sql, roomId, currentState, read);
  return read;
}

/** Writes down what was read of a state, if that is current still. Waits for no lock: the next reader does as well. */
async function fillIn(sql: Sql, roomId: RoomId, state: SnapshotId, { members, ...names }: RoomSummary): Promise<void> {
  const { name, canonicalAlias } = storableNames(names);
  await sql.query(
    `UPDATE rooms SET (members, name, canonical_alias) = ($3, $4, $5)
      WHERE room_id = (SELECT room_id FROM rooms
                        WHERE room_id = $1 AND current_state = decode($2, 'hex') AND members IS NULL
                          FOR NO KEY UPDATE SKIP LOCKED)`,
    [roomId, state, members, name, canonicalAlias],
  );
}

/** The first room, by id, whose current state has the alias as its canonical one. */
export async function findRoomByAlias(sql: Sql, alias: RoomAlias): Promise<RoomId | undefined> {
  const [known] = await sql.query<{ roomId: RoomId }>(
    `SELECT room_id AS "roomId" FROM rooms WHERE canonical_alias = $1 ORDER BY room_id LIMIT 1`,
    [storable(alias)],
  );
  if (known !== undefined) return known.roomId;
  const unknown = await sql.query<{ roomId: RoomId; currentState: SnapshotId }>(
    `SELECT room_id AS "roomId", encode(current_state, 'hex') AS "currentState"
       FROM rooms WHERE members IS NULL AND current_state IS NOT NULL ORDER BY room_id`,
  );
  for (const room of unknown) {
    if ((await summaryOf(sql, { ...room, summary: null })).canonicalAlias === alias) return room.roomId;
  }
  return undefined;
}
