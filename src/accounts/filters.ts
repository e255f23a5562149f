/**
 * Filters that clients keep here to name them in a sync. The id is made of the filter: who keeps one again gets the same id, and
 * a client that starts anew every day fills no table.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#filtering
 */
import { createHash } from 'node:crypto';
import { type UserId } from '../matrix/identifiers.ts';
import { parseFilter } from '../matrix/client/filter.ts';
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { insertFilter, readFilter } from '../store/tables/filters.ts';
import { type AccountsContext } from './context.ts';
import { AccountError } from './error.ts';

/** Lists of users and rooms that nobody reads through; the longest that clients make are some hundred bytes. */
const FILTER_BYTES_MAX = 64 * 1024;
/** Different ones of one user. A client has a few. */
const FILTERS_MAX = 1000;
/** 96 bits of SHA-256 in base64url, among a thousand of one user. */
const ID_CHARS = 16;

/** Keeps a filter and gives its id. Throws an `AccountError` for what no sync could apply. */
export async function saveFilter(
  { store, clock }: AccountsContext,
  userId: UserId,
  filter: JsonObject,
): Promise<string> {
  const read = parseFilter(filter);
  if (!read.ok) throw new AccountError('invalid', read.reason);
  const json = canonicalJson(filter);
  if (Buffer.byteLength(json) > FILTER_BYTES_MAX) {
    throw new AccountError('invalid', `a filter has at most ${FILTER_BYTES_MAX} bytes`);
  }
  const filterId = createHash('sha256').update(json).digest('base64url').slice(0, ID_CHARS);
  const isKept = await insertFilter(store, { userId, filterId, filter: json }, clock.now(), FILTERS_MAX);
  if (!isKept) throw new AccountError('too-many', `a user has at most ${FILTERS_MAX} filters`);
  return filterId;
}

/** A filter that the user has kept here. */
export async function savedFilter({ store }: AccountsContext, userId: UserId, filterId: string): Promise<JsonObject> {
  const filter = filterId.includes('\0') ? undefined : await readFilter(store, userId, filterId);
  if (filter === undefined) throw new AccountError('not-found', 'there is no such filter');
  return filter;
}
