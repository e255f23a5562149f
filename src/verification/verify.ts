/**
 * The second half of checking a chunk, in a thread: checks 2 and 3 on receipt of a PDU, signatures and content hash, with
 * the keys that could be had.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#checks-performed-on-receipt-of-a-pdu
 */
import { relationOf } from '../matrix/client/relation.ts';
import { canonicalJson, canonicalJsonWithout } from '../matrix/json/canonical-json.ts';
import { EVENT_BYTES_MAX } from '../matrix/event-format.ts';
import { checkContentHash, signedText } from '../matrix/signing/hashes.ts';
import { type KeyId, type ServerName } from '../matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../matrix/pdu.ts';
import { redact } from '../matrix/signing/redaction.ts';
import { type RoomVersionRules } from '../matrix/room-versions.ts';
import { verifyText } from '../matrix/signing/signatures.ts';
import { type VerifyKey } from './contract.ts';
import { type ThreadOutcome } from './messages.ts';
import { type PreparedEvent } from './prepare.ts';

export type KeyLookup = (serverName: ServerName, keyId: KeyId) => VerifyKey | undefined;

/** Finds a key among those that the resolver gave; of two with the same name, the one that is valid longer. */
export function keyLookup(keys: readonly VerifyKey[]): KeyLookup {
  const byName = new Map<string, VerifyKey>();
  for (const key of keys) {
    const name = `${key.serverName} ${key.keyId}`;
    const known = byName.get(name);
    if (known === undefined || known.validUntilTs < key.validUntilTs) byName.set(name, key);
  }
  return (serverName, keyId) => byName.get(`${serverName} ${keyId}`);
}

/** What became of an event, and the text that is kept of it where it is not the one received. */
export interface VerifiedEvent {
  readonly outcome: ThreadOutcome;
  readonly rewritten?: string;
}

/** Verifies one prepared event: `passed`, `key-missing`, `bad-signature` or `malformed`. */
export function verifyEvent(event: PreparedEvent, rules: RoomVersionRules, findKey: KeyLookup): VerifiedEvent {
  if (!event.ready) return { outcome: event.outcome };
  const refused = checkSignatures(event, rules, findKey);
  return refused === undefined ? checkContent(event, rules) : { outcome: refused };
}

/**
 * A key that is known and was not valid at the time of the event, and cannot be by any fresher answer, is no key:
 * https://spec.matrix.org/v1.16/rooms/v5/#signing-key-validity-period
 *
 * Every signature of a required signer whose key is at hand and valid at the time of the event must verify, and there
 * must be one. (Every one, not any one: the reference implementation has it so, and a room must not split over it.)
 */
function checkSignatures(
  { pdu, signed, signers }: PreparedEvent & { ready: true },
  rules: RoomVersionRules,
  findKey: KeyLookup,
): ThreadOutcome | undefined {
  const { eventId, type } = pdu;
  let message: Buffer | undefined;
  let missing: ThreadOutcome | undefined;
  for (const { serverName, signatures } of signers) {
    let verified = false;
    /** A key that may yet be had, or be valid then; and what is wrong with one that cannot. */
    let wanted: KeyId | undefined;
    let ended: string | undefined;
    for (const { keyId, signature } of signatures) {
      const key = findKey(serverName, keyId);
      if (key === undefined || (rules.enforceKeyValidity && key.validUntilTs < pdu.originServerTs)) {
        if (key === undefined || key.renewableUntilTs >= pdu.originServerTs) {
          wanted ??= keyId;
        } else {
          ended ??= `${serverName}, ${keyId}: valid until ${key.validUntilTs}, the event is of ${pdu.originServerTs}`;
        }
        continue;
      }
      message ??= Buffer.from(signed ?? signedText(pdu.json, rules));
      const verdict = verifyText(message, signature, key.publicKey);
      if (!verdict.ok) {
        const reason = `${serverName}, ${keyId}: ${verdict.reason}`;
        return { outcome: 'bad-signature', eventId, type, serverName, reason };
      }
      verified = true;
    }
    if (verified) continue;
    if (wanted === undefined && ended !== undefined) {
      return { outcome: 'bad-signature', eventId, type, serverName, reason: ended };
    }
    missing ??= { outcome: 'key-missing', eventId, type, serverName, keyId: wanted ?? null };
  }
  return missing;
}

const UNSIGNED: ReadonlySet<string> = new Set(['unsigned']);

/**
 * A wrong content hash redacts the event. What is stored is at most as long as an event may be.
 */
function checkContent({ pdu, wireBytes }: PreparedEvent & { ready: true }, rules: RoomVersionRules): VerifiedEvent {
  switch (checkContentHash(pdu.json)) {
    case 'unreadable':
      return {
        outcome: {
          outcome: 'malformed',
          eventId: pdu.eventId,
          type: pdu.type,
          rule: 'event.hashes',
          reason: 'no content hash',
        },
      };
    case 'mismatch':
      return { outcome: passed(pdu, true), rewritten: canonicalJson(redact(pdu.json, rules)) };
    case 'match': {
      const rewritten = shortened(pdu.json, wireBytes);
      return { outcome: passed(pdu, false), ...(rewritten === undefined ? {} : { rewritten }) };
    }
  }
}

/**
 * The text that is kept of an event in place of one that holds `unsigned`, which is a stranger's word that nothing covers, or that
 * escapes and white space make longer than any event; `undefined`: it may be kept as it is.
 */
export function shortened(json: JsonObject, wireBytes: number): string | undefined {
  if (json['unsigned'] === undefined && wireBytes <= EVENT_BYTES_MAX) return undefined;
  return canonicalJsonWithout(json, UNSIGNED);
}

function passed(pdu: Pdu, hollow: boolean): ThreadOutcome {
  const membership = pdu.type === 'm.room.member' ? pdu.content['membership'] : undefined;
  const relation = hollow ? undefined : relationOf(pdu.content);
  return {
    outcome: 'passed',
    pdu: {
      eventId: pdu.eventId,
      roomId: pdu.roomId,
      type: pdu.type,
      stateKey: pdu.stateKey ?? null,
      sender: pdu.sender,
      // A NUL cannot be stored, and no membership has one.
      membership: typeof membership === 'string' && !membership.includes('\0') ? membership : null,
      depth: pdu.depth,
      originServerTs: pdu.originServerTs,
      prevEvents: pdu.prevEvents,
      authEvents: pdu.authEvents,
      hollow,
      ...(relation === undefined ? {} : { relation }),
    },
  };
}
