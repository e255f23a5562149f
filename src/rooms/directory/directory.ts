/** The directories of this server: what its aliases mean, and which rooms it lists; and what those of other servers say. */
import { atLeast } from '../../matrix/auth/power-levels.ts';
import { type RoomAlias, type RoomId, type ServerName, type UserId, domainOf } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { FederationError } from '../../federation/error.ts';
import { readRoomList } from '../../store/journal/room-lists.ts';
import { type RoomStanding, readLocalMember, readStanding } from '../../store/journal/rooms.ts';
import { withTransaction } from '../../store/open-store.ts';
import { JoinedServers } from '../../store/snapshots/joined-servers.ts';
import {
  countListedRooms,
  isRoomListed,
  listRoom,
  readListedRooms,
  unlistRoom,
} from '../../store/tables/listed-rooms.ts';
import { deleteAlias, insertAlias, readAliases, readOwnAlias } from '../../store/tables/room-aliases.ts';
import { readRoomServers } from '../../store/tables/room-servers.ts';
import { resolveAlias } from '../aliases.ts';
import { type RoomsContext } from '../context.ts';
import {
  type AliasAnswer,
  type AllRoomsQuery,
  type Directory,
  type PublicRoomsPage,
  type PublicRoomsQuery,
} from '../directory-contract.ts';
import { RoomError } from '../error.ts';
import { type Readers, createReaders } from '../read/who-may-read.ts';
import { readRoomPowers } from '../read/room-powers.ts';
import { createSharedLooks } from '../read/shared-looks.ts';
import { createHierarchies } from './hierarchy.ts';
import { readPublicRooms } from './read-public-rooms.ts';
import { readRoomEntries } from './room-entries.ts';
import { searchUsers } from './user-directory.ts';

/** Of a room; whoever joins asks the first of them. */
const SERVERS_MAX = 500;
/** Rooms that one page looks through for what is searched, and how far into the list a page may begin. */
const SEARCHED_MAX = 1_000;
const OFFSET_MAX = 1_000_000;
const REMOTE_MS_MAX = 10_000;
/** What the state says that says what a room is called. */
const CALLS = 'm.room.canonical_alias';

type Context = Pick<RoomsContext, 'serverName' | 'store' | 'clock'> & Partial<Pick<RoomsContext, 'federation'>>;

