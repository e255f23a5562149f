/**
 * Keeps the directory of users, and looks into it. A loop in every `serve` writes down who is in rooms with users of ours: what differs between
 * the state that was written down and the current one, a thousand members a statement; of a partial room once it is whole.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#user-directory
 */
import { type RoomId, type UserId, parseUserId } from '../../matrix/identifiers.ts';
import { isJsonObject, parseJsonObject } from '../../matrix/json/strict-json.ts';
import { readHead } from '../../store/journal/journal.ts';
import { type Store, type Transaction, withTransaction } from '../../store/open-store.ts';
import { streamDifferences } from '../../store/snapshots/snapshots.ts';
import {
  type ListedUser,
  type MovedMember,
  deleteDirectoryMembers,
  lockStaleRoom,
  readMovedMembers,
  readOwnNames,
  readRoomsMoved,
  readStaleRooms,
  searchDirectory,
  settleDirectoryRoom,
  upsertDirectoryMembers,
} from '../../store/tables/user-directory.ts';
import { startRepeating } from '../../repeating.ts';
import { type RoomsContext } from '../context.ts';
import { readRoomContents } from '../read/room-contents.ts';

/** How long a change waits at the most. */
const POLL_MS = 1_000;
const ROOMS_AT_A_TIME = 20;
const MEMBERS_AT_A_TIME = 1_000;
/** Of what a stranger calls himself. */
const NAME_CHARS_MAX = 256;
const URL_CHARS_MAX = 1_000;
const WORDS_MAX = 24;
const WORD_CHARS_MAX = 64;
const WORD = /[\p{L}\p{N}\p{M}]+/gu;
const OPEN_TO_ALL = ['m.room.join_rules', 'm.room.history_visibility'].map((type) => ({ type, stateKey: '' }));

/** Starts at once; `close` ends it after the room that it is at. */
export function startUserDirectory({ store, logger }: Pick<RoomsContext, 'store' | 'logger'>): {
  close(): Promise<void>;
} {
  const onFailed = (roomId: RoomId, error: unknown): void =>
    logger.warn({ err: error, roomId }, 'the members of a room could not be listed; it is tried again later');
  return startRepeating(createFollower(store, onFailed), {
    everyMs: POLL_MS,
    onFailed: (error) => logger.warn({ err: error }, 'the directory of users could not be kept; it is tried again'),
  });
}

/** Passes after which a room that failed is looked at again: twice as many each time, up to so many. */
const PASSES_MAX = 600;

/** A room that could not be followed, or that another process was at. */
interface Later {
  /** Of which pass it is. */
  readonly due: number;
  readonly failures: number;
}

/**
 * Brings all rooms up to date; the first time all are looked at, and then those in which something was decided since. A room that fails keeps no
 * other waiting: it is tried again later, each time later than the last.
 */
export function createFollower(
  store: Store,
  onFailed: (roomId: RoomId, error: unknown) => void = () => undefined,
): (isClosing?: () => boolean) => Promise<void> {
  let followedTo: number | null = null;
  let pass = 0;
  const later = new Map<RoomId, Later>();
  const follow = async (roomId: RoomId): Promise<void> => {
    const failures = later.get(roomId)?.failures ?? 0;
    try {
      const isFollowed = await withTransaction(store, (tx) => followRoom(tx, roomId));
      // What another process is at is looked at again: it may end before its work does.
      if (isFollowed) later.delete(roomId);
      else later.set(roomId, { due: pass + 1, failures });
    } catch (error) {
      onFailed(roomId, error);
      later.set(roomId, { due: pass + Math.min(2 ** failures, PASSES_MAX), failures: failures + 1 });
    }
  };
  return async (isClosing = () => false) => {
    pass += 1;
    const head = await readHead(store);
    const due = [...later].flatMap(([roomId, at]) => (at.due <= pass ? [roomId] : []));
    if (head === followedTo && due.length === 0) return;
    const moved = followedTo === null ? null : head === followedTo ? [] : await readRoomsMoved(store, followedTo, head);
    const isResting = (roomId: RoomId): boolean => (later.get(roomId)?.due ?? 0) > pass;
    const among = moved && [...new Set([...moved.filter((roomId) => !isResting(roomId)), ...due])];
    const gone = new Set(due);
    let after: RoomId | '' = '';
    for (let isMore = among === null || among.length > 0; isMore && !isClosing();) {
      const stale: readonly RoomId[] = await readStaleRooms(store, among, { after, limit: ROOMS_AT_A_TIME });
      for (const roomId of stale) {
        if (isClosing()) break;
        gone.delete(roomId);
        if (!isResting(roomId)) await follow(roomId);
      }
      after = stale.at(-1) ?? after;
      isMore = stale.length === ROOMS_AT_A_TIME;
    }
    if (isClosing()) return;
    // They are as they should be by now.
    for (const roomId of gone) later.delete(roomId);
    followedTo = head;
  };
}

