/** Bodies of events as they are given to whoever reads them: what was taken back by who may is redacted. */
import { type RoomId } from '../../matrix/identifiers.ts';
import { type PduBody } from '../../store/events/pdu-bodies.ts';
import { type RedactedBody, hasRedactions, readRedacted } from '../../store/events/redactions.ts';
import { type Sql } from '../../store/open-store.ts';
import { type StateEvent } from '../contract.ts';

/** Events of a room in their order; one look for all of them. */
export async function asRedacted(sql: Sql, roomId: RoomId, bodies: readonly PduBody[]): Promise<StateEvent[]> {
  const redacted = await readRedacted(
    sql,
    bodies.map(({ eventId, json }) => ({ eventId, json, roomId })),
  );
  return bodies.map((body) => withoutTaken(body, redacted.get(body.eventId)));
}

/** One event. `taken`: what is left of it; `undefined`: it was not taken back. */
export function withoutTaken({ eventId, json }: PduBody, taken: RedactedBody | undefined): StateEvent {
  return taken === undefined ? { eventId, json } : { eventId, json: taken.json, redactedBecause: taken.because };
}

/** The same, page by page; in a room in which nobody has taken anything back, as it is said when the first is asked for, no page is looked at. */
export async function* redactedPages(
  sql: Sql,
  roomId: RoomId,
  pages: AsyncIterable<readonly PduBody[]>,
): AsyncGenerator<readonly StateEvent[]> {
  if (!(await hasRedactions(sql, roomId))) yield* pages;
  else for await (const page of pages) yield await asRedacted(sql, roomId, page);
}
