/** The part of the listener that answers users only: every request carries an access token, or is refused with 401. */
import { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { type Accounts, type Requester } from '../accounts/contract.ts';
import { MatrixError } from '../http/matrix-error.ts';
import { UserRequest } from './client-request.ts';

/**
 * Adds the check to an instance; it passes before a body is read. `of` gives what was checked, in its handlers.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#using-access-tokens
 */
export function requireUser(
  app: FastifyInstance,
  accounts: Pick<Accounts, 'authenticate'>,
): { readonly of: (request: FastifyRequest, reply: FastifyReply) => UserRequest } {
  const checked = new WeakMap<FastifyRequest, Requester>();
  app.addHook('onRequest', async (request) => {
    checked.set(request, await accounts.authenticate(tokenOf(request), request.ip));
  });
  return {
    of(request, reply) {
      const requester = checked.get(request);
      if (requester === undefined) throw new Error('a handler ran before its request was checked');
      return new UserRequest(request, reply, requester);
    },
  };
}

/** In the header, or in the query as clients did before; the header counts. */
function tokenOf({ headers, query }: FastifyRequest): string {
  const [, given] = /^Bearer +([^\s]+) *$/i.exec(headers.authorization ?? '') ?? [];
  const inQuery = (query as Record<string, unknown>)['access_token'];
  const token = given ?? (headers.authorization === undefined && typeof inQuery === 'string' ? inQuery : undefined);
  if (token !== undefined && token !== '') return token;
  throw new MatrixError(401, 'M_MISSING_TOKEN', 'send the access token as "Authorization: Bearer …"');
}
