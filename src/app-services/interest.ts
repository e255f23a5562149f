/**
 * Which events are of interest to a service: those of its users and about their memberships, those of rooms in its namespaces, by id or by
 * one of our aliases, and those of rooms in which one of its users was when they were sent. Whose memberships a partial room lacks does
 * not matter for that: its users are ours, and theirs are known.
 *
 * Source: https://spec.matrix.org/v1.16/application-service-api/#registration
 */
import { LRUCache } from 'lru-cache';
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
} from '../store/tables/app-services.ts';
import { type AppService, beginningsOf, isIn } from './registration.ts';

const MEMBER = 'm.room.member';
/** Users whose matching is remembered. */
const USERS_MAX = 50_000;
/** Users of a service that are looked up together in old states; after them come the next, until one was there. */
const LOOKED_UP_PAGE = 1_000;
/** Users of a service that are looked at first, of each room: mostly one of them has been there long, and who else is there does not matter. */
const FIRST_LOOKED_AT = 50;

/** A service, and what is remembered of matching its expressions. */
export interface Interested {
  readonly service: AppService;
  readonly isItsUser: (userId: string) => boolean;
  /** As one of these each of its users' ids begins. */
  readonly beginnings: readonly string[];
}

/** Remembers matching for as long as it is held: for one service, in one process. */
export function interested(service: AppService): Interested {
  const seen = new LRUCache<string, boolean>({ max: USERS_MAX });
  return {
    service,
    beginnings: beginningsOf(service),
    isItsUser: (userId) => {
      const known = seen.get(userId);
      if (known !== undefined) return known;
      const is = isIn(service, 'users', userId);
      seen.set(userId, is);
      return is;
    },
  };
}

/** Those of some events, in their order. A few statements, however many events. */
export async function ofInterest(
  sql: Sql,
  { service, isItsUser, beginnings }: Interested,
  events: readonly TellableEvent[],
): Promise<TellableEvent[]> {
  const wanted = new Set(
    events.filter(
      ({ roomId, sender, type, stateKey }) =>
        isItsUser(sender) ||
        (type === MEMBER && stateKey !== null && isItsUser(stateKey)) ||
        isIn(service, 'rooms', roomId),
    ),
  );
  const others = (): TellableEvent[] => events.filter((event) => event.stateBefore !== null && !wanted.has(event));
  if (service.namespaces.aliases.length > 0) {
    const aliases = await readAliasesOfRooms(sql, roomsOf(others()));
    const named = new Set(aliases.flatMap(({ roomId, alias }) => (isIn(service, 'aliases', alias) ? [roomId] : [])));
    for (const event of others()) if (named.has(event.roomId)) wanted.add(event);
  }
  const unsureOf = async (limit?: number): Promise<Unsure[]> => {
    const members = new Map<RoomId, KnownMember[]>();
    for (const member of await readKnownMembers(sql, roomsOf(others()), { beginnings, limit })) {
      if (!isItsUser(member.userId)) continue;
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
