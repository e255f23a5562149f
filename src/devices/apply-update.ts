/**
 * What another server says of a device, put into what it has said of its user before. Pure.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#device-management
 */
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type CachedDevices } from '../store/tables/cached-devices.ts';

type Kept = Pick<CachedDevices, 'streamId' | 'keys'>;

/**
 * The same with the updates in it, in their order; `undefined`: they build on what we were not told, or say nothing of which the server
 * would not have to be asked.
 */
export function withUpdates(kept: Kept, updates: readonly JsonObject[]): Kept | undefined {
  let now: Kept | undefined = kept;
  for (const update of updates) now = now === undefined ? undefined : withUpdate(now, update);
  return now;
}

function withUpdate({ streamId, keys }: Kept, update: JsonObject): Kept | undefined {
  const { device_id: deviceId, stream_id: next, prev_id: before, deleted, keys: ofDevice } = update;
  if (streamId === null || typeof deviceId !== 'string' || !Number.isSafeInteger(next)) return undefined;
  // It came twice.
  if (next === streamId) return { streamId, keys };
  if (!Array.isArray(before) || !(before as readonly Json[]).includes(streamId)) return undefined;
  const known = Object.entries(isJsonObject(keys['devices']) ? keys['devices'] : {});
  const others = known.filter(([name]) => name !== deviceId);
  if (deleted !== true && !isJsonObject(ofDevice)) return undefined;
  const now = deleted === true ? others : [...others, [deviceId, ofDevice] as const];
  return { streamId: next as number, keys: { ...keys, devices: Object.fromEntries(now) as JsonObject } };
}
