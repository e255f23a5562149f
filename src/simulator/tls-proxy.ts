/**
 * A proxy in front of a real homeserver's federation port: it ends TLS with a certificate of our own authority, speaks
 * TLS to the server behind it, counts what passes, and does to the answers whatever faults are set at the moment. The
 * homeserver's name is the proxy's host and port, so a joining server meets the faults without knowing of them.
 */
import { once } from 'node:events';
import { type IncomingMessage, type ServerResponse } from 'node:http';
import { Agent, createServer, request } from 'node:https';
import { type AddressInfo } from 'node:net';
import { Readable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { type ActiveFault, FaultRules } from './fault-rules.ts';
import { type Fault, applyToBody } from './faults.ts';
import { cutOff, sendBody } from './send-body.ts';

export interface FaultRule {
  /** Tried on `METHOD /path?query`. */
  readonly match: RegExp;
  readonly fault: Fault;
  /** Strikes so many requests and then no more; all when absent. */
  readonly times?: number;
}

/** What passed for one endpoint. */
export interface EndpointCount {
  readonly requests: number;
  /** Bytes of answers' bodies given to clients, without HTTP's framing. */
  readonly bodyBytes: number;
}

export interface FaultProxyOptions {
  /** TCP port on 127.0.0.1; one of the system's choice when absent. */
  readonly port?: number;
  readonly certificatePem: string;
  readonly keyPem: string;
  /** The real server. */
  readonly upstream: { readonly port: number; readonly authorityPem: string };
}

export interface FaultProxy {
  readonly port: number;
  /** Adds a rule. All rules that match a request strike it, in the order they were added. */
  inject(rule: FaultRule): ActiveFault;
  /** Removes all rules and lets go of what they hold. */
  clear(): void;
  /** By method and path without its variable parts, such as `GET /_matrix/federation/v1/state_ids`. */
  counts(): ReadonlyMap<string, EndpointCount>;
  resetCounts(): void;
  stop(): Promise<void>;
}

/** Spec paths have four fixed segments, such as /_matrix/federation/v1/state; ids come after. */
const FIXED_SEGMENTS = 4;

function endpointOf(incoming: IncomingMessage): string {
  const path = (incoming.url ?? '').split('?')[0] ?? '';
  return `${incoming.method ?? ''} ${path
    .split('/')
    .slice(0, FIXED_SEGMENTS + 1)
    .join('/')}`;
}

/** Headers that describe the connection or the body's length, which may change on the way. */
const NOT_FORWARDED = new Set(['connection', 'keep-alive', 'transfer-encoding', 'content-length', 'upgrade']);

function headersToPass(headers: IncomingMessage['headers']): Record<string, string | string[]> {
  const kept = Object.entries(headers).filter(([name, value]) => !NOT_FORWARDED.has(name) && value !== undefined);
  return Object.fromEntries(kept) as Record<string, string | string[]>;
}

class Proxy {
  readonly #rules = new FaultRules<FaultRule>();
  readonly #counts = new Map<string, EndpointCount>();
  readonly #agent: Agent;
  readonly #upstream: FaultProxyOptions['upstream'];

  constructor(upstream: FaultProxyOptions['upstream']) {
    this.#upstream = upstream;
    this.#agent = new Agent({ keepAlive: true, ca: upstream.authorityPem, servername: 'localhost' });
  }

  inject(rule: FaultRule): ActiveFault {
    return this.#rules.inject(rule);
  }

  clear(): void {
    this.#rules.clear();
  }

  counts(): ReadonlyMap<string, EndpointCount> {
    return new Map(this.#counts);
  }

  resetCounts(): void {
    this.#counts.clear();
  }

  destroy(): void {
    this.clear();
    this.#agent.destroy();
  }

  #count(endpoint: string, more: EndpointCount): void {
    const { requests, bodyBytes } = this.#counts.get(endpoint) ?? { requests: 0, bodyBytes: 0 };
    this.#counts.set(endpoint, { requests: requests + more.requests, bodyBytes: bodyBytes + more.bodyBytes });
  }

  async #askUpstream(incoming: IncomingMessage, signal: AbortSignal): Promise<IncomingMessage> {
    const outgoing = request({
      host: '127.0.0.1',
      port: this.#upstream.port,
      method: incoming.method,
      path: incoming.url,
      // Bodies pass uncompressed, so that faults and counts are about what the server said.
      headers: { ...headersToPass(incoming.headers), 'accept-encoding': 'identity' },
      agent: this.#agent,
      signal,
    });
    // Errors after the answer has begun reach the answer's own stream.
    outgoing.on('error', () => undefined);
    incoming.pipe(outgoing);
    const [answer] = (await once(outgoing, 'response')) as [IncomingMessage];
    return answer;
  }

  async handle(incoming: IncomingMessage, response: ServerResponse): Promise<void> {
    const endpoint = endpointOf(incoming);
    this.#count(endpoint, { requests: 1, bodyBytes: 0 });
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const line = `${incoming.method ?? ''} ${incoming.url ?? ''}`;
    const struck = this.#rules.strike(({ match }) => match.test(line));
    try {
      for (const { rule } of struck) {
        if (rule.fault.kind === 'latency') await delay(rule.fault.ms, undefined, { signal: gone.signal });
      }
      let body: AsyncIterable<Buffer>;
      const replaced = struck.find(({ rule }) => rule.fault.kind === 'status')?.rule.fault;
      if (replaced?.kind === 'status') {
        incoming.resume();
        response.writeHead(replaced.status, { 'content-type': 'application/json', ...replaced.headers });
        body = Readable.from([Buffer.from(replaced.body)]);
      } else {
        const answer = await this.#askUpstream(incoming, gone.signal);
        response.writeHead(answer.statusCode ?? 502, headersToPass(answer.headers));
        body = answer as AsyncIterable<Buffer>;
      }
      for (const { rule, context } of struck) {
        body = applyToBody(rule.fault, body, { ...context, signal: gone.signal });
      }
      await sendBody(response, body, gone.signal, (bytes) => this.#count(endpoint, { requests: 0, bodyBytes: bytes }));
    } catch (error) {
      await cutOff(response, error, gone.signal);
    }
  }
}

/** Starts the proxy on 127.0.0.1. The server behind it need not run yet. */
export async function startFaultProxy(options: FaultProxyOptions): Promise<FaultProxy> {
  const proxy = new Proxy(options.upstream);
  const server = createServer({ cert: options.certificatePem, key: options.keyPem }, (incoming, response) => {
    void proxy.handle(incoming, response);
  });
  server.listen(options.port ?? 0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    inject: (rule) => proxy.inject(rule),
    clear: () => proxy.clear(),
    counts: () => proxy.counts(),
    resetCounts: () => proxy.resetCounts(),
    stop: async () => {
      proxy.destroy();
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
