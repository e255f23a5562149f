/**
 * Judges events that were fetched as state or auth chain, and have no place in the timeline: check 4 alone, each against
 * its own auth events, auth events first. Nothing is kept but refusals, so a second run after a kill costs reading only.
 */
import { setImmediate as turn } from 'node:timers/promises';
import { type EventId, type RoomId } from '../matrix/identifiers.ts';
import { type Pdu } from '../matrix/pdu.ts';
import { authEventIdsOf } from '../matrix/auth-events.ts';
import { checkAgainstAuthEvents } from '../matrix/pdu-checks.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { markRejected, streamPdus } from '../store/pdus.ts';
import { type Sql } from '../store/open-store.ts';
import { type AuthViews, createAuthViews } from './auth-view.ts';

/** Rows read at a time. */
const READ_EVENTS = 2_000;
/** Events judged before others get their turn: some 10 ms. */
const JUDGED_A_TURN = 1_000;

export type OutlierVerdict = 'accepted' | 'rejected' | 'unjudged';

export interface JudgedOutlier {
  readonly event: Pdu;
  readonly verdict: OutlierVerdict;
}

/** What is at hand already, since it has just come in: it is not read again. */
export interface OutliersAtHand {
  readonly views: AuthViews;
  readonly events: ReadonlyMap<EventId, Pdu>;
}

/**
 * Judges `eventIds`, all of them held. An event that cites an auth event we do not have is left `unjudged`: it is skipped,
 * neither accepted nor refused (FACTS E7). Refusals are stored; verdicts of every event given are returned, each with
 * what auth rules read of its event (auth-view.ts).
 */
export async function judgeOutliers(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  eventIds: readonly EventId[],
  onProgress: () => void,
  atHand: OutliersAtHand = { views: createAuthViews(roomId, rules), events: new Map() },
): Promise<Map<EventId, JudgedOutlier>> {
  const pdus = new Map<EventId, Pdu>();
  const verdicts = new Map<EventId, OutlierVerdict>();
  const unread: EventId[] = [];
  for (const eventId of eventIds) {
    const event = atHand.events.get(eventId);
    if (event === undefined) unread.push(eventId);
    else pdus.set(eventId, event);
  }
  for await (const batch of streamPdus(sql, unread, READ_EVENTS)) {
    for (const row of batch) {
      if (row.roomId !== roomId) continue;
      pdus.set(row.eventId, atHand.views.view(row));
      if (row.rejectedRule !== null) verdicts.set(row.eventId, 'rejected');
    }
    onProgress();
  }

  const refused: { eventId: EventId; rule: string; reason: string }[] = [];
  const judge = (pdu: Pdu): OutlierVerdict => {
    const authEvents: Pdu[] = [];
    for (const id of authEventIdsOf(pdu, rules)) {
      const authEvent = pdus.get(id);
      if (authEvent === undefined || verdicts.get(id) === 'unjudged') return 'unjudged';
      authEvents.push(authEvent);
    }
    const outcome = checkAgainstAuthEvents(pdu, authEvents, rules, (id) => verdicts.get(id) === 'rejected');
    if (outcome.ok) return 'accepted';
    if (outcome.rule === 'auth-event-missing') return 'unjudged';
    refused.push({ eventId: pdu.eventId, rule: outcome.rule, reason: outcome.reason });
    return 'rejected';
  };

  // Depth first over auth events with a stack of our own: a hostile chain is as deep as it likes. An event met again while
  // it is still open is part of a cycle (possible in versions 1 and 2 only) and counts as unjudged for who cites it.
  const open = new Set<EventId>();
  let judgedThisTurn = 0;
  for (const root of pdus.values()) {
    if (++judgedThisTurn >= JUDGED_A_TURN) {
      judgedThisTurn = 0;
      onProgress();
      await turn();
    }
    const stack: Pdu[] = [root];
    for (let pdu = stack.at(-1); pdu !== undefined; pdu = stack.at(-1)) {
      if (verdicts.has(pdu.eventId)) {
        stack.pop();
        continue;
      }
      const first = !open.has(pdu.eventId);
      open.add(pdu.eventId);
      if (first) {
        for (const id of authEventIdsOf(pdu, rules)) {
          const authEvent = pdus.get(id);
          if (authEvent !== undefined && !verdicts.has(id) && !open.has(id)) stack.push(authEvent);
        }
        if (stack.at(-1) !== pdu) continue;
      }
      verdicts.set(
        pdu.eventId,
        authEventIdsOf(pdu, rules).some((id) => pdus.has(id) && !verdicts.has(id)) ? 'unjudged' : judge(pdu),
      );
      stack.pop();
    }
  }
  await markRejected(sql, refused);
  onProgress();

  const judged = new Map<EventId, JudgedOutlier>();
  for (const [eventId, event] of pdus) judged.set(eventId, { event, verdict: verdicts.get(eventId) ?? 'unjudged' });
  return judged;
}
