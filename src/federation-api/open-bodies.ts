/** The part of the server that takes bodies of whoever asks, unsigned: little of each, and of all. */
import { type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import { type OpenRequest, openRequest } from '../http/endpoint.ts';
import { goneSignal } from '../http/gone-signal.ts';
import { takeBodies } from '../http/take-bodies.ts';

export interface OpenBodyRequest extends OpenRequest {
  /** The body as received; empty where there is none. */
  readonly raw: Uint8Array;
  /** The caller's address. */
  readonly ip: string;
  /** Aborted when the caller has gone, or the server closes. */
  readonly ended: AbortSignal;
}

/** Each is a list of invites of one user. */
const BYTES_MAX = 64 * 1024;
const BYTES_OF_ALL_MAX = 16 * BYTES_MAX;
const BYTES_OF_SENDER_MAX = 4 * BYTES_MAX;

/** Adds the limits to an instance; `of` gives its handlers what was read. `closing`: aborted when the server closes. */
export function takeOpenBodies(
  app: FastifyInstance,
  closing: AbortSignal,
): { readonly of: (request: FastifyRequest, reply: FastifyReply) => OpenBodyRequest } {
  const limits = { bytesMax: BYTES_MAX, bytesOfAllMax: BYTES_OF_ALL_MAX, bytesOfSenderMax: BYTES_OF_SENDER_MAX };
  takeBodies(app, limits, (request) => request.ip);
  return {
    of: (request, reply) => ({
      ...openRequest(request),
      ip: request.ip,
      raw: request.body instanceof Uint8Array ? request.body : new Uint8Array(),
      ended: AbortSignal.any([closing, goneSignal(reply)]),
    }),
  };
}