/** One for a process. Without `federation` nobody is asked. */
export function createDirectory(context: Context): Directory {
  const { store, serverName, clock } = context;
  const joined = new JoinedServers();
  const readers: Readers = createReaders(createSharedLooks(store));

  const serversOf = async (roomId: RoomId): Promise<ServerName[]> => {
    const room = await readStanding(store, roomId);
    if (room === undefined || room.currentState === null || !room.isAnybodyIn) return [];
    const known = await joined.of(store, roomId, room.currentState);
    const believed = room.partial ? (await readRoomServers(store, roomId)).map((server) => server.serverName) : [];
    return [...new Set([serverName, ...known, ...believed])].slice(0, SERVERS_MAX);
  };
  const ownAlias = async (alias: RoomAlias): Promise<AliasAnswer> => {
    const own = domainOf(alias) === serverName ? await readOwnAlias(store, alias) : undefined;
    if (own === undefined) throw new RoomError('unknown-alias', `${alias} is not an alias of this server`);
    const servers = await serversOf(own.roomId);
    return { roomId: own.roomId, servers: servers.length === 0 ? [serverName] : servers };
  };
  const requireRoom = async (roomId: RoomId): Promise<RoomStanding> => {
    const room = await readStanding(store, roomId);
    if (room !== undefined && room.epoch > 0) return room;
    throw new RoomError('unknown-room', `${roomId} is not a room of this server`);
  };
  /** What another server answers within a while. */
  const remote = async <Answer>(
    server: ServerName,
    caller: AbortSignal,
    ask: (federation: RoomsContext['federation'], signal: AbortSignal) => Promise<Answer>,
  ): Promise<Answer> => {
    const { federation } = context;
    if (federation === undefined) throw new RoomError('no-resident', `${server} cannot be asked from here`);
    try {
      return await ask(federation, AbortSignal.any([caller, AbortSignal.timeout(REMOTE_MS_MAX)]));
    } catch (error) {
      if (caller.aborted) throw error;
      const isTheirs = error instanceof FederationError || (error as Error).name === 'TimeoutError';
      if (!isTheirs) throw error;
      throw new RoomError('no-resident', `${server} could not be asked: ${(error as Error).message}`, { cause: error });
    }
  };

  return {
    ...createHierarchies(context, joined),
    searchUsers: ({ userId, term, limit }) => searchUsers(store, userId, term, limit),
    ownAlias,
    alias: async (alias, signal) => {
      if (domainOf(alias) === serverName) return ownAlias(alias);
      const { federation } = context;
      if (federation === undefined) throw new RoomError('no-resident', 'no other server can be asked from here');
      return resolveAlias({ serverName, store, federation }, alias, signal);
    },
    setAlias: async (userId, alias, roomId) => {
      if (domainOf(alias) !== serverName) throw new RoomError('invalid', `${alias} is not for this server to give`);
      await requireJoined(context, roomId, userId);
      const isNew = await withTransaction(store, (tx) =>
        insertAlias(tx, { alias, roomId, creator: userId, createdAt: clock.now() }),
      );
      if (!isNew) throw new RoomError('alias-in-use', `${alias} means a room already`);
    },
    deleteAlias: async (userId, alias, isAdmin) => {
      const own = domainOf(alias) === serverName ? await readOwnAlias(store, alias) : undefined;
      if (own === undefined) throw new RoomError('unknown-alias', `${alias} is not an alias of this server`);
      if (!isAdmin && own.creator !== userId) await requirePower(context, await requireRoom(own.roomId), userId);
      await deleteAlias(store, alias);
    },
    aliasesOf: async (userId, roomId) => {
      const reader = await readers.of(roomId, userId);
      if (reader.may !== 'now') throw new RoomError('forbidden', `${userId} is not in ${roomId}`);
      return readAliases(store, roomId);
    },
    isListed: async (roomId) => {
      await requireRoom(roomId);
      return isRoomListed(store, roomId);
    },
    setListed: async (userId, roomId, isListed, isAdmin) => {
      const room = await requireRoom(roomId);
      if (!isAdmin) await requirePower(context, room, userId);
      if (isListed) await listRoom(store, roomId, clock.now());
      else await unlistRoom(store, roomId);
    },
    publicRooms: (query) => publicRooms(context, query),
    allRooms: (query) => allRooms(context, query),
    publicRoomsOf: async (server, query, signal) => {
      const answer = await remote(server, signal, (federation, within) =>
        federation.publicRooms(server, bodyOf(query), { signal: within }),
      );
      const page = readPublicRooms(answer, query.limit);
      if (page === undefined) throw new RoomError('no-resident', `${server} gave no list of rooms`);
      return page;
    },
    profile: async (userId, signal) => {
      const server = domainOf(userId);
      const answer = await remote(server, signal, (federation, within) =>
        federation.queryProfile(server, userId, { signal: within }).catch((error: unknown) => {
          if (error instanceof FederationError && error.kind === 'not-found') return undefined;
          throw error;
        }),
      );
      if (answer === undefined) return undefined;
      const text = (name: string): string | null => (typeof answer[name] === 'string' ? answer[name] : null);
      const fields = Object.entries(answer).filter(([name]) => name !== 'displayname' && name !== 'avatar_url');
      return {
        displayName: text('displayname'),
        avatarUrl: text('avatar_url'),
        fields: Object.fromEntries(fields),
      };
    },
  };
}

async function requireJoined({ store }: Context, roomId: RoomId, userId: UserId): Promise<void> {
  if ((await readLocalMember(store, roomId, userId)) === 'join') return;
  throw new RoomError('forbidden', `${userId} is not in ${roomId}`);
}

