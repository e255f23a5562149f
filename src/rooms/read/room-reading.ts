/** Who reads a room's events, and what is known of him: the same for all pages of a request. */
import { type UserId } from '../../matrix/identifiers.ts';
import { isJsonObject } from '../../matrix/json/strict-json.ts';
import { type Stay, readStays } from '../../store/journal/timeline-page.ts';
import { type Store } from '../../store/open-store.ts';
import { readAccountData } from '../../store/tables/account-data.ts';
import { type ClientQuery } from '../client-contract.ts';
import { type Reader } from './who-may-read.ts';

/** How often other servers are asked for one page. */
const ASKED_MAX = 3;

/** Somebody who reads a room. */
export interface RoomReading {
  readonly query: ClientQuery;
  readonly reader: Reader;
  readonly stays: readonly Stay[];
  /** Their messages he is not shown. */
  readonly ignored: readonly UserId[];
  /** Whether other servers may be asked once more for him. */
  readonly mayAsk: () => boolean;
}

/** What is known of who reads, once for all pages of a request. */
export async function beginReading(
  { store }: { readonly store: Store },
  query: ClientQuery,
  reader: Reader,
): Promise<RoomReading> {
  const { roomId, userId } = query;
  const ignored = (await readAccountData(store, userId, null, 'm.ignored_user_list'))?.['ignored_users'];
  let asked = 0;
  return {
    query,
    reader,
    mayAsk: () => (asked += 1) <= ASKED_MAX,
    stays: await readStays(store, roomId),
    ignored: isJsonObject(ignored) ? (Object.keys(ignored).filter((user) => !user.includes('\0')) as UserId[]) : [],
  };
}
