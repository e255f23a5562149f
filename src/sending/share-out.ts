/**
 * Who is to get what our users said. An event goes to the servers of those who were joined before it, and where the room was
 * partial to those who were said to be in it, too. Never to a server that we have not heard to be in the room; and not the join
 * by which we came in, which the resident passes on. As a resident we pass on the memberships that others send through us, to all but
 * who sent them. Once the room is whole, servers that turn out to have been in it and were sent
 * nothing get the newest event: by that they find the others.
 */
import { type ServerName, domainOf, parseUserId } from '../matrix/identifiers.ts';
import { readStanding } from '../store/journal/rooms.ts';
import { withTransaction } from '../store/open-store.ts';
import { type JoinedServers } from '../store/snapshots/joined-servers.ts';
import {
  type OutgoingEvent,
  type OutgoingRoom,
  type Owed,
  becameWhole,
  readOutgoingEvents,
  readOutgoingSpan,
  readServersOfStays,
  shareOut,
} from '../store/tables/deliveries.ts';
import { type SendingContext } from './context.ts';

/** Writes down what servers are owed of a leased room. Run twice it changes nothing. */
export async function shareOutRoom(
  { store }: Pick<SendingContext, 'store'>,
  joined: JoinedServers,
  room: OutgoingRoom,
): Promise<void> {
  const { roomId, position, sharedOut } = room;
  const events = await readOutgoingEvents(store, roomId, sharedOut, position);
  // Another stay may have begun since, or a purge: who is owed an event is told by the stay in which it was said.
  const stays = new Set(events.flatMap(({ partial, epoch }) => (partial ? [epoch] : [])));
  const saidToBeThere = await readServersOfStays(store, roomId, [...stays]);
  const others = (servers: readonly ServerName[]): ServerName[] =>
    servers.filter((server) => server !== store.serverName);

  const owed: Owed[] = [];
  for (const run of runsOf(events)) {
    const [first] = run;
    const last = run.at(-1);
    if (first === undefined || last === undefined) continue;
    const servers = new Set(await joined.of(store, roomId, first.stateBefore));
    if (first.partial) saidToBeThere.get(first.epoch)?.forEach((server) => servers.add(server));
    run.forEach((event) => concerned(event).forEach((server) => servers.add(server)));
    // Who sent it through us has it, and is in a run of its own.
    if (domainOf(first.sender) !== store.serverName) servers.delete(domainOf(first.sender));
    owed.push({ servers: others([...servers]), after: first.position - 1, upTo: last.position });
  }
  if (await becameWhole(store, roomId, sharedOut, position)) {
    const standing = await readStanding(store, roomId);
    const span = await readOutgoingSpan(store, roomId);
    if (span !== undefined && standing?.currentState != null) {
      const servers = others(await joined.of(store, roomId, standing.currentState));
      owed.push({ servers, after: span.last - 1, upTo: span.last, unlessOwedSince: span.first });
    }
  }
  await withTransaction(store, (tx) => shareOut(tx, room, owed));
}

/** Events in a row that go to the same servers: they stand on one state, and concern nobody in particular. */
function runsOf(events: readonly OutgoingEvent[]): OutgoingEvent[][] {
  const runs: OutgoingEvent[][] = [];
  for (const event of events) {
    const run = runs.at(-1);
    const before = run?.at(-1);
    const isAlike =
      before !== undefined &&
      before.stateBefore === event.stateBefore &&
      before.partial === event.partial &&
      before.epoch === event.epoch &&
      concerned(before).length + concerned(event).length === 0;
    if (isAlike) run?.push(event);
    else runs.push([event]);
  }
  return runs;
}

/** Of a membership the server of whose it is: who was invited, or knocks, may be the only one there. An invite was handed to it before. */
function concerned({ type, stateKey, membership }: OutgoingEvent): ServerName[] {
  const userId = type === 'm.room.member' && membership !== 'invite' ? parseUserId(stateKey) : undefined;
  return userId === undefined ? [] : [domainOf(userId)];
}
