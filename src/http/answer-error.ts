/** How failures leave a listener: always `{errcode, error}`, never a stack or a word of ours about the inside. */
import { STATUS_CODES } from 'node:http';
import { type Socket } from 'node:net';
import { type FastifyError, type FastifyReply, type FastifyRequest } from 'fastify';
import { type Logger } from '../logging.ts';
import { MatrixError } from './matrix-error.ts';

/** What an edge makes of the errors of its use cases; `undefined`: not one of them. */
export type Translate = (error: unknown) => MatrixError | undefined;

export type AnswerError = (error: unknown, request: FastifyRequest, reply: FastifyReply) => void;

/** What Fastify refuses before a handler is reached, by its code. */
const REFUSALS: ReadonlyMap<string, readonly [number, string, string]> = new Map([
  ['FST_ERR_CTP_BODY_TOO_LARGE', [413, 'M_TOO_LARGE', 'the body is too large']],
  ['FST_ERR_CTP_INVALID_CONTENT_LENGTH', [400, 'M_NOT_JSON', 'the body is not as long as Content-Length says']],
  ['FST_ERR_CTP_INVALID_MEDIA_TYPE', [415, 'M_NOT_JSON', 'send the body as application/json']],
  ['FST_ERR_CTP_EMPTY_JSON_BODY', [400, 'M_NOT_JSON', 'the body is empty, not JSON']],
  ['FST_ERR_CTP_INVALID_JSON_BODY', [400, 'M_NOT_JSON', 'the body is not JSON']],
  ['FST_ERR_BAD_URL', [400, 'M_INVALID_PARAM', 'the path is not properly percent-encoded']],
  ['FST_ERR_MAX_PARAM_LENGTH', [400, 'M_INVALID_PARAM', 'a part of the path is too long']],
]);

/** What Node refuses before there is a request, by its code. */
const UNREADABLE: ReadonlyMap<string, readonly [number, string, string]> = new Map([
  ['ERR_HTTP_REQUEST_TIMEOUT', [408, 'M_UNKNOWN', 'the request did not come to its end in time']],
  ['HPE_HEADER_OVERFLOW', [431, 'M_TOO_LARGE', 'the path and the headers are too long']],
]);

/** Answers on a connection whose request cannot be read, and ends it. `headers`: of every answer of the listener. */
export function answerUnreadable(
  headers: Readonly<Record<string, string>>,
): (error: Error & { readonly code?: string }, socket: Socket) => void {
  return (error, socket) => {
    if (error.code === 'ECONNRESET' || socket.destroyed) return;
    const known = UNREADABLE.get(error.code ?? '') ?? [400, 'M_UNKNOWN', 'that is no HTTP request'];
    const [status, errcode, reason] = known;
    const body = JSON.stringify({ errcode, error: reason });
    const all = {
      ...headers,
      'content-type': 'application/json; charset=utf-8',
      'content-length': String(body.length),
      connection: 'close',
    };
    const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
    if (socket.writable) socket.write(`HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\n${lines.join('')}\r\n${body}`);
    socket.destroy(error);
  };
}

/** Makes the error handler of a listener; what nobody knows is logged, and told without a word about it. */
export function createAnswerError(logger: Logger, translate: Translate = () => undefined): AnswerError {
  return (error, request, reply) => {
    const known = error instanceof MatrixError ? error : (translate(error) ?? refusedByFastify(error));
    if (known === undefined) {
      logger.error({ err: error, method: request.method, route: request.routeOptions.url }, 'request failed');
      send(reply, new MatrixError(500, 'M_UNKNOWN', 'internal server error'));
    } else {
      send(reply, known);
    }
  };
}

function send(reply: FastifyReply, { status, errcode, message, details, headers }: MatrixError): void {
  const { retry_after_ms: retryAfterMs } = details;
  if (typeof retryAfterMs === 'number') reply.header('retry-after', Math.ceil(retryAfterMs / 1000));
  void reply
    .headers(headers)
    .code(status)
    .send(errcode === null ? details : { errcode, error: message, ...details });
}

function refusedByFastify(error: unknown): MatrixError | undefined {
  if (!(error instanceof Error)) return undefined;
  const { code, statusCode } = error as Partial<FastifyError>;
  const refusal = code === undefined ? undefined : REFUSALS.get(code);
  if (refusal !== undefined) return new MatrixError(...refusal);
  if (statusCode === undefined || statusCode < 400 || statusCode >= 500) return undefined;
  return new MatrixError(statusCode, 'M_UNKNOWN', 'the request cannot be read');
}
