/** Alters some of an answer's events: spread evenly over them, the same ones each time, and never a create event. */
import { type JsonObject } from '../matrix/pdu.ts';
import { type BodyPart } from './answer.ts';
import { type EventAmount, type EventFault, type LongText } from './simulator-faults.ts';

type Event = Extract<BodyPart, readonly unknown[]>[number];

/** The body under the fault. The first array of events is struck: the state of an answer that has an auth chain too. */
export function alterEvents(fault: EventFault, body: readonly BodyPart[]): readonly BodyPart[] {
  const at = body.findIndex((part) => typeof part !== 'string');
  const events = body[at];
  if (!Array.isArray(events)) return body;
  const struck = choose(events, fault.events);
  return body.with(at, [...alter(fault, events, struck)]);
}

function* alter(fault: EventFault, events: readonly Event[], struck: ReadonlySet<number>): Generator<Event, void> {
  for (const [i, event] of events.entries()) {
    if (!struck.has(i)) yield event;
    else if (fault.kind === 'wrong-hash') yield { ...event, json: withOtherContent(event.json) };
    else if (fault.kind === 'wrong-signature') yield { ...event, json: withOtherSignature(event.json) };
    else if (fault.kind === 'long-text') yield { ...event, json: inLongText(event.json, fault.text) };
  }
}

function choose(events: readonly Event[], amount: EventAmount): Set<number> {
  const candidates = [...events.keys()].filter((i) => events[i]?.type !== 'm.room.create');
  const wanted = 'count' in amount ? amount.count : Math.ceil(amount.share * candidates.length);
  const count = Math.min(wanted, candidates.length);
  return new Set(Array.from({ length: count }, (_, n) => candidates[Math.floor((n * candidates.length) / count)] ?? 0));
}

/** A member that no redaction keeps, so that the id stays what it was. */
function withOtherContent(json: Buffer): Buffer {
  const event = JSON.parse(json.toString('utf8')) as JsonObject & { readonly content: JsonObject };
  return Buffer.from(JSON.stringify({ ...event, content: { ...event.content, 'test.rejoinder.altered': true } }));
}

/** The first character of the first server's signature, which stands for six bits, becomes another. */
function withOtherSignature(json: Buffer): Buffer {
  const event = JSON.parse(json.toString('utf8')) as JsonObject & {
    readonly signatures: Readonly<Record<string, Readonly<Record<string, string>>>>;
  };
  const [first] = Object.entries(event.signatures);
  if (first === undefined) return json;
  const [serverName, byKey] = first;
  const turned: Record<string, string> = {};
  for (const [keyId, signature] of Object.entries(byKey)) {
    turned[keyId] = `${signature.startsWith('A') ? 'B' : 'A'}${signature.slice(1)}`;
  }
  const signatures = { ...event.signatures, [serverName]: turned };
  return Buffer.from(JSON.stringify({ ...event, signatures }));
}

const INDENTED_BY = 8;
const REPLACED_BYTES = 40_000;

/** What is hashed and signed stays as it is. */
function inLongText(json: Buffer, text: LongText): Buffer {
  const event = JSON.parse(json.toString('utf8')) as JsonObject;
  switch (text) {
    case 'escaped':
      return Buffer.from(
        JSON.stringify(event).replace(
          /[^\0-\x7f]/g,
          (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`,
        ),
      );
    case 'indented':
      return Buffer.from(JSON.stringify(event, null, INDENTED_BY));
    case 'unsigned':
      return Buffer.from(
        JSON.stringify({ ...event, unsigned: { prev_content: { name: 'x'.repeat(REPLACED_BYTES) } } }),
      );
  }
}
