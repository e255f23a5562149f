/**
 * Whom to ask about what an event lacks. Who sent it is asked only where it is believed to be in the room; a stranger could
 * otherwise have us wait for it again and again, and believe what it makes up. Else residents are asked.
 */
import { type EventId, type RoomId, type ServerName, type UserId, domainOf } from '../../matrix/identifiers.ts';
import { notBanned } from '../../resync/control.ts';
import { readSenders } from '../../store/events/pdus.ts';
import { type RoomRow, readRoom } from '../../store/journal/rooms.ts';
import { readSnapshot } from '../../store/snapshots/snapshots.ts';
import { pickHints, readBelievedIn } from '../../store/tables/room-servers.ts';
import { type RoomsContext } from '../context.ts';
import { type HealthView } from '../resync/destination-health.ts';
import { type Spending } from './budgets.ts';

/** Servers asked about one event, one after the other. */
const ASKED_MAX = 3;

/**
 * Which of the servers that have sent events are believed to be in their room: one of its users who sent them and is joined makes it a
 * server of the room; where all of these are banned or have left, it is as good as a stranger, for it may say what it likes of a room
 * it is not in.
 */
export async function readOriginsIn(
  { store }: Pick<RoomsContext, 'store'>,
  roomId: RoomId,
  sent: ReadonlyMap<ServerName, readonly EventId[]>,
): Promise<ReadonlySet<ServerName>> {
  const origins = [...sent.keys()];
  if (origins.length === 0) return new Set();
  const believed = await readBelievedIn(store, roomId, origins);
  const senders = await readSenders(store, roomId, [...sent.values()].flat());
  const usersOf = (origin: ServerName): UserId[] => {
    const users = (sent.get(origin) ?? []).flatMap((eventId) => senders.get(eventId) ?? []);
    return [...new Set(users)].filter((user) => domainOf(user) === origin);
  };
  const keys = origins.flatMap(usersOf).map((stateKey) => ({ type: 'm.room.member', stateKey }));
  const currentState = keys.length === 0 ? null : ((await readRoom(store, roomId))?.currentState ?? null);
  const known = currentState === null ? [] : await readSnapshot(store, roomId, currentState, { keys });
  const membershipOf = new Map<string, string | null>(known.map(({ stateKey, membership }) => [stateKey, membership]));
  const isIn = (origin: ServerName): boolean => {
    const own = usersOf(origin);
    const memberships = own.map((user) => membershipOf.get(user));
    return memberships.includes('join') || (believed.has(origin) && !(own.length > 0 && memberships.every(isOut)));
  };
  return new Set(origins.filter(isIn));
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

function isOut(membership: string | null | undefined): boolean {
  return membership === 'ban' || membership === 'leave';
}
