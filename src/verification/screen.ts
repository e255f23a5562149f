/** What is looked at of an event before anybody is asked about it, in a thread: form, size, id, room, and who must have signed it. */
import { invariant } from '../invariant.ts';
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { roomVersionRules } from '../matrix/room-versions.ts';
import { type RawEvents, eventAt, packEvents } from './batch.ts';
import { type ScreenRequest, type ScreenedReply, type ThreadScreened } from './messages.ts';
import { type PrepareOptions, prepareEvent } from './prepare.ts';
import { shortened } from './verify.ts';

interface Screened {
  readonly event: ThreadScreened;
  readonly rewritten?: string | undefined;
}

/** Never throws for what a stranger sent. */
function screenEvent(raw: Uint8Array, options: PrepareOptions): Screened {
  const prepared = prepareEvent(raw, options);
  if (!prepared.ready) {
    const { outcome } = prepared;
    if (outcome.outcome === 'malformed') {
      const { eventId, rule, reason } = outcome;
      const isForeign = rule === 'event.room';
      const what = isForeign ? reason : `the event is malformed: ${reason}`;
      return { event: { outcome: 'refused', eventId, isForeign, reason: what } };
    }
    const reason = outcome.outcome === 'bad-signature' ? `the event is ${outcome.reason}` : outcome.outcome;
    const eventId = outcome.outcome === 'passed' ? null : outcome.eventId;
    return { event: { outcome: 'refused', eventId, isForeign: false, reason } };
  }
  const { eventId, prevEvents, authEvents, depth, json } = prepared.pdu;
  const signatures = canonicalJson(json['signatures'] ?? null);
  const event = { outcome: 'sound', eventId, prevEvents, authEvents, depth: Number(depth), signatures } as const;
  return { event, rewritten: shortened(json, raw.length) };
}

/** Screens all events of a request. */
export function screenEvents({ chunk, roomVersion, roomId, capReferences, ...raw }: ScreenRequest): ScreenedReply {
  const screened = screenEach(raw, { roomVersion, roomId, capReferences });
  const rewritten = packEvents(screened.map((event) => Buffer.from(event.rewritten ?? '')));
  return { type: 'screened', chunk, events: screened.map(({ event }) => event), rewritten };
}

function screenEach(
  raw: RawEvents,
  { roomVersion, roomId, capReferences }: Pick<ScreenRequest, 'roomVersion' | 'roomId' | 'capReferences'>,
): Screened[] {
  const rules = roomVersionRules(roomVersion);
  invariant(rules !== undefined, `room version ${roomVersion} is not known`);
  const options = { rules, roomId, capReferences };
  return Array.from({ length: raw.offsets.length - 1 }, (_, i) => screenEvent(eventAt(raw, i), options));
}
