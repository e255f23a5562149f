/**
 * Messages of other servers' users to devices of ours. Each is taken once, by its origin and the id that it has there: it is written in the
 * transaction that notes the id, before the origin has its answer.
 *
 * Source: https://spec.matrix.org/v1.16/server-server-api/#send-to-device-messaging
 */
import { type ServerName, type UserId, domainOf, parseUserId } from '../matrix/identifiers.ts';
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type Store } from '../store/open-store.ts';
import { holdRecipients, insertToDevice, takeMessageIds } from '../store/tables/to-device.ts';
import { WAITING_MAX, sharingOut } from './send-to-device.ts';

/** As the specification has it, in code points; a few more are let pass. */
const MESSAGE_ID_CHARS_MAX = 255;
const TYPE_BYTES_MAX = 255;
/** Of one transaction: what is over is dropped, as what comes to a device with too much waiting is. */
const MESSAGES_MAX = 10_000;

/** A message as an EDU brings it, for users of this server. */
interface Received {
  readonly messageId: string;
  readonly sender: UserId;
  readonly type: string;
  readonly to: readonly { readonly userId: UserId; readonly deviceId: string; readonly content: string }[];
}

/**
 * Takes what is of the origin's users and not taken yet; gives how many EDUs were not of the right form, or of somebody else, and how many
 * messages were more than one transaction may bring.
 */
export async function receiveToDevice(
  { store, now }: { readonly store: Store; readonly now: number },
  origin: ServerName,
  contents: readonly JsonObject[],
): Promise<number> {
  const received = contents.flatMap((content) => readMessage(content, origin, store.serverName) ?? []);
  const dropped = contents.length - received.length;
  if (received.length === 0) return dropped;
  return store.inTransaction(async (tx) => {
    const ids = received.map(({ messageId }) => messageId);
    const taken = new Set(await takeMessageIds(tx, origin, ids, now));
    // Of two with one id in a transaction the first counts.
    const fresh = received.filter(({ messageId }) => taken.delete(messageId));
    const users = [...new Set(fresh.flatMap(({ to }) => to.map(({ userId }) => userId)))].sort();
    const shareOut = sharingOut(await holdRecipients(tx, users, WAITING_MAX));
    const messages = fresh.flatMap(({ to, sender, type }) =>
      shareOut(to).map((message) => ({ ...message, sender, type })),
    );
    if (messages.length > 0) insertToDevice(tx, messages.slice(0, MESSAGES_MAX));
    return dropped + Math.max(0, messages.length - MESSAGES_MAX);
  });
}

function readMessage(content: JsonObject, origin: ServerName, ourselves: ServerName): Received | undefined {
  const sender = parseUserId(content['sender']);
  const { type, message_id: messageId, messages } = content;
  if (sender === undefined || sender.includes('\0') || domainOf(sender) !== origin) return undefined;
  if (typeof type !== 'string' || Buffer.byteLength(type) > TYPE_BYTES_MAX) return undefined;
  if (typeof messageId !== 'string' || messageId.length > MESSAGE_ID_CHARS_MAX) return undefined;
  if (!isJsonObject(messages)) return undefined;
  const to = Object.entries(messages).flatMap(([user, byDevice]) => {
    const userId = parseUserId(user);
    if (userId === undefined || userId.includes('\0') || domainOf(userId) !== ourselves) return [];
    return Object.entries(isJsonObject(byDevice) ? byDevice : {}).flatMap(([deviceId, message]) =>
      isJsonObject(message) ? [{ userId, deviceId, content: canonicalJson(message) }] : [],
    );
  });
  return { messageId, sender, type, to };
}
