/**
 * Spaces and what is in them, walked from one of them: depth first, each room once. What is not ours is asked of other servers, one after the
 * other, and never for long: what does not answer within the time of the request is left out, and may be there the next time.
 *
 * A page's token counts the rooms that were given. Where a walk stands is kept for a while, so that its next page goes on there, whatever other
 * servers say by then; where it is kept no more, or by another process, it begins anew, and leaves out as many rooms as were given.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv1roomsroomidhierarchy and
 * https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv1room_summaryroomidoralias
 */
import { LRUCache } from 'lru-cache';
import { FederationError } from '../../federation/error.ts';
import { type RoomAlias, type RoomId, type ServerName, type UserId, parseRoomId } from '../../matrix/identifiers.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../../matrix/pdu.ts';
import { readLocalMember } from '../../store/journal/rooms.ts';
import { type JoinedServers } from '../../store/snapshots/joined-servers.ts';
import { readAlias } from '../../store/tables/room-aliases.ts';
import { UnderWay } from '../../under-way.ts';
import { type RoomsContext } from '../context.ts';
import { type Hierarchies, type HierarchyPage, type HierarchyQuery, type SummaryQuery } from '../directory-contract.ts';
import { RoomError } from '../error.ts';
import { resolveAlias } from '../aliases.ts';
import { type RoomSummary, type SpaceChild, childrenOf, mayLookAfar, suggestedOf, summaryFor } from './summaries.ts';

/** All that a request waits for other servers, one of them, and how many are asked; milliseconds. */
const WAIT_MS_MAX = 10_000;
const SERVER_MS_MAX = 5_000;
const ASKED_MAX = 20;
/** About one room. */
const SERVERS_MAX = 3;
/** Rooms that one walk goes through. */
const ROOMS_MAX = 1_000;
/** What others said, and how long it is believed: pages of one walk follow each other. */
const KEPT_MAX = 200;
/** In all, and of one answer; more is asked for anew. */
const KEPT_BYTES_MAX = 16 * 1024 * 1024;
const KEPT_ANSWER_BYTES_MAX = 256 * 1024;
const KEPT_MS = 300_000;
/** Where walks stand, in all and of one: what is larger begins anew. */
const WALKS_MAX = 200;
const WALKS_BYTES_MAX = 16 * 1024 * 1024;
const WALK_BYTES_MAX = 2 * 1024 * 1024;
/** Of a room that is seen, or is yet to be: its id and a few servers. */
const ROOM_BYTES = 500;
/** All that a page takes, our own rooms included; then the rest is of the next one. */
const PAGE_MS_MAX = 20_000;
/** What one user, or one server, has under way: a room takes a score of statements. */
const OF_USER_MAX = 3;
const OF_SERVER_MAX = 2;
const TOKEN = /^y1_(0|[1-9]\d{0,5})_([01])_(\d{1,6}|-)$/;

type Context = Pick<RoomsContext, 'serverName' | 'store'> & Partial<Pick<RoomsContext, 'federation'>>;

/** What a server says of a space: of its rooms as far as they may be joined or read from ours. */
interface Told {
  readonly room: RoomSummary;
  readonly children: ReadonlyMap<RoomId, RoomSummary>;
  readonly bytes: number;
}

/** Where a walk stands after a page. */
interface Walk {
  readonly seen: ReadonlySet<RoomId>;
  /** What others said of rooms, before anybody asks about them themselves, and how much that is. */
  readonly hints: ReadonlyMap<RoomId, RoomSummary>;
  readonly hintBytes: number;
  /** The next one is the last. */
  readonly open: readonly OpenChild[];
  readonly given: number;
}

type OpenChild = SpaceChild & { readonly depth: number };

