/**
 * The one TLS listener that answers for all simulated servers, told apart by the Host header. A request goes through: faults
 * that strike it, its signature, the endpoint, and the body on its way under whatever faults there are.
 */
import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse } from 'node:http';
import { type Server, createServer } from 'node:https';
import { type AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { type TLSSocket } from 'node:tls';
import { BodyTooLargeError, readBody } from '../federation/read-body.ts';
import { authenticate } from '../federation/request-auth.ts';
import { MatrixError } from '../http/matrix-error.ts';
import { type ServerCertificate } from '../launch/certificates.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { parseJsonObject } from '../matrix/json/strict-json.ts';
import { type RequestClaim, verifyRequest } from '../matrix/signing/signed-request.ts';
import { alterEvents } from './event-faults.ts';
import { type Answer, answerWithError, bodyChunks, bodyLength } from './answer.ts';
import { type EndpointName, type SimulatorFaultRule } from './contract.ts';
import { type Route, type Router, createRouter } from './endpoint.ts';
import { JOIN_ENDPOINTS } from './endpoints-join.ts';
import { KEY_ENDPOINTS } from './endpoints-keys.ts';
import { SEND_ENDPOINTS } from './endpoints-send.ts';
import { STATE_ENDPOINTS } from './endpoints-state.ts';
import { type ActiveFault, FaultRules, type Struck } from './fault-rules.ts';
import { type Body, applyToBody, throttled } from './faults.ts';
import { type Federation } from './federation.ts';
import { type RequestCounts } from './request-counts.ts';
import { cutOff, sendBody } from './send-body.ts';
import { bodyFaultOf, changesLength, isEventFault } from './simulator-faults.ts';

/** 50 PDUs of 65,536 bytes, and what is around them. */
const REQUEST_BYTES_MAX = 4 * 1024 * 1024;
/** Longer than clients keep their idle connections: who closes first loses no request. */
const KEEP_ALIVE_MS = 120_000;

export interface ListenerOptions {
  readonly federation: Federation;
  readonly counts: RequestCounts;
  readonly certificate: ServerCertificate;
  readonly port?: number;
  readonly latencyMs?: number;
  readonly bytesPerSecond?: number;
}

/** Listens on 127.0.0.1 once `listen` has resolved. */
export class Listener {
  readonly #options: ListenerOptions;
  readonly #router: Router;
  readonly #rules = new FaultRules<SimulatorFaultRule>();
  readonly #sockets = new Set<TLSSocket>();
  readonly #server: Server;

  constructor(options: ListenerOptions) {
    this.#options = options;
    this.#router = createRouter([...KEY_ENDPOINTS, ...JOIN_ENDPOINTS, ...STATE_ENDPOINTS, ...SEND_ENDPOINTS]);
    const { certificatePem, keyPem } = options.certificate;
    this.#server = createServer(
      { cert: certificatePem, key: keyPem, keepAliveTimeout: KEEP_ALIVE_MS },
      (incoming, response) => void this.#handle(incoming, response),
    );
    // The name is known after the handshake; a resumed session is not asked for it before.
    this.#server.on('secureConnection', (socket) => {
      if (this.#isDown(serverNamed(socket))) {
        socket.destroy();
        return;
      }
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
    // A client that gives up in the handshake.
    this.#server.on('tlsClientError', () => undefined);
  }

  async listen(): Promise<number> {
    this.#server.listen(this.#options.port ?? 0, '127.0.0.1');
    await once(this.#server, 'listening');
    return (this.#server.address() as AddressInfo).port;
  }

  inject(rule: SimulatorFaultRule): ActiveFault {
    const active = this.#rules.inject(rule);
    if (rule.fault.kind === 'down') {
      for (const socket of this.#sockets) {
        if (rule.server === undefined || serverNamed(socket) === rule.server) socket.destroy();
      }
    }
    return active;
  }

  clear(): void {
    this.#rules.clear();
  }

  async stop(): Promise<void> {
    this.clear();
    const closed = once(this.#server, 'close');
    this.#server.close();
    this.#server.closeAllConnections();
    await closed;
  }

  #isDown(server: ServerName | undefined): boolean {
    return this.#rules.strike((rule) => rule.fault.kind === 'down' && isFor(rule, server)).length > 0;
  }

  async #handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const server = this.#serverAsked(incoming);
    const route = this.#routeOf(incoming);
    const endpoint = route instanceof MatrixError ? 'unrecognized' : route.endpoint.name;
    const { counts } = this.#options;
    const isKnown = this.#options.federation.servers.has(server);
    // Names that a client makes up are not remembered.
    if (isKnown) counts.add(server, endpoint, 'answered', { requests: 1 });
    const struck = this.#rules.strike((rule) => rule.fault.kind !== 'down' && isFor(rule, server, endpoint));
    let isWhole = false;
    try {
      for (const ms of [this.#options.latencyMs ?? 0, ...latenciesOf(struck)]) {
        if (ms > 0) await delay(ms, undefined, { signal: gone.signal });
      }
      const answer = isKnown
        ? (refusalOf(struck) ?? (await this.#answer(server, route, incoming, gone.signal)))
        : answerWithError(new MatrixError(404, 'M_UNRECOGNIZED', `there is no server ${server} here`));
      if (answer.keyServers !== undefined) counts.add(server, endpoint, 'answered', { keyServers: answer.keyServers });
      await this.#send(response, answer, struck, gone.signal, (bodyBytes) => {
        if (isKnown) counts.add(server, endpoint, 'answered', { bodyBytes });
      });
      isWhole = answer.status === 200;
    } catch (error) {
      await cutOff(response, error, gone.signal);
    } finally {
      if (!isWhole && isKnown) counts.add(server, endpoint, 'answered', { failed: 1 });
    }
  }

  #serverAsked({ headers }: IncomingMessage): ServerName {
    return (headers.host ?? '').replace(/:\d+$/, '').toLowerCase() as ServerName;
  }

  #routeOf(incoming: IncomingMessage): Route | MatrixError {
    try {
      return this.#router(incoming.method ?? '', pathOf(incoming));
    } catch (error) {
      if (error instanceof MatrixError) return error;
      throw error;
    }
  }

  async #answer(
    server: ServerName,
    route: Route | MatrixError,
    incoming: IncomingMessage,
    gone: AbortSignal,
  ): Promise<Answer> {
    try {
      if (route instanceof MatrixError) throw route;
      const { endpoint, params } = route;
      const { federation } = this.#options;
      const body = await readContent(incoming);
      const query = new URLSearchParams((incoming.url ?? '').split('?')[1] ?? '');
      const request = { server, params, query, content: body ?? {} };
      if ('answerUnsigned' in endpoint) return endpoint.answerUnsigned(request, federation);
      const origin = await this.#originOf(server, incoming, body, gone);
      return await endpoint.answer({ ...request, origin, signal: gone }, federation);
    } catch (error) {
      if (error instanceof MatrixError) return answerWithError(error);
      if (gone.aborted) throw error;
      // A fault of the simulator itself: whoever runs it wants to know which.
      const reason = error instanceof Error ? (error.stack ?? error.message) : String(error);
      return answerWithError(new MatrixError(500, 'M_UNKNOWN', `the simulator failed: ${reason}`));
    }
  }

  async #originOf(
    server: ServerName,
    incoming: IncomingMessage,
    content: JsonObject | undefined,
    gone: AbortSignal,
  ): Promise<ServerName> {
    const { joiningServers, clock } = this.#options.federation;
    const received = {
      method: incoming.method ?? '',
      uri: incoming.url ?? '',
      authorization: incoming.headersDistinct['authorization'] ?? [],
      verify: (claim: RequestClaim) => verifyRequest(claim, content),
    };
    const authenticator = { ourselves: server, resolveKeys: joiningServers.resolveKeys, clock };
    const auth = await authenticate(received, authenticator, gone);
    if (!auth.ok) throw new MatrixError(401, 'M_UNAUTHORIZED', auth.reason);
    return auth.origin;
  }

  async #send(
    response: ServerResponse,
    answer: Answer,
    struck: readonly Struck<SimulatorFaultRule>[],
    gone: AbortSignal,
    onSent: (bytes: number) => void,
  ): Promise<void> {
    const faults = struck.map(({ rule }) => rule.fault);
    let parts = answer.body;
    for (const fault of faults) if (isEventFault(fault)) parts = alterEvents(fault, parts);
    const length = bodyLength(parts);
    response.writeHead(answer.status, {
      'content-type': 'application/json',
      ...answer.headers,
      ...(faults.some(changesLength) ? {} : { 'content-length': length }),
    });
    let body: Body | Iterable<Buffer> = bodyChunks(parts);
    for (const { rule, context } of struck) {
      const fault = bodyFaultOf(rule.fault, length);
      if (fault !== undefined) body = applyToBody(fault, awaited(body), { ...context, signal: gone });
    }
    const { bytesPerSecond } = this.#options;
    if (bytesPerSecond !== undefined) body = throttled(awaited(body), bytesPerSecond, gone);
    await sendBody(response, body, gone, onSent);
  }
}

