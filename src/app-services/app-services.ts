/** The application services of this server: who they are by their tokens, what is theirs, and asking them. */
import { createHash } from 'node:crypto';
import { type Clock } from '../clock.ts';
import { type Logger } from '../logging.ts';
import { type RoomAlias, type ServerName, type UserId, domainOf } from '../matrix/identifiers.ts';
import { type AppServices, type KnownService, type PingOutcome } from './contract.ts';
import { type ServiceClient, ServiceError } from './ask-service.ts';
import { type Matching } from './matching.ts';
import { type AppService } from './registration.ts';

/** Somebody waits for the answer of all services: whoever looks for a room or a user. */
const QUERY_MS_MAX = 10_000;
const PING_MS_MAX = 30_000;
/** Questions under way, of each service: who asks for names that nobody has does not keep more connections open, nor keep others from theirs. */
const QUERIES_MAX = 50;
/** Of an answer that is shown to whoever pings. */
const SHOWN_CHARS_MAX = 1_000;

export interface AppServicesContext {
  readonly serverName: ServerName;
  readonly services: readonly AppService[];
  readonly matching: Matching;
  readonly client: ServiceClient;
  readonly clock: Clock;
  readonly logger: Logger;
  /** What waits for a service is tried again. */
  readonly retry: (id: string) => void;
}

/** Puts them together for the edges. */
export function createAppServices(context: AppServicesContext): AppServices {
  const { services, serverName, matching } = context;
  const known = new Map(services.map((service) => [service.id, asKnown(service, matching)]));
  // By hashes, so that how long a look takes says nothing of a token.
  const byToken = new Map(services.map(({ asToken, id }) => [hashOf(asToken), known.get(id)]));
  const query = createQueries(context);
  return {
    ofToken: (token) => byToken.get(hashOf(token)),
    isUserTaken: (userId, by) => matching.isTaken('users', userId, by?.id),
    isAliasTaken: (alias, by) => matching.isTaken('aliases', alias, by?.id),
    provideUser: (userId) => query('users', userId),
    provideAlias: (alias) => query('aliases', alias),
    mayProvideAlias: (alias) =>
      domainOf(alias) === serverName &&
      services.some(({ id, url }) => url !== null && matching.isIn(id, 'aliases', alias)),
    ping: async ({ id }, txnId) => {
      const service = services.find((one) => one.id === id);
      return service === undefined ? { outcome: 'no-url' } : ping(context, service, txnId);
    },
  };
}

function asKnown(service: AppService, matching: Matching): KnownService {
  return {
    ...{ id: service.id, sender: service.sender, isRateLimited: service.isRateLimited },
    isOwnUser: (userId: UserId) => matching.isIn(service.id, 'users', userId),
    isOwnAlias: (alias: RoomAlias) => matching.isIn(service.id, 'aliases', alias),
  };
}

function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('base64');
}

const PATHS = { users: '/_matrix/app/v1/users/', aliases: '/_matrix/app/v1/rooms/' } as const;

/**
 * Whoever asks for the same name meanwhile shares the answer. Of services that could have it one is asked after the other, each for its
 * share of the time that is left, so that one that hangs leaves some to the next.
 *
 * Source: https://spec.matrix.org/v1.16/application-service-api/#querying
 */
function createQueries({ services, matching, client, clock, logger }: AppServicesContext) {
  const underWay = new Map<string, number>();
  const shared = new Map<string, Promise<boolean>>();
  const count = (id: string, by: number): void => void underWay.set(id, (underWay.get(id) ?? 0) + by);

  const ask = async (service: AppService, path: string, timeoutMs: number): Promise<boolean> => {
    if ((underWay.get(service.id) ?? 0) >= QUERIES_MAX) return false;
    count(service.id, 1);
    try {
      return (await client.ask(service, { method: 'GET', path, timeoutMs })).status === 200;
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      logger.warn({ err: error, service: service.id }, 'an application service could not be asked for a name');
      return false;
    } finally {
      count(service.id, -1);
    }
  };

  const askAll = async (kind: keyof typeof PATHS, id: string): Promise<boolean> => {
    const until = clock.now() + QUERY_MS_MAX;
    const asked = services.filter((service) => service.url !== null && matching.isIn(service.id, kind, id));
    for (const [i, service] of asked.entries()) {
      const leftMs = Math.min(QUERY_MS_MAX, until - clock.now());
      if (leftMs <= 0) return false;
      const timeoutMs = Math.ceil(leftMs / (asked.length - i));
      if (await ask(service, `${PATHS[kind]}${encodeURIComponent(id)}`, timeoutMs)) return true;
    }
    return false;
  };

  return (kind: keyof typeof PATHS, id: string): Promise<boolean> => {
    const key = `${PATHS[kind]}${id}`;
    const answer = shared.get(key) ?? askAll(kind, id).finally(() => shared.delete(key));
    shared.set(key, answer);
    return answer;
  };
}

/** Source: https://spec.matrix.org/v1.16/application-service-api/#pinging */
async function ping(
  { client, clock, retry }: AppServicesContext,
  service: AppService,
  txnId: string | undefined,
): Promise<PingOutcome> {
  if (service.url === null) return { outcome: 'no-url' };
  const since = clock.now();
  const body = txnId === undefined ? {} : { transaction_id: txnId };
  try {
    const asked = { method: 'POST', path: '/_matrix/app/v1/ping', body, timeoutMs: PING_MS_MAX } as const;
    const { status, body: said } = await client.ask(service, asked);
    if (status !== 200) return { outcome: 'bad-status', status, body: said.slice(0, SHOWN_CHARS_MAX) };
    retry(service.id);
    return { outcome: 'answered', durationMs: Math.max(0, clock.now() - since) };
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    return error.kind === 'timeout' ? { outcome: 'timeout' } : { outcome: 'unreachable', reason: error.message };
  }
}
