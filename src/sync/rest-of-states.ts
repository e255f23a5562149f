/**
 * What of the states of rooms a response has no room for in memory: all members of many big rooms, which an eager client asks for at
 * first. They are named by number while the look lasts, and read page by page while the response is sent, whatever rooms they are of.
 * Stored events do not change, so this needs none of the look's snapshot of the database.
 */
import { type RoomId } from '../matrix/identifiers.ts';
import { type SyncFilter, passes } from '../matrix/client/filter.ts';
import { readRedacted } from '../store/events/redactions.ts';
import { readNumbered } from '../store/journal/seen-by-clients.ts';
import { type Sql } from '../store/open-store.ts';
import { type StatePage } from './contract.ts';
import { stateEvent } from './show-events.ts';

/** Events of one page: some 500 KB, and 32 MB if they are as large as events can be. */
const PAGE_EVENTS = 500;

/** Events of one room, by number, in the order in which they are given. */
export interface RestOfState {
  readonly roomId: RoomId;
  readonly nids: Float64Array;
}

interface Named {
  readonly roomId: RoomId;
  readonly nid: number;
}

/** Pages in the order of the rooms, each of one room. */
export async function* readRestOfStates(
  sql: Sql,
  rest: readonly RestOfState[],
  filter: SyncFilter,
): AsyncGenerator<StatePage> {
  let page: Named[] = [];
  for (const { roomId, nids } of rest) {
    for (const nid of nids) {
      page.push({ roomId, nid });
      if (page.length < PAGE_EVENTS) continue;
      yield* await readPage(sql, page, filter);
      page = [];
    }
  }
  yield* await readPage(sql, page, filter);
}

async function readPage(sql: Sql, page: readonly Named[], filter: SyncFilter): Promise<StatePage[]> {
  const bodies = await readNumbered(
    sql,
    page.map(({ nid }) => nid),
  );
  const given = page.flatMap(({ roomId, nid }) => {
    const body = bodies.get(nid);
    return body === undefined ? [] : [{ eventId: body.eventId, json: body.json, roomId }];
  });
  const redacted = await readRedacted(sql, given);
  const pages = new Map<RoomId, StatePage['events'][number][]>();
  for (const body of given) {
    const event = stateEvent(body, body.roomId, redacted);
    if (!passes(filter.state, event)) continue;
    const ofRoom = pages.get(body.roomId) ?? [];
    pages.set(body.roomId, ofRoom);
    ofRoom.push(event);
  }
  return Array.from(pages, ([roomId, events]) => ({ roomId, events }));
}
