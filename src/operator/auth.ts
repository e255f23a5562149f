/** The operator's bearer token: in the Authorization header and nowhere else. */
import { createHash, timingSafeEqual } from 'node:crypto';
import { MatrixError } from '../http/matrix-error.ts';
import { invalidParam } from './errors.ts';

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** Query parameters in which other software takes tokens. URLs end up in logs and histories: refused, right or wrong. */
const TOKEN_PARAMETERS = ['access_token', 'token'];

/**
 * Makes the check of one request: throws a `MatrixError` unless it carries `token`. Digests are compared, so the time
 * taken tells nothing about the token, its length included.
 */
export function requireBearer(token: string): (authorization: string | undefined, query: unknown) => void {
  const expected = digest(token);
  return (authorization, query) => {
    if (typeof query === 'object' && query !== null && TOKEN_PARAMETERS.some((name) => name in query)) {
      throw invalidParam('a token does not belong in the URL: send "Authorization: Bearer …", and replace this token');
    }
    const [, given] = /^Bearer +([^\s]+) *$/i.exec(authorization ?? '') ?? [];
    if (given === undefined) {
      throw unauthorised('M_MISSING_TOKEN', 'send the operator token as "Authorization: Bearer …"');
    }
    if (!timingSafeEqual(digest(given), expected)) {
      throw unauthorised('M_UNKNOWN_TOKEN', 'this is not the operator token of this server');
    }
  };
}

function unauthorised(errcode: string, message: string): MatrixError {
  return new MatrixError(401, errcode, message, {}, { 'www-authenticate': 'Bearer' });
}
