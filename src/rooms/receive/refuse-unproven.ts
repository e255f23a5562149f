/**
 * Ends the wait of events whose auth events cannot be had. One that is of another room makes an event rejected for good; one that nobody
 * gave in all tries until it comes: then what was rejected for want of it is judged again, as a correction. The verdict is
 * written down as that on an outlier, and the event is taken into the timeline by it.
 */
import { type EventId, type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { readAuthChainIds } from '../../store/events/auth-events.ts';
import { awaitEvents } from '../../store/events/left-out.ts';
import { readPdus, recordOutlierVerdicts } from '../../store/events/pdus.ts';
import { type Sql } from '../../store/open-store.ts';

export interface UnprovenEvent {
  readonly eventId: EventId;
  /** Who sent it to us. */
  readonly origin: ServerName;
  /** Its auth events that have no verdict. */
  readonly missingAuthEvents: readonly EventId[];
  readonly reason: string;
}

/** Rejects stored events, until what they lack comes. Several servers may have given one: it is rejected once. */
export async function refuseUnproven(sql: Sql, roomId: RoomId, events: readonly UnprovenEvent[]): Promise<void> {
  if (events.length === 0) return;
  const missing = events.flatMap(({ origin, missingAuthEvents }) =>
    missingAuthEvents.map((eventId) => ({ eventId, awaitedBy: origin })),
  );
  await awaitEvents(sql, roomId, missing);
  const rejected = { verdict: 'rejected', authDepth: null, rule: 'auth-event-missing' } as const;
  const verdicts = new Map(events.map(({ eventId, reason }) => [eventId, { ...rejected, eventId, reason }]));
  await recordOutlierVerdicts(sql, roomId, [...verdicts.values()]);
}

/** Rejects those of the stored events, and of what their auth chains lead to, that cite an event of another room. */
export async function refuseCitingForeign(
  sql: Sql,
  roomId: RoomId,
  eventIds: readonly EventId[],
  foreign: ReadonlySet<EventId>,
): Promise<void> {
  const rows = await readPdus(sql, roomId, [...(await readAuthChainIds(sql, roomId, eventIds))]);
  const rejected = { verdict: 'rejected', authDepth: null, rule: 'auth-event-other-room' } as const;
  const citing = rows.flatMap(({ eventId, authEvents, verdict }) => {
    const cited = verdict === 'unjudged' ? authEvents.find((id) => foreign.has(id)) : undefined;
    return cited === undefined ? [] : [{ ...rejected, eventId, reason: `Auth event ${cited} is of another room.` }];
  });
  await recordOutlierVerdicts(sql, roomId, citing);
}
