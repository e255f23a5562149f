/**
 * What a crash of PostgreSQL takes with it. Commits that do not wait for the disk (who types, who has read what) may be lost, and with them
 * the last positions that clients were told: these are left out, so that none is given twice. The row of `last_recovery` stands in an unlogged
 * table, which PostgreSQL empties after a crash, as it does those of who types and who is there (schema/edus.ts).
 */
/** More than are taken in the moment before a crash of which the disk knows nothing. */
const LEFT_OUT = 100_000;

/**
 * How many positions are left out before the next one, in SQL: until it is noted that there was a crash each time anew. Such a transaction
 * waits for the disk, whatever it had set: what is left out must not be lost in the next crash.
 */
export const LEAVING_OUT = `CASE WHEN EXISTS (SELECT FROM last_recovery) THEN 0
                                WHEN set_config('synchronous_commit', 'on', true) = 'on' THEN ${LEFT_OUT} END`;

/** The statement that notes from which position on things are known again, where there was a crash; any number of processes send it. */
export const NOTE_RECOVERY = `
  WITH head AS (
    UPDATE journal_head SET position = position + ${LEFT_OUT}
     WHERE NOT EXISTS (SELECT FROM last_recovery) RETURNING position
  )
  INSERT INTO last_recovery (position) SELECT position FROM head ON CONFLICT DO NOTHING`;