/** One for a process. Without `federation` nobody is asked. */
export function createHierarchies(context: Context, joined: JoinedServers): Hierarchies {
  const { store, serverName } = context;
  const told = new LRUCache<string, Told>({
    ...{ max: KEPT_MAX, ttl: KEPT_MS },
    ...{ maxSize: KEPT_BYTES_MAX, maxEntrySize: KEPT_ANSWER_BYTES_MAX },
  });

  const walks = new LRUCache<string, Walk>({
    ...{ max: WALKS_MAX, ttl: KEPT_MS },
    ...{ maxSize: WALKS_BYTES_MAX, maxEntrySize: WALK_BYTES_MAX },
    sizeCalculation: ({ seen, open, hintBytes }) => 1 + (seen.size + open.length) * ROOM_BYTES + hintBytes,
  });
  const ofUsers = new UnderWay(OF_USER_MAX);
  const ofServers = new UnderWay(OF_SERVER_MAX);
  const forUser = <Result>(userId: UserId, task: () => Promise<Result>): Promise<Result> =>
    ofUsers.run(userId, task, () => new RoomError('too-many', 'too many spaces and rooms are looked at at a time'));

  const ask = async (
    { roomId, via }: SpaceChild,
    suggestedOnly: boolean,
    { signal, mayAsk }: { readonly signal: AbortSignal; readonly mayAsk: () => boolean },
  ): Promise<Told | undefined> => {
    const { federation } = context;
    for (const server of via.filter((name) => name !== serverName).slice(0, SERVERS_MAX)) {
      const name = `${server} ${suggestedOnly} ${roomId}`;
      const known = told.get(name);
      if (known !== undefined) return known;
      if (federation === undefined || !mayAsk()) return undefined;
      const within = AbortSignal.any([signal, AbortSignal.timeout(SERVER_MS_MAX)]);
      try {
        const said = await federation.hierarchy(server, roomId, suggestedOnly, { signal: within });
        const answer = readTold(said, roomId);
        if (answer === undefined) continue;
        told.set(name, answer, { size: answer.bytes });
        return answer;
      } catch (error) {
        if (!(error instanceof FederationError) && !within.aborted) throw error;
      }
    }
    return undefined;
  };

  const page = async (query: HierarchyQuery): Promise<HierarchyPage> => {
    const { roomId, userId, maxDepth, suggestedOnly, limit } = query;
    const skipped = query.from === null ? 0 : countIn(query, query.from);
    const kept = query.from === null ? undefined : walks.get(nameOf(query, query.from));
    const enough = AbortSignal.timeout(PAGE_MS_MAX);
    const signal = AbortSignal.any([query.signal, AbortSignal.timeout(WAIT_MS_MAX)]);
    let asked = 0;
    const asking = { signal, mayAsk: () => !signal.aborted && (asked += 1) <= ASKED_MAX };
    const root = await summaryFor(store, joined, roomId, { userId });
    if (typeof root === 'string') throw new RoomError('forbidden', `${roomId} is not for ${userId} to see`);

    const rooms: JsonObject[] = [];
    const seen = new Set(kept?.seen);
    const hints = new Map(kept?.hints);
    let hintBytes = kept?.hintBytes ?? 0;
    const open: OpenChild[] = kept === undefined ? [{ roomId, via: [], depth: 0 }] : [...kept.open];
    let given = kept?.given ?? 0;
    while (rooms.length < limit && given < skipped + limit && seen.size < ROOMS_MAX) {
      // With something to give, so that whoever goes on comes to an end.
      if (rooms.length > 0 && (enough.aborted || query.signal.aborted)) break;
      const next = open.pop();
      if (next === undefined) return { rooms, next: null };
      if (seen.has(next.roomId)) continue;
      seen.add(next.roomId);
      const own = await summaryFor(store, joined, next.roomId, { userId });
      if (own === 'hidden') continue;
      const summary = own === 'absent' ? await remote(next) : own;
      if (summary === undefined) continue;
      given += 1;
      const events = suggestedOnly ? suggestedOf(summary) : summary.childEvents;
      if (given > skipped) rooms.push({ ...summary.entry, children_state: events });
      if (maxDepth !== null && next.depth >= maxDepth) continue;
      const wanted = new Set(events.map((event) => event['state_key']));
      const children = summary.children.filter((child) => wanted.has(child.roomId));
      open.push(...children.toReversed().map((child) => ({ ...child, depth: next.depth + 1 })));
    }
    const isMore = open.some((child) => !seen.has(child.roomId)) && seen.size < ROOMS_MAX;
    if (!isMore) return { rooms, next: null };
    const next = tokenOf(query, given);
    walks.set(nameOf(query, next), { seen, hints, hintBytes, open, given });
    return { rooms, next };

    /** As far as it is for the user. */
    async function remote(child: SpaceChild): Promise<RoomSummary | undefined> {
      const said = await saidOf(child);
      return said !== undefined && (await mayLookAfar(store, said, userId)) ? said : undefined;
    }

    /** A space is asked about itself; of another room what its space's server said will do. */
    async function saidOf(child: SpaceChild): Promise<RoomSummary | undefined> {
      const hint = hints.get(child.roomId);
      if (hint !== undefined && hint.entry['room_type'] !== 'm.space') return hint;
      const answer = await ask(child, suggestedOnly, asking);
      for (const [id, summary] of answer?.children ?? []) if (!hints.has(id)) hints.set(id, summary);
      hintBytes += answer?.bytes ?? 0;
      return answer?.room ?? hint;
    }
  };

  return {
    hierarchy: (query) => forUser(query.userId, () => page(query)),
    hierarchyFor: (server, roomId, suggestedOnly) =>
      ofServers.run(
        server,
        () => pageFor(server, roomId, suggestedOnly),
        () => new RoomError('busy', 'too many spaces are looked at for that server at a time'),
      ),
    summary: (query) => forUser(query.userId, () => summary(query)),
  };

  async function pageFor(server: ServerName, roomId: RoomId, suggestedOnly: boolean): Promise<JsonObject | undefined> {
    const enough = AbortSignal.timeout(WAIT_MS_MAX);
    const room = await summaryFor(store, joined, roomId, { server });
    if (typeof room === 'string') return undefined;
    const events = suggestedOnly ? suggestedOf(room) : room.childEvents;
    const [children, inaccessible]: [JsonObject[], RoomId[]] = [[], []];
    for (const child of events.flatMap((event) => parseRoomId(event['state_key']) ?? [])) {
      // It asks about itself what it is not told of.
      if (enough.aborted) break;
      const summary = await summaryFor(store, joined, child, { server });
      if (summary === 'hidden') inaccessible.push(child);
      else if (summary !== 'absent') children.push(summary.entry);
    }
    return {
      room: { ...room.entry, children_state: [...events] },
      ...{ children, inaccessible_children: inaccessible },
    };
  }

  async function summary({ room, userId, via, signal: caller }: SummaryQuery): Promise<JsonObject> {
    const signal = AbortSignal.any([caller, AbortSignal.timeout(WAIT_MS_MAX)]);
    const place = await placeOf(room, via, signal);
    const own = await summaryFor(store, joined, place.roomId, { userId });
    let asked = 0;
    const asking = { signal, mayAsk: () => !signal.aborted && (asked += 1) <= SERVERS_MAX };
    const known = own === 'absent' ? (await ask(place, false, asking))?.room : own;
    const isHidden =
      known === undefined || known === 'hidden' || (own === 'absent' && !(await mayLookAfar(store, known, userId)));
    if (isHidden) {
      throw new RoomError('unknown-room', `nothing is known of ${room}, or it is not for ${userId} to see`);
    }
    const membership = (await readLocalMember(store, place.roomId, userId)) ?? 'leave';
    return { ...known.entry, membership };
  }

  async function placeOf(
    room: Parameters<Hierarchies['summary']>[0]['room'],
    via: readonly ServerName[],
    signal: AbortSignal,
  ): Promise<SpaceChild> {
    const roomId = parseRoomId(room);
    if (roomId !== undefined) return { roomId, via };
    const alias = room as RoomAlias;
    const own = await readAlias(store, alias);
    if (own !== undefined) return { roomId: own, via };
    const { federation } = context;
    if (federation === undefined) throw new RoomError('unknown-room', `nothing is known of ${room}`);
    const aliased = await resolveAlias({ serverName, store, federation }, alias, signal);
    return { roomId: aliased.roomId, via: [...via, ...aliased.servers] };
  }
}

