/**
 * The state of a room at one point: which event stands at each (type, state_key). Keys are one string each, so that maps
 * compare and merge without nested lookups.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#room-state-resolution
 */
import { type EventId } from './identifiers.ts';
import { type StateKey } from './pdu.ts';

/** From `stateMapKey(type, stateKey)` to the id of the event that stands there. */
export type StateMap = ReadonlyMap<string, EventId>;

/** One string for a place in the state: the length of the type, a colon, the type, the state key. No two places share one. */
export function stateMapKey(type: string, stateKey: string): string {
  return `${String(type.length)}:${type}${stateKey}`;
}

/** The inverse of `stateMapKey`, for keys it made. */
export function parseStateMapKey(key: string): StateKey {
  const colon = key.indexOf(':');
  const typeEnd = colon + 1 + Number(key.slice(0, colon));
  return { type: key.slice(colon + 1, typeEnd), stateKey: key.slice(typeEnd) };
}
