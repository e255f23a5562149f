/**
 * Logging in and out. An access token that can be refreshed expires; a refresh token stays good until what was given for it
 * is used, so that a client which lost the answer asks again.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#client-authentication and #refreshing-access-tokens
 */
import { type UserId } from '../matrix/identifiers.ts';
import { type Transaction } from '../store/open-store.ts';
import { countDevices, deleteDevices, lockDevice, touchDevice, upsertDevice } from '../store/tables/devices.ts';
import {
  type SessionRow,
  deleteFollowers,
  deleteSessions,
  insertSession,
  lockRefreshable,
  readRefreshable,
  readSession,
  settleSession,
} from '../store/tables/sessions.ts';
import { insertLoginToken, takeLoginToken } from '../store/tables/login-tokens.ts';
import { lockUser, readUser } from '../store/tables/users.ts';
import { type AccountsContext } from './context.ts';
import { type Login, type NewSession, type Requester } from './contract.ts';
import { AccountError } from './error.ts';
import { knownUserId, requireDeviceId } from './names.ts';
import { hashToken, makeDeviceId, makeToken } from './tokens.ts';

/** When a device was last used is told to the minute: a row a request would cost more than it tells. */
const SEEN_EVERY_MS = 60_000;

/** Logs in by name and password. The same words for a name that is not there and for a wrong password. */
export async function logIn(
  context: AccountsContext,
  name: string,
  password: string,
  session: NewSession,
): Promise<Login> {
  const userId = knownUserId(name, context.store.serverName);
  const user = userId && (await readUser(context.store, userId));
  const isRight = await context.passwords.matches(password, user?.passwordHash ?? null);
  // Its password is gone, so that nobody finds out who was here once but by the name being taken.
  if (!isRight || user === undefined) throw new AccountError('forbidden', 'name and password do not belong together');
  return startSession(context, user.userId, session, user.passwordHash);
}

/** How long a login token is good: it is shown to a device that is at hand. */
const LOGIN_TOKEN_MS = 120_000;

/** Source: https://spec.matrix.org/v1.16/client-server-api/#post_matrixclientv1loginget_token */
export async function giveLoginToken(
  { store, clock }: AccountsContext,
  userId: UserId,
): Promise<{ readonly loginToken: string; readonly expiresInMs: number }> {
  const loginToken = makeToken('login');
  const now = clock.now();
  await store.inTransaction(async (tx) => {
    // An account that is closed meanwhile, or has another password, leaves no token behind.
    if ((await lockUser(tx, userId, 'share')) === undefined) {
      throw new AccountError('deactivated', 'this account is closed');
    }
    await insertLoginToken(tx, { tokenHash: hashToken(loginToken), userId, expiresAt: now + LOGIN_TOKEN_MS }, now);
  });
  return { loginToken, expiresInMs: LOGIN_TOKEN_MS };
}

/** Logs in by such a token, which is gone then, whether it was good or not. */
export async function logInByToken(context: AccountsContext, loginToken: string, session: NewSession): Promise<Login> {
  const found = await takeLoginToken(context.store, hashToken(loginToken));
  if (found === undefined || found.expiresAt <= context.clock.now()) {
    throw new AccountError('forbidden', 'this login token is not known, or not any more');
  }
  return startSession(context, found.userId, session);
}

/**
 * Logs a user in. A device that is logged in already loses its old tokens. Throws `too-many-devices` for one more than there may be: none is
 * logged out for another's sake.
 *
 * @param passwordHash what the password was checked against: it may have been changed since; absent: none was asked for
 */
