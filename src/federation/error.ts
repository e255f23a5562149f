/**
 * The one error federation throws, and the one table from what went wrong to what it means for the choice of the next
 * server: an HTTP status and errcode, a network error, or an answer that cannot be used.
 */
import { type ServerName } from '../matrix/identifiers.ts';
import { type FailureClass } from '../resync/events.ts';

/** Long enough for a cause, short enough for a journal row and a log line. */
const REASON_CHARS_MAX = 300;
/** A server that asks for more patience than this is asked again after this all the same. */
const RETRY_AFTER_MS_MAX = 24 * 3_600_000;
/** Of the name of a room version: https://spec.matrix.org/v1.16/rooms/#room-version-grammar */
const ROOM_VERSION_CHARS_MAX = 32;
/** An errcode is a token; a stranger's longer one is not worth keeping. */
const ERRCODE = /^[A-Za-z0-9_.]{1,100}$/;

export interface FederationErrorDetails {
  /** The HTTP status, when there was an answer. */
  readonly status?: number;
  /** The `errcode` of the answer, when it had a well-formed one. */
  readonly errcode?: string;
  /** How long the server asked us to wait, milliseconds, at most a day. */
  readonly retryAfterMs?: number;
  /** Nothing of an answer came in all the time that there was for it. */
  readonly isSilence?: boolean;
  readonly cause?: unknown;
}

/** A request to `serverName` failed or gave an unusable answer. The message is one line, safe to log and to journal. */
export class FederationError extends Error {
  override readonly name = 'FederationError';
  readonly serverName: ServerName;
  readonly kind: FailureClass;
  readonly status?: number;
  readonly errcode?: string;
  readonly retryAfterMs?: number;
  readonly isSilence: boolean;

  constructor(serverName: ServerName, kind: FailureClass, reason: string, details: FederationErrorDetails = {}) {
    super(`${serverName}: ${oneLine(reason)}`, details.cause === undefined ? {} : { cause: details.cause });
    this.serverName = serverName;
    this.kind = kind;
    this.isSilence = details.isSilence === true;
    if (details.status !== undefined) this.status = details.status;
    if (details.errcode !== undefined) this.errcode = details.errcode;
    if (details.retryAfterMs !== undefined) this.retryAfterMs = details.retryAfterMs;
  }
}

/** Makes a stranger's text fit for a log line: control and format characters become spaces, the length is capped. */
export function oneLine(text: string): string {
  const clean = text
    .slice(0, 4 * REASON_CHARS_MAX)
    .replace(/[\s\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Cs}]+/gu, ' ')
    .trim();
  return clean.length > REASON_CHARS_MAX ? `${clean.slice(0, REASON_CHARS_MAX - 1)}…` : clean;
}

const PARTIAL_STATE_ERRCODES: ReadonlySet<string> = new Set([
  'ORG.MATRIX.MSC3895_UNABLE_DUE_TO_PARTIAL_STATE',
  'M_UNABLE_DUE_TO_PARTIAL_STATE',
]);

/** What an answer other than 200 means. */
export function kindOfStatus(status: number, errcode: string | undefined): FailureClass {
  if (errcode !== undefined && PARTIAL_STATE_ERRCODES.has(errcode)) return 'partial-state-there';
  if (status === 429 || errcode === 'M_LIMIT_EXCEEDED') return 'rate-limited';
  if (errcode === 'M_INCOMPATIBLE_ROOM_VERSION') return 'incompatible-version';
  if (status === 401 || status === 403 || errcode === 'M_FORBIDDEN') return 'forbidden';
  if (status === 404 || status === 405 || status === 410 || errcode === 'M_NOT_FOUND') return 'not-found';
  if (status === 408 || status === 504) return 'timeout';
  if (status >= 500) return 'server-error';
  if (status === 413) return 'too-large';
  // Among them M_UNABLE_TO_AUTHORISE_JOIN: that one server cannot tell whether a user may join.
  if (status >= 400) return 'refused';
  // A federation endpoint answers 200 or an error; anything else is not this protocol.
  return 'malformed';
}

