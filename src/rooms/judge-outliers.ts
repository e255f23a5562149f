/**
 * Judges events that were fetched as state or auth chain, and have no place in the timeline: check 4 alone, each against
 * its own auth events, auth events first. Nothing is kept but refusals, so a second run after a kill costs reading only.
 */
import { type EventId, type RoomId } from '../matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../matrix/pdu.ts';
import { authEventIdsOf } from '../matrix/auth-events.ts';
import { checkAgainstAuthEvents } from '../matrix/pdu-checks.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { markRejected, streamPdus } from '../store/pdus.ts';
import { type Sql } from '../store/open-store.ts';
import { parseStored } from './load-pdus.ts';

/** Rows read at a time. */
const BATCH_EVENTS = 2_000;

/** What the callers need of a judged event, a few dozen bytes of it, since a big room has hundreds of thousands. */
export interface JudgedOutlier {
  readonly type: string;
  readonly stateKey: string | undefined;
  readonly verdict: 'accepted' | 'rejected' | 'unjudged';
}

/** What auth rules read of a member event; the rest of a profile is let go. */
const MEMBER_CONTENT_KEYS = ['membership', 'join_authorised_via_users_server', 'third_party_invite'];
const NOTHING: JsonObject = {};

function slim(pdu: Pdu): Pdu {
  if (pdu.type !== 'm.room.member') return pdu;
  const content: Record<string, JsonObject[string]> = {};
  for (const key of MEMBER_CONTENT_KEYS) {
    const value = pdu.content[key];
    if (value !== undefined) content[key] = value;
  }
  return { ...pdu, content, json: NOTHING };
}

/**
 * Judges `eventIds`, all of them held. An event that cites an auth event we do not have is left `unjudged`: it is skipped,
 * neither accepted nor refused (FACTS E7). Refusals are stored; verdicts of every event given are returned.
 */
export async function judgeOutliers(
  sql: Sql,
  roomId: RoomId,
  rules: RoomVersionRules,
  eventIds: readonly EventId[],
  onProgress: () => void,
): Promise<Map<EventId, JudgedOutlier>> {
  const pdus = new Map<EventId, Pdu>();
  const verdicts = new Map<EventId, JudgedOutlier['verdict']>();
  for await (const batch of streamPdus(sql, eventIds, BATCH_EVENTS)) {
    for (const row of batch) {
      if (row.roomId !== roomId) continue;
      pdus.set(row.eventId, slim(parseStored(row.json, rules, row.eventId)));
      if (row.rejectedRule !== null) verdicts.set(row.eventId, 'rejected');
    }
    onProgress();
  }

  const refused: { eventId: EventId; rule: string; reason: string }[] = [];
  const judge = (pdu: Pdu): JudgedOutlier['verdict'] => {
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
  for (const root of pdus.values()) {
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
  for (const [eventId, pdu] of pdus) {
    judged.set(eventId, { type: pdu.type, stateKey: pdu.stateKey, verdict: verdicts.get(eventId) ?? 'unjudged' });
  }
  return judged;
}
