/** Who is asked for the state at a gap: servers that are in the room and answer, others at each attempt. */
import { type RoomId, type ServerName } from '../../matrix/identifiers.ts';
import { notBanned } from '../../resync/control.ts';
import { isInPart } from '../../resync/outcomes.ts';
import { GAP_RESIDENTS_AN_ATTEMPT } from '../../resync/policy.ts';
import { initialResyncState } from '../../resync/state.ts';
import { type BegunGap, type Gap } from '../../store/events/gaps.ts';
import { readResync } from '../../store/journal/rooms.ts';
import { readRoomServers } from '../../store/tables/room-servers.ts';
import { type RoomsContext } from '../context.ts';
import { viewHealth } from './destination-health.ts';

/** Of those: somebody else has his turn in each attempt. */
const FIRST_MAX = GAP_RESIDENTS_AN_ATTEMPT - 1;

export interface GapResidents {
  readonly residents: readonly ServerName[];
  /** Servers of the room, as far as they are known: those that are left alone, too. */
  readonly known: number;
  /** When the first of those may be asked that want to be left alone, milliseconds; `null`: there is none. */
  readonly restingUntil: number | null;
}

/**
 * One that an operator has pinned comes first, of several by turns, and nobody is asked whom he has banned. Whoever
 * sent what builds on it knows it best, if it is in the room; then whoever gave the state in part; then candidates,
 * others at each attempt. After an attempt that ended its worker the sender comes last: it may have been its answer.
 */
export async function chooseGapResidents(
  context: RoomsContext,
  roomId: RoomId,
  { origin, lastResident, lastFailure }: Gap,
  { attempts, begins }: BegunGap,
): Promise<GapResidents> {
  const { store, serverName } = context;
  const servers = await readRoomServers(store, roomId);
  const { candidates, control } = (await readResync(store, roomId))?.state ?? initialResyncState;
  const spoken = servers.filter(({ source }) => source !== 'hint').map((server) => server.serverName);
  const all = [...new Set([...control.pinned, ...candidates, ...spoken])];
  const known = notBanned(control, all).filter((name) => name !== serverName);
  // One that is said to be in the room, and no more, has its turn among the others.
  const sender = spoken.includes(origin) ? [origin] : [];
  const giver = lastResident !== null && isInPart(lastFailure) ? [lastResident] : [];
  const pinned = control.pinned.slice((attempts - 1) % Math.max(1, control.pinned.length)).slice(0, 1);
  const first = notBanned(control, [...new Set([...pinned, ...sender, ...giver])]).slice(0, FIRST_MAX);
  const others = known.filter((name) => !first.includes(name));
  const resting = await viewHealth(context).resting([...first, ...others]);
  const asked = first.filter((name) => !resting.has(name));
  const places = GAP_RESIDENTS_AN_ATTEMPT - asked.length;
  const start = others.length === 0 ? 0 : ((attempts - 1) * places) % others.length;
  const inTurn = [...others.slice(start), ...others.slice(0, start)];
  const some = inTurn.filter((name) => !resting.has(name)).slice(0, places);
  return {
    residents: begins > 1 ? [...some, ...asked] : [...asked, ...some],
    known: first.length + others.length,
    restingUntil: resting.size === 0 ? null : Math.min(...resting.values()),
  };
}
