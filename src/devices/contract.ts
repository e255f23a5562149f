/** What may be asked of devices and their keys, here and on other servers, in shapes; no code. Throws `AccountError`. */
import { type PublishedKeys, type Requester } from '../accounts/contract.ts';
import { type ServerName, type UserId } from '../matrix/identifiers.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type ClaimedKey, type KeyClaim } from '../store/tables/device-keys.ts';

export type { ClaimedKey, KeyClaim };

/** How long other servers are waited for. */
export interface Patience {
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/** Of users what they have published; who is absent has published nothing, or his server is among the failures. */
export interface KeysAnswer {
  readonly users: ReadonlyMap<UserId, PublishedKeys>;
  /** Servers that could not be asked, and why. */
  readonly failures: ReadonlyMap<ServerName, string>;
}

export interface ClaimAnswer {
  /** By user, by device id, by `algorithm:key id`. */
  readonly keys: Readonly<Record<string, Readonly<Record<string, Readonly<Record<string, Json>>>>>>;
  readonly failures: ReadonlyMap<ServerName, string>;
}

/** Messages by user, and by device id or `*` for all his devices. */
export type ToDeviceMessages = Readonly<Record<string, Readonly<Record<string, JsonObject>>>>;

/** For clients. */
export interface Devices {
  /** `viewer`: who asks. */
  query(viewer: UserId, userIds: readonly UserId[], patience: Patience): Promise<KeysAnswer>;
  /** Each claim is named once. */
  claim(claims: readonly KeyClaim[], patience: Patience): Promise<ClaimAnswer>;
  /** Sends messages, once under a transaction id: to users of this server at once, to others in the background. */
  send(
    from: Requester,
    message: { readonly type: string; readonly txnId: string },
    to: ToDeviceMessages,
  ): Promise<void>;
}

/** What a user has published, and the stream id of the newest change, for other servers. */
export interface ListedDevices extends PublishedKeys {
  readonly streamId: number;
}

/** For other servers. */
export interface DeviceAnswers {
  /** `undefined`: there is no such user. */
  devicesOf(userId: UserId): Promise<ListedDevices | undefined>;
  keysOf(userIds: readonly UserId[]): Promise<ReadonlyMap<UserId, PublishedKeys>>;
  claimOf(claims: readonly KeyClaim[]): Promise<readonly ClaimedKey[]>;
}
