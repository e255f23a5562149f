/**
 * Requests to application services. Their addresses are the operator's own, so no rule on addresses holds for them; what they answer is
 * bounded in time and size all the same.
 *
 * Source: https://spec.matrix.org/v1.16/application-service-api/#homeserver---application-service-api
 */
import { Agent, type Dispatcher, request } from 'undici';
import { type JsonObject } from '../matrix/pdu.ts';
import { type AppService } from './registration.ts';

/** Of an answer as much is read; none has more to say. */
const ANSWER_BYTES_MAX = 64 * 1024;
const CONNECT_MS_MAX = 5_000;

export interface ServiceAnswer {
  readonly status: number;
  /** The beginning of the body. */
  readonly body: string;
}

/** No answer came. `kind` says whether it was waited for in vain. */
export class ServiceError extends Error {
  override readonly name = 'ServiceError';
  readonly kind: 'timeout' | 'unreachable';

  constructor(kind: ServiceError['kind'], message: string, cause?: unknown) {
    super(message, { cause });
    this.kind = kind;
  }
}

export interface ServiceRequest {
  readonly method: 'GET' | 'PUT' | 'POST';
  /** Encoded. */
  readonly path: string;
  readonly body?: JsonObject;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface ServiceClient {
  /** @throws ServiceError, or what the signal is aborted with */
  ask(service: Pick<AppService, 'url' | 'hsToken'>, asked: ServiceRequest): Promise<ServiceAnswer>;
  close(): Promise<void>;
}

/** One for all services. */
export function createServiceClient(userAgent: string): ServiceClient {
  const dispatcher = new Agent({ connect: { timeout: CONNECT_MS_MAX }, keepAliveTimeout: 30_000 });
  return {
    ask: (service, asked) => ask(dispatcher, userAgent, service, asked),
    close: () => dispatcher.destroy(),
  };
}

async function ask(
  dispatcher: Dispatcher,
  userAgent: string,
  { url, hsToken }: Pick<AppService, 'url' | 'hsToken'>,
  { method, path, body, timeoutMs, signal }: ServiceRequest,
): Promise<ServiceAnswer> {
  if (url === null) throw new ServiceError('unreachable', 'it has no url');
  const late = AbortSignal.timeout(timeoutMs);
  try {
    const answer = await request(`${url}${path}`, {
      ...{ method, dispatcher },
      headers: {
        ...{ authorization: `Bearer ${hsToken}`, 'user-agent': userAgent },
        ...(body === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: signal === undefined ? late : AbortSignal.any([late, signal]),
    });
    return { status: answer.statusCode, body: await readStart(answer.body) };
  } catch (error) {
    signal?.throwIfAborted();
    if (late.aborted) throw new ServiceError('timeout', `no answer within ${timeoutMs} ms`, error);
    throw new ServiceError('unreachable', error instanceof Error ? error.message : String(error), error);
  }
}

async function readStart(body: AsyncIterable<Uint8Array>): Promise<string> {
  const parts: Uint8Array[] = [];
  let size = 0;
  // Leaving the loop ends the connection.
  for await (const part of body) {
    parts.push(part);
    size += part.length;
    if (size > ANSWER_BYTES_MAX) break;
  }
  return Buffer.concat(parts).subarray(0, ANSWER_BYTES_MAX).toString('utf8');
}
