/**
 * Structured logs: one JSON object a line, with the ids of the trace it belongs to, and without secrets. Strings of
 * strangers (room names, reasons, user agents) stay inside JSON, so they cannot forge a line.
 */
import { trace } from '@opentelemetry/api';
import { type DestinationStream, type Logger as PinoLogger, pino, stdSerializers } from 'pino';

export type Logger = PinoLogger;

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';

/** Properties that hold credentials wherever they turn up, at the top or one level down. */
const REDACTED = ['token', 'access_token', 'authorization', 'password', 'signingKey', 'databaseUrl'];

export interface LoggingOptions {
  readonly level: LogLevel;
  /** Absent: standard output. */
  readonly destination?: DestinationStream;
}

/** A logger without secrets, each line with the ids of the trace it belongs to. */
export function createLogger({ level, destination }: LoggingOptions): Logger {
  const options = {
    level,
    base: null,
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: serializeError, error: serializeError },
    redact: { paths: REDACTED.flatMap((name) => [name, `*.${name}`, `*.*.${name}`]), censor: '********' },
    mixin: traceIds,
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

function traceIds(): object {
  const context = trace.getActiveSpan()?.spanContext();
  return context === undefined ? {} : { trace_id: context.traceId, span_id: context.spanId };
}

/** Credentials in a URL within a message or stack (drivers quote the address that failed). */
const URL_CREDENTIALS = /\b([a-z][a-z0-9+.-]*:\/\/)[^\s/@]+@/gi;

function serializeError(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const { type, message, stack, ...rest } = stdSerializers.err(error) as unknown as Record<string, unknown>;
  return { type, message: withoutCredentials(message), stack: withoutCredentials(stack), ...rest };
}

function withoutCredentials(value: unknown): unknown {
  return typeof value === 'string' ? value.replaceAll(URL_CREDENTIALS, '$1********@') : value;
}
