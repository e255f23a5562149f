/**
 * What belongs to one stay in a room, and writes a lot of it without the room's lock, is fenced: each of its transactions begins with a
 * look whether the stay goes on, under a lock on the room's row that whoever ends the stay for good waits for (`openEpoch`,
 * `fenceRoom`), and that keeps no appender waiting. So once another stay has begun, or the room is purged, nothing more of this one is
 * written, whatever a process had in its hands. The look is sent with BEGIN and costs no round trip.
 */
import type pg from 'pg';
import { type RoomId } from '../matrix/identifiers.ts';

/** One stay of this server in a room. */
export interface Stay {
  readonly roomId: RoomId;
  readonly epoch: number;
}

/** The stay that the work belongs to is over: another one has begun since, or the room was purged. Nothing was written. */
export class StayOverError extends Error {
  override readonly name = 'StayOverError';

  constructor({ roomId, epoch }: Stay) {
    super(`stay ${epoch} in ${roomId} is over: nothing more of it is written`);
  }
}

/** The room was purged while something was worked out about it. Nothing was written. */
export class RoomGoneError extends Error {
  override readonly name = 'RoomGoneError';

  constructor(roomId: RoomId) {
    super(`${roomId} was purged`);
  }
}

/** Begins a transaction of `stay`; absent: of none. Throws `StayOverError`, and then it is to be rolled back. */
export async function beginTransaction(client: pg.ClientBase, stay: Stay | undefined): Promise<void> {
  if (stay === undefined) {
    await client.query('BEGIN');
    return;
  }
  // Of several statements in one message the driver gives several results, which its types do not say.
  const begun = (await client.query(
    `BEGIN; SELECT FROM rooms WHERE room_id = ${client.escapeLiteral(stay.roomId)} AND epoch = ${stay.epoch} FOR KEY SHARE`,
  )) as unknown as readonly pg.QueryResult[];
  if (begun[1]?.rowCount !== 1) throw new StayOverError(stay);
}

/**
 * A condition for a statement that looks for itself whether the stay goes on, and needs no transaction for that: under the same lock.
 *
 * @param roomId a column, and `epoch` a parameter; `null` in it: the work belongs to no stay
 */
export function goesOn(roomId: string, epoch: string): string {
  return `(${epoch}::int IS NULL OR EXISTS (SELECT ${OWN_LOOK} WHERE fence.room_id = ${roomId} AND fence.epoch = ${epoch} FOR KEY SHARE))`;
}

const OWN_LOOK = 'FROM rooms AS fence';

/** Whether a statement may write what nothing keeps it from. One that only locks counts as one that does. */
export function isToBeFenced(statement: string): boolean {
  return !statement.includes(OWN_LOOK) && /\b(?:INSERT|UPDATE|DELETE|MERGE)\b/i.test(statement);
}
