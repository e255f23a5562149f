/**
 * The checks on receipt of an event that a joining server made: what a real resident looks at before it lets an event into
 * the room, so that a mistake of ours shows here and not in the first room out there.
 */
import { MatrixError } from '../http/matrix-error.ts';
import { type AuthRule } from '../matrix/auth/auth-verdict.ts';
import { parsePdu } from '../matrix/event-format.ts';
import { checkContentHash } from '../matrix/signing/hashes.ts';
import { type ServerName, domainOf } from '../matrix/identifiers.ts';
import { type JsonObject, type Pdu } from '../matrix/pdu.ts';
import { signaturesOf, verifyEventSignature } from '../matrix/signing/signatures.ts';
import { type Federation } from './federation.ts';
import { type SimulatedRoom } from './room.ts';
import { authStateOfRoom, verdictOn } from './room-verdicts.ts';

/** What a resident answers about an event that its room's rules refuse. */
export function forbidden({ rule, reason }: { readonly rule: AuthRule; readonly reason: string }): MatrixError {
  return new MatrixError(403, 'M_FORBIDDEN', `${reason} (${rule})`);
}

/** An event of its own users that `origin` sends. Throws a `MatrixError` that names what is wrong with it. */
export async function checkReceivedFrom(
  { joiningServers, clock }: Federation,
  room: SimulatedRoom,
  json: JsonObject,
  origin: ServerName,
  signal: AbortSignal,
): Promise<Pdu> {
  const { rules } = room;
  const parsed = parsePdu(json, rules);
  if (!parsed.ok) throw badEvent(`${parsed.reason} (${parsed.rule})`);
  const { pdu } = parsed;
  if (pdu.roomId !== room.roomId) throw badEvent(`it is of another room, ${pdu.roomId}`);
  if (domainOf(pdu.sender) !== origin) throw new MatrixError(403, 'M_FORBIDDEN', `${pdu.sender} is not of ${origin}`);
  if (checkContentHash(json) !== 'match') throw badEvent('its content hash is wrong');
  const signatures = signaturesOf(json, origin);
  const validAtTs = clock.now();
  const keys = await joiningServers.resolveKeys(
    signatures.map(({ keyId }) => ({ serverName: origin, keyId, validAtTs })),
    signal,
  );
  const isSigned = keys.some(({ keyId, publicKey }) => verifyEventSignature(json, rules, origin, keyId, publicKey).ok);
  if (!isSigned) throw new MatrixError(403, 'M_FORBIDDEN', `it has no signature of ${origin} that can be verified`);
  for (const id of [...pdu.prevEvents, ...pdu.authEvents]) {
    if (room.event(id) === undefined) throw badEvent(`it cites ${id}, which nobody knows`);
  }
  const verdict = verdictOn(room, pdu, authStateOfRoom(room));
  if (verdict.outcome !== 'accept') throw forbidden(verdict);
  return pdu;
}

function badEvent(what: string): MatrixError {
  return new MatrixError(400, 'M_INVALID_PARAM', `the event is not usable: ${what}`);
}
