/**
 * What clients keep here for themselves, and push rules, which have endpoints of their own and are told as account data.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#client-config and #push-rules-api
 */
import { type RoomId, type UserId } from '../matrix/identifiers.ts';
import { type PushRules } from '../matrix/client/default-push-rules.ts';
import { NO_CHANGES, type PushRuleChanges, pushRulesAnswer, pushRulesOf } from '../matrix/client/push-rules.ts';
import { canonicalJson } from '../matrix/json/canonical-json.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type Sql } from '../store/open-store.ts';
import {
  type AccountDataRow,
  countOtherAccountData,
  readAccountData,
  readAccountDataBetween,
  upsertAccountData,
} from '../store/tables/account-data.ts';
import { lockUser } from '../store/tables/users.ts';
import { type AccountsContext } from './context.ts';
import { AccountError } from './error.ts';

const PUSH_RULES = 'm.push_rules';
/** Which the server writes, by endpoints of their own. */
const RESERVED = new Set([PUSH_RULES, 'm.fully_read']);
const TYPE_BYTES_MAX = 255;
/** All of a user together, who is given it at once when he begins; what a row takes besides is counted with it. */
const ACCOUNT_DATA_BYTES_MAX = 16 * 1024 * 1024;
const ROW_BYTES = 256;
/** All changes of a user together: rules are asked for each event. */
const PUSH_RULES_BYTES_MAX = 256 * 1024;

/** Keeps it. `roomId` `null`: of no room. */
export async function setAccountData(
  { store }: AccountsContext,
  userId: UserId,
  roomId: RoomId | null,
  type: string,
  content: JsonObject,
): Promise<void> {
  if (RESERVED.has(type)) throw new AccountError('reserved', `${type} has an endpoint of its own`);
  if (Buffer.byteLength(type) > TYPE_BYTES_MAX) {
    throw new AccountError('invalid', `a type has at most ${TYPE_BYTES_MAX} bytes`);
  }
  const json = canonicalJson(content);
  await store.inTransaction(async (tx) => {
    const others = await countOtherAccountData(tx, userId, roomId, type);
    if (others.bytes + Buffer.byteLength(json) + ROW_BYTES * others.rows > ACCOUNT_DATA_BYTES_MAX) {
      throw new AccountError('invalid', `a user has at most ${ACCOUNT_DATA_BYTES_MAX} bytes of account data in all`);
    }
    upsertAccountData(tx, userId, { roomId, type, content: json });
  });
}

/** What is kept; push rules as clients get them. */
export async function accountData(
  { store }: AccountsContext,
  userId: UserId,
  roomId: RoomId | null,
  type: string,
): Promise<JsonObject> {
  if (roomId === null && type === PUSH_RULES) return pushRulesAnswer(await readPushRules(store, userId));
  const content = await readAccountData(store, userId, roomId, type);
  if (content === undefined) throw new AccountError('not-found', `there is no ${type} here`);
  return content;
}

/**
 * All of a user that is so since a position after `since` and up to `upTo`, as clients get it, the oldest first. Whoever begins
 * at 0 is given the push rules that everybody has, where the user has said nothing else.
 */
export async function accountDataBetween(
  sql: Sql,
  userId: UserId,
  span: { readonly since: number; readonly upTo: number },
): Promise<Omit<AccountDataRow, 'position'>[]> {
  const rows = await readAccountDataBetween(sql, userId, span);
  const isRules = ({ roomId, type }: AccountDataRow): boolean => roomId === null && type === PUSH_RULES;
  const told = rows.map((row) => {
    const content = isRules(row) ? pushRulesAnswer(pushRulesOf(userId, changesIn(row.content))) : row.content;
    return { roomId: row.roomId, type: row.type, content };
  });
  if (span.since > 0 || rows.some(isRules)) return told;
  const content = pushRulesAnswer(pushRulesOf(userId, NO_CHANGES));
  return [{ roomId: null, type: PUSH_RULES, content }, ...told];
}

/** The push rules of a user, the more important first. */
export async function readPushRules(sql: Sql, userId: UserId): Promise<PushRules> {
  const stored = await readAccountData(sql, userId, null, PUSH_RULES);
  return pushRulesOf(userId, stored === undefined ? NO_CHANGES : changesIn(stored));
}

/** Changes push rules, one after the other for all devices of a user. */
export async function changePushRules(
  { store }: AccountsContext,
  userId: UserId,
  change: (changes: PushRuleChanges) => PushRuleChanges | undefined,
): Promise<void> {
  await store.inTransaction(async (tx) => {
    if ((await lockUser(tx, userId, 'all')) === undefined) throw new AccountError('not-found', 'no such account');
    const stored = await readAccountData(tx, userId, null, PUSH_RULES);
    const changed = change(stored === undefined ? NO_CHANGES : changesIn(stored));
    if (changed === undefined) throw new AccountError('not-found', 'there is no such push rule');
    const content = canonicalJson(changed as unknown as Json);
    if (Buffer.byteLength(content) > PUSH_RULES_BYTES_MAX) {
      throw new AccountError('invalid', `push rules have at most ${PUSH_RULES_BYTES_MAX} bytes in all`);
    }
    upsertAccountData(tx, userId, { roomId: null, type: PUSH_RULES, content });
  });
}

/** As this file wrote them. */
function changesIn(stored: JsonObject): PushRuleChanges {
  return stored as unknown as PushRuleChanges;
}
