/** What accounts offer to edges, in shapes; no code. Times are milliseconds since the Unix epoch. Throws `AccountError`. */
import { type PushRules } from '../matrix/client/default-push-rules.ts';
import { type PushRuleChanges } from '../matrix/client/push-rules.ts';
import { type RoomId, type UserId } from '../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';

/** Who makes a request. */
export interface Requester {
  readonly userId: UserId;
  readonly deviceId: string;
}

/** What a login gives. */
export interface Login extends Requester {
  readonly accessToken: string;
  /** Null: the access token does not expire. */
  readonly refreshToken: string | null;
  /** How long the access token opens the door; null: until somebody logs out. */
  readonly expiresInMs: number | null;
}

/** As what a login is to be known. */
export interface NewSession {
  /** Absent: a new one is made. */
  readonly deviceId?: string | undefined;
  /** Of a device that is new. */
  readonly displayName?: string | undefined;
  /** Whether the client can refresh its token; then it expires. */
  readonly refreshable: boolean;
  /** Of who asks. */
  readonly address: string;
}

export interface NewUser {
  /** A local part or a whole user id; absent: a name is made. */
  readonly name?: string | undefined;
  /** `null`: nobody logs in by one, as with users of application services. */
  readonly password: string | null;
  readonly isAdmin: boolean;
}

export interface Device {
  readonly deviceId: string;
  readonly displayName: string | null;
  readonly lastSeenAt: number;
  readonly lastSeenAddress: string | null;
}

export interface Profile {
  readonly displayName: string | null;
  readonly avatarUrl: string | null;
}

/** With what else the user says of himself, by the names of the specification. */
export interface FullProfile extends Profile {
  readonly fields: JsonObject;
}

export interface Account {
  readonly userId: UserId;
  readonly isAdmin: boolean;
  readonly createdAt: number;
  readonly deactivatedAt: number | null;
}

/** An account, with what its user calls himself. */
export interface AccountEntry extends Account, Profile {}

export interface AccountsQuery {
  readonly offset: number;
  readonly limit: number;
  /** In the user id or the display name; `null`: all. */
  readonly name: string | null;
  readonly isAlsoDeactivated: boolean;
}

/** What a client publishes of its device; the members of the two objects are called `algorithm:key id`. */
export interface KeyUpload {
  /** Absent: those of before stay. */
  readonly deviceKeys?: JsonObject | undefined;
  readonly oneTimeKeys: JsonObject;
  readonly fallbackKeys: JsonObject;
}

/** What a user has published. */
export interface PublishedKeys {
  /** By device id, as clients signed them, with what others have signed of them. */
  readonly devices: ReadonlyMap<string, JsonObject>;
  /** `master`, `self_signing`, and for the user himself `user_signing`. */
  readonly crossSigning: ReadonlyMap<string, JsonObject>;
}

/** Keys by which a user vouches; absent ones stay as they are. */
export interface CrossSigningUpload {
  readonly master?: JsonObject | undefined;
  readonly self_signing?: JsonObject | undefined;
  readonly user_signing?: JsonObject | undefined;
}

export interface RefusedSignature {
  readonly userId: string;
  readonly key: string;
  readonly reason: string;
}

