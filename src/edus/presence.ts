/**
 * Whether users are there: those of other servers as these say, our own as they say themselves, here alone (docs/POLICIES.md says why). It is
 * written every few seconds at the most by each process, the last of each user; and as often those are woken who share a room with somebody
 * of whom something else is said.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#presence and https://spec.matrix.org/v1.16/server-server-api/#presence
 */
import { type ServerName, type UserId, domainOf, parseUserId } from '../matrix/identifiers.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { stateMapKey } from '../matrix/state-map.ts';
import { RoomError } from '../rooms/error.ts';
import { readStateKeys } from '../store/snapshots/state-keys.ts';
import { type Presence, countPresence, readPresence, upsertPresence } from '../store/tables/presence.ts';
import { isInPartialRoom } from '../store/tables/shared-rooms.ts';
import { readSharing } from '../store/tables/sharing.ts';
import { tellTopics } from '../store/journal/positions.ts';
import { readRoomsShowing } from './rooms-showing.ts';
import { type RememberingContext } from './context.ts';
import { Gathering } from './gathering.ts';

const EVERY_MS = 2_000;
/** A sync that is woken looks through its rooms. */
const WAKE_EVERY_MS = 5_000;
/** Of whom at a time others are told at once; of more with what they are told next. */
const WAKING_MAX = 2_000;
/** What waits to be written; more is not taken in. */
const WAITING_MAX = 20_000;
/** Of one transaction. */
const PUSHES_MAX = 2_000;
/** Of one server, users of whom no membership was ever seen: in a partial room any may be a member. */
const UNSEEN_MAX = 5_000;
const STATUS_CHARS_MAX = 1_000;
const MEMBER = 'm.room.member';

export class PresenceOfUsers {
  readonly #context: RememberingContext;
  readonly #gathering: Gathering<Presence>;
  readonly #waking: Gathering<UserId>;

  constructor(context: RememberingContext) {
    this.#context = context;
    const { store, clock, logger } = context;
    this.#gathering = new Gathering({
      everyMs: EVERY_MS,
      itemsMax: WAITING_MAX,
      handOn: (said) => this.#write(said, clock.now()),
      onFailed: (error) => logger.warn({ err: error }, 'who is there could not be written'),
    });
    this.#waking = new Gathering({
      everyMs: WAKE_EVERY_MS,
      itemsMax: WAKING_MAX,
      handOn: async (userIds) => tellTopics(store, await readRoomsShowing(store, userIds)),
      onFailed: (error) => logger.warn({ err: error }, 'who is there is told with what is told next'),
    });
  }

  /** What another server says of its users; gives how many were of no form, or nobody whom we know. */
  async receive(origin: ServerName, contents: readonly JsonObject[]): Promise<number> {
    const now = this.#context.clock.now();
    const pushes = contents.flatMap(({ push }): readonly Json[] =>
      Array.isArray(push) ? (push as readonly Json[]) : [null],
    );
    const said = pushes.slice(0, PUSHES_MAX).flatMap((push) => readPresencePush(push, origin, now) ?? []);
    const known = await this.#known(origin, said);
    const taken = known.filter((presence) => this.#gathering.put(presence.userId, presence));
    return pushes.length - taken.length;
  }

  async set(userId: UserId, presence: Presence['presence'], statusMsg: string | null): Promise<void> {
    const now = this.#context.clock.now();
    if (statusMsg !== null && statusMsg.length > STATUS_CHARS_MAX) {
      throw new RoomError('invalid', `status_msg: at most ${STATUS_CHARS_MAX} characters`);
    }
    await this.#write(
      [{ userId, presence, statusMsg, lastActiveAt: now, isCurrentlyActive: presence === 'online' }],
      now,
    );
  }

  async of(viewer: UserId, userId: UserId): Promise<Presence> {
    const { store } = this.#context;
    if (viewer !== userId && !(await readSharing(store, viewer, [userId])).has(userId)) {
      throw new RoomError('forbidden', `${userId} shares no room with you`);
    }
    const unsaid = {
      userId,
      presence: 'offline',
      statusMsg: null,
      lastActiveAt: null,
      isCurrentlyActive: false,
    } as const;
    return (await readPresence(store, userId)) ?? unsaid;
  }

  async settle(): Promise<void> {
    await this.#gathering.settle();
    await this.#waking.settle();
  }

  async close(): Promise<void> {
    await this.#gathering.close();
    await this.#waking.close();
  }

  async #write(said: readonly Presence[], now: number): Promise<void> {
    const changed = await this.#context.store.inTransaction((tx) => upsertPresence(tx, said, now));
    for (const userId of changed) this.#waking.put(userId, userId);
  }

  /** Those of whom some membership was seen; and others as long as there are few, where the server is in a room whose members we do not know. */
  async #known(origin: ServerName, said: readonly Presence[]): Promise<readonly Presence[]> {
    if (said.length === 0) return [];
    const { store } = this.#context;
    const keys = await readStateKeys(
      store,
      said.map(({ userId }) => ({ type: MEMBER, stateKey: userId })),
    );
    const known = said.filter(({ userId }) => keys.has(stateMapKey(MEMBER, userId)));
    if (known.length === said.length || !(await isInPartialRoom(store, origin))) return known;
    const room = UNSEEN_MAX - (await countPresence(store, origin, UNSEEN_MAX));
    return room > said.length ? said : known;
  }
}

function readPresencePush(push: Json, origin: ServerName, now: number): Presence | undefined {
  if (!isJsonObject(push)) return undefined;
  const { presence, status_msg: status, last_active_ago: ago, currently_active: active } = push;
  const userId = parseUserId(push['user_id']);
  if (userId === undefined || domainOf(userId) !== origin) return undefined;
  if (presence !== 'online' && presence !== 'offline' && presence !== 'unavailable') return undefined;
  const isAge = typeof ago === 'number' && Number.isSafeInteger(ago) && ago >= 0 && ago <= now;
  return {
    userId,
    presence,
    statusMsg: typeof status === 'string' ? status.slice(0, STATUS_CHARS_MAX) : null,
    lastActiveAt: isAge ? now - ago : null,
    isCurrentlyActive: active === true,
  };
}
