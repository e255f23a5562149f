/** How failures leave the federation server: always `{errcode, error}`, never a stack or a word of ours about the inside. */
import { type FastifyError, type FastifyReply, type FastifyRequest } from 'fastify';
import { type JsonObject } from '../matrix/pdu.ts';
import { type Logger } from '../logging.ts';

/** A failure that the caller is told as it is. */
export class MatrixError extends Error {
  override readonly name = 'MatrixError';
  readonly status: number;
  readonly errcode: string;
  /** Further members of the body, such as `retry_after_ms`. */
  readonly details: JsonObject;

  constructor(status: number, errcode: string, message: string, details: JsonObject = {}) {
    super(message);
    this.status = status;
    this.errcode = errcode;
    this.details = details;
  }
}

/** What fastify refuses before a route is reached, as Matrix errors. */
const FASTIFY_ERRORS: ReadonlyMap<string, readonly [number, string, string]> = new Map([
  ['FST_ERR_CTP_BODY_TOO_LARGE', [413, 'M_TOO_LARGE', 'the body is too large']],
  ['FST_ERR_CTP_INVALID_CONTENT_LENGTH', [400, 'M_NOT_JSON', 'the body is not as long as Content-Length says']],
  ['FST_ERR_BAD_URL', [400, 'M_INVALID_PARAM', 'the path is not properly percent-encoded']],
  ['FST_ERR_MAX_PARAM_LENGTH', [400, 'M_INVALID_PARAM', 'a part of the path is too long']],
]);

export function sendError(
  error: FastifyError | Error,
  request: FastifyRequest,
  reply: FastifyReply,
  logger: Logger,
): void {
  if (error instanceof MatrixError) {
    void reply.code(error.status).send({ errcode: error.errcode, error: error.message, ...error.details });
    return;
  }
  const { code, statusCode } = error as Partial<FastifyError>;
  const known = code === undefined ? undefined : FASTIFY_ERRORS.get(code);
  if (known !== undefined) {
    const [status, errcode, message] = known;
    void reply.code(status).send({ errcode, error: message });
  } else if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    void reply.code(statusCode).send({ errcode: 'M_UNKNOWN', error: 'the request cannot be read' });
  } else {
    logger.error({ err: error, method: request.method, route: request.routeOptions.url }, 'federation request failed');
    void reply.code(500).send({ errcode: 'M_UNKNOWN', error: 'internal server error' });
  }
}
