/** What an endpoint for clients may look at, and the strict reading of bodies. */
import { type FastifyReply, type FastifyRequest } from 'fastify';
import { type z } from 'zod';
import { type Requester } from '../accounts/contract.ts';
import { type OpenRequest, openRequest } from '../http/endpoint.ts';
import { type KnownService } from '../app-services/contract.ts';
import { GoneCaller, goneSignal } from '../http/gone-signal.ts';
import { MatrixError } from '../http/matrix-error.ts';
import { type UserId } from '../matrix/identifiers.ts';
import { parseJsonObject } from '../matrix/json/strict-json.ts';
import { type JsonObject } from '../matrix/pdu.ts';

/** Of a request that has no body. */
const NO_BODY = new Uint8Array();

/** A class, since thousands of them may be held while their callers wait. */
export class ClientRequest implements OpenRequest {
  readonly params: OpenRequest['params'];
  /** As Fastify reads it: a parameter that is given twice is a list. */
  readonly query: Readonly<Record<string, unknown>>;
  /** The body as received; empty where there is none. */
  readonly raw: Uint8Array;
  /** Of who asks: by the connection, or as a proxy in front of us says. */
  readonly address: string;
  readonly #reply: FastifyReply;

  constructor(request: FastifyRequest, reply: FastifyReply) {
    this.params = openRequest(request).params;
    this.query = request.query as ClientRequest['query'];
    this.raw = request.body instanceof Uint8Array ? request.body : NO_BODY;
    this.address = request.ip;
    this.#reply = reply;
  }

  get headers(): FastifyRequest['headers'] {
    return this.#reply.request.headers;
  }

  /** Aborted when the client goes away before it has its answer; made at each look. For what asks the network meanwhile. */
  get signal(): AbortSignal {
    return goneSignal(this.#reply);
  }

  /** The same for what only waits here. */
  get caller(): GoneCaller {
    return new GoneCaller(this.#reply);
  }
}

/** Who makes a request. `deviceId` is `noDeviceOf(service)` where an application service names none. */
export interface ClientRequester extends Requester {
  /** The application service that acts as the user. */
  readonly service?: KnownService;
}

/** A request of somebody who has shown his access token. */
export class UserRequest extends ClientRequest {
  readonly requester: ClientRequester;

  constructor(request: FastifyRequest, reply: FastifyReply, requester: ClientRequester) {
    super(request, reply);
    this.requester = requester;
  }
}

/**
 * Of a service that acts by no device. No device is called so, and no other service's is: what they send as the same user is apart, as
 * the specification has transaction ids of a device or, without one, of a token.
 */
export function noDeviceOf({ id }: Pick<KnownService, 'id'>): string {
  return `\u0001${id}`;
}

/** Whether one of the user's devices asks: always, but for an application service that names none. */
export function isByDevice({ deviceId, service }: ClientRequester): boolean {
  return service === undefined || deviceId !== noDeviceOf(service);
}

/** Who asks, for what only a device can do; throws a `MatrixError` where an application service names none. */
export function deviceOf({ requester }: Pick<UserRequest, 'requester'>): ClientRequester {
  if (isByDevice(requester)) return requester;
  throw new MatrixError(400, 'M_MISSING_PARAM', 'device_id: expected the device of the user by which this is done');
}

/**
 * The body as an object, of whatever content type: older clients send none. Throws a `MatrixError` for what is no JSON, and for
 * JSON that two readers may read differently (duplicate keys, lone surrogates).
 */
export function bodyOf({ raw }: Pick<ClientRequest, 'raw'>): JsonObject {
  const parsed = parseJsonObject(raw);
  if (parsed.ok) return parsed.value;
  const errcode = parsed.rule === 'json.syntax' || parsed.rule === 'json.utf8' ? 'M_NOT_JSON' : 'M_BAD_JSON';
  throw new MatrixError(400, errcode, `the body is ${parsed.reason}`);
}

/** The same of a body that may be left out. */
export function bodyOrNone(request: Pick<ClientRequest, 'raw'>): JsonObject {
  return request.raw.length === 0 ? {} : bodyOf(request);
}

/**
 * The members of the body that an endpoint reads; others are let pass, as the specification asks. Throws a `MatrixError`; an
 * `error` of the schema completes the sentence "expected …".
 */
export function readBody<Schema extends z.ZodType>(
  request: Pick<ClientRequest, 'raw'>,
  schema: Schema,
): z.output<Schema> {
  return readMembers(bodyOf(request), schema);
}

/** The same of an object that has been read. */
export function readMembers<Schema extends z.ZodType>(members: JsonObject, schema: Schema): z.output<Schema> {
  const result = schema.safeParse(members);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  const path = issue?.path ?? [];
  const at = path.join('.') || 'body';
  const given = path.reduce<unknown>(
    (value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key],
    members,
  );
  const errcode = given === undefined ? 'M_MISSING_PARAM' : 'M_BAD_JSON';
  throw new MatrixError(400, errcode, `${at}: expected ${issue?.message ?? 'something else'}`);
}

/** Throws a `MatrixError` unless the path is about who asks. */
export function requireOwn({ params, requester: { userId } }: UserRequest): UserId {
  if (params['userId'] === userId) return userId;
  throw new MatrixError(403, 'M_FORBIDDEN', 'that is of another user');
}

/** A parameter of the query that may be given once; `undefined`: it is not. Throws a `MatrixError` for several. */
export function queryText({ query }: Pick<ClientRequest, 'query'>, name: string): string | undefined {
  const value = query[name];
  if (value === undefined || typeof value === 'string') return value;
  throw new MatrixError(400, 'M_INVALID_PARAM', `${name}: given more than once`);
}
