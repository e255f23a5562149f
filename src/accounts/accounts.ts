/** Users of this server: who there is, what they call themselves, and what an edge is given of it all. */
import { type UserId } from '../matrix/identifiers.ts';
import { type Store } from '../store/open-store.ts';
import { deleteLoginTokens } from '../store/tables/login-tokens.ts';
import { deleteDevices, readDevice, readDevices, renameDevice } from '../store/tables/devices.ts';
import {
  type UserRow,
  hasMemberships,
  insertUser,
  lockUser,
  markDeactivated,
  readUser,
  readUsers,
  readUsersPage,
  setPasswordHash,
  setProfile,
} from '../store/tables/users.ts';
import { deleteProfileFields, readProfileFields } from '../store/tables/profile-fields.ts';
import { setProfileField } from './profile-fields.ts';
import { readRoomAccountData } from '../store/tables/account-data.ts';
import { followRoom } from './follow-room.ts';
import { accountData, changePushRules, readPushRules, setAccountData } from './account-data.ts';
import { type AccountsContext } from './context.ts';
import { type Accounts, type NewUser, type Profile } from './contract.ts';
import { AccountError } from './error.ts';
import { replacesCrossSigningKeys, uploadCrossSigningKeys, uploadSignatures } from './cross-signing.ts';
import { uploadKeys } from './device-keys.ts';
import { saveFilter, savedFilter } from './filters.ts';
import { newUserId } from './names.ts';
import {
  authenticate,
  giveLoginToken,
  logIn,
  logInByToken,
  logOut,
  logOutEverywhere,
  refresh,
  startSession,
} from './sessions.ts';
import { makeLocalpart } from './tokens.ts';

/** Display names and the URLs of avatars, as in membership events, which hold 64 KiB in all. */
const PROFILE_BYTES_MAX = 1000;
/** Names of devices: for a list on a screen. */
const DEVICE_NAME_BYTES_MAX = 500;