/** The name that a client gave in the handshake. */
function serverNamed(socket: TLSSocket): ServerName | undefined {
  const { servername } = socket as { readonly servername?: string | false };
  return typeof servername === 'string' ? (servername as ServerName) : undefined;
}

function isFor(rule: SimulatorFaultRule, server: ServerName | undefined, endpoint?: EndpointName): boolean {
  if (rule.server !== undefined && rule.server !== server) return false;
  return rule.endpoint === undefined || rule.endpoint === endpoint;
}

function pathOf({ url }: IncomingMessage): string {
  return (url ?? '').split('?')[0] ?? '';
}

function latenciesOf(struck: readonly Struck<SimulatorFaultRule>[]): number[] {
  return struck.flatMap(({ rule: { fault } }) => (fault.kind === 'latency' ? [fault.ms] : []));
}

function refusalOf(struck: readonly Struck<SimulatorFaultRule>[]): Answer | undefined {
  const fault = struck.map(({ rule }) => rule.fault).find(({ kind }) => kind === 'status');
  if (fault?.kind !== 'status') return undefined;
  const answer = answerWithError(new MatrixError(fault.status, fault.errcode, 'a fault was asked for'));
  return fault.headers === undefined ? answer : { ...answer, headers: fault.headers };
}

async function readContent(incoming: IncomingMessage): Promise<JsonObject | undefined> {
  const raw = await readBody(incoming, REQUEST_BYTES_MAX).catch((error: unknown) => {
    if (error instanceof BodyTooLargeError) throw new MatrixError(413, 'M_TOO_LARGE', 'the body is too large');
    throw error;
  });
  if (raw.length === 0) return undefined;
  const parsed = parseJsonObject(raw);
  if (!parsed.ok) throw new MatrixError(400, 'M_NOT_JSON', `the body is ${parsed.reason}`);
  return parsed.value;
}

async function* awaited(body: Body | Iterable<Buffer>): Body {
  yield* body;
}
