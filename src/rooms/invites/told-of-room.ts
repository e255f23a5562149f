/** What another server says a user is to be told of a room that we are not in: any JSON, of which stripped state events are kept. */
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../../matrix/pdu.ts';

const EVENTS_MAX = 50;
/** Of all that is kept of one room. */
const BYTES_MAX = 32 * 1024;

/** What a room is called by, and whether we can take part in it: kept before all else. */
const FIRST: readonly string[] = ['m.room.create', 'm.room.name'];

/**
 * The first stripped state events of it, as many as there is room for; one that is too large is left out alone.
 * Source: https://spec.matrix.org/v1.16/client-server-api/#stripped-state
 */
export function toldOfRoom(told: Json | undefined): readonly JsonObject[] {
  if (!Array.isArray(told)) return [];
  const all = (told as readonly Json[]).slice(0, EVENTS_MAX).flatMap(strippedOf);
  const isFirst = ({ type }: Stripped): boolean => FIRST.includes(type);
  const kept = new Set<Stripped>();
  let bytes = 0;
  for (const event of [...all.filter(isFirst), ...all.filter((other) => !isFirst(other))]) {
    const size = Buffer.byteLength(JSON.stringify(event));
    if (bytes + size > BYTES_MAX) continue;
    bytes += size;
    kept.add(event);
  }
  return all.filter((event) => kept.has(event));
}

type Stripped = JsonObject & { readonly type: string };

function strippedOf(event: Json): Stripped[] {
  if (!isJsonObject(event)) return [];
  const { type, state_key: stateKey, sender, content } = event;
  if (typeof type !== 'string' || typeof stateKey !== 'string' || typeof sender !== 'string') return [];
  return isJsonObject(content) ? [{ type, state_key: stateKey, sender, content }] : [];
}
