/** Endpoints as data, a list a chapter of the specification: what they answer, knowing nothing of Fastify. */
import { Readable } from 'node:stream';
import { type FastifyInstance, type FastifyReply, type FastifyRequest, type HTTPMethods } from 'fastify';
import { EventStream, sendEventStream } from './event-stream.ts';
import { sendJsonStream, sendJsonText } from './json-stream.ts';
import { MatrixError } from './matrix-error.ts';

/** JSON that is written already, as it may be for many who ask. */
export class JsonText {
  readonly bytes: Buffer;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
  }
}

/** What every handler may look at. */
export interface OpenRequest {
  /** The variable segments of the path, decoded. */
  readonly params: Readonly<Record<string, string>>;
}

export interface Endpoint<Request, Context> {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE';
  /** Segments with `:` before them are variable. */
  readonly path: string;
  /** Gives what is sent with status 200: a value as JSON, JSON as it is written, a stream of it, or an `EventStream`. Throws a `MatrixError` to refuse. */
  readonly answer: (request: Request, context: Context) => unknown;
}

/** Adds endpoints to `scope`, whose hooks have passed when they are asked. */
export function addEndpoints<Request, Context>(
  scope: FastifyInstance,
  endpoints: readonly Endpoint<Request, Context>[],
  requestOf: (request: FastifyRequest, reply: FastifyReply) => Request,
  context: Context,
): void {
  for (const { method, path, answer } of endpoints) {
    scope.route({
      method,
      url: path,
      // Thousands of requests may wait for their answers: nothing but a promise and what sends is held for each.
      handler: (request, reply) =>
        Promise.resolve(answer(requestOf(request, reply), context)).then((answered) => send(reply, answered)),
    });
  }
}

function send(reply: FastifyReply, answered: unknown): unknown {
  if (answered instanceof EventStream) return sendEventStream(reply, answered);
  if (answered instanceof JsonText) return sendJsonText(reply, answered.bytes);
  return answered instanceof Readable ? sendJsonStream(reply, answered) : answered;
}

/**
 * Refuses the paths of endpoints by every method that none of them answers with 405, as the specification asks, whatever hooks their
 * scopes have: so `endpoints` are all of the listener.
 */
export function refuseOtherMethods(
  app: FastifyInstance,
  endpoints: readonly Pick<Endpoint<never, never>, 'method' | 'path'>[],
): void {
  const methods = new Map<string, Set<HTTPMethods>>();
  for (const { method, path } of endpoints) {
    const served = methods.get(path) ?? new Set();
    methods.set(path, served.add(method));
    // Fastify answers HEAD where it answers GET.
    if (method === 'GET') served.add('HEAD');
  }
  for (const [url, served] of methods) {
    const others = app.supportedMethods.filter((method) => !served.has(method));
    app.route({ method: others, url, onRequest: unrecognized(405), handler: unrecognized(405) });
  }
}

/** What there is to see of a request that nobody has signed. */
export function openRequest({ params }: FastifyRequest): OpenRequest {
  return { params: params as OpenRequest['params'] };
}

/** A handler that refuses: 404 where there is no such endpoint, 405 where it is asked by another method. */
export function unrecognized(status: 404 | 405): () => Promise<never> {
  const reason = status === 404 ? 'there is no such endpoint' : 'that is not its method';
  return () => Promise.reject(new MatrixError(status, 'M_UNRECOGNIZED', reason));
}
