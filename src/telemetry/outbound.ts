/**
 * A span for every request that undici makes within a trace, from undici's own diagnostics channel. Unlike the stock
 * instrumentation it adds no `traceparent` header: other homeservers have no business with our traces.
 */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { type Span, SpanKind, SpanStatusCode, type Tracer, context, trace } from '@opentelemetry/api';
import { routeOf } from './route.ts';

interface UndiciRequest {
  readonly method: string;
  readonly path: string;
  readonly origin: string | URL;
}

/** Subscribes; the answer unsubscribes. */
export function traceOutboundRequests(tracer: Tracer): () => void {
  const spans = new WeakMap<object, Span>();

  const onCreate = ({ request }: { request: UndiciRequest }): void => {
    if (trace.getSpan(context.active()) === undefined) return;
    const route = routeOf(request.path);
    const attributes = {
      'http.request.method': request.method,
      'server.address': String(request.origin),
      'url.template': route,
      'url.path': request.path.split('?', 1)[0] ?? '',
    };
    spans.set(
      request,
      tracer.startSpan(`${request.method} ${route}`, { kind: SpanKind.CLIENT, attributes }, context.active()),
    );
  };
  const onHeaders = ({ request, response }: { request: object; response: { statusCode: number } }): void => {
    const span = spans.get(request);
    span?.setAttribute('http.response.status_code', response.statusCode);
    if (response.statusCode >= 400) span?.setStatus({ code: SpanStatusCode.ERROR });
  };
  const onDone = ({ request }: { request: object }): void => spans.get(request)?.end();
  const onError = ({ request, error }: { request: object; error: Error }): void => {
    const span = spans.get(request);
    span?.setStatus({ code: SpanStatusCode.ERROR, message: error.message });
    span?.end();
  };

  // The end of the body, not of the headers: the bodies are what takes the time.
  const subscriptions = [
    ['undici:request:create', onCreate],
    ['undici:request:headers', onHeaders],
    ['undici:request:trailers', onDone],
    ['undici:request:error', onError],
  ] as [string, (message: unknown) => void][];
  for (const [name, listener] of subscriptions) subscribe(name, listener);
  return () => {
    for (const [name, listener] of subscriptions) unsubscribe(name, listener);
  };
}
