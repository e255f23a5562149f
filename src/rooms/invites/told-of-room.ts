/** What another server says a user is to be told of a room that we are not in: any JSON, of which stripped state events are kept. */
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../../matrix/pdu.ts';

const EVENTS_MAX = 50;
/** Of all that is kept of one room. */
const BYTES_MAX = 32 * 1024;

/** The first stripped state events of it, as many as there is room for. Source: https://spec.matrix.org/v1.16/client-server-api/#stripped-state */
export function toldOfRoom(told: Json | undefined): readonly JsonObject[] {
  if (!Array.isArray(told)) return [];
  let bytes = 0;
  return (told as readonly Json[]).slice(0, EVENTS_MAX).flatMap((event) => {
    if (!isJsonObject(event)) return [];
    const { type, state_key: stateKey, sender, content } = event;
    if (typeof type !== 'string' || typeof stateKey !== 'string' || typeof sender !== 'string') return [];
    if (!isJsonObject(content)) return [];
    const stripped = { type, state_key: stateKey, sender, content };
    bytes += Buffer.byteLength(JSON.stringify(stripped));
    return bytes > BYTES_MAX ? [] : [stripped];
  });
}
