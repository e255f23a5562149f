/** What passes between the pool and its threads. A chunk is prepared, waits in its thread for keys, then is verified. */
import { type EventId, type KeyId, type RoomId, type ServerName } from '../matrix/identifiers.ts';
import { type RequestClaim } from '../matrix/signing/signed-request.ts';
import { type CheckOutcome, type CheckedPdu, type ReadBody, type ScreenedEvent, type VerifyKey } from './contract.ts';
import { type RawEvents } from './batch.ts';

export interface PrepareRequest extends RawEvents {
  readonly type: 'prepare';
  readonly chunk: number;
  readonly roomVersion: string;
  readonly roomId: RoomId;
  readonly capReferences: boolean;
}

export interface VerifyRequest {
  readonly type: 'verify';
  readonly chunk: number;
  /** One for each event: 1 when it is held already and must not be verified. */
  readonly held: Uint8Array;
  readonly keys: readonly VerifyKey[];
}

/** The chunk's caller went away. */
export interface ForgetRequest {
  readonly type: 'forget';
  readonly chunk: number;
}

/** The body of a signed request is read, and its signatures are verified. */
export interface ReadBodyRequest {
  readonly type: 'read-body';
  readonly chunk: number;
  readonly claim: RequestClaim;
  readonly body: Uint8Array<ArrayBuffer>;
}

/** Events are looked at, and nothing is kept of them. */
export interface ScreenRequest extends RawEvents {
  readonly type: 'screen';
  readonly chunk: number;
  readonly roomVersion: string;
  readonly roomId: RoomId;
  readonly capReferences: boolean;
}

export type ThreadRequest = PrepareRequest | VerifyRequest | ForgetRequest | ReadBodyRequest | ScreenRequest;

/** A key that some signature in the chunk names. */
export interface NamedKey {
  readonly serverName: ServerName;
  readonly keyId: KeyId;
}

export interface PreparedReply {
  readonly type: 'prepared';
  readonly chunk: number;
  /** `null` where the event is malformed or broken beyond verification. */
  readonly eventIds: readonly (EventId | null)[];
  readonly keys: readonly NamedKey[];
  /** For each event, the indices in `keys` that its required signatures name. */
  readonly needs: readonly (readonly number[])[];
  /** For each event, when its keys must be valid. */
  readonly validAtTs: readonly number[];
}

/** Without the body, which the pool has as it was received. */
export type ThreadOutcome =
  Exclude<CheckOutcome, { outcome: 'passed' }> | { readonly outcome: 'passed'; readonly pdu: Omit<CheckedPdu, 'json'> };

export interface VerifiedReply {
  readonly type: 'verified';
  readonly chunk: number;
  readonly outcomes: readonly ThreadOutcome[];
  /** Of each event, the body that is kept in place of the one received; empty: that one is kept. */
  readonly rewritten: RawEvents;
}

export interface BodyReadReply {
  readonly type: 'body-read';
  readonly chunk: number;
  readonly body: ReadBody;
}

/** As `ScreenedEvent`, without the text, which the pool has as it was received. */
export type ThreadScreened =
  Exclude<ScreenedEvent, { outcome: 'sound' }> | Omit<Extract<ScreenedEvent, { outcome: 'sound' }>, 'raw'>;

export interface ScreenedReply {
  readonly type: 'screened';
  readonly chunk: number;
  readonly events: readonly ThreadScreened[];
  /** Of each event, the text that is kept in place of the one received; empty: that one is kept. */
  readonly rewritten: RawEvents;
}

/** The chunk could not be worked on for a fault of ours; the thread itself goes on. */
export interface FailedReply {
  readonly type: 'failed';
  readonly chunk: number;
  readonly message: string;
}

export type ThreadReply = PreparedReply | VerifiedReply | BodyReadReply | ScreenedReply | FailedReply;