export async function startSession(
  context: AccountsContext,
  userId: UserId,
  { deviceId: wanted, displayName, refreshable, address }: NewSession,
  passwordHash?: string | null,
): Promise<Login> {
  const deviceId = wanted === undefined ? makeDeviceId() : requireDeviceId(wanted);
  const { devicesMax } = context;
  return context.store.inTransaction(async (tx) => {
    // Of two that log in at once one is counted before the other.
    const user = await lockUser(tx, userId, 'all');
    if (user === undefined) throw new AccountError('deactivated', 'this account is closed');
    if (passwordHash !== undefined && user.passwordHash !== passwordHash) {
      throw new AccountError('forbidden', 'the password was changed meanwhile');
    }
    const createdAt = context.clock.now();
    const device = { userId, deviceId, displayName: displayName ?? null, createdAt, lastSeenAddress: address };
    const isNew = await upsertDevice(tx, device);
    if (isNew && (await countDevices(tx, userId, devicesMax + 1)) > devicesMax) {
      throw new AccountError(
        'too-many-devices',
        `${userId} has ${devicesMax} devices, as many as a user may have: log one of them out first`,
      );
    }
    await deleteSessions(tx, userId, deviceId);
    return { userId, deviceId, ...(await giveTokens(context, tx, { userId, deviceId }, refreshable, null)) };
  });
}

/** The device's row is locked. */
async function giveTokens(
  { clock, accessTokenMs }: AccountsContext,
  tx: Transaction,
  requester: Requester,
  refreshable: boolean,
  follows: Buffer | null,
): Promise<Omit<Login, keyof Requester>> {
  const accessToken = makeToken('access');
  const refreshToken = refreshable ? makeToken('refresh') : null;
  const expiresInMs = refreshable ? accessTokenMs : null;
  const createdAt = clock.now();
  await insertSession(tx, {
    ...requester,
    accessHash: hashToken(accessToken),
    refreshHash: refreshToken === null ? null : hashToken(refreshToken),
    createdAt,
    expiresAt: expiresInMs === null ? null : createdAt + expiresInMs,
    follows,
  });
  return { accessToken, refreshToken, expiresInMs };
}

/** Another access token, and another refresh token, for a refresh token. */
export async function refresh(context: AccountsContext, refreshToken: string): Promise<Omit<Login, keyof Requester>> {
  const hash = hashToken(refreshToken);
  const unknown = new AccountError('unknown-token', 'this refresh token is not known any more');
  const found = await readRefreshable(context.store, hash);
  if (found === undefined) throw unknown;
  return context.store.inTransaction(async (tx) => {
    // In the order of whoever logs out: first the device.
    if (!(await lockDevice(tx, found.userId, found.deviceId))) throw unknown;
    const session = await lockRefreshable(tx, hash);
    if (session === undefined) throw unknown;
    await settleSession(tx, session);
    await deleteFollowers(tx, session.accessHash);
    return giveTokens(context, tx, { userId: found.userId, deviceId: found.deviceId }, true, session.accessHash);
  });
}

/** Whose token this is; one statement, and another one once a minute. */
export async function authenticate(
  { store, clock }: AccountsContext,
  accessToken: string,
  address: string,
): Promise<Requester> {
  const session = await readSession(store, hashToken(accessToken));
  if (session === undefined) throw new AccountError('unknown-token', 'this access token is not known');
  const now = clock.now();
  if (isExpired(session, now)) {
    throw new AccountError('unknown-token', 'this access token has expired', { softLogout: true });
  }
  await settleSession(store, session);
  const { userId, deviceId } = session;
  if (now - session.lastSeenAt >= SEEN_EVERY_MS) {
    await touchDevice(store, { userId, deviceId, lastSeenAt: now, lastSeenAddress: address });
  }
  return { userId, deviceId };
}

function isExpired({ expiresAt }: Pick<SessionRow, 'expiresAt'>, now: number): boolean {
  return expiresAt !== null && expiresAt <= now;
}

/** Logs a device out; it is gone. */
export async function logOut({ store }: AccountsContext, { userId, deviceId }: Requester): Promise<void> {
  await store.inTransaction((tx) => deleteDevices(tx, userId, { these: [deviceId] }));
}

/** Logs all devices of a user out, those that log in meanwhile too. */
export async function logOutEverywhere({ store }: AccountsContext, userId: UserId): Promise<void> {
  await store.inTransaction(async (tx) => {
    await lockUser(tx, userId, 'all');
    await deleteDevices(tx, userId, { allBut: [] });
  });
}
