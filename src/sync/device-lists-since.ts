/** What a client that has slept has missed of others' devices, without a sync: https://spec.matrix.org/v1.16/client-server-api/#get_matrixclientv3keyschanges */
import { type UserId } from '../matrix/identifiers.ts';
import { readSeenRooms } from '../store/journal/seen-by-clients.ts';
import { type Transaction } from '../store/open-store.ts';
import { type DeviceLists } from './contract.ts';
import { readDeviceLists } from './device-lists.ts';
import { SyncError } from './error.ts';
import { betweenOf, readMembersThen } from './read-spans.ts';

/** From a position to the newest. The transaction has not read anything yet. */
export async function readDeviceListsSince(tx: Transaction, userId: UserId, since: number): Promise<DeviceLists> {
  await tx.query('SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY');
  const { head, rooms } = await readSeenRooms(tx, userId, since);
  if (since > head) throw new SyncError('invalid', 'from: a token from the future');
  const between = betweenOf(rooms, await readMembersThen(tx, userId, rooms));
  return readDeviceLists(tx, userId, between, { since, upTo: head });
}
