/** What devices are to be told by others. A message stays until its device has shown a token of a later sync. */
import { type ServerName, type UserId } from '../../matrix/identifiers.ts';
import { type JsonObject } from '../../matrix/pdu.ts';
import { takePositions } from '../journal/positions.ts';
import { type Sql, type Transaction } from '../open-store.ts';
import { textArray } from '../sql-values.ts';
import { fromStorable, storable } from '../storable-text.ts';
import { deleteOlder } from './delete-older.ts';

interface OfDevice {
  readonly userId: UserId;
  readonly deviceId: string;
}

/** A message for one device. */
export interface ToDeviceMessage extends OfDevice {
  readonly sender: UserId;
  readonly type: string;
  /** JSON. */
  readonly content: string;
}

/** A device that may be told something. */
export interface Recipient extends OfDevice {
  /** Of what was sent to it before, counted up to the limit. */
  readonly waiting: number;
}

/**
 * Devices of users of this server; they cannot be deleted until the transaction ends. `waiting` is counted up to `countMax`, by an index.
 */
export async function holdRecipients(
  tx: Transaction,
  userIds: readonly UserId[],
  countMax: number,
): Promise<Recipient[]> {
  if (userIds.length === 0) return [];
  return tx.query<Recipient>(
    `SELECT d.user_id AS "userId", d.device_id AS "deviceId",
            (SELECT count(*) FROM (SELECT FROM to_device_messages t
                                    WHERE t.user_id = d.user_id AND t.device_id = d.device_id LIMIT $2) AS counted) AS waiting
       FROM devices d WHERE d.user_id = ANY ($1::text[]) ORDER BY d.user_id, d.device_id FOR KEY SHARE OF d`,
    [userIds, countMax],
  );
}

/** Writes messages, as the last statement of the transaction, each with a position of its own; their users are told. */
export function insertToDevice(tx: Transaction, messages: readonly ToDeviceMessage[]): void {
  takePositions(tx, {
    name: 'insert_to_device_messages',
    text: `INSERT INTO to_device_messages (user_id, device_id, position, sender, type, content)
           SELECT m.user_id, m.device_id, head.base + m.nth, m.sender, m.type, m.content::json
             FROM head, unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::text[])
                        WITH ORDINALITY AS m(user_id, device_id, sender, type, content, nth)`,
    values: [
      textArray(messages.map(({ userId }) => userId)),
      textArray(messages.map(({ deviceId }) => deviceId)),
      textArray(messages.map(({ sender }) => sender)),
      textArray(messages.map(({ type }) => storable(type))),
      textArray(messages.map(({ content }) => content)),
    ],
    count: messages.length,
    topics: [...new Set(messages.map(({ userId }) => userId))],
  });
}

/** A message as its device gets it. */
export interface WaitingMessage {
  readonly position: number;
  readonly sender: UserId;
  readonly type: string;
  readonly content: JsonObject;
}

/** What of the messages to a device fits. */
export interface WaitingMessages {
  readonly messages: readonly WaitingMessage[];
  /** More is waiting. */
  readonly isCut: boolean;
}

/** The oldest after `since` and up to `upTo`, one at the least, and more up to `limit` and `bytesMax` of content. */
export async function readToDevice(
  sql: Sql,
  { userId, deviceId }: OfDevice,
  { since, upTo }: { readonly since: number; readonly upTo: number },
  { limit, bytesMax }: { readonly limit: number; readonly bytesMax: number },
): Promise<WaitingMessages> {
  const rows = await sql.query<Omit<WaitingMessage, 'content'> & { readonly content: JsonObject | null }>(
    `SELECT position, sender, type, CASE WHEN before < $7 AND nth <= $6 THEN content END AS content
       FROM (SELECT m.*, row_number() OVER (ORDER BY position) AS nth,
                    sum(octet_length(content::text)) OVER (ORDER BY position) - octet_length(content::text) AS before
               FROM (SELECT * FROM to_device_messages
                      WHERE user_id = $1 AND device_id = $2 AND position > $3 AND position <= $4
                      ORDER BY position LIMIT $5) AS m
      ) AS sized ORDER BY position`,
    [userId, deviceId, since, upTo, limit + 1, limit, bytesMax],
  );
  const messages = rows.flatMap(({ content, type, ...row }) =>
    content === null ? [] : [{ ...row, type: fromStorable(type), content }],
  );
  return { messages, isCut: messages.length < rows.length };
}

/** The device has shown that it has all up to a position; one that the database has not come to yet says nothing. */
export async function deleteToDevice(sql: Sql, { userId, deviceId }: OfDevice, upTo: number): Promise<void> {
  await sql.query(
    `DELETE FROM to_device_messages WHERE user_id = $1 AND device_id = $2 AND position <= $3
        AND $3 <= (SELECT position FROM journal_head)`,
    [userId, deviceId, upTo],
  );
}

/** Notes which of these messages of another server are taken; gives the places in the list of those that were not before. */
export async function takeMessageIds(
  tx: Transaction,
  origin: ServerName,
  messageIds: readonly string[],
  receivedAt: number,
): Promise<ReadonlySet<string>> {
  const rows = await tx.query<{ messageId: string }>(
    `INSERT INTO received_messages (origin, message_id, received_at)
     SELECT $1, id, $3 FROM unnest($2::text[]) AS id ORDER BY id ON CONFLICT DO NOTHING RETURNING message_id AS "messageId"`,
    [origin, [...new Set(messageIds.map(storable))], receivedAt],
  );
  return new Set(rows.map(({ messageId }) => fromStorable(messageId)));
}

/** Forgets at most `limit` ids older than `receivedBefore`, milliseconds; gives how many. */
export function forgetMessageIds(sql: Sql, receivedBefore: number, limit: number): Promise<number> {
  return deleteOlder(sql, { table: 'received_messages', time: 'received_at' }, receivedBefore, limit);
}
