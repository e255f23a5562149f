/** What a batch of events is judged by, read for the whole batch before the first verdict. */
import { authEventIdsOf, impliedAuthEvents } from '../../matrix/auth/auth-events.ts';
import { type AuthRule, FOR_WANT } from '../../matrix/auth/auth-verdict.ts';
import { type EventId } from '../../matrix/identifiers.ts';
import { type Pdu } from '../../matrix/pdu.ts';
import { type Refusal, refuse } from '../../matrix/refusal.ts';
import { type RoomVersionRules } from '../../matrix/room-versions.ts';
import { type Parent, readParents } from '../../store/events/anchors.ts';
import { readBelow, readReached } from '../../store/events/event-states.ts';
import { readPdusAndAuthEvents } from '../../store/events/pdus.ts';
import { type RoomStanding } from '../../store/journal/rooms.ts';
import { type Sql } from '../../store/open-store.ts';
import { readWaitingBefore } from '../../store/tables/staged-reads.ts';
import { parseStored } from './load-pdus.ts';
import { inOrderOfComing } from './order-of-coming.ts';

export interface Given {
  /** Parents first. */
  readonly events: readonly Pdu[];
  /** The batch, what its events cite, and the extremities, as far as they are parents. */
  readonly parents: ReadonlyMap<EventId, Parent>;
  /** Judged auth events, rejected ones included. */
  readonly authEvents: ReadonlyMap<EventId, Pdu>;
  readonly rejected: ReadonlySet<EventId>;
  readonly authDepths: ReadonlyMap<EventId, number | null>;
  /** Events of the batch that accepted events reach, since these came first: no extremities. */
  readonly reached: ReadonlySet<EventId>;
  /** Events of the batch that are rejected for want of an auth event, which was looked for as long as that is done. */
  readonly unproven: ReadonlyMap<EventId, Refusal<AuthRule>>;
  /** Of events of the batch whose senders chose their ids: what builds on them already. */
  readonly below: ReadonlyMap<EventId, ReadonlySet<EventId>>;
  /** Where senders choose ids, what waits for a turn, or for others, before the events of the batch: its prev events, by event. */
  readonly waiting: ReadonlyMap<EventId, readonly EventId[]>;
  /** Events of the batch that were missed. */
  readonly gaps: ReadonlyMap<EventId, 'open' | 'given-up'>;
  /** A join of ours, which a resident took, and nothing else. */
  readonly isJoin?: true;
}

/** Of stored events in the order in which they came, where nothing must wait; those that are not stored are left out. A few statements a batch. */
export async function readGiven(
  sql: Sql,
  { roomId, extremities }: RoomStanding,
  rules: RoomVersionRules,
  eventIds: readonly EventId[],
): Promise<Given> {
  const wanted = new Set(eventIds);
  const create = impliedAuthEvents(roomId, rules);
  const rows = await readPdusAndAuthEvents(sql, roomId, [...wanted, ...create]);
  const pdus = new Map(rows.map((row) => [row.eventId, parseStored(row.json, rules, row.eventId)]));
  const judged = rows.filter(({ verdict }) => verdict !== 'unjudged');
  const events = inOrderOfComing([...wanted].map((eventId) => pdus.get(eventId)).filter((pdu) => pdu !== undefined));

  const cited = events.flatMap((event) => [event.eventId, ...event.prevEvents, ...authEventIdsOf(event, rules)]);
  const parents = await readParents(sql, roomId, [...new Set([...cited, ...extremities])]);
  const awaited = rows.flatMap(({ eventId, isCited }) => (isCited && wanted.has(eventId) ? [eventId] : []));
  const lacking = events.flatMap(({ prevEvents }) => prevEvents.filter((id) => !parents.has(id) && !wanted.has(id)));
  return {
    events,
    parents,
    below: await readBelow(sql, roomId, rules.eventIdFormat === 'given' ? awaited : []),
    waiting: rules.eventIdFormat === 'given' ? await readWaitingBefore(sql, roomId, lacking) : new Map(),
    authEvents: new Map(judged.map(({ eventId }) => [eventId, pdus.get(eventId) as Pdu])),
    rejected: new Set(judged.filter(({ verdict }) => verdict === 'rejected').map(({ eventId }) => eventId)),
    authDepths: new Map(judged.map(({ eventId, authDepth }) => [eventId, authDepth])),
    reached: await readReached(sql, roomId, awaited),
    unproven: new Map(
      rows.flatMap(({ eventId, rule, reason }) =>
        rule !== null && FOR_WANT.has(rule) && wanted.has(eventId)
          ? [[eventId, refuse(rule as AuthRule, reason ?? rule)]]
          : [],
      ),
    ),
    gaps: new Map(rows.flatMap(({ eventId, gap }) => (gap === null ? [] : [[eventId, gap]]))),
  };
}
