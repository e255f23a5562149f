/**
 * User-interactive authentication. Every flow here has one stage, which comes with the request that it is for: so nothing is to be
 * remembered between requests, and it matters to nobody which process gets the next one.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#user-interactive-authentication-api
 */
import { randomBytes } from 'node:crypto';
import { z } from 'zod';
import { AccountError } from '../accounts/error.ts';
import { MatrixError } from '../http/matrix-error.ts';
import { isJsonObject } from '../matrix/json/strict-json.ts';
import { type Json, type JsonObject } from '../matrix/pdu.ts';
import { type UserId } from '../matrix/identifiers.ts';
import { readMembers } from './client-request.ts';
import { type ClientContext } from './context.ts';

const SESSION_BYTES = 12;
const SESSION_CHARS_MAX = 255;

interface Stage {
  readonly type: 'm.login.dummy' | 'm.login.password';
  /** Throws an `AccountError` of the kind `forbidden` where it is not passed. */
  readonly pass: (auth: JsonObject) => Promise<void>;
}

const text = z.string({ error: 'a string' }).optional();
const anyStage = z.object({ type: text, session: text });

/** Throws a `MatrixError` that tells the stage, until `auth` passes it. */
async function requireStage(auth: Json | undefined, { type, pass }: Stage): Promise<void> {
  if (auth !== undefined && !isJsonObject(auth)) throw new MatrixError(400, 'M_BAD_JSON', 'auth: expected an object');
  const { type: tried, session: given = '' } = readMembers(auth ?? {}, anyStage);
  const isGiven = given !== '' && given.length <= SESSION_CHARS_MAX;
  const session = isGiven ? given : randomBytes(SESSION_BYTES).toString('base64url');
  const ask = { flows: [{ stages: [type] }], params: {}, completed: [], session };
  if (auth === undefined || tried === undefined) throw new MatrixError(401, null, 'authenticate', ask);
  if (tried !== type) throw new MatrixError(401, 'M_UNRECOGNIZED', 'that is not a stage of this flow', ask);
  try {
    await pass(auth);
  } catch (error) {
    if (error instanceof AccountError && error.kind === 'forbidden') {
      throw new MatrixError(401, 'M_FORBIDDEN', error.message, ask);
    }
    throw error;
  }
}

/** Nothing is asked, but in the form that clients expect. */
export function requireDummy(auth: Json | undefined): Promise<void> {
  return requireStage(auth, { type: 'm.login.dummy', pass: () => Promise.resolve() });
}

const passwordStage = z.object({
  password: z.string({ error: 'a password' }),
  identifier: z.object({ type: text, user: text }, { error: 'an object' }).optional(),
  user: text,
});

/** The user types his password once more; each try counts as a login. */
export function requirePassword(
  auth: Json | undefined,
  userId: UserId,
  { accounts, limiters }: Pick<ClientContext, 'accounts' | 'limiters'>,
): Promise<void> {
  return requireStage(auth, {
    type: 'm.login.password',
    pass: async (given) => {
      const { password, identifier, user = identifier?.user } = readMembers(given, passwordStage);
      const localpart = userId.slice(1, userId.indexOf(':'));
      if (user !== undefined && user !== userId && user !== localpart) {
        throw new AccountError('forbidden', 'that is not who asks');
      }
      limiters.loginByAccount.take(userId);
      await accounts.requirePassword(userId, password);
    },
  });
}
