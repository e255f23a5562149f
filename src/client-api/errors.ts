/** The client API's one table from what went wrong to status and errcode. */
import { AccountError, type AccountErrorKind } from '../accounts/error.ts';
import { MatrixError } from '../http/matrix-error.ts';
import { type NotReady } from '../rooms/contract.ts';
import { RoomError, type RoomErrorKind } from '../rooms/error.ts';
import { SyncError, type SyncErrorKind } from '../sync/error.ts';
import { PROGRESS, progressOf } from './progress.ts';

type ErrorAnswer = readonly [status: number, errcode: string];

/** Source: https://spec.matrix.org/v1.16/client-server-api/#standard-error-response */
const ACCOUNT_ERROR_ANSWERS: Readonly<Record<AccountErrorKind, ErrorAnswer>> = {
  'unknown-token': [401, 'M_UNKNOWN_TOKEN'],
  forbidden: [403, 'M_FORBIDDEN'],
  deactivated: [403, 'M_USER_DEACTIVATED'],
  'too-many-devices': [403, 'M_FORBIDDEN'],
  'user-in-use': [400, 'M_USER_IN_USE'],
  'invalid-username': [400, 'M_INVALID_USERNAME'],
  'weak-password': [400, 'M_WEAK_PASSWORD'],
  'not-found': [404, 'M_NOT_FOUND'],
  reserved: [405, 'M_BAD_JSON'],
  'invalid-signature': [400, 'M_INVALID_SIGNATURE'],
  missing: [400, 'M_MISSING_PARAM'],
  'key-too-large': [400, 'M_KEY_TOO_LARGE'],
  'profile-too-large': [400, 'M_PROFILE_TOO_LARGE'],
  invalid: [400, 'M_INVALID_PARAM'],
  'too-many': [429, 'M_LIMIT_EXCEEDED'],
};

const ROOM_ERROR_ANSWERS: Readonly<Record<RoomErrorKind, ErrorAnswer>> = {
  'unknown-alias': [404, 'M_NOT_FOUND'],
  'alias-in-use': [400, 'M_ROOM_IN_USE'],
  'unknown-room': [404, 'M_NOT_FOUND'],
  'unknown-event': [404, 'M_NOT_FOUND'],
  'unknown-user': [400, 'M_INVALID_PARAM'],
  // Definite: whoever asks again gets the same, until an operator, a join or the room's own servers change it.
  parked: [404, 'M_NOT_FOUND'],
  // No client commands rooms.
  inapplicable: [409, 'M_UNKNOWN'],
  forbidden: [403, 'M_FORBIDDEN'],
  'no-resident': [502, 'M_UNKNOWN'],
  'unusable-answer': [502, 'M_UNKNOWN'],
  'unsupported-version': [400, 'M_UNSUPPORTED_ROOM_VERSION'],
  busy: [409, 'M_UNKNOWN'],
  'last-leave': [403, 'M_FORBIDDEN'],
  'needs-force': [400, 'M_UNKNOWN'],
  'too-many': [429, 'M_LIMIT_EXCEEDED'],
  malformed: [400, 'M_BAD_JSON'],
  'too-large': [413, 'M_TOO_LARGE'],
  invalid: [400, 'M_INVALID_PARAM'],
};

const SYNC_ERROR_ANSWERS: Readonly<Record<SyncErrorKind, ErrorAnswer>> = { invalid: [400, 'M_INVALID_PARAM'] };

/** When to come back after more was asked of passwords than this server does at a time, milliseconds. */
const BUSY_MS = 2_000;

/** What the API answers where a use case failed. */
export function translateError(error: unknown): MatrixError | undefined {
  if (error instanceof AccountError) return ofAccounts(error);
  if (error instanceof SyncError) return new MatrixError(...SYNC_ERROR_ANSWERS[error.kind], error.message);
  return error instanceof RoomError ? ofRooms(error) : undefined;
}

function ofAccounts({ kind, message, softLogout }: AccountError): MatrixError {
  const [status, errcode] = ACCOUNT_ERROR_ANSWERS[kind];
  if (kind === 'unknown-token') return new MatrixError(status, errcode, message, { soft_logout: softLogout });
  return new MatrixError(status, errcode, message, kind === 'too-many' ? { retry_after_ms: BUSY_MS } : {});
}

function ofRooms({ kind, message, retryAfterMs }: RoomError): MatrixError {
  const [status, errcode] = ROOM_ERROR_ANSWERS[kind];
  return new MatrixError(status, errcode, message, retryAfterMs === undefined ? {} : { retry_after_ms: retryAfterMs });
}

/** What is answered while a room has no full state: why, how far it is, and when to ask again. */
export function notReady({ reason, retryAfterMs, resync }: NotReady): MatrixError {
  const details = { retry_after_ms: retryAfterMs, [PROGRESS]: progressOf(resync) };
  return new MatrixError(503, 'M_UNABLE_DUE_TO_PARTIAL_STATE', reason, details);
}