const REFUSALS: ReadonlySet<FailureClass> = new Set(['forbidden', 'refused', 'incompatible-version', 'not-found']);

/**
 * Whether a Matrix server has looked at what was asked, and says no. An answer without errcode is of a proxy before it, whose
 * server may have taken the same request a moment ago; nor does a server judge it that does not know us or the endpoint.
 */
export function isRefusal({ kind, status, errcode }: FederationError): boolean {
  return REFUSALS.has(kind) && errcode !== undefined && errcode !== 'M_UNRECOGNIZED' && status !== 401;
}

const KIND_OF_CODE: ReadonlyMap<string, FailureClass> = new Map([
  ['UND_ERR_CONNECT_TIMEOUT', 'timeout'],
  ['UND_ERR_HEADERS_TIMEOUT', 'timeout'],
  ['UND_ERR_BODY_TIMEOUT', 'timeout'],
  ['ETIMEDOUT', 'timeout'],
  ['UND_ERR_HEADERS_OVERFLOW', 'malformed'],
  ['UND_ERR_RES_CONTENT_LENGTH_MISMATCH', 'malformed'],
  ['UND_ERR_RES_EXCEEDED_MAX_SIZE', 'too-large'],
  ['UND_ERR_SOCKET', 'unreachable'],
]);

/** What a thrown network error means: timeouts and HTTP parse errors by code, all else as not reachable. */
export function kindOfNetworkError(error: unknown): FailureClass {
  const { code, name } = error as { code?: unknown; name?: unknown };
  if (name === 'TimeoutError') return 'timeout';
  if (typeof code !== 'string') return 'unreachable';
  return KIND_OF_CODE.get(code) ?? (code.startsWith('HPE_') ? 'malformed' : 'unreachable');
}

/** Reads an answer's `errcode`, `error` and `retry_after_ms`, whatever the body turns out to be. */
export function errorOfAnswer(
  serverName: ServerName,
  what: string,
  status: number,
  body: unknown,
  retryAfter: string | undefined,
  now: number,
): FederationError {
  const fields = typeof body === 'object' && body !== null ? (body as Record<string, unknown>) : {};
  const errcode =
    typeof fields['errcode'] === 'string' && ERRCODE.test(fields['errcode']) ? fields['errcode'] : undefined;
  const said = typeof fields['error'] === 'string' ? fields['error'] : '';
  const retryAfterMs = parseRetryAfter(retryAfter, fields['retry_after_ms'], now);
  const kind = kindOfStatus(status, errcode);
  const version = kind === 'incompatible-version' ? fields['room_version'] : undefined;
  const reason = [
    `${what} answered ${status}`,
    errcode === undefined ? '' : ` ${errcode}`,
    typeof version === 'string' ? ` (room version ${version.slice(0, ROOM_VERSION_CHARS_MAX)})` : '',
    said === '' ? '' : `: ${said}`,
  ].join('');
  return new FederationError(serverName, kind, reason, {
    status,
    ...(errcode === undefined ? {} : { errcode }),
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  });
}

/**
 * The wait a server asks for, milliseconds: the Retry-After header as seconds or as a date, else the body's
 * `retry_after_ms`. Rubbish is ignored; the past counts as none; more than a day is cut to a day.
 */
export function parseRetryAfter(header: string | undefined, bodyMs: unknown, now: number): number | undefined {
  let waitMs: number | undefined;
  if (header !== undefined && /^\d{1,12}$/.test(header.trim())) waitMs = Number(header) * 1000;
  else if (header !== undefined && /[A-Za-z]{3}/.test(header)) waitMs = Date.parse(header) - now;
  if ((waitMs === undefined || Number.isNaN(waitMs)) && typeof bodyMs === 'number') waitMs = bodyMs;
  if (waitMs === undefined || !Number.isFinite(waitMs) || waitMs <= 0) return undefined;
  return Math.min(Math.ceil(waitMs), RETRY_AFTER_MS_MAX);
}
