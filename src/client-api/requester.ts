/** The part of the listener that answers users only: every request carries an access token, or is refused with 401. */
import { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { type Accounts } from '../accounts/contract.ts';
import { AccountError } from '../accounts/error.ts';
import { type AppServices, type KnownService } from '../app-services/contract.ts';
import { MatrixError } from '../http/matrix-error.ts';
import { parseUserId } from '../matrix/identifiers.ts';
import { type ClientRequester, UserRequest, noDeviceOf } from './client-request.ts';
import { requireUntaken } from './reserved.ts';

type Askers = {
  readonly accounts: Pick<Accounts, 'authenticate' | 'knownProfile' | 'device'>;
  readonly appServices: AppServices;
};

/**
 * Adds the check to an instance; it passes before a body is read. `of` gives what was checked, in its handlers.
 *
 * Source: https://spec.matrix.org/v1.16/client-server-api/#using-access-tokens
 */
export function requireUser(
  app: FastifyInstance,
  context: Askers,
): { readonly of: (request: FastifyRequest, reply: FastifyReply) => UserRequest } {
  const checked = new WeakMap<FastifyRequest, ClientRequester>();
  app.addHook('onRequest', async (request) => {
    const token = tokenOf(request);
    const service = context.appServices.ofToken(token);
    const query = request.query as Readonly<Record<string, unknown>>;
    checked.set(
      request,
      service === undefined
        ? await context.accounts.authenticate(token, request.ip)
        : await actingFor(service, query, context),
    );
  });
  return {
    of(request, reply) {
      const requester = checked.get(request);
      if (requester === undefined) throw new Error('a handler ran before its request was checked');
      return new UserRequest(request, reply, requester);
    },
  };
}

/**
 * As whom an application service acts: itself, or a user of its namespaces whom it names, who has an account.
 *
 * Source: https://spec.matrix.org/v1.16/application-service-api/#identity-assertion
 */
async function actingFor(
  service: KnownService,
  query: Readonly<Record<string, unknown>>,
  { accounts, appServices }: Askers,
): Promise<ClientRequester> {
  const named = query['user_id'];
  const userId = named === undefined ? service.sender : parseUserId(named);
  if (userId === undefined || !service.isOwnUser(userId)) {
    throw new MatrixError(403, 'M_FORBIDDEN', 'user_id: that user is not in a namespace of this application service');
  }
  requireUntaken(userId, { appServices }, service);
  if ((await accounts.knownProfile(userId)) === undefined) {
    throw new MatrixError(403, 'M_FORBIDDEN', `user_id: ${userId} has no account`);
  }
  const deviceId = query['device_id'] ?? query['org.matrix.msc3202.device_id'];
  if (deviceId === undefined) return { userId, deviceId: noDeviceOf(service), service };
  if (typeof deviceId === 'string' && (await hasDevice(accounts, userId, deviceId))) {
    return { userId, deviceId, service };
  }
  // Source: https://github.com/matrix-org/matrix-spec-proposals/pull/4326
  throw new MatrixError(400, 'M_UNKNOWN_DEVICE', `device_id: ${userId} has no such device`);
}

async function hasDevice(accounts: Askers['accounts'], ...device: Parameters<Accounts['device']>): Promise<boolean> {
  try {
    await accounts.device(...device);
    return true;
  } catch (error) {
    if (error instanceof AccountError && error.kind === 'not-found') return false;
    throw error;
  }
}

/** In the header, or in the query as clients did before; the header counts. */
export function tokenOf({ headers, query }: Pick<FastifyRequest, 'headers' | 'query'>): string {
  const [, given] = /^Bearer +([^\s]+) *$/i.exec(headers.authorization ?? '') ?? [];
  const inQuery = (query as Record<string, unknown>)['access_token'];
  const token = given ?? (headers.authorization === undefined && typeof inQuery === 'string' ? inQuery : undefined);
  if (token !== undefined && token !== '') return token;
  throw new MatrixError(401, 'M_MISSING_TOKEN', 'send the access token as "Authorization: Bearer …"');
}
