/** A span around every request to one of our fastify servers, named by its route. */
import {
  ROOT_CONTEXT,
  SpanKind,
  SpanStatusCode,
  context,
  isSpanContextValid,
  propagation,
  trace,
} from '@opentelemetry/api';
import { type FastifyReply, type FastifyRequest } from 'fastify';

export interface InboundTracing {
  /**
   * Continue the trace that the caller names in `traceparent`. For operators only: a stranger would choose what is
   * recorded and under which ids.
   */
  readonly trustCaller: boolean;
}

/**
 * The `onRequest` hook to add first: `app.addHook('onRequest', traceInbound({trustCaller: false}))`. It records method,
 * route, path without query (a token may stand there) and status.
 */
export function traceInbound({
  trustCaller,
}: InboundTracing): (request: FastifyRequest, reply: FastifyReply, done: () => void) => void {
  return (request, reply, done) => {
    const parent = trustCaller ? propagation.extract(ROOT_CONTEXT, request.headers) : ROOT_CONTEXT;
    const route = request.routeOptions.url ?? '(no route)';
    const attributes = {
      'http.request.method': request.method,
      'http.route': route,
      'url.path': request.url.split('?', 1)[0] ?? '',
    };
    const span = trace
      .getTracer('rejoinder')
      .startSpan(`${request.method} ${route}`, { kind: SpanKind.SERVER, attributes }, parent);
    // Where nobody traces, nothing has to be kept of it while its answer is waited for.
    if (!isSpanContextValid(span.spanContext()) && !trustCaller) {
      done();
      return;
    }
    reply.raw.once('close', () => {
      const status = reply.raw.statusCode;
      if (reply.raw.writableFinished) span.setAttribute('http.response.status_code', status);
      else span.setAttribute('error.type', 'caller went away');
      if (status >= 500) span.setStatus({ code: SpanStatusCode.ERROR });
      span.end();
    });
    const active = trace.setSpan(parent, span);
    // The body is read in events of the connection, which know nothing of this request: bind them to it.
    context.bind(active, request.raw);
    context.with(active, done);
  };
}
