/** How often an attempt to fetch a state was begun since it last stored something: three times, and it is given up. */
import { type Sql } from '../open-store.ts';
import { type FetchAttempt } from './fetch-progress.ts';

/** Counts a begin of the attempt, and gives how many there were since something was stored last, this one included. */
export async function countBegin(sql: Sql, { roomId, epoch, attemptNo }: FetchAttempt): Promise<number> {
  const [row] = await sql.query<{ begins: number }>(
    `INSERT INTO fetch_attempts AS a (room_id, epoch, attempt_no, begins) VALUES ($1, $2, $3, 1)
     ON CONFLICT (room_id) DO UPDATE
        SET begins = CASE WHEN (a.epoch, a.attempt_no) = ($2, $3) THEN a.begins + 1 ELSE 1 END,
            epoch = excluded.epoch, attempt_no = excluded.attempt_no
     RETURNING begins`,
    [roomId, epoch, attemptNo],
  );
  return row?.begins ?? 1;
}

/** The attempt has stored something: it is worth to be begun again. */
export function forgetBegins(sql: Sql, attempt: FetchAttempt): Promise<void> {
  return setBegins(sql, attempt, '0');
}

/** The attempt was ended in order, by a shutdown: this begin does not count. */
export function takeBackBegin(sql: Sql, attempt: FetchAttempt): Promise<void> {
  return setBegins(sql, attempt, 'greatest(begins - 1, 0)');
}

async function setBegins(sql: Sql, { roomId, epoch, attemptNo }: FetchAttempt, begins: string): Promise<void> {
  await sql.query(
    `UPDATE fetch_attempts SET begins = ${begins} WHERE room_id = $1 AND epoch = $2 AND attempt_no = $3`,
    [roomId, epoch, attemptNo],
  );
}