/** Whose walk it is, and where it stands. */
function nameOf({ roomId, userId }: HierarchyQuery, token: string): string {
  return `${token} ${userId} ${roomId}`;
}

/** The rooms that were given before; a token is good for the walk that it is of. */
function countIn(query: HierarchyQuery, token: string): number {
  const [, count] = TOKEN.exec(token) ?? [];
  if (count !== undefined && tokenOf(query, Number(count)) === token) return Number(count);
  throw new RoomError('invalid', 'from: no token of this server, or of another walk');
}

function tokenOf({ maxDepth, suggestedOnly }: HierarchyQuery, given: number): string {
  return `y1_${given}_${suggestedOnly ? 1 : 0}_${maxDepth ?? '-'}`;
}

/** What a stranger says, as far as it has the form; `undefined`: it is not about that room. */
function readTold(answer: JsonObject, roomId: RoomId): Told | undefined {
  const room = isJsonObject(answer['room']) ? readSummary(answer['room']) : undefined;
  if (room?.roomId !== roomId) return undefined;
  const named = new Set(room.children.map((child) => child.roomId));
  const listed = Array.isArray(answer['children']) ? (answer['children'] as readonly Json[]) : [];
  const children = listed.flatMap((child) => {
    const summary = isJsonObject(child) ? readSummary(child) : undefined;
    return summary !== undefined && named.has(summary.roomId) ? [[summary.roomId, summary] as const] : [];
  });
  return { room, children: new Map(children), bytes: Buffer.byteLength(JSON.stringify(answer)) };
}

const TEXTS = [
  'name',
  'topic',
  'avatar_url',
  'canonical_alias',
  'join_rule',
  'room_type',
  'room_version',
  'encryption',
];

function readSummary(said: JsonObject): RoomSummary | undefined {
  const roomId = storableId(said['room_id']);
  if (roomId === undefined) return undefined;
  const texts = TEXTS.flatMap((name) => (typeof said[name] === 'string' ? [[name, said[name]] as const] : []));
  const { num_joined_members: members, allowed_room_ids: allowed, children_state: events } = said;
  const ids = Array.isArray(allowed) ? (allowed as readonly Json[]).flatMap((id) => storableId(id) ?? []) : null;
  return {
    roomId,
    entry: {
      room_id: roomId,
      num_joined_members: Number.isSafeInteger(members) && (members as number) >= 0 ? (members as number) : 0,
      world_readable: said['world_readable'] === true,
      guest_can_join: said['guest_can_join'] === true,
      ...Object.fromEntries(texts),
      ...(ids === null ? {} : { allowed_room_ids: ids }),
    },
    ...childrenOf(Array.isArray(events) ? (events as readonly Json[]).filter(isObject) : []),
  };
}

/** One that may be looked for in the store. */
function storableId(value: Json | undefined): RoomId | undefined {
  const roomId = parseRoomId(value);
  return roomId?.includes('\0') === true ? undefined : roomId;
}

function isObject(value: Json): value is JsonObject {
  return isJsonObject(value) && isJsonObject(value['content']);
}
