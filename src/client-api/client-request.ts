/** What an endpoint for clients may look at. */
import { type FastifyRequest } from 'fastify';
import { type OpenRequest, openRequest } from '../http/endpoint.ts';

export interface ClientRequest extends OpenRequest {
  /** As Fastify reads it: a parameter that is given twice is a list. */
  readonly query: Readonly<Record<string, unknown>>;
  /** The body as received; empty where there is none. */
  readonly raw: Uint8Array;
  /** Of who asks: by the connection, or as a proxy in front of us says. */
  readonly address: string;
}

/** The request without who makes it. */
export function clientRequest(request: FastifyRequest): ClientRequest {
  const raw = request.body instanceof Uint8Array ? request.body : new Uint8Array();
  return { ...openRequest(request), query: request.query as ClientRequest['query'], raw, address: request.ip };
}
