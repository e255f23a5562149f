/** What the endpoints of simulated servers have in common: their names, what they are asked, and by which paths. */
import { MatrixError } from '../http/matrix-error.ts';
import { type ServerName } from '../matrix/identifiers.ts';
import { type JsonObject } from '../matrix/pdu.ts';
import { type Answer } from './answer.ts';
import { type EndpointName } from './contract.ts';
import { type Federation } from './federation.ts';

export interface OpenRequest {
  /** The simulated server that is asked. */
  readonly server: ServerName;
  /** The variable segments of the path, decoded, in their order. */
  readonly params: readonly string[];
  readonly query: URLSearchParams;
  /** The body, parsed; `{}` where there was none. */
  readonly content: JsonObject;
}

export interface SignedRequest extends OpenRequest {
  /** The joining server that signed it. */
  readonly origin: ServerName;
  /** Aborted when the client goes away. */
  readonly signal: AbortSignal;
}

interface EndpointPath {
  readonly name: EndpointName;
  readonly method: 'GET' | 'POST' | 'PUT';
  /** Segments with `:` before them are variable. */
  readonly path: string;
}

/** How requests to one path are answered. Handlers throw a `MatrixError` for a refusal. */
export type Endpoint = EndpointPath &
  (
    | { readonly answer: (request: SignedRequest, federation: Federation) => Answer | Promise<Answer> }
    | { readonly answerUnsigned: (request: OpenRequest, federation: Federation) => Answer }
  );

/** An endpoint that a request's method and path lead to, with the decoded variable segments. */
export interface Route {
  readonly endpoint: Endpoint;
  readonly params: readonly string[];
}

interface Pattern {
  readonly endpoint: Endpoint;
  readonly segments: readonly string[];
}

/** Finds endpoints by path. Throws a `MatrixError` for what is no path of theirs, or not their method. */
export type Router = (method: string, path: string) => Route;

/** A router over all endpoints of a simulated server. */
export function createRouter(endpoints: readonly Endpoint[]): Router {
  const patterns = endpoints.map((endpoint): Pattern => ({ endpoint, segments: endpoint.path.split('/') }));
  return (method, path) => {
    const segments = path.split('/');
    const found = patterns.filter((pattern) => fits(pattern.segments, segments));
    const pattern = found.find(({ endpoint }) => endpoint.method === method);
    if (pattern === undefined) {
      throw new MatrixError(found.length === 0 ? 404 : 405, 'M_UNRECOGNIZED', `${method} ${path} is not served`);
    }
    const params = segments.filter((_, i) => pattern.segments[i]?.startsWith(':') === true).map(decoded);
    return { endpoint: pattern.endpoint, params };
  };
}

function fits(pattern: readonly string[], segments: readonly string[]): boolean {
  return (
    pattern.length === segments.length &&
    pattern.every((part, i) => part === segments[i] || (part.startsWith(':') && segments[i] !== ''))
  );
}

function decoded(segment: string): string {
  try {
    return decodeURIComponent(segment);
  } catch {
    throw new MatrixError(400, 'M_INVALID_PARAM', 'the path is not properly percent-encoded');
  }
}
