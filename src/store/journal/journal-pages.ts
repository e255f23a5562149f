/**
 * The journal as readers from outside follow it: pages of entries after a position, of all rooms or of one, of all types or
 * of some. Positions rise in the order of commits, so whoever has read up to one has missed nothing before it; not
 * every position is an entry's (positions.ts).
 */
import { invariant } from '../../invariant.ts';
import { type RoomId } from '../../matrix/identifiers.ts';
import { type EntryType } from '../../resync/entries.ts';
import { type Journalled } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';

/** An entry and when it was written, milliseconds since the Unix epoch. */
export interface RecordedEntry extends Journalled {
  readonly recordedAt: number;
}

export interface JournalPageQuery {
  /** Exclusive; 0 is the beginning. */
  readonly after: number;
  readonly limit: number;
  /** Absent: of all rooms. */
  readonly roomId?: RoomId | undefined;
  /** Absent: of all types. */
  readonly types?: ReadonlySet<EntryType> | undefined;
}

export interface JournalPage {
  readonly entries: readonly RecordedEntry[];
  /** Nothing that was asked for is between the last entry and this position: the next page begins after it. */
  readonly next: number;
  /** The newest position of the whole journal; no less than `next`. */
  readonly head: number;
}

/** Entries that one page looks at for the types it wants. A page may hold none of them, and `next` goes on all the same. */
const SCANNED_MAX = 5_000;

type Found = { readonly head: number } & (RecordedEntry | { readonly position: null });

/** One page, and where the journal ends, as they are at one moment. */
export async function readJournalPage(sql: Sql, query: JournalPageQuery): Promise<JournalPage> {
  const { after, limit, roomId, types } = query;
  const ofRoom = roomId === undefined ? '' : `AND room_id = $${types === undefined ? 3 : 4}`;
  // The last entry looked at comes along, whatever its type: it says how far this page has got.
  const ofTypes = 'WHERE type = ANY ($3::text[]) OR position = (SELECT max(position) FROM scanned)';
  const rows = await sql.query<Found>(
    `WITH scanned AS (
       SELECT * FROM journal WHERE position > $1 ${ofRoom} ORDER BY position
        LIMIT ${types === undefined ? '$2' : String(SCANNED_MAX)}
     ), page AS (
       SELECT * FROM scanned ${types === undefined ? '' : ofTypes} ORDER BY position LIMIT $2
     )
     SELECT h.position AS head, p.position, p.room_id AS "roomId", p.epoch, p.stream, p.seq, p.data AS event,
            p.recorded_at AS "recordedAt"
       FROM journal_head h LEFT JOIN page p ON true ORDER BY p.position`,
    [after, limit, ...(types === undefined ? [] : [[...types]]), ...(roomId === undefined ? [] : [roomId])],
  );
  const head = rows[0]?.head;
  invariant(head !== undefined, 'journal_head has its row');
  const looked = rows.flatMap((row) => (row.position === null ? [] : [entryOf(row)]));
  const isAll = looked.length === 0 || (types === undefined && looked.length < limit);
  return {
    entries: looked.filter(({ event }) => types?.has(event.type) ?? true),
    next: isAll ? Math.max(after, head) : (looked.at(-1)?.position ?? after),
    head,
  };
}

function entryOf({ position, roomId, epoch, stream, seq, event, recordedAt }: RecordedEntry): RecordedEntry {
  return { position, roomId, epoch, stream, seq, event, recordedAt };
}
