/**
 * Who types in rooms, here and on other servers. A row a room, written once a second at the most by each process, and told to who syncs and
 * to other servers; what is lost is said again, or is over.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#typing-notifications and https://spec.matrix.org/v1.16/server-server-api/#typing-notifications
 */
import {
  type RoomId,
  type ServerName,
  type UserId,
  domainOf,
  parseRoomId,
  parseUserId,
} from '../matrix/identifiers.ts';
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { RoomError } from '../rooms/error.ts';
import { readLocalMember } from '../store/journal/rooms.ts';
import { type PassingEdu, insertPassing } from '../store/tables/outgoing-passing.ts';
import { type RoomOfOurs, holdRoomsOfOurs, readRoomsOfOurs } from '../store/tables/shared-rooms.ts';
import { forgetExpiredTyping, lockTyping, readExpiredTyping, writeTyping } from '../store/tables/typing.ts';
import { type RememberingContext } from './context.ts';
import { Gathering } from './gathering.ts';
import { serversInRoom } from '../store/tables/servers-in-room.ts';
import { TYPES_MS_MAX, type TypingSaid, type TypingToTell, typingNow } from './typists.ts';
import { amongThose } from './who-is-there.ts';

/** How often a process writes who types. */
const EVERY_MS = 1_000;
/** What waits for that; more is not taken in. */
const SAID_MAX = 5_000;
/** Rooms at a time in which somebody has not said again that he types. */
const EXPIRED_AT_ONCE = 500;

/** Of a room; `said: null`: time has gone on. */
interface SaidInRoom {
  readonly roomId: RoomId;
  readonly said: TypingSaid | null;
}

export class Typing {
  readonly #context: RememberingContext;
  readonly #gathering: Gathering<SaidInRoom>;

  constructor(context: RememberingContext) {
    this.#context = context;
    this.#gathering = new Gathering({
      everyMs: EVERY_MS,
      itemsMax: SAID_MAX,
      handOn: (said) => this.#write(said),
      onFailed: (error) => context.logger.warn({ err: error }, 'who types could not be written'),
    });
  }

  /** What a user of ours says. Throws `forbidden` for who is not in the room. */
  async set(userId: UserId, roomId: RoomId, forMs: number | null): Promise<void> {
    const { store, clock } = this.#context;
    if ((await readLocalMember(store, roomId, userId)) !== 'join') {
      throw new RoomError('forbidden', `${userId} is not in ${roomId}`);
    }
    const until = forMs === null ? null : clock.now() + Math.min(forMs, TYPES_MS_MAX);
    this.#put({ roomId, said: { userId, until } });
  }

  /** What another server says of its users; gives how many EDUs were of no form, or of nobody who may type there. */
  async receive(origin: ServerName, contents: readonly JsonObject[]): Promise<number> {
    const until = this.#context.clock.now() + TYPES_MS_MAX;
    const said = contents.flatMap(({ room_id: room, user_id: user, typing }) => {
      const [roomId, userId] = [parseRoomId(room), parseUserId(user)];
      if (roomId === undefined || roomId.includes('\0') || userId === undefined) return [];
      if (domainOf(userId) !== origin || typeof typing !== 'boolean') return [];
      return [{ roomId, userId, until: typing ? until : null }];
    });
    const taken = await amongThose(this.#context, origin, said);
    let dropped = contents.length - taken.length;
    for (const { roomId, userId, until } of taken) if (!this.#put({ roomId, said: { userId, until } })) dropped += 1;
    return dropped;
  }

  /** Looks who has not said again that he types. */
  async expire(): Promise<void> {
    const { store, clock } = this.#context;
    for (const roomId of await readExpiredTyping(store, clock.now(), EXPIRED_AT_ONCE)) {
      this.#put({ roomId, said: null });
    }
  }

  /** Resolves when what was said is written. */
  settle(): Promise<void> {
    return this.#gathering.settle();
  }

  close(): Promise<void> {
    return this.#gathering.close();
  }

  #put(said: SaidInRoom): boolean {
    return this.#gathering.put(`${said.said?.userId ?? ''} ${said.roomId}`, said);
  }

  async #write(said: readonly SaidInRoom[]): Promise<void> {
    const { store, clock, serverName, onSaid } = this.#context;
    const ofRooms = new Map<RoomId, TypingSaid[]>();
    for (const { roomId, said: one } of said) {
      ofRooms.set(roomId, [...(ofRooms.get(roomId) ?? []), ...(one === null ? [] : [one])]);
    }
    const servers = await this.#serversOf(said);
    const now = clock.now();
    const isTold = await store.inTransaction(async (tx) => {
      const rooms = await holdRoomsOfOurs(tx, [...ofRooms.keys()]);
      const held = new Set(rooms.map(({ roomId }) => roomId));
      // Nobody is told of rooms that we have left, and what they hold would be looked at for ever.
      const left = said.flatMap((one) => (one.said === null && !held.has(one.roomId) ? [one.roomId] : []));
      await forgetExpiredTyping(tx, left, now);
      const before = await lockTyping(
        tx,
        rooms.map(({ roomId }) => roomId),
      );
      const after = before.map(({ roomId, typists }) => {
        return { roomId, ...typingNow(typists, ofRooms.get(roomId) ?? [], { now, serverName }) };
      });
      const edus = after.flatMap(({ roomId, toTell }) => toTell.map((one) => typingEdu(roomId, one, now)));
      await insertPassing(tx, edus, servers, now);
      await writeTyping(
        tx,
        after,
        after.flatMap(({ roomId, isChanged }) => (isChanged ? [roomId] : [])),
      );
      return edus.length > 0;
    });
    if (isTold) onSaid();
  }

  /** Of the rooms that something may be told of: those where users of ours type, or did. */
  async #serversOf(said: readonly SaidInRoom[]): Promise<ReadonlyMap<RoomId, ReadonlySet<ServerName>>> {
    const { store, joined, serverName } = this.#context;
    const told = said.filter((one) => one.said === null || domainOf(one.said.userId) === serverName);
    const rooms: readonly RoomOfOurs[] =
      told.length === 0 ? [] : await readRoomsOfOurs(store, [...new Set(told.map(({ roomId }) => roomId))], serverName);
    const servers = new Map<RoomId, ReadonlySet<ServerName>>();
    for (const room of rooms) servers.set(room.roomId, await serversInRoom(store, joined, room));
    return servers;
  }
}

function typingEdu(roomId: RoomId, { userId, isTyping }: TypingToTell, now: number): PassingEdu {
  const content = { room_id: roomId, user_id: userId, typing: isTyping };
  return {
    roomId,
    key: `typing ${userId}`,
    edu: canonicalJson({ edu_type: 'm.typing', content }),
    expiresAt: now + TYPES_MS_MAX,
  };
}
