/**
 * What another server says of a device, put into what it has said of its user before. Pure.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#device-management
 */
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type CachedDevices } from '../store/tables/cached-devices.ts';

type Kept = Pick<CachedDevices, 'streamId' | 'keys'>;

/** What is kept of one user; who has published more is asked for each time. */
const KEPT_CHARS_MAX = 64 * 1024;

/** Whether what a server has said of a user is little enough to be kept. */
export function isKeepable(keys: JsonObject): boolean {
  return JSON.stringify(keys).length <= KEPT_CHARS_MAX;
}

/**
 * The same with the updates in it, in their order; `undefined`: they build on what we were not told, or say nothing of which the server
 * would not have to be asked, or make it more than is kept.
 */
export function withUpdates(kept: Kept, updates: readonly JsonObject[]): Kept | undefined {
  let now: Kept | undefined = kept;
  for (const update of updates) now = now === undefined ? undefined : withUpdate(now, update);
  return now !== undefined && isKeepable(now.keys) ? now : undefined;
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
