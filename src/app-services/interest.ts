/**
 * Which events are of interest to a service: those of its users and about their memberships, those of rooms in its namespaces, by id or by
 * one of our aliases, and those of rooms in which one of its users was when they were sent. Whose memberships a partial room lacks does
 * not matter for that: its users are ours, and theirs are known.
 *
 * Source: https://spec.matrix.org/v1.16/application-service-api/#registration
 */
import { type RoomId } from '../matrix/identifiers.ts';
import { stateMapKey } from '../matrix/state-map.ts';
import { readJoinedAmong } from '../store/journal/seen-by-clients.ts';
import { type Sql } from '../store/open-store.ts';
import { type StateRead, readStates } from '../store/snapshots/many-snapshots.ts';
import { readStateKeys } from '../store/snapshots/state-keys.ts';
import {
  type KnownMember,
  type TellableEvent,
  readAliasesOfRooms,
  readKnownMembers,
} from '../store/tables/tellable-events.ts';
import { type Matching } from './matching.ts';
import { type AppService, type NamespaceKind, beginningsOf } from './registration.ts';

const MEMBER = 'm.room.member';
/** Users of a service that are looked up together in old states; after them come the next, until one was there. */
const LOOKED_UP_PAGE = 1_000;
/** Users of a service that are looked at first, of each room: mostly one of them has been there long, and who else is there does not matter. */
const FIRST_LOOKED_AT = 50;
/** More users of ours than any room has. */
const ALL_OF_ROOM = 1_000_000;

/** A service, and what is in its namespaces. */
export interface Interested {
  readonly service: AppService;
  readonly isIts: (kind: NamespaceKind, id: string) => boolean;
  /** As one of these each of its users' ids begins. */
  readonly beginnings: readonly string[];
}

/** `beginnings` are read once: make it once for a service. */
export function interested(service: AppService, matching: Matching): Interested {
  return {
    service,
    beginnings: beginningsOf(service),
    isIts: (kind, id) => matching.isIn(service.id, kind, id),
  };
}

/** Those of some events, in their order. A few statements, however many events. */
export async function ofInterest(
  sql: Sql,
  { service, isIts, beginnings }: Interested,
  events: readonly TellableEvent[],
): Promise<TellableEvent[]> {
  const wanted = new Set(
    events.filter(
      ({ roomId, sender, type, stateKey }) =>
        isIts('users', sender) ||
        (type === MEMBER && stateKey !== null && isIts('users', stateKey)) ||
        isIts('rooms', roomId),
    ),
  );
  const others = (): TellableEvent[] => events.filter((event) => event.stateBefore !== null && !wanted.has(event));
  if (service.namespaces.aliases.length > 0) {
    const aliases = await readAliasesOfRooms(sql, roomsOf(others()));
    const named = new Set(aliases.flatMap(({ roomId, alias }) => (isIts('aliases', alias) ? [roomId] : [])));
    for (const event of others()) if (named.has(event.roomId)) wanted.add(event);
  }
  const unsureOf = async (limit?: number): Promise<Unsure[]> => {
    const members = new Map<RoomId, KnownMember[]>();
    for (const member of await readKnownMembers(sql, roomsOf(others()), { beginnings, limit })) {
      if (!isIts('users', member.userId)) continue;
      const ofRoom = members.get(member.roomId);
      if (ofRoom === undefined) members.set(member.roomId, [member]);
      else ofRoom.push(member);
    }
    return others().flatMap((event) => {
      const were = (members.get(event.roomId) ?? []).map((member) => ({ member, was: wasJoined(member, event) }));
      if (were.some(({ was }) => was === true)) wanted.add(event);
      else return { event, members: were.flatMap(({ member, was }) => (was === undefined ? [member] : [])) };
      return [];
    });
  };
  await unsureOf(FIRST_LOOKED_AT);
  for (const event of await withMembers(sql, await unsureOf())) wanted.add(event);
  return events.filter((event) => wanted.has(event));
}

/** Those of the rooms that are in its namespaces, or that one of its users is in now. A few statements, however many rooms. */
export async function roomsOfInterest(
  sql: Sql,
  { service, isIts, beginnings }: Interested,
  roomIds: readonly RoomId[],
): Promise<ReadonlySet<RoomId>> {
  const wanted = new Set(roomIds.filter((roomId) => isIts('rooms', roomId)));
  const others = (): RoomId[] => roomIds.filter((roomId) => !wanted.has(roomId));
  if (service.namespaces.aliases.length > 0) {
    for (const { roomId, alias } of await readAliasesOfRooms(sql, others())) {
      if (isIts('aliases', alias)) wanted.add(roomId);
    }
  }
  for (const limit of [FIRST_LOOKED_AT, ALL_OF_ROOM]) {
    for (const { roomId, userId } of await readKnownMembers(sql, others(), { beginnings, limit })) {
      if (isIts('users', userId)) wanted.add(roomId);
    }
  }
  return wanted;
}

/** An event, and the users of a service of whom only the state before it says whether they were there. */
interface Unsure {
  readonly event: TellableEvent;
  readonly members: readonly KnownMember[];
}

function roomsOf(events: readonly TellableEvent[]): RoomId[] {
  return [...new Set(events.map(({ roomId }) => roomId))];
}

/** Whether a user was in the room at an event, by what he is now; `undefined`: that came after it. */
function wasJoined({ isJoined, since, silentSince }: KnownMember, { position }: TellableEvent): boolean | undefined {
  if (silentSince !== null && position >= silentSince) return false;
  return since !== null && since <= position ? isJoined : undefined;
}

/** Those in whose state one of the users was joined. All of them are looked up, however many: what is passed over here is never told. */
async function withMembers(sql: Sql, asked: readonly Unsure[]): Promise<TellableEvent[]> {
  const found = new Set<TellableEvent>();
  let left = asked;
  for (let from = 0; left.length > 0; from += LOOKED_UP_PAGE) {
    const page = left.map(({ event, members }) => ({ event, members: members.slice(from, from + LOOKED_UP_PAGE) }));
    for (const event of await withSomeMembers(sql, page)) found.add(event);
    left = left.filter(({ event, members }) => members.length > from + LOOKED_UP_PAGE && !found.has(event));
  }
  return [...found];
}

async function withSomeMembers(sql: Sql, asked: readonly Unsure[]): Promise<TellableEvent[]> {
  const users = new Set(asked.flatMap(({ members }) => members.map(({ userId }) => userId)));
  const keys = await readStateKeys(
    sql,
    [...users].map((stateKey) => ({ type: MEMBER, stateKey })),
  );
  const reads: StateRead[] = [];
  const readOf: TellableEvent[] = [];
  for (const { event, members } of asked) {
    const { roomId, stateBefore: state } = event;
    const found = members.flatMap(({ userId }) => keys.get(stateMapKey(MEMBER, userId)) ?? []);
    if (state === null || found.length === 0) continue;
    reads.push({ roomId, state, selection: { keys: new Set(found) } });
    readOf.push(event);
  }
  if (reads.length === 0) return [];
  const states = await readStates(sql, reads);
  const joined = await readJoinedAmong(
    sql,
    states.flatMap((state) => [...state.values()]),
  );
  return readOf.filter((_, i) => [...(states[i]?.values() ?? [])].some((nid) => joined.has(nid)));
}