export interface Accounts {
  /** Whether somebody may register under that name; throws what registering would. */
  requireAvailable(name: string): Promise<void>;
  /** By a client: not under a name that has memberships already, which are somebody's. */
  registerUser(user: NewUser): Promise<UserId>;
  /** By whoever runs this server: a name with memberships gets its account. */
  createUser(user: NewUser): Promise<UserId>;
  /** Logs in a user who has just registered. */
  startSession(userId: UserId, session: NewSession): Promise<Login>;
  /** `name`: a local part or a whole user id. */
  logIn(name: string, password: string, session: NewSession): Promise<Login>;
  /** By a token that `giveLoginToken` gave. */
  logInByToken(loginToken: string, session: NewSession): Promise<Login>;
  /** By which somebody else is logged in as this user, once, within `expiresInMs`. */
  giveLoginToken(userId: UserId): Promise<{ readonly loginToken: string; readonly expiresInMs: number }>;
  /** Another access token for a refresh token, which stays good until the new ones are used. */
  refresh(refreshToken: string): Promise<Omit<Login, keyof Requester>>;
  /** Whose token this is. `address`: of who asks. */
  authenticate(accessToken: string, address: string): Promise<Requester>;
  logOut(requester: Requester): Promise<void>;
  logOutEverywhere(userId: UserId): Promise<void>;
  /** Throws `forbidden` for who is no administrator of this server. */
  requireAdmin(userId: UserId): Promise<void>;
  /** Throws unless it is the user's. */
  requirePassword(userId: UserId, password: string): Promise<void>;
  /** `keepDevice`: not logged out with the others; `null`: all are; absent: none is. */
  setPassword(userId: UserId, password: string, keepDevice?: string | null): Promise<void>;
  /** Logs out everywhere; nobody gets the name again. */
  deactivate(userId: UserId): Promise<void>;
  devices(userId: UserId): Promise<readonly Device[]>;
  device(userId: UserId, deviceId: string): Promise<Device>;
  renameDevice(userId: UserId, deviceId: string, name: string): Promise<void>;
  /** Those that are not there are gone already. */
  deleteDevices(userId: UserId, deviceIds: readonly string[]): Promise<void>;
  profile(userId: UserId): Promise<Profile>;
  /** The same; `undefined`: no such user has an account. */
  knownProfile(userId: UserId): Promise<FullProfile | undefined>;
  /** `null`: none from now on. */
  setProfile(userId: UserId, field: keyof Profile, value: string | null): Promise<void>;
  /** Another field; `undefined`: none from now on. Throws `key-too-large` and `profile-too-large`. */
  setProfileField(userId: UserId, name: string, value: Json | undefined): Promise<void>;
  /** Keeps a filter for syncs and gives its id: of the same filter the same. */
  saveFilter(userId: UserId, filter: JsonObject): Promise<string>;
  filter(userId: UserId, filterId: string): Promise<JsonObject>;
  /** Keeps keys of the requester's device, and gives how many one-time keys are left, by algorithm. */
  uploadKeys(requester: Requester, upload: KeyUpload): Promise<Readonly<Record<string, number>>>;
  /** Whether an upload takes the place of keys that are there. */
  replacesCrossSigningKeys(userId: UserId, upload: CrossSigningUpload): Promise<boolean>;
  uploadCrossSigningKeys(userId: UserId, upload: CrossSigningUpload): Promise<void>;
  /** Signed objects by user, and then by device id or public key. Gives those that are refused. */
  uploadSignatures(userId: UserId, signed: JsonObject): Promise<readonly RefusedSignature[]>;
  /** Keeps something for the user's clients; `roomId` `null`: of no room. */
  setAccountData(userId: UserId, roomId: RoomId | null, type: string, content: JsonObject): Promise<void>;
  accountData(userId: UserId, roomId: RoomId | null, type: string): Promise<JsonObject>;
  /** All that is kept of one room, as events. */
  roomAccountData(userId: UserId, roomId: RoomId): Promise<readonly JsonObject[]>;
  /** Gives another room what the user keeps of one that it takes the place of: tags, that it is a direct chat, and push rules. */
  followRoom(userId: UserId, from: RoomId, to: RoomId): Promise<void>;
  /** The more important first. */
  pushRules(userId: UserId): Promise<PushRules>;
  /** `change` gives `undefined` where there is no rule that it is about; it may be asked again. */
  changePushRules(userId: UserId, change: (changes: PushRuleChanges) => PushRuleChanges | undefined): Promise<void>;
  /** Accounts after a user id, in their order. */
  list(after: string, limit: number): Promise<readonly Account[]>;
  /** Part of those that are looked for, in the order of their ids, and how many these are in all. */
  page(query: AccountsQuery): Promise<{ readonly users: readonly AccountEntry[]; readonly total: number }>;
}

/** What is to be registered by whoever knows the secret that this server shares with tools. */
export interface SignedRegistration {
  readonly nonce: string;
  readonly username: string;
  readonly password: string;
  readonly admin: boolean;
  readonly userType?: string | undefined;
  /** HMAC-SHA1 of the rest, in hex. */
  readonly mac: string;
}

export interface SecretRegistration {
  nonce(): string;
  /** `stale`: the nonce is not one of ours, or too old. */
  check(request: SignedRegistration): 'right' | 'wrong' | 'stale';
}
