/**
 * Whom to ask about what an event lacks. Who sent it is asked only where it is believed to be in the room; a stranger could
 * otherwise have us wait for it again and again, and believe what it makes up. Else residents are asked.
 */
import { type ServerName, type UserId, domainOf } from '../../matrix/identifiers.ts';
import { type RoomRow } from '../../store/journal/rooms.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
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

/** `senders`: users of the origin whose events are in question; one who is joined makes it a server of the room. */
export async function whomToAsk(
  { store, clock, serverName }: RoomsContext,
  room: RoomRow,
  origin: ServerName,
  senders: readonly UserId[],
): Promise<WhomToAsk> {
  const candidates = room.resync.candidates.filter((server) => server !== origin && server !== serverName);
  let isOriginIn = await isBelievedIn(store, room.roomId, origin);
  if (!isOriginIn && room.currentState !== null) {
    const keys = senders
      .filter((sender) => domainOf(sender) === origin)
      .map((stateKey) => ({ type: 'm.room.member', stateKey }));
    const memberships = keys.length === 0 ? [] : await readSnapshot(store, room.roomId, room.currentState, { keys });
    isOriginIn = memberships.some(({ membership }) => membership === 'join');
  }
  const hints = await pickHints(store, room.roomId, [origin, ...candidates], clock.now(), ASKED_MAX);
  const others = [...candidates, ...hints];
  return { isOriginIn, servers: [...(isOriginIn ? [origin] : []), ...others].slice(0, ASKED_MAX) };
}
