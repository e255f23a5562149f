/**
 * What is told of a room to who is not in it.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#stripped-state
 */
import { type JsonObject, type StateKey } from '../pdu.ts';

/** What tells an invited user which room it is. */
export const TELLING: readonly StateKey[] = [
  'm.room.create',
  'm.room.name',
  'm.room.avatar',
  'm.room.topic',
  'm.room.join_rules',
  'm.room.canonical_alias',
  'm.room.encryption',
].map((type) => ({ type, stateKey: '' }));

/** As much of a state event, a JSON text, as is told. */
export function strippedEvent(json: string): JsonObject {
  const { type, state_key: stateKey, sender, content } = JSON.parse(json) as JsonObject;
  return { type: type ?? '', state_key: stateKey ?? '', sender: sender ?? '', content: content ?? {} };
}
