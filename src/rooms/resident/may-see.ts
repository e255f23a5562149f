/** What of a room another server may see of us: by who is in it, and by the room's history visibility at each event. */
import { type RoomId, type ServerName, domainOf } from '../../matrix/identifiers.ts';
import { isJsonObject, parseJsonObject } from '../../matrix/json/strict-json.ts';
import { invariant } from '../../invariant.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { redact } from '../../matrix/signing/redaction.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { readPdus } from '../../store/events/pdus.ts';
import { type ServedEvent } from '../../store/events/served-events.ts';
import { type RoomStanding } from '../../store/journal/rooms.ts';
import { type Store } from '../../store/open-store.ts';
import { type JoinedServers } from '../../store/snapshots/joined-servers.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { isBelievedIn } from '../../store/tables/room-servers.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';

const VISIBILITY = { type: 'm.room.history_visibility', stateKey: '' };

/** Whether the server is in the room; while that is partial, whether it is said to be. */
export async function isInRoom(
  store: Store,
  joined: JoinedServers,
  { roomId, partial, currentState }: RoomStanding,
  server: ServerName,
): Promise<boolean> {
  if (currentState === null) return false;
  if ((await joined.of(store, roomId, currentState)).includes(server)) return true;
  return partial && isBelievedIn(store, roomId, server);
}

/**
 * The texts of events, in their order, as a server that is in the room may have them: what it may not see is redacted, so that the
 * graph stays whole. Our own it may always see; in a partial room nothing else, since who was there when is not known.
 */
export async function asVisible(
  store: Store,
  joined: JoinedServers,
  room: RoomStanding,
  events: readonly ServedEvent[],
  server: ServerName,
): Promise<string[]> {
  const verdicts = new Map<SnapshotId, boolean>();
  const texts: string[] = [];
  for (const event of events) {
    let isVisible = domainOf(event.sender) === store.serverName || domainOf(event.sender) === server;
    if (!isVisible && !room.partial && !event.partial) {
      const known = verdicts.get(event.stateAfter);
      isVisible = known ?? (await isHistoryVisible(store, joined, room.roomId, event.stateAfter, server));
      verdicts.set(event.stateAfter, isVisible);
    }
    texts.push(isVisible ? event.json : redacted(event.json, room.roomVersion));
  }
  return texts;
}

/**
 * By the state at an event: https://spec.matrix.org/v1.16/client-server-api/#room-history-visibility. What those who were invited may see
 * is shown to servers that had joined by then: who was invited where is more than we look for.
 */
async function isHistoryVisible(
  store: Store,
  joined: JoinedServers,
  roomId: RoomId,
  state: SnapshotId,
  server: ServerName,
): Promise<boolean> {
  const [entry] = await readSnapshot(store, roomId, state, { keys: [VISIBILITY] });
  const [event] = entry === undefined ? [] : await readPdus(store, roomId, [entry.eventId]);
  const visibility = event === undefined ? 'shared' : contentOf(event.json)['history_visibility'];
  if (visibility !== 'joined' && visibility !== 'invited') return true;
  return (await joined.of(store, roomId, state)).includes(server);
}

function contentOf(json: string): JsonObject {
  const read = parseJsonObject(json);
  const content = read.ok ? read.value['content'] : undefined;
  return isJsonObject(content) ? content : {};
}

function redacted(json: string, roomVersion: string): string {
  const read = parseJsonObject(json);
  invariant(read.ok, 'what is stored is JSON');
  return JSON.stringify(redact(read.value, rulesOfJoined(roomVersion)));
}
