/**
 * What users of other servers have read. The newest that is said of each counts; it may name an event that is not held. They are written
 * once a second at the most by each process, and those that wait for that are lost with it.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#receipts
 */
import { type ServerName, domainOf, parseEventId, parseRoomId, parseUserId } from '../matrix/identifiers.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type Transaction } from '../store/open-store.ts';
import { type Receipt, countReceipts, upsertReceived } from '../store/tables/receipts.ts';
import { holdRoomsOfOurs } from '../store/tables/shared-rooms.ts';
import { type RememberingContext } from './context.ts';
import { Gathering } from './gathering.ts';
import { type SaidOf, amongThose } from './who-is-there.ts';

const EVERY_MS = 1_000;
/** What waits to be written; more is not taken in. */
const WAITING_MAX = 20_000;
/** Of one transaction. */
const RECEIPTS_MAX = 2_000;
/** Kept of one server in one room, before users of whom the room says nothing have none taken in any more. */
const UNSEEN_MAX = 2_000;

export class ReceivedReceipts {
  readonly #context: RememberingContext;
  readonly #gathering: Gathering<SaidOf<Receipt>>;

  constructor(context: RememberingContext) {
    this.#context = context;
    this.#gathering = new Gathering({
      everyMs: EVERY_MS,
      itemsMax: WAITING_MAX,
      handOn: (receipts) => this.#write(receipts),
      onFailed: (error) => context.logger.warn({ err: error }, 'receipts of other servers could not be written'),
    });
  }

  /** Gives how many receipts were of no form, or of nobody who may read there. */
  async receive(origin: ServerName, contents: readonly JsonObject[]): Promise<number> {
    const { said, dropped } = readReceipts(contents, origin, this.#context.clock.now());
    const taken = await amongThose(this.#context, origin, said);
    let lost = dropped + said.length - taken.length;
    for (const receipt of taken) {
      const { roomId, userId, threadId } = receipt;
      if (!this.#gathering.put(`${userId} ${threadId} ${roomId}`, receipt)) lost += 1;
    }
    return lost;
  }

  settle(): Promise<void> {
    return this.#gathering.settle();
  }

  close(): Promise<void> {
    return this.#gathering.close();
  }

  async #write(receipts: readonly SaidOf<Receipt>[]): Promise<void> {
    await this.#context.store.inTransaction(async (tx) => {
      const rooms = await holdRoomsOfOurs(tx, [...new Set(receipts.map(({ roomId }) => roomId))]);
      const held = new Set(rooms.map(({ roomId }) => roomId));
      const kept = await fitting(
        tx,
        receipts.filter(({ roomId }) => held.has(roomId)),
      );
      if (kept.length > 0) await upsertReceived(tx, kept);
    });
  }
}

/** Without those of users of whom nothing is known and for whom there is no room. */
async function fitting(tx: Transaction, receipts: readonly SaidOf<Receipt>[]): Promise<readonly Receipt[]> {
  const rooms = new Set(receipts.flatMap(({ roomId, isBelieved }) => (isBelieved ? [roomId] : [])));
  if (rooms.size === 0) return receipts;
  const place = (roomId: string, server: string): string => `${server} ${roomId}`;
  const counts = new Map(
    (await countReceipts(tx, [...rooms])).map(({ roomId, serverName, count }) => [place(roomId, serverName), count]),
  );
  return receipts.filter(({ roomId, userId, isBelieved }) => {
    if (!isBelieved) return true;
    const at = place(roomId, domainOf(userId));
    const count = (counts.get(at) ?? 0) + 1;
    counts.set(at, count);
    return count <= UNSEEN_MAX;
  });
}

/** What `{room: {'m.read': {user: {data, event_ids}}}}` says, of one kind and of the origin's users. */
export function readReceipts(
  contents: readonly JsonObject[],
  origin: ServerName,
  now: number,
): { readonly said: readonly Receipt[]; readonly dropped: number } {
  const said: Receipt[] = [];
  let dropped = 0;
  for (const [room, ofRoom] of contents.flatMap((content) => Object.entries(content))) {
    const roomId = parseRoomId(room);
    const read = isJsonObject(ofRoom) ? ofRoom['m.read'] : undefined;
    for (const [user, receipt] of Object.entries(isJsonObject(read) ? read : {})) {
      const userId = parseUserId(user);
      const { eventId, threadId, at } = readReceipt(receipt, now) ?? {};
      const isSound =
        roomId !== undefined && !roomId.includes('\0') && userId !== undefined && domainOf(userId) === origin;
      if (!isSound || eventId === undefined || threadId === undefined || said.length >= RECEIPTS_MAX) dropped += 1;
      else said.push({ roomId, userId, threadId, eventId, at: at ?? now });
    }
  }
  return { said, dropped };
}

function readReceipt(receipt: Json, now: number): Pick<Receipt, 'eventId' | 'threadId' | 'at'> | undefined {
  if (!isJsonObject(receipt)) return undefined;
  const { event_ids: eventIds, data } = receipt;
  const { ts, thread_id: thread = '' } = isJsonObject(data) ? data : {};
  const eventId = Array.isArray(eventIds) ? parseEventId((eventIds as readonly Json[])[0]) : undefined;
  const threadId = thread === '' || thread === 'main' ? thread : parseEventId(thread);
  if (eventId === undefined || eventId.includes('\0') || threadId === undefined || threadId.includes('\0')) {
    return undefined;
  }
  const at = typeof ts === 'number' && Number.isSafeInteger(ts) && ts >= 0 ? ts : now;
  return { eventId, threadId, at };
}
