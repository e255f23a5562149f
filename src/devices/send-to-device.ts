/**
 * Messages from device to device. Those to users of this server are written at once, those to others go out as EDUs, in the background.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#send-to-device-messaging and
 * https://spec.matrix.org/v1.16/server-server-api/#send-to-device-messaging
 */
import { randomUUID } from 'node:crypto';
import { type Requester } from '../accounts/contract.ts';
import { AccountError } from '../accounts/error.ts';
import { type ServerName, type UserId, domainOf, parseUserId } from '../matrix/identifiers.ts';
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { takeDeviceTransaction } from '../store/tables/client-transactions.ts';
import { type OutgoingEdu, insertOutgoingEdus } from '../store/tables/outgoing-edus.ts';
import { type Recipient, type ToDeviceMessage, holdRecipients, insertToDevice } from '../store/tables/to-device.ts';
import { lockDevice } from '../store/tables/devices.ts';
import { type DevicesContext } from './context.ts';
import { type ToDeviceMessages } from './contract.ts';

/** All devices of a user. */
const ALL = '*';
const TYPE_BYTES_MAX = 255;
/** Of one message; what an EDU may be, and room for what stands around it. */
const CONTENT_BYTES_MAX = 60_000;
/** Content of one EDU: https://spec.matrix.org/v1.16/server-server-api/#edus are 64 KiB with all around. */
const EDU_CONTENT_BYTES_MAX = 60_000;
/** What waits for a device that does not sync; what comes then is lost. */
export const WAITING_MAX = 10_000;
/** Who is written to at a time: an encrypted room of this many devices, in parts. */
const MESSAGES_MAX = 10_000;
/** Whose users are written to at a time. */
const SERVERS_MAX = 1_000;
/** What is for a server with which no room is shared, and which is not known to take anything, is for it so long. */
const UNREACHED_FOR_MS = 7 * 24 * 3_600_000;

/** Sends messages; the same transaction again sends nothing. */
export async function sendToDevice(
  { store, clock, logger, onSaid }: DevicesContext,
  { userId: sender, deviceId }: Requester,
  { type, txnId }: { readonly type: string; readonly txnId: string },
  to: ToDeviceMessages,
): Promise<void> {
  if (Buffer.byteLength(type) > TYPE_BYTES_MAX) {
    throw new AccountError('invalid', `a type has at most ${TYPE_BYTES_MAX} bytes`);
  }
  const given = messagesOf(to);
  const ours = given.filter(({ userId }) => domainOf(userId) === store.serverName);
  const theirs = given.filter(({ userId }) => domainOf(userId) !== store.serverName);
  if (new Set(theirs.map(({ userId }) => domainOf(userId))).size > SERVERS_MAX) {
    throw new AccountError('invalid', `at most ${SERVERS_MAX} servers at a time`);
  }
  const edus = edusOf(theirs, sender, type);
  await store.inTransaction(async (tx) => {
    if (!(await lockDevice(tx, sender, deviceId))) {
      throw new AccountError('unknown-token', 'this device has been logged out');
    }
    if (!(await takeDeviceTransaction(tx, { userId: sender, deviceId, txnId: `${type} ${txnId}` }, clock.now()))) {
      return;
    }
    const recipients = await holdRecipients(tx, [...new Set(ours.map(({ userId }) => userId))], WAITING_MAX);
    const left = await insertOutgoingEdus(tx, edus, clock.now() + UNREACHED_FOR_MS);
    if (left > 0) logger.warn({ left, sender }, 'messages to devices of servers that take nothing are lost');
    const messages = sharingOut(recipients)(ours).map((message) => ({ ...message, sender, type }));
    if (messages.length > 0) insertToDevice(tx, messages);
  });
  if (edus.length > 0) onSaid();
}

interface Given {
  readonly userId: UserId;
  /** Or `*`. */
  readonly deviceId: string;
  readonly content: string;
}

function messagesOf(to: ToDeviceMessages): Given[] {
  const given = Object.entries(to).flatMap(([user, byDevice]) => {
    const userId = parseUserId(user);
    if (userId === undefined || userId.includes('\0')) {
      throw new AccountError('invalid', 'messages: expected user ids');
    }
    return Object.entries(byDevice).map(([deviceId, content]) => {
      const json = canonicalJson(content);
      if (Buffer.byteLength(json) > CONTENT_BYTES_MAX) {
        throw new AccountError('invalid', `a message has at most ${CONTENT_BYTES_MAX} bytes`);
      }
      return { userId, deviceId, content: json };
    });
  });
  if (given.length <= MESSAGES_MAX) return given;
  throw new AccountError('invalid', `at most ${MESSAGES_MAX} messages at a time`);
}

type ForDevice = Pick<ToDeviceMessage, 'userId' | 'deviceId' | 'content'>;

/**
 * Shares messages out to devices, call after call: each gets what is for it, or for all devices of its user. Devices with too much waiting
 * get nothing.
 */
export function sharingOut(recipients: readonly Recipient[]): (given: readonly Given[]) => ForDevice[] {
  const rooms = new Map<UserId, Map<string, { left: number }>>();
  for (const { userId, deviceId, waiting } of recipients) {
    const devices = rooms.get(userId) ?? new Map<string, { left: number }>();
    rooms.set(userId, devices.set(deviceId, { left: WAITING_MAX - waiting }));
  }
  return (given) =>
    given.flatMap(({ userId, deviceId: wanted, content }) => {
      const devices = rooms.get(userId);
      const one = devices?.get(wanted);
      const named = wanted === ALL ? [...(devices ?? [])] : one === undefined ? [] : [[wanted, one] as const];
      return named.flatMap(([deviceId, room]) => {
        if (room.left <= 0) return [];
        room.left -= 1;
        return [{ userId, deviceId, content }];
      });
    });
}

/** An EDU for each server, or several where one would be too large, each with an id by which it is taken once. */
function edusOf(given: readonly Given[], sender: UserId, type: string): OutgoingEdu[] {
  const parts = new Map<ServerName, Given[][]>();
  const bytes = new Map<ServerName, number>();
  for (const message of given) {
    const server = domainOf(message.userId);
    const size = Buffer.byteLength(message.content) + message.userId.length + Buffer.byteLength(message.deviceId) + 16;
    const ofServer = parts.get(server) ?? [];
    const isFull = (bytes.get(server) ?? 0) + size > EDU_CONTENT_BYTES_MAX;
    if (ofServer.length === 0 || isFull) ofServer.push([]);
    ofServer.at(-1)?.push(message);
    parts.set(server, ofServer);
    bytes.set(server, (isFull ? 0 : (bytes.get(server) ?? 0)) + size);
  }
  return [...parts].flatMap(([serverName, ofServer]) =>
    ofServer.map((messages) => ({
      serverName,
      key: null,
      edu: canonicalJson({
        edu_type: 'm.direct_to_device',
        content: { sender, type, message_id: randomUUID().replaceAll('-', ''), messages: byUser(messages) },
      }),
    })),
  );
}

function byUser(messages: readonly Given[]): JsonObject {
  const users = new Map<UserId, (readonly [string, JsonObject])[]>();
  for (const { userId, deviceId, content } of messages) {
    const ofUser = users.get(userId) ?? [];
    ofUser.push([deviceId, JSON.parse(content) as JsonObject]);
    users.set(userId, ofUser);
  }
  return Object.fromEntries([...users].map(([userId, ofUser]) => [userId, Object.fromEntries(ofUser)]));
}
