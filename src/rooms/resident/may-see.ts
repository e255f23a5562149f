/** What of a room another server may see of us: by who is in it, and by the room's history visibility at each event. */
import { historyVisibility } from '../../matrix/client/history-visibility.ts';
import { type RoomId, type ServerName, domainOf } from '../../matrix/identifiers.ts';
import { isJsonObject, parseJsonObject } from '../../matrix/json/strict-json.ts';
import { invariant } from '../../invariant.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { redact } from '../../matrix/signing/redaction.ts';
import { type SnapshotId } from '../../resync/events.ts';
import { type ServedEvent } from '../../store/events/served-events.ts';
import { readNumbered } from '../../store/journal/seen-by-clients.ts';
import { type RoomStanding } from '../../store/journal/rooms.ts';
import { type Store } from '../../store/open-store.ts';
import { type JoinedServers } from '../../store/snapshots/joined-servers.ts';
import { readStates } from '../../store/snapshots/many-snapshots.ts';
import { readStateKeys } from '../../store/snapshots/state-keys.ts';
import { isBelievedIn } from '../../store/tables/room-servers.ts';
import { rulesOfJoined } from '../judge/load-pdus.ts';
import { asRedacted } from '../read/as-redacted.ts';

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
 * The texts of events, in their order, as a server that is in the room may have them: what was taken back, and what it may not see, is
 * redacted, so that the graph stays whole. Its own it may always see. Where the state at an event is partial, who was there when is not
 * known: of such it sees what our users said, and nothing else.
 */
export async function asVisible(
  store: Store,
  joined: JoinedServers,
  room: RoomStanding,
  events: readonly ServedEvent[],
  server: ServerName,
): Promise<string[]> {
  const given = await asRedacted(store, room.roomId, events);
  const isPartial = (event: ServedEvent): boolean => room.partial || event.partial;
  const isShown = (event: ServedEvent): boolean =>
    domainOf(event.sender) === server || (isPartial(event) && domainOf(event.sender) === store.serverName);
  const others = events.filter((event) => !isShown(event) && !isPartial(event));
  const open = await statesSeenBy(
    store,
    joined,
    room.roomId,
    new Set(others.map(({ stateAfter }) => stateAfter)),
    server,
  );
  const seen = new Set([...events.filter(isShown), ...others.filter(({ stateAfter }) => open.has(stateAfter))]);
  return events.map((event, i) =>
    seen.has(event) ? (given[i]?.json ?? event.json) : redacted(event.json, room.roomVersion),
  );
}

/**
 * Of the states at some events those by which a server sees them: https://spec.matrix.org/v1.16/client-server-api/#room-history-visibility.
 * What those who were invited may see is shown to servers that had joined by then: who was invited where is more than we look for.
 */
async function statesSeenBy(
  store: Store,
  joined: JoinedServers,
  roomId: RoomId,
  states: ReadonlySet<SnapshotId>,
  server: ServerName,
): Promise<ReadonlySet<SnapshotId>> {
  if (states.size === 0) return new Set();
  const keys = new Set((await readStateKeys(store, [VISIBILITY])).values());
  const all = [...states];
  const places = await readStates(
    store,
    all.map((state) => ({ roomId, state, selection: { keys } })),
  );
  const bodies = await readNumbered(
    store,
    places.flatMap((ofState) => [...ofState.values()]),
  );
  const seen = new Set<SnapshotId>();
  for (const [i, state] of all.entries()) {
    const [nid] = places[i]?.values() ?? [];
    const body = nid === undefined ? undefined : bodies.get(nid);
    const visibility = historyVisibility(body === undefined ? undefined : contentOf(body.json)['history_visibility']);
    const isOpen = visibility !== 'joined' && visibility !== 'invited';
    if (isOpen || (await joined.of(store, roomId, state)).includes(server)) seen.add(state);
  }
  return seen;
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
