/**
 * Whom to ask about what an event lacks. Who sent it is asked only where it is believed to be in the room; a stranger could
 * otherwise have us wait for it again and again, and believe what it makes up. Else residents are asked.
 */
import { type EventId, type RoomId, type ServerName, domainOf } from '../../matrix/identifiers.ts';
import { notBanned } from '../../resync/control.ts';
import { readSenders } from '../../store/events/pdus.ts';
import { type RoomRow, readRoom } from '../../store/journal/rooms.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { isBelievedIn, pickHints } from '../../store/tables/room-servers.ts';
import { type RoomsContext } from '../context.ts';
import { type HealthView } from '../resync/destination-health.ts';
import { type Spending } from './budgets.ts';

/** Servers asked about one event, one after the other. */
const ASKED_MAX = 3;

/**
 * Whether the sender of events is believed to be in their room: one of its users who sent them and is joined makes it a server of
 * the room; where all of these are banned or have left, it is as good as a stranger, for it may say what it likes of a room it is not in.
 */
export async function isOriginIn(
  { store }: Pick<RoomsContext, 'store'>,
  roomId: RoomId,
  origin: ServerName,
  eventIds: readonly EventId[],
): Promise<boolean> {
  const senders = await readSenders(store, roomId, eventIds);
  const own = senders.filter((sender) => domainOf(sender) === origin);
  const keys = own.map((stateKey) => ({ type: 'm.room.member', stateKey }));
  const currentState = keys.length === 0 ? null : ((await readRoom(store, roomId))?.currentState ?? null);
  const known = currentState === null ? [] : await readSnapshot(store, roomId, currentState, { keys });
  const memberships = new Set(known.map(({ membership }) => membership));
  const isGone = known.length === own.length && own.length > 0 && [...memberships].every(isOut);
  return !isGone && (memberships.has('join') || (await isBelievedIn(store, roomId, origin)));
}

/**
 * Best first; the origin leads where it is in the room, and those follow that an operator has pinned. Whom he has banned, and who
 * wants to be left alone or cannot be reached, is not asked, and who did not answer in time lately comes last.
 */
export async function whomToAsk(
  { store, clock, serverName }: RoomsContext,
  { roomId, resync }: RoomRow,
  origin: { readonly name: ServerName; readonly isIn: boolean },
  { health, spending }: { readonly health: HealthView; readonly spending: Pick<Spending, 'isSilent'> },
): Promise<readonly ServerName[]> {
  const { pinned, banned } = resync.control;
  const known = [...new Set([...pinned, ...resync.candidates])];
  const candidates = known.filter((server) => server !== origin.name && server !== serverName);
  const hints = await pickHints(store, roomId, [origin.name, ...candidates, ...banned], clock.now(), ASKED_MAX);
  const servers = notBanned(resync.control, [...(origin.isIn ? [origin.name] : []), ...candidates, ...hints]);
  const resting = await health.resting(servers);
  const awake = servers.filter((server) => !resting.has(server));
  const bySilence = (a: ServerName, b: ServerName): number =>
    Number(spending.isSilent(a)) - Number(spending.isSilent(b));
  // Nobody knows what it sent as well as the origin: it is among those that are asked.
  const others = awake.filter((server) => server !== origin.name).toSorted(bySilence);
  const first = awake.filter((server) => server === origin.name);
  return [...first, ...others].slice(0, ASKED_MAX).toSorted(bySilence);
}

function isOut(membership: string | null): boolean {
  return membership === 'ban' || membership === 'leave';
}
