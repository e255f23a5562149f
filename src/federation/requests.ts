/**
 * What every request to another homeserver shares: its path, the overall time and size that bound it, and how its answer is
 * read: as one small object, as a stream of raw events, as a few events, or not at all.
 */
import { type Clock } from '../clock.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type EventStream, type RequestOptions } from './contract.ts';
import { FederationError } from './error.ts';
import { createEventStream } from './event-stream.ts';
import { discardBody } from './read-body.ts';
import { type FederationRequest, type OpenAnswer, type Transport, readJson } from './transport.ts';

/** Of an answer that is read at once: an event as a template is 64 KiB at the most, and keys or a version are far less. */
export const SMALL_ANSWER_BYTES_MAX = 128 * 1024;

export interface FederationTimeouts {
  /** TCP and TLS, milliseconds. */
  readonly connectMs: number;
  /** Small answers, from first to last. */
  readonly requestMs: number;
  /** A send_join with its whole answer, and our own work on it. */
  readonly joinMs: number;
  /** A `/state` or `/state_ids` with its whole answer, and our own work on it. */
  readonly stateMs: number;
  /** Without a byte of a body for so long, the answer is given up. */
  readonly idleMs: number;
}

export interface FederationLimits {
  /** Of a small answer. */
  readonly responseBytesMax: number;
  /** Of a streamed answer. */
  readonly stateBytesMax: number;
}

/** One request, without what all have alike. `timeoutMs`: until the whole body is read; that of small answers by default. */
export type Ask = Pick<FederationRequest, 'uri' | 'content'> &
  Partial<Pick<FederationRequest, 'method' | 'isSigned' | 'timeoutMs'>> & {
    /** The answer is `[200, object]`, as first versions of endpoints give it. */
    readonly isPair?: boolean;
  };

export interface Requests {
  readonly timeouts: FederationTimeouts;
  readonly limits: FederationLimits;
  /** A small answer, whole: of `bytesMax` where that is given. */
  json(destination: ServerName, ask: Ask, options: RequestOptions): Promise<JsonObject>;
  /** The raw events of the arrays named, or their strings. Resolves at the first bytes of a 200 answer. */
  events<Name extends string>(
    destination: ServerName,
    ask: Ask,
    options: RequestOptions,
    body: { readonly arrays: readonly Name[]; readonly members?: 'strings'; readonly bytesMax: number },
  ): Promise<EventStream<Name>>;
  /** For requests whose answer is that they succeeded: the body is not read. */
  done(destination: ServerName, ask: Ask, options: RequestOptions): Promise<void>;
}

export interface RequestsDependencies {
  readonly transport: Transport;
  readonly timeouts: FederationTimeouts;
  readonly limits: FederationLimits;
  readonly clock: Clock;
}

/** What every request has: its deadlines and limits, and its failures as `FederationError`. */
export function createRequests({ transport, timeouts, limits, clock }: RequestsDependencies): Requests {
  const send = (destination: ServerName, ask: Ask, { signal, onReceived }: RequestOptions): Promise<OpenAnswer> =>
    transport.send({
      method: 'GET',
      isSigned: true,
      timeoutMs: timeouts.requestMs,
      ...ask,
      destination,
      signal,
      onReceived: onReceived ?? (() => undefined),
    });
  return {
    timeouts,
    limits,
    json: async (destination, ask, options) =>
      readJson(
        destination,
        await send(destination, ask, options),
        Math.min(limits.responseBytesMax, options.bytesMax ?? SMALL_ANSWER_BYTES_MAX),
        ask.isPair,
      ),
    events: async (destination, ask, options, body) =>
      createEventStream({
        ...(await send(destination, ask, options)),
        ...body,
        clock,
        beforeReading: options.beforeReading,
      }),
    async done(destination, ask, options) {
      const { body, onEnd } = await send(destination, ask, options);
      discardBody(body);
      onEnd();
    },
  };
}

/** The error of an answer with status 200 that is not what was asked for. */
export function malformed(serverName: ServerName, reason: string): FederationError {
  return new FederationError(serverName, 'malformed', reason);
}

/** A path whose parts are percent-encoded; `!`, `'`, `(`, `)` and `*` may stand in a path as they are. */
export function path(parts: TemplateStringsArray, ...values: readonly string[]): string {
  return parts.reduce((whole, part, i) => `${whole}${encodeURIComponent(values[i - 1] ?? '')}${part}`);
}
