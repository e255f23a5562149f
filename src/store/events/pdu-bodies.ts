/**
 * Bodies of events and nothing else of them, for long answers. `readPdus` gives more, at a price: its join with
 * `state_keys` makes PostgreSQL hash that whole table for each page, 33 ms against 8 ms for 1,000 events of 64,000.
 *
 * The events of a whole state are looked up by nid, in the order they were stored, which reads the tables from front to back
 * and needs no event's name first: a quarter of the time that PostgreSQL takes by event id, for 100,000 events.
 */
import { invariant } from '../../invariant.ts';
import { type EventId, type RoomId } from '../../matrix/identifiers.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type Sql } from '../open-store.ts';
import { stateKeyNidOf, trieKey } from '../snapshots/snapshot-trie.ts';
import { streamDifferences } from '../snapshots/snapshots.ts';
import { int8Array } from '../sql-values.ts';
import { storable } from '../storable-text.ts';

export interface PduBody {
  readonly eventId: EventId;
  /** As received after the checks, byte for byte; redacted when the event is hollow. */
  readonly json: string;
}

/**
 * Bodies of the stored ones of `ids`, in pages of at most `pageSize` and in no particular order within one. The next page
 * is read while the reader is busy with this one, so that two are in memory.
 */
export function streamPduBodies(
  sql: Sql,
  ids: readonly EventId[],
  pageSize: number,
): AsyncGenerator<readonly PduBody[]> {
  return readPagesAhead(ids.length, pageSize, (start, end) =>
    sql.query<PduBody>(`SELECT event_id AS "eventId", json::text AS json FROM pdus WHERE event_id = ANY ($1::text[])`, [
      ids.slice(start, end),
    ]),
  );
}

/** As `streamPduBodies`, of every event of a state. */
export async function* streamStateBodies(
  sql: Sql,
  roomId: RoomId,
  state: SnapshotId,
  pageSize: number,
): AsyncGenerator<readonly PduBody[]> {
  yield* streamBodiesByNid(sql, roomId, await readNids(sql, roomId, state, false), { membership: null }, pageSize);
}

/** Which memberships of a state are read. */
export interface MembershipFilter {
  /** These; `null`: all. */
  readonly membership: string | null;
  /** All but these; absent or `null`: all. */
  readonly notMembership?: string | null;
}

/** As `streamPduBodies`, of memberships of a state; pages may be empty where a filter lets nothing pass. */
export async function* streamMemberBodies(
  sql: Sql,
  roomId: RoomId,
  state: SnapshotId,
  filter: MembershipFilter,
  pageSize: number,
): AsyncGenerator<readonly PduBody[]> {
  yield* streamBodiesByNid(sql, roomId, await readNids(sql, roomId, state, true), filter, pageSize);
}

export interface OpenBodies {
  /** Events at the most. */
  readonly size: number;
  readonly pages: AsyncGenerator<readonly PduBody[]>;
}

/** Bodies of a whole state, or of memberships of it, with how many there are; the first page is read when it is asked for. */
export async function openStateBodies(
  sql: Sql,
  roomId: RoomId,
  state: SnapshotId,
  members: MembershipFilter | null,
  pageSize: number,
): Promise<OpenBodies> {
  const nids = await readNids(sql, roomId, state, members !== null);
  const filter = members ?? { membership: null };
  return { size: nids.length, pages: streamBodiesByNid(sql, roomId, nids, filter, pageSize) };
}

/** Of the events of a state, in the order they were stored: 8 bytes each, for as long as the answer takes. */
async function readNids(sql: Sql, roomId: RoomId, state: SnapshotId, membersOnly: boolean): Promise<Float64Array> {
  const parts: Float64Array[] = [];
  for await (const entries of streamDifferences(sql, roomId, null, state)) {
    const wanted = membersOnly ? entries.filter(({ key }) => key === trieKey(stateKeyNidOf(key), true)) : entries;
    parts.push(
      Float64Array.from(wanted, ({ after }) => {
        invariant(after !== null, 'every place of a state that is read whole has an event');
        return after;
      }),
    );
  }
  const nids = new Float64Array(parts.reduce((sum, { length }) => sum + length, 0));
  let start = 0;
  for (const part of parts) {
    nids.set(part, start);
    start += part.length;
  }
  return nids.sort();
}

function streamBodiesByNid(
  sql: Sql,
  roomId: RoomId,
  nids: Float64Array,
  { membership, notMembership = null }: MembershipFilter,
  pageSize: number,
): AsyncGenerator<readonly PduBody[]> {
  return readPagesAhead(nids.length, pageSize, async (start, end) => {
    const page = [...nids.subarray(start, end)];
    const bodies = await sql.query<PduBody>(
      `SELECT event_id AS "eventId", json::text AS json FROM pdus
        WHERE nid = ANY ($1::bigint[]) AND ($2::text IS NULL OR membership = $2)
          AND ($3::text IS NULL OR membership IS DISTINCT FROM $3)`,
      [int8Array(page), membership && storable(membership), notMembership && storable(notMembership)],
    );
    const isAll = membership === null && notMembership === null;
    invariant(!isAll || bodies.length === page.length, `events of a snapshot of ${roomId} are not stored`);
    return bodies;
  });
}

async function* readPagesAhead<Page>(
  rows: number,
  pageSize: number,
  read: (start: number, end: number) => Promise<Page>,
): AsyncGenerator<Page> {
  const readFrom = async (start: number): Promise<Page | undefined> =>
    start < rows ? read(start, Math.min(rows, start + pageSize)) : undefined;
  let next = readFrom(0);
  for (let start = pageSize; ; start += pageSize) {
    const page = await next;
    if (page === undefined) return;
    next = readFrom(start);
    // A reader that leaves early awaits it no more; its failure must not count as unhandled.
    next.catch(() => undefined);
    yield page;
  }
}
