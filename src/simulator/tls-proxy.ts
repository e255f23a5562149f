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
import { applyToBody, HangUp, type Fault, type FaultContext } from './faults.ts';

export interface FaultRule {
  /** Tried on `METHOD /path?query`. */
  readonly match: RegExp;
  readonly fault: Fault;
  /** Strikes so many requests and then no more; all when absent. */
  readonly times?: number;
}

/** A rule in force. */
export interface ActiveFault {
  /** Requests it has struck. */
  hits(): number;
  /** Resolves when a `hold` has stopped a body for the first time. */
  readonly held: Promise<void>;
  /** Lets go of the bodies that a `hold` has stopped, and of those to come. */
  release(): void;
  /** Strikes no further request; those struck go on. */
  remove(): void;
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

interface Rule extends FaultRule {
  readonly active: ActiveFault;
  readonly context: Omit<FaultContext, 'signal'>;
  hits: number;
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

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve!: () => void;
  const promise = new Promise<void>((done) => (resolve = done));
  return { promise, resolve };
}

/** Headers that describe the connection or the body's length, which may change on the way. */
const NOT_FORWARDED = new Set(['connection', 'keep-alive', 'transfer-encoding', 'content-length', 'upgrade']);

function headersToPass(headers: IncomingMessage['headers']): Record<string, string | string[]> {
  const kept = Object.entries(headers).filter(([name, value]) => !NOT_FORWARDED.has(name) && value !== undefined);
  return Object.fromEntries(kept) as Record<string, string | string[]>;
}

class Proxy {
  readonly #rules: Rule[] = [];
  readonly #counts = new Map<string, EndpointCount>();
  readonly #agent: Agent;
  readonly #upstream: FaultProxyOptions['upstream'];

  constructor(upstream: FaultProxyOptions['upstream']) {
    this.#upstream = upstream;
    this.#agent = new Agent({ keepAlive: true, ca: upstream.authorityPem, servername: 'localhost' });
  }

  inject(rule: FaultRule): ActiveFault {
    const held = deferred();
    const released = deferred();
    const active: ActiveFault = {
      hits: () => entry.hits,
      held: held.promise,
      release: released.resolve,
      remove: () => {
        const at = this.#rules.indexOf(entry);
        if (at >= 0) this.#rules.splice(at, 1);
      },
    };
    const entry: Rule = { ...rule, active, hits: 0, context: { onHeld: held.resolve, released: released.promise } };
    this.#rules.push(entry);
    return active;
  }

  clear(): void {
    for (const { active } of [...this.#rules]) {
      active.remove();
      active.release();
    }
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

  #strike(incoming: IncomingMessage): Rule[] {
    const line = `${incoming.method ?? ''} ${incoming.url ?? ''}`;
    const struck = this.#rules.filter(({ match, times, hits }) => match.test(line) && hits < (times ?? Infinity));
    for (const rule of struck) rule.hits += 1;
    return struck;
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
    const struck = this.#strike(incoming);
    try {
      for (const { fault } of struck) {
        if (fault.kind === 'latency') await delay(fault.ms, undefined, { signal: gone.signal });
      }
      let body: AsyncIterable<Buffer>;
      const replaced = struck.find(({ fault }) => fault.kind === 'status')?.fault;
      if (replaced?.kind === 'status') {
        incoming.resume();
        response.writeHead(replaced.status, { 'content-type': 'application/json', ...replaced.headers });
        body = Readable.from([Buffer.from(replaced.body)]);
      } else {
        const answer = await this.#askUpstream(incoming, gone.signal);
        response.writeHead(answer.statusCode ?? 502, headersToPass(answer.headers));
        body = answer as AsyncIterable<Buffer>;
      }
      for (const { fault, context } of struck) body = applyToBody(fault, body, { ...context, signal: gone.signal });
      for await (const chunk of body) {
        this.#count(endpoint, { requests: 0, bodyBytes: chunk.length });
        if (!response.write(chunk)) await once(response, 'drain', { signal: gone.signal });
      }
      response.end();
    } catch (error) {
      await this.#hangUp(response, error, gone.signal);
    }
  }

  async #hangUp(response: ServerResponse, error: unknown, gone: AbortSignal): Promise<void> {
    // What came before the fault is to arrive: it may be what the test is about.
    if (error instanceof HangUp && !gone.aborted) await new Promise((resolve) => response.write('', resolve));
    response.destroy();
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