/** @throws RoomError `forbidden` for who is not joined, or may not say what the room is called */
async function requirePower(context: Context, room: RoomStanding, userId: UserId): Promise<void> {
  const { store } = context;
  const { roomId, currentState, roomVersion } = room;
  await requireJoined(context, roomId, userId);
  const levels = currentState === null ? undefined : await readRoomPowers(store, roomId, currentState, roomVersion);
  if (levels !== undefined && atLeast(levels.ofUser(userId), levels.toSend(CALLS, true))) return;
  throw new RoomError('forbidden', `${userId} may not say what ${roomId} is called`);
}

async function publicRooms({ store }: Context, query: PublicRoomsQuery): Promise<PublicRoomsPage> {
  const { limit, since, search, roomTypes } = query;
  const offset = since === null ? 0 : offsetOf(since);
  const isSearch = search !== null || roomTypes !== null;
  const rooms = await readListedRooms(store, offset, isSearch ? SEARCHED_MAX : limit + 1);
  const entries = await readRoomEntries(store, rooms);
  const chunk: JsonObject[] = [];
  let taken = 0;
  for (const entry of entries) {
    if (chunk.length === limit) break;
    taken += 1;
    if (isFound(entry, query)) chunk.push(entry);
  }
  const isMore = taken < entries.length || (isSearch && rooms.length === SEARCHED_MAX);
  return {
    chunk,
    next: isMore ? `o${offset + taken}` : null,
    prev: offset === 0 ? null : `o${Math.max(0, offset - limit)}`,
    total: await countListedRooms(store),
  };
}

async function allRooms({ store }: Context, query: AllRoomsQuery): Promise<{ rooms: JsonObject[]; total: number }> {
  const { rooms, total } = await readRoomList(store, query);
  const known = rooms.flatMap(({ roomId, state, members }) => (state === null ? [] : [{ roomId, state, members }]));
  const entries = await readRoomEntries(store, known);
  const byId = new Map(known.map(({ roomId }, i) => [roomId, entries[i] ?? {}]));
  return {
    total,
    rooms: rooms.map((room) => {
      const entry: JsonObject = byId.get(room.roomId) ?? {};
      return {
        ...{ room_id: room.roomId, name: room.name, canonical_alias: room.canonicalAlias, version: room.version },
        ...{ joined_members: room.members ?? 0, joined_local_members: room.localMembers, public: room.isListed },
        ...{ join_rules: entry['join_rule'] ?? null, room_type: entry['room_type'] ?? null },
      };
    }),
  };
}

function isFound(entry: JsonObject, { search, roomTypes }: PublicRoomsQuery): boolean {
  const type = typeof entry['room_type'] === 'string' ? entry['room_type'] : null;
  if (roomTypes !== null && !roomTypes.includes(type)) return false;
  if (search === null) return true;
  const wanted = search.toLowerCase();
  return ['name', 'topic', 'canonical_alias'].some((name) => {
    const said = entry[name];
    return typeof said === 'string' && said.toLowerCase().includes(wanted);
  });
}

function offsetOf(since: string): number {
  const [, count] = /^o(\d{1,7})$/.exec(since) ?? [];
  if (count !== undefined && Number(count) <= OFFSET_MAX) return Number(count);
  throw new RoomError('invalid', 'since: no token of a list of rooms');
}

/** As another server is asked: https://spec.matrix.org/v1.16/server-server-api/#post_matrixfederationv1publicrooms */
function bodyOf({ limit, since, search, roomTypes }: PublicRoomsQuery): JsonObject {
  const filter: JsonObject = {
    ...(search === null ? {} : { generic_search_term: search }),
    ...(roomTypes === null ? {} : { room_types: [...roomTypes] }),
  };
  return { limit, ...(since === null ? {} : { since }), ...(Object.keys(filter).length === 0 ? {} : { filter }) };
}
