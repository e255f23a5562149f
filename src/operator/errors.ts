/** The operator API's one table from what went wrong to status and errcode. */
import { AccountError, type AccountErrorKind } from '../accounts/error.ts';
import { MatrixError } from '../http/matrix-error.ts';
import { type NotReady } from '../rooms/contract.ts';
import { RoomError, type RoomErrorKind } from '../rooms/error.ts';
import { progressAnswer } from './answers.ts';

interface ErrorAnswer {
  readonly status: number;
  readonly errcode: string;
}

/** Codes of the Matrix specification where it has one, `REJOINDER_…` where it has none. */
export const ROOM_ERROR_ANSWERS: Readonly<Record<RoomErrorKind, ErrorAnswer>> = {
  'unknown-alias': { status: 404, errcode: 'M_NOT_FOUND' },
  'alias-in-use': { status: 400, errcode: 'M_ROOM_IN_USE' },
  'unknown-room': { status: 404, errcode: 'M_NOT_FOUND' },
  'unknown-event': { status: 404, errcode: 'M_NOT_FOUND' },
  'unknown-user': { status: 400, errcode: 'M_INVALID_PARAM' },
  parked: { status: 409, errcode: 'REJOINDER_PARKED' },
  inapplicable: { status: 409, errcode: 'REJOINDER_INAPPLICABLE' },
  forbidden: { status: 403, errcode: 'M_FORBIDDEN' },
  'no-resident': { status: 502, errcode: 'REJOINDER_NO_RESIDENT' },
  'unusable-answer': { status: 502, errcode: 'REJOINDER_UNUSABLE_ANSWER' },
  'unsupported-version': { status: 400, errcode: 'M_UNSUPPORTED_ROOM_VERSION' },
  busy: { status: 409, errcode: 'REJOINDER_BUSY' },
  'last-leave': { status: 409, errcode: 'REJOINDER_LAST_LEAVE' },
  'needs-force': { status: 409, errcode: 'REJOINDER_NEEDS_FORCE' },
  'too-many': { status: 429, errcode: 'M_LIMIT_EXCEEDED' },
  malformed: { status: 400, errcode: 'M_BAD_JSON' },
  'too-large': { status: 413, errcode: 'M_TOO_LARGE' },
  invalid: { status: 400, errcode: 'M_INVALID_PARAM' },
};

/** Likewise of users. Nobody logs in here, so no token and no password is ever refused. */
const ACCOUNT_ERROR_ANSWERS: Readonly<Record<AccountErrorKind, ErrorAnswer>> = {
  'unknown-token': { status: 403, errcode: 'M_FORBIDDEN' },
  forbidden: { status: 403, errcode: 'M_FORBIDDEN' },
  deactivated: { status: 403, errcode: 'M_USER_DEACTIVATED' },
  'too-many-devices': { status: 403, errcode: 'M_FORBIDDEN' },
  'user-in-use': { status: 400, errcode: 'M_USER_IN_USE' },
  'invalid-username': { status: 400, errcode: 'M_INVALID_USERNAME' },
  'weak-password': { status: 400, errcode: 'M_WEAK_PASSWORD' },
  'invalid-signature': { status: 400, errcode: 'M_INVALID_SIGNATURE' },
  missing: { status: 400, errcode: 'M_MISSING_PARAM' },
  'key-too-large': { status: 400, errcode: 'M_KEY_TOO_LARGE' },
  'profile-too-large': { status: 400, errcode: 'M_PROFILE_TOO_LARGE' },
  'not-found': { status: 404, errcode: 'M_NOT_FOUND' },
  reserved: { status: 403, errcode: 'M_FORBIDDEN' },
  invalid: { status: 400, errcode: 'M_INVALID_PARAM' },
  'too-many': { status: 429, errcode: 'M_LIMIT_EXCEEDED' },
};

/** What the API answers where a use case failed. */
export function translateError(error: unknown): MatrixError | undefined {
  if (error instanceof AccountError) {
    const { status, errcode } = ACCOUNT_ERROR_ANSWERS[error.kind];
    return new MatrixError(status, errcode, error.message);
  }
  if (!(error instanceof RoomError)) return undefined;
  const { status, errcode } = ROOM_ERROR_ANSWERS[error.kind];
  const { message, retryAfterMs } = error;
  return new MatrixError(status, errcode, message, retryAfterMs === undefined ? {} : { retry_after_ms: retryAfterMs });
}

/** What is answered while a room has no full state: how far it is, and when to ask again. */
export function notReady({ reason, retryAfterMs, resync }: NotReady): MatrixError {
  const details = { retry_after_ms: retryAfterMs, progress: progressAnswer(resync) };
  return new MatrixError(503, 'M_UNABLE_DUE_TO_PARTIAL_STATE', reason, details);
}

/** A request that is refused before any port is asked. */
export function invalidParam(message: string): MatrixError {
  return new MatrixError(400, 'M_INVALID_PARAM', message);
}
