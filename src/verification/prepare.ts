/**
 * The first half of checking a chunk, in a thread: read each event strictly, check its format and room, work out its id,
 * and find which keys its required signatures name. Nothing is verified yet, since an event may turn out to be held.
 */
import { idOfMalformed, preparePdu, typeOfMalformed } from '../matrix/event-format.ts';
import { type EventId, type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { type Pdu } from '../matrix/pdu.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { type Signature, requiredSigners, signaturesOf } from '../matrix/signing/signatures.ts';
import { EVENT_WIRE_BYTES_MAX } from '../matrix/json/event-splitter.ts';
import { parseJsonObject } from '../matrix/json/strict-json.ts';
import { type RawEvents, eventAt } from './batch.ts';
import { type NamedKey, type PreparedReply, type ThreadOutcome } from './messages.ts';

/** An event that is ready to be verified, or the outcome that spares verifying it. */
export type PreparedEvent =
  | {
      readonly ready: true;
      readonly pdu: Pdu;
      /** The text its signatures sign, where the event id needed it already. */
      readonly signed: string | undefined;
      readonly signers: readonly { readonly serverName: ServerName; readonly signatures: readonly Signature[] }[];
      /** How long the text was that was received. */
      readonly wireBytes: number;
    }
  | { readonly ready: false; readonly outcome: ThreadOutcome };

export interface PrepareOptions {
  readonly rules: RoomVersionRules;
  readonly roomId: RoomId;
  readonly capReferences: boolean;
}

/** Parses an event and works out its id and its signers; never throws for what a stranger sent. */
export function prepareEvent(raw: Uint8Array, { rules, roomId, capReferences }: PrepareOptions): PreparedEvent {
  const json = parseJsonObject(raw);
  if (!json.ok) return malformed(null, null, json);
  if (raw.length > EVENT_WIRE_BYTES_MAX) {
    const refusal = {
      rule: 'event.size',
      reason: `${raw.length} bytes as it is written; at most ${EVENT_WIRE_BYTES_MAX}`,
    };
    return malformed(idOfMalformed(json.value, rules), typeOfMalformed(json.value), refusal);
  }
  const prepared = preparePdu(json.value, rules, { wireBytes: raw.length, capReferences });
  if (!prepared.ok) return malformed(idOfMalformed(json.value, rules), typeOfMalformed(json.value), prepared);
  const { pdu, signed } = prepared;
  if (pdu.roomId !== roomId) {
    return malformed(pdu.eventId, pdu.type, {
      rule: 'event.room',
      reason: `the event is of another room, ${pdu.roomId}`,
    });
  }

  const required = requiredSigners(pdu, rules);
  if (!required.ok) return malformed(pdu.eventId, pdu.type, required);
  const signers = required.servers.map((serverName) => ({
    serverName,
    signatures: signaturesOf(pdu.json, serverName),
  }));
  const unsigned = signers.find((signer) => signer.signatures.length === 0);
  if (unsigned !== undefined) {
    const { serverName } = unsigned;
    const { eventId, type } = pdu;
    const reason = `not signed by ${serverName}`;
    return { ready: false, outcome: { outcome: 'bad-signature', eventId, type, serverName, reason } };
  }
  return { ready: true, pdu, signed, signers, wireBytes: raw.length };
}

function malformed(
  eventId: EventId | null,
  type: string | null,
  { rule, reason }: { rule: string; reason: string },
): PreparedEvent {
  return { ready: false, outcome: { outcome: 'malformed', eventId, type, rule, reason } };
}

/** Prepares a chunk; the reply tells the pool what it must find out before the chunk can be verified. */
export function prepareChunk(
  chunk: number,
  raw: RawEvents,
  options: PrepareOptions,
): { readonly events: readonly PreparedEvent[]; readonly reply: PreparedReply } {
  const keys: NamedKey[] = [];
  const indices = new Map<string, number>();
  const indexOf = (key: NamedKey): number => {
    const name = `${key.serverName} ${key.keyId}`;
    const known = indices.get(name);
    if (known !== undefined) return known;
    indices.set(name, keys.length);
    return keys.push(key) - 1;
  };

  const events: PreparedEvent[] = [];
  const needs: number[][] = [];
  for (let i = 0; i + 1 < raw.offsets.length; i++) {
    const event = prepareEvent(eventAt(raw, i), options);
    const named: number[] = [];
    if (event.ready) {
      for (const { serverName, signatures } of event.signers) {
        for (const { keyId } of signatures) named.push(indexOf({ serverName, keyId }));
      }
    }
    events.push(event);
    needs.push(named);
  }
  return {
    events,
    reply: {
      type: 'prepared',
      chunk,
      eventIds: events.map((event) => (event.ready ? event.pdu.eventId : null)),
      keys,
      needs,
      validAtTs: events.map((event) =>
        event.ready && options.rules.enforceKeyValidity ? event.pdu.originServerTs : 0,
      ),
    },
  };
}
