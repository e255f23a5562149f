/** What verification takes and gives; no code, so that threads, store and tests share it without sharing anything else. */
import { type EventId, type KeyId, type RoomId, type ServerName, type UserId } from '../matrix/identifiers.ts';
import { type Relation } from '../matrix/client/relation.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type EduType } from '../matrix/transactions.ts';
import { type Refusal } from '../matrix/refusal.ts';
import { type RequestClaim } from '../matrix/signing/signed-request.ts';

/** A PDU that passed checks 1 to 3 (format, signatures, content hash), in the columns that storing needs. */
export interface CheckedPdu {
  readonly eventId: EventId;
  readonly roomId: RoomId;
  /**
   * JSON text in UTF-8, as received after the checks; the redacted event's canonical JSON when `hollow`. Bytes, because a
   * state is 100 MB of them that go from a socket to the database: as strings they would be most of the garbage.
   */
  readonly json: Uint8Array;
  readonly type: string;
  /** `null`: not a state event. */
  readonly stateKey: string | null;
  readonly sender: UserId;
  /** `content.membership` of an m.room.member event, when it is a string. */
  readonly membership: string | null;
  readonly depth: bigint;
  readonly originServerTs: number;
  readonly prevEvents: readonly EventId[];
  readonly authEvents: readonly EventId[];
  /** The content hash did not match: the event is kept redacted until a matching body arrives. */
  readonly hollow: boolean;
  /** Which event its content says that it relates to; absent: none. */
  readonly relation?: Relation | undefined;
}

/** One outcome for each raw event given, in the order given. */
export type CheckOutcome =
  | { readonly outcome: 'passed'; readonly pdu: CheckedPdu }
  /** No key could be had for a required signature, or none that is valid yet: the event counts as missing, not as wrong. */
  | {
      readonly outcome: 'key-missing';
      readonly eventId: EventId;
      readonly type: string;
      readonly serverName: ServerName;
      readonly keyId: KeyId | null;
    }
  | {
      readonly outcome: 'bad-signature';
      readonly eventId: EventId;
      readonly type: string;
      readonly serverName: ServerName;
      readonly reason: string;
    }
  /** Already known by id: neither verified nor returned. */
  | { readonly outcome: 'skipped'; readonly eventId: EventId }
  /** Not an event of this room version and room; `eventId` and `type` where it has them all the same. */
  | {
      readonly outcome: 'malformed';
      readonly eventId: EventId | null;
      readonly type: string | null;
      readonly rule: string;
      readonly reason: string;
    };

/** What is seen of an event before its signatures are verified. */
export type ScreenedEvent =
  | {
      readonly outcome: 'sound';
      readonly eventId: EventId;
      readonly prevEvents: readonly EventId[];
      readonly authEvents: readonly EventId[];
      readonly depth: number;
      /** All that the event carries, as canonical JSON: two copies of an event differ in nothing else. */
      readonly signatures: string;
      /** As received, or as canonical JSON where it held `unsigned`, which nothing covers, or more bytes than an event may. */
      readonly raw: Uint8Array;
    }
  /** `eventId`: of an event that breaks the format, where it has one all the same. */
  | {
      readonly outcome: 'refused';
      readonly eventId: EventId | null;
      /** It is an event, of another room. */
      readonly isForeign: boolean;
      readonly reason: string;
    };

/** The body of a signed request, of which all signatures are good. */
export interface SignedBody {
  /** Its member `origin`, where that is a string. */
  readonly origin: string | null;
  /** What it holds as a transaction; or why it is none. */
  readonly transaction:
    | {
        readonly ok: true;
        readonly pdus: readonly BodyPdu[];
        readonly dropped: number;
        readonly edus: readonly BodyEdu[];
        /** EDUs that are too large, of no form, or of a type that nobody here knows. */
        readonly droppedEdus: number;
      }
    | Refusal;
}

/** Something that is not kept in a room's history; its content is whatever a stranger wrote. */
export interface BodyEdu {
  readonly type: EduType;
  readonly content: JsonObject;
}

/** Where in a body a PDU lies, and the room that it names. */
export interface BodyPdu {
  readonly start: number;
  readonly end: number;
  readonly roomId: RoomId;
}

/** Reads bodies elsewhere than where requests are answered: a body may take seconds. */
export interface BodyReader {
  /** Refuses with the rules of `parseJson`, of `verifyRequest`, `body.size`, `body.pdus` and `body.edus`. */
  readBody(claim: RequestClaim, body: Uint8Array, signal: AbortSignal): Promise<ReadBody>;
}

export type ReadBody = ({ readonly ok: true } & SignedBody) | Refusal;

/** A key that some event's required signature names. */
export interface KeyRequest {
  readonly serverName: ServerName;
  readonly keyId: KeyId;
  /** The newest origin_server_ts that the key must still be valid at, in rooms that enforce key validity. */
  readonly validAtTs: number;
}

/** A server's public key and how long it may be used; times in milliseconds since the Unix epoch. */
interface PublicKey {
  readonly serverName: ServerName;
  readonly keyId: KeyId;
  /** 32 bytes, unpadded base64. */
  readonly publicKey: string;
  /** Until when an event may be signed by it: `valid_until_ts`, or `expired_ts` of an old key. */
  readonly validUntilTs: number;
}

/** A key as events are verified with it. */
export interface VerifyKey extends PublicKey {
  /** Until when a fresher answer about it could let it be valid: an event signed after that is badly signed for good. */
  readonly renewableUntilTs: number;
}

/** A key as it is kept: with what is known about its freshness. */
export interface KnownKey extends PublicKey {
  /** Published under `old_verify_keys`: it signs nothing new. */
  readonly expired: boolean;
  /** Milliseconds since the Unix epoch. */
  readonly fetchedAt: number;
}

/** Where keys are kept. */
export interface KeyStore {
  /** The stored keys among those named; valid long enough or not. */
  readKeys(requests: readonly Pick<KeyRequest, 'serverName' | 'keyId'>[]): Promise<readonly KnownKey[]>;
  /**
   * Keeps keys. The newest answer about a key counts, by `fetchedAt`: a server that lost its disk may come back with another
   * key under the same id. Of one key, an expiry stays and validity is not shortened otherwise.
   */
  storeKeys(keys: readonly KnownKey[]): Promise<void>;
}

/**
 * For what keys are wanted, so that nothing keeps everything else waiting: events that others push, requests to us that
 * nobody has verified yet, or the state of a room that we fetch.
 */
export type KeyAsker = 'pushed' | 'request' | RoomId;

/** Finds keys: from the cache, the servers themselves, or notaries. Keys that cannot be had are absent; never throws for one. */
export type KeyResolver = (
  requests: readonly KeyRequest[],
  signal: AbortSignal,
  asker?: KeyAsker,
) => Promise<readonly VerifyKey[]>;
