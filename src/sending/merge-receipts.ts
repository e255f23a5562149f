/**
 * What users have read travels together: the receipts of one transaction are one EDU, or as many as a user has receipts in one room, of
 * different threads. Pure.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#receipts
 */
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';

const RECEIPT = 'm.receipt';
const READ = 'm.read';

/** The same EDUs with fewer receipts among them, which come last. */
export function mergeReceipts(edus: readonly JsonObject[]): JsonObject[] {
  const others = edus.filter((edu) => edu['edu_type'] !== RECEIPT);
  const merged: Map<string, Map<string, Json>>[] = [];
  for (const [roomId, userId, receipt] of edus.flatMap(receiptsIn)) {
    const free = merged.find((rooms) => !(rooms.get(roomId)?.has(userId) ?? false));
    const rooms = free ?? new Map<string, Map<string, Json>>();
    if (free === undefined) merged.push(rooms);
    const ofRoom = rooms.get(roomId) ?? new Map<string, Json>();
    rooms.set(roomId, ofRoom.set(userId, receipt));
  }
  return [
    ...others,
    ...merged.map((rooms) => ({
      edu_type: RECEIPT,
      content: Object.fromEntries([...rooms].map(([roomId, users]) => [roomId, { [READ]: Object.fromEntries(users) }])),
    })),
  ];
}

function receiptsIn({ edu_type: type, content }: JsonObject): (readonly [string, string, Json])[] {
  if (type !== RECEIPT || !isJsonObject(content)) return [];
  return Object.entries(content).flatMap(([roomId, ofRoom]) => {
    const read = isJsonObject(ofRoom) ? ofRoom[READ] : undefined;
    return Object.entries(isJsonObject(read) ? read : {}).map(
      ([userId, receipt]) => [roomId, userId, receipt] as const,
    );
  });
}