/** Puts the use cases together for the edges. */
export function createAccounts(context: AccountsContext): Accounts {
  const { store } = context;
  return {
    requireAvailable: async (name) => {
      const userId = newUserId(name, store.serverName);
      if ((await readUser(store, userId)) !== undefined || (await hasMemberships(store, userId))) throw inUse(userId);
    },
    registerUser: async (user) => {
      const userId = newUserId(user.name ?? makeLocalpart(), store.serverName);
      if (await hasMemberships(store, userId)) throw inUse(userId);
      return makeUser(context, userId, user);
    },
    createUser: (user) => makeUser(context, newUserId(user.name ?? makeLocalpart(), store.serverName), user),
    startSession: (userId, session) => startSession(context, userId, requireNamed(session)),
    logIn: (name, password, session) => logIn(context, name, password, requireNamed(session)),
    logInByToken: (loginToken, session) => logInByToken(context, loginToken, requireNamed(session)),
    giveLoginToken: (userId) => giveLoginToken(context, userId),
    refresh: (refreshToken) => refresh(context, refreshToken),
    authenticate: (accessToken, address) => authenticate(context, accessToken, address),
    logOut: (requester) => logOut(context, requester),
    logOutEverywhere: (userId) => logOutEverywhere(context, userId),
    requireAdmin: async (userId) => {
      if ((await readUser(store, userId))?.isAdmin !== true) {
        throw new AccountError('forbidden', `${userId} is no administrator of this server`);
      }
    },
    requirePassword: async (userId, password) => {
      const { passwordHash } = await requireUser(context, userId);
      if (await context.passwords.matches(password, passwordHash)) return;
      throw new AccountError('forbidden', 'that is not the password');
    },
    setPassword: async (userId, password, keepDevice) => {
      const hash = await context.passwords.hash(password);
      await store.inTransaction(async (tx) => {
        if ((await lockUser(tx, userId, 'all')) === undefined) throw notFound(userId);
        await setPasswordHash(tx, userId, hash);
        await deleteLoginTokens(tx, userId);
        if (keepDevice === undefined) return;
        await deleteDevices(tx, userId, { allBut: keepDevice === null ? [] : [keepDevice] });
      });
    },
    deactivate: async (userId) => {
      await store.inTransaction(async (tx) => {
        if ((await lockUser(tx, userId, 'all')) === undefined) throw notFound(userId);
        await markDeactivated(tx, userId, context.clock.now());
        await deleteProfileFields(tx, userId);
        await deleteLoginTokens(tx, userId);
        await deleteDevices(tx, userId, { allBut: [] });
      });
    },
    devices: (userId) => readDevices(store, userId),
    device: async (userId, deviceId) => {
      const device = isStorable(deviceId) ? await readDevice(store, userId, deviceId) : undefined;
      if (device === undefined) throw new AccountError('not-found', 'there is no such device');
      return device;
    },
    renameDevice: async (userId, deviceId, name) => {
      requireNamed({ displayName: name });
      if (isStorable(deviceId) && (await renameDevice(store, userId, deviceId, name))) return;
      throw new AccountError('not-found', 'there is no such device');
    },
    deleteDevices: async (userId, deviceIds) => {
      await store.inTransaction((tx) => deleteDevices(tx, userId, { these: deviceIds.filter(isStorable) }));
    },
    profile: async (userId) => {
      const profile = await knownProfile(store, userId);
      if (profile === undefined) throw notFound(userId);
      return profile;
    },
    knownProfile: async (userId) => {
      const profile = await knownProfile(store, userId);
      return profile && { ...profile, fields: await readProfileFields(store, userId) };
    },
    setProfileField: (userId, name, value) => setProfileField(context, userId, name, value),
    setProfile: async (userId, field, value) => {
      if (value !== null && Buffer.byteLength(value) > PROFILE_BYTES_MAX) {
        throw new AccountError('invalid', `at most ${PROFILE_BYTES_MAX} bytes`);
      }
      await store.inTransaction((tx) => setProfile(tx, userId, field, value));
    },
    saveFilter: (userId, filter) => saveFilter(context, userId, filter),
    filter: (userId, filterId) => savedFilter(context, userId, filterId),
    uploadKeys: (requester, upload) => uploadKeys(context, requester, upload),
    replacesCrossSigningKeys: (userId, upload) => replacesCrossSigningKeys(context, userId, upload),
    uploadCrossSigningKeys: (userId, upload) => uploadCrossSigningKeys(context, userId, upload),
    uploadSignatures: (userId, signed) => uploadSignatures(context, userId, signed),
    setAccountData: (userId, roomId, type, content) => setAccountData(context, userId, roomId, type, content),
    accountData: (userId, roomId, type) => accountData(context, userId, roomId, type),
    roomAccountData: async (userId, roomId) =>
      (await readRoomAccountData(store, userId, roomId)).map(({ type, content }) => ({ type, content })),
    followRoom: (userId, from, to) => followRoom(context, userId, from, to),
    pushRules: (userId) => readPushRules(store, userId),
    changePushRules: (userId, change) => changePushRules(context, userId, change),
    page: (query) => readUsersPage(store, query),
    list: async (after, limit) =>
      (await readUsers(store, after, limit)).map(({ userId, isAdmin, createdAt, deactivatedAt }) => {
        return { userId, isAdmin, createdAt, deactivatedAt };
      }),
  };
}

async function makeUser(
  { store, clock, passwords }: AccountsContext,
  userId: UserId,
  { password, isAdmin }: NewUser,
): Promise<UserId> {
  // Looked at before, too: a hash costs more than a look.
  if ((await readUser(store, userId)) !== undefined) throw inUse(userId);
  const passwordHash = password === null ? null : await passwords.hash(password);
  const isNew = await insertUser(store, { userId, passwordHash, isAdmin, createdAt: clock.now() });
  if (!isNew) throw inUse(userId);
  return userId;
}

async function requireUser({ store }: AccountsContext, userId: UserId): Promise<UserRow> {
  const user = await readUser(store, userId);
  if (user === undefined) throw notFound(userId);
  return user;
}

/** Throws where a device's name is too long. */
function requireNamed<Named extends { readonly displayName?: string | undefined }>(session: Named): Named {
  if (Buffer.byteLength(session.displayName ?? '') <= DEVICE_NAME_BYTES_MAX) return session;
  throw new AccountError('invalid', `the name of a device has at most ${DEVICE_NAME_BYTES_MAX} bytes`);
}

/** No device has an id that holds NUL, and the database would not take the question. */
function isStorable(deviceId: string): boolean {
  return !deviceId.includes('\0');
}

function inUse(userId: UserId): AccountError {
  return new AccountError('user-in-use', `${userId} is taken`);
}

function notFound(userId: UserId): AccountError {
  return new AccountError('not-found', `there is no account ${userId}`);
}

async function knownProfile(store: Store, userId: UserId): Promise<Profile | undefined> {
  const user = await readUser(store, userId);
  if (user === undefined || user.deactivatedAt !== null) return undefined;
  return { displayName: user.displayName, avatarUrl: user.avatarUrl };
}
