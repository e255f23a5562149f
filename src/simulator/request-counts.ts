/** Counts what passes, by server, endpoint and direction. */
import { type ServerName } from '../matrix/identifiers.ts';
import { type EndpointName, type RequestCount } from './contract.ts';

type Counted = Omit<RequestCount, 'server' | 'endpoint' | 'direction'>;

export class RequestCounts {
  readonly #rows = new Map<string, RequestCount>();

  add(server: ServerName, endpoint: EndpointName, direction: RequestCount['direction'], more: Partial<Counted>): void {
    const name = `${direction} ${endpoint} ${server}`;
    const row = this.#rows.get(name);
    this.#rows.set(name, {
      server,
      endpoint,
      direction,
      requests: (row?.requests ?? 0) + (more.requests ?? 0),
      bodyBytes: (row?.bodyBytes ?? 0) + (more.bodyBytes ?? 0),
      failed: (row?.failed ?? 0) + (more.failed ?? 0),
      keyServers: (row?.keyServers ?? 0) + (more.keyServers ?? 0),
    });
  }

  rows(): readonly RequestCount[] {
    return [...this.#rows.values()];
  }

  reset(): void {
    this.#rows.clear();
  }
}
