/** The client API's one table from what went wrong to status and errcode. */
import { AccountError, type AccountErrorKind } from '../accounts/error.ts';
import { MatrixError } from '../http/matrix-error.ts';

/** Source: https://spec.matrix.org/v1.16/client-server-api/#standard-error-response */
const ACCOUNT_ERROR_ANSWERS: Readonly<Record<AccountErrorKind, readonly [status: number, errcode: string]>> = {
  'unknown-token': [401, 'M_UNKNOWN_TOKEN'],
  forbidden: [403, 'M_FORBIDDEN'],
  deactivated: [403, 'M_USER_DEACTIVATED'],
  'user-in-use': [400, 'M_USER_IN_USE'],
  'invalid-username': [400, 'M_INVALID_USERNAME'],
  'weak-password': [400, 'M_WEAK_PASSWORD'],
  'not-found': [404, 'M_NOT_FOUND'],
  invalid: [400, 'M_INVALID_PARAM'],
  'too-many': [429, 'M_LIMIT_EXCEEDED'],
};

/** When to come back after more was asked of passwords than this server does at a time, milliseconds. */
const BUSY_MS = 2_000;

/** What the API answers where a use case failed. */
export function translateAccountError(error: unknown): MatrixError | undefined {
  if (!(error instanceof AccountError)) return undefined;
  const { kind, message, softLogout } = error;
  const [status, errcode] = ACCOUNT_ERROR_ANSWERS[kind];
  if (kind === 'unknown-token') return new MatrixError(status, errcode, message, { soft_logout: softLogout });
  return new MatrixError(status, errcode, message, kind === 'too-many' ? { retry_after_ms: BUSY_MS } : {});
}
