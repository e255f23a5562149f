/** Tokens of `/sync` (src/matrix/client/tokens.ts), as it is given them. */
import { type SyncToken, readSyncToken } from '../matrix/client/tokens.ts';
import { SyncError } from './error.ts';

/** Throws a `SyncError` for what is no such token. `name`: of the parameter that it was given in. */
export function parseToken(text: string, name = 'since'): SyncToken {
  const token = readSyncToken(text);
  if (token !== undefined) return token;
  throw new SyncError('invalid', `${name}: no token of a sync`);
}
