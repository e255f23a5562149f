/** A refusal as Matrix writes it, `{errcode, error}`: thrown by handlers, sent by answer-error.ts. */
import { type JsonObject } from '../matrix/pdu.ts';

/** A failure that the caller is told as it is. */
export class MatrixError extends Error {
  override readonly name = 'MatrixError';
  readonly status: number;
  /** Null: no failure but a question, whose body is `details` alone. */
  readonly errcode: string | null;
  /** Further members of the body; `retry_after_ms` is sent as a Retry-After header too. */
  readonly details: JsonObject;
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    status: number,
    errcode: string | null,
    message: string,
    details: JsonObject = {},
    headers: Readonly<Record<string, string>> = {},
  ) {
    super(message);
    this.status = status;
    this.errcode = errcode;
    this.details = details;
    this.headers = headers;
  }
}
