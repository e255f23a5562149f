/** Whether an event passes the auth rules by its auth events, and which rule refuses it: `rejoinder inspect auth`. */
import { type Inspection, readEvent, readEvents } from './inspect-document.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { checkOutlier } from '../matrix/pdu-checks.ts';
import { type Refusal, refuse } from '../matrix/refusal.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { parseJsonObject } from '../matrix/json/strict-json.ts';

/**
 * Judges `{"event": …, "auth_events": [ … ]}`, check 4 on receipt of a PDU. In version 12 `auth_events` has the create
 * event too, though events do not cite it. The answer is `{"allowed": true}` or `{"allowed": false, "rule", "reason"}`,
 * also for an event that is malformed; `auth-event-missing` says that one of those cited is not among `auth_events`.
 * Refused when the document or one of its auth events is malformed: there is nothing to judge by then.
 */
export function inspectAuth(source: string | Uint8Array, rules: RoomVersionRules): Inspection {
  const document = parseJsonObject(source);
  if (!document.ok) return document;
  if (!Object.hasOwn(document.value, 'event')) return refuse('document.event', 'there is no event');
  const authEvents = readEvents(document.value, 'auth_events', rules);
  if (!authEvents.ok) return authEvents;
  const event = readEvent(document.value['event'] ?? null, rules, true);
  if (!event.ok) return event.rule === 'document.event' ? event : { ok: true, answer: refused(event) };
  const cited = [...authEvents.events.values()];
  const verdict = checkOutlier({ event: event.pdu, rules, authEvents: cited, isRejected: () => false });
  return { ok: true, answer: verdict.outcome === 'accept' ? { allowed: true } : refused(verdict) };
}

function refused({ rule, reason }: Pick<Refusal, 'rule' | 'reason'>): JsonObject {
  return { allowed: false, rule, reason };
}
