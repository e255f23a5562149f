/**
 * What joining servers push: their users' messages and departures. Real servers send each event to every server of the
 * room; whichever simulated one has it first takes it in for all.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#transactions
 */
import { MatrixError } from '../http/matrix-error.ts';
import { type ServerName, parseRoomId } from '../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { eventIdOf } from '../matrix/signing/hashes.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { TRANSACTION_PDUS_MAX } from '../matrix/transactions.ts';
import { answerWith } from './answer.ts';
import { checkReceivedFrom } from './check-received.ts';
import { type Endpoint } from './endpoint.ts';
import { type Federation, requireInRoom } from './federation.ts';

export const SEND_ENDPOINTS: readonly Endpoint[] = [
  {
    name: 'send',
    method: 'PUT',
    path: '/_matrix/federation/v1/send/:txnId',
    answer: async ({ origin, content, signal }, federation) => {
      if (content['origin'] !== origin) {
        throw new MatrixError(403, 'M_FORBIDDEN', 'origin is not the server that signed');
      }
      const pdus = content['pdus'];
      if (!Array.isArray(pdus)) throw new MatrixError(400, 'M_BAD_JSON', 'pdus is not a list');
      if (pdus.length > TRANSACTION_PDUS_MAX) {
        throw new MatrixError(400, 'M_BAD_JSON', `there are over ${TRANSACTION_PDUS_MAX} PDUs`);
      }
      const results: Record<string, JsonObject> = {};
      for (const pdu of pdus as readonly Json[]) {
        if (isJsonObject(pdu)) Object.assign(results, await take(federation, pdu, origin, signal));
      }
      return answerWith({ pdus: results });
    },
  },
];

/** The result by event id; none for what is of no room that anybody here knows. */
async function take(
  federation: Federation,
  json: JsonObject,
  origin: ServerName,
  signal: AbortSignal,
): Promise<Record<string, JsonObject>> {
  const roomId = parseRoomId(json['room_id']);
  const room = roomId === undefined ? undefined : federation.rooms.get(roomId);
  if (room === undefined) return {};
  const eventId = eventIdOf(json, room.rules);
  try {
    if (room.event(eventId) === undefined) {
      requireInRoom(room, origin);
      await checkReceivedFrom(federation, room, json, origin, signal);
      room.accept(json);
    }
    return { [eventId]: {} };
  } catch (error) {
    if (!(error instanceof MatrixError)) throw error;
    return { [eventId]: { error: error.message } };
  }
}
