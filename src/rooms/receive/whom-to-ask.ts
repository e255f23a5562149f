/**
 * Whom to ask about what an event lacks. Who sent it is asked only where it is believed to be in the room; a stranger could
 * otherwise have us wait for it again and again, and believe what it makes up. Else residents are asked.
 */
import { type ServerName, type UserId, domainOf } from '../../matrix/identifiers.ts';
import { type RoomRow } from '../../store/journal/rooms.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { readResting } from '../../store/tables/destinations.ts';
import { isBelievedIn, pickHints } from '../../store/tables/room-servers.ts';
import { type RoomsContext } from '../context.ts';

/** Servers asked about one event, one after the other. */
const ASKED_MAX = 3;

export interface WhomToAsk {
  /** Best first; the origin leads where it is in the room. */
  readonly servers: readonly ServerName[];
  /** The sender of the event is believed to be in the room. */
  readonly isOriginIn: boolean;
}

/**
 * `senders`: users whose events are in question. One of the origin's who is joined makes it a server of the room; where all of
 * them are banned or have left, it is as good as a stranger, for it may say what it likes of a room it is not in. Who wants to be left
 * alone, or cannot be reached, is not asked.
 */
export async function whomToAsk(
  { store, clock, serverName }: RoomsContext,
  room: RoomRow,
  origin: ServerName,
  senders: readonly UserId[],
): Promise<WhomToAsk> {
  const { roomId, currentState } = room;
  const candidates = room.resync.candidates.filter((server) => server !== origin && server !== serverName);
  const own = senders.filter((sender) => domainOf(sender) === origin);
  const keys = own.map((stateKey) => ({ type: 'm.room.member', stateKey }));
  const known =
    keys.length === 0 || currentState === null ? [] : await readSnapshot(store, roomId, currentState, { keys });
  const memberships = new Set(known.map(({ membership }) => membership));
  const isGone = known.length === own.length && own.length > 0 && [...memberships].every(isOut);
  const isOriginIn = !isGone && (memberships.has('join') || (await isBelievedIn(store, roomId, origin)));
  const hints = await pickHints(store, roomId, [origin, ...candidates], clock.now(), ASKED_MAX);
  const servers = [...(isOriginIn ? [origin] : []), ...candidates, ...hints.filter((server) => server !== origin)];
  const resting = await readResting(store, servers, clock.now());
  return { isOriginIn, servers: servers.filter((server) => !resting.has(server)).slice(0, ASKED_MAX) };
}

function isOut(membership: string | null): boolean {
  return membership === 'ban' || membership === 'leave';
}
