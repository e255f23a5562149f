/** What the ACLs of rooms say of servers, remembered. */
import { LRUCache } from 'lru-cache';
import { type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { isJsonObject, parseJsonObject } from '../../matrix/json/strict-json.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { isServerAllowed } from '../../matrix/server-acl.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { readPdus } from '../../store/events/pdus.ts';
import { type Sql } from '../../store/open-store.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';

/** One for each state of a room and server that sends. */
const VERDICTS_MAX = 10_000;

const SERVER_ACL = { type: 'm.room.server_acl', stateKey: '' };

/** Whether a room's current state, as far as it is known, lets a server take part. */
export type AclReader = (
  room: { readonly roomId: RoomId; readonly currentState: SnapshotId | null },
  server: ServerName,
) => Promise<boolean>;

/** States are named by their content, so a verdict on one stays. */
export function createAclReader(sql: Sql): AclReader {
  const verdicts = new LRUCache<string, boolean>({ max: VERDICTS_MAX });
  return async ({ roomId, currentState }, server) => {
    if (currentState === null) return true;
    const name = `${roomId} ${currentState} ${server}`;
    const known = verdicts.get(name);
    if (known !== undefined) return known;
    const [acl] = await readSnapshot(sql, roomId, currentState, { keys: [SERVER_ACL] });
    const [event] = acl === undefined ? [] : await readPdus(sql, roomId, [acl.eventId]);
    const allowed = isServerAllowed(event === undefined ? undefined : contentOf(event.json), server);
    verdicts.set(name, allowed);
    return allowed;
  };
}

function contentOf(json: string): JsonObject | undefined {
  const parsed = parseJsonObject(json);
  const content = parsed.ok ? parsed.value['content'] : undefined;
  return isJsonObject(content) ? content : undefined;
}