async function followRoom(tx: Transaction, roomId: RoomId): Promise<boolean> {
  const room = await lockStaleRoom(tx, roomId);
  if (room === undefined) return false;
  if (room.to === null) {
    await deleteDirectoryMembers(tx, roomId, null);
    await settleDirectoryRoom(tx, roomId, null, false);
    return true;
  }
  const said = await readRoomContents(tx, roomId, room.to, { places: OPEN_TO_ALL });
  const isPublic =
    said.contentOf('m.room.join_rules')['join_rule'] === 'public' ||
    said.contentOf('m.room.history_visibility')['history_visibility'] === 'world_readable';
  for await (const differences of streamDifferences(tx, roomId, room.from, room.to)) {
    for (let start = 0; start < differences.length; start += MEMBERS_AT_A_TIME) {
      await writeDown(tx, roomId, await readMovedMembers(tx, differences.slice(start, start + MEMBERS_AT_A_TIME)));
    }
  }
  await settleDirectoryRoom(tx, roomId, room.to, isPublic);
  return true;
}

async function writeDown(tx: Transaction, roomId: RoomId, moved: readonly MovedMember[]): Promise<void> {
  const known = moved.filter(({ userId }) => parseUserId(userId) !== undefined && !userId.includes('\0'));
  const joined = known.filter(({ membership }) => membership === 'join');
  const gone = known.filter(({ membership }) => membership !== 'join');
  await deleteDirectoryMembers(
    tx,
    roomId,
    gone.map(({ userId }) => userId),
  );
  const own = await readOwnNames(
    tx,
    joined.map(({ userId }) => userId as UserId),
  );
  await upsertDirectoryMembers(
    tx,
    roomId,
    joined.map((member) => {
      // What one of ours calls himself in one room only is told to nobody who looks for him.
      const user = own.get(member.userId as UserId) ?? listed(member);
      return { ...user, words: wordsOf(user) };
    }),
  );
}

/** As the membership says it; what is too long is cut, or left out. */
function listed({ userId, json }: MovedMember): ListedUser {
  const parsed = parseJsonObject(Buffer.from(json ?? '{}'));
  const content = parsed.ok && isJsonObject(parsed.value['content']) ? parsed.value['content'] : {};
  const { displayname: name, avatar_url: url } = content;
  return {
    userId: userId as UserId,
    displayName: typeof name === 'string' && name !== '' ? name.slice(0, NAME_CHARS_MAX) : null,
    avatarUrl: typeof url === 'string' && url.length <= URL_CHARS_MAX ? url : null,
  };
}

function wordsOf({ userId, displayName }: ListedUser): string[] {
  const localPart = userId.slice(1, userId.indexOf(':'));
  return wordsIn(`${localPart} ${displayName ?? ''}`);
}

/** In lower case, each once. */
function wordsIn(text: string): string[] {
  const words = (text.toLowerCase().match(WORD) ?? []).map((word) =>
    word.slice(0, WORD_CHARS_MAX).replace(/\p{Surrogate}$/u, ''),
  );
  return [...new Set(words)].slice(0, WORDS_MAX);
}

/** Users whose names have words that begin like all of those that are looked for; of a whole user id its server counts, too. */
export async function searchUsers(
  store: Store,
  userId: UserId,
  term: string,
  limit: number,
): Promise<{ readonly users: readonly ListedUser[]; readonly isLimited: boolean }> {
  const [, localPart, server] = /^@([^:]*)(?::(.*))?$/.exec(term.trim()) ?? [];
  const beginnings = wordsIn(localPart ?? term);
  if (beginnings.length === 0) return { users: [], isLimited: false };
  const users = await searchDirectory(store, userId, { beginnings, server: server ?? '' }, limit + 1);
  return { users: users.slice(0, limit), isLimited: users.length > limit };
}
