/**
 * Tracing for one process. A tracer provider, the asynchronous context and W3C propagation are always there, so that
 * workflow histories carry the same headers and logs the same ids everywhere; spans are recorded, and the network is
 * used, only where an OTLP endpoint is configured. One trace goes from an operator's request through the workflow and its
 * activities to federation requests and SQL.
 *
 * Loader hooks are not needed: pg is patched in place (below), undici announces its requests on a diagnostics channel,
 * servers add `traceInbound`, and Temporal's interceptors are given what `startTelemetry` returns.
 */
import { createRequire } from 'node:module';
import { setTimeout as setTimeoutPromise } from 'node:timers/promises';
import { DiagLogLevel, type Tracer, context, diag, propagation, trace } from '@opentelemetry/api';
import { W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { PgInstrumentation } from '@opentelemetry/instrumentation-pg';
import { type Resource, defaultResource, resourceFromAttributes } from '@opentelemetry/resources';
import { node } from '@opentelemetry/sdk-node';
import { BatchSpanProcessor, NoopSpanProcessor, type SpanProcessor } from '@opentelemetry/sdk-trace-base';
import { type Logger } from './logging.ts';
import { traceOutboundRequests } from './telemetry/outbound.ts';

const SERVICE_NAME = 'rejoinder';
/** A collector that is down must not hold up a process that wants to stop. */
const LAST_EXPORT_MS_MAX = 2_000;

export interface TelemetryOptions {
  /** Base URL of an OTLP/HTTP collector; `null`: nothing is recorded or sent. */
  readonly otlpEndpoint: string | null;
  /** What this process does, such as `serve` or `worker`: `service.instance.role` of its spans. */
  readonly role: string;
  /** Takes the exporter's complaints. */
  readonly logger: Logger;
  /** Takes the spans instead of the exporter. */
  readonly spanProcessor?: SpanProcessor;
}

export interface Telemetry {
  readonly tracer: Tracer;
  readonly resource: Resource;
  /** Where the spans of workflows, which run in a sandbox, are handed to. */
  readonly spanProcessor: SpanProcessor;
  /** Sends what is still held, and undoes what starting did. */
  shutdown(): Promise<void>;
}

/** Starts tracing for the whole process; once, and before the first request or query. */
export function startTelemetry(options: TelemetryOptions): Telemetry {
  const { logger, role, otlpEndpoint } = options;
  const warn = (message: string): void => logger.warn({ component: 'opentelemetry' }, message);
  diag.setLogger({ error: warn, warn, info: ignore, debug: ignore, verbose: ignore }, { logLevel: DiagLogLevel.WARN });

  const exporting = options.spanProcessor ?? exporterTo(otlpEndpoint);
  const spanProcessor = exporting ?? new NoopSpanProcessor();
  const resource = defaultResource().merge(
    resourceFromAttributes({ 'service.name': SERVICE_NAME, 'service.instance.role': role }),
  );
  const provider = new node.NodeTracerProvider({
    resource,
    spanProcessors: [spanProcessor],
    // Without an exporter spans still have ids (for logs and headers) and cost next to nothing.
    ...(exporting === undefined ? { sampler: new node.AlwaysOffSampler() } : {}),
  });
  provider.register({ propagator: new W3CTraceContextPropagator() });
  const tracer = trace.getTracer(SERVICE_NAME);
  const undo = exporting === undefined ? [] : [traceSql(provider), traceOutboundRequests(tracer)];

  return {
    tracer,
    resource,
    spanProcessor,
    shutdown: async () => {
      for (const one of undo) one();
      const tooLong = setTimeoutPromise(LAST_EXPORT_MS_MAX, undefined, { ref: false });
      await Promise.race([provider.shutdown(), tooLong]).catch((error: unknown) =>
        logger.warn({ err: error }, 'the last traces were not sent'),
      );
      trace.disable();
      context.disable();
      propagation.disable();
      diag.disable();
    },
  };
}

function ignore(): void {
  // The SDK's progress reports are of no use to an operator.
}

function exporterTo(otlpEndpoint: string | null): SpanProcessor | undefined {
  if (otlpEndpoint === null) return undefined;
  return new BatchSpanProcessor(new OTLPTraceExporter({ url: `${otlpEndpoint.replace(/\/+$/, '')}/v1/traces` }));
}

/** A span for each query that belongs to a trace: its text, never its values. */
function traceSql(provider: node.NodeTracerProvider): () => void {
  const instrumentation = new PgInstrumentation({ requireParentSpan: true, ignoreConnectSpans: true });
  instrumentation.setTracerProvider(provider);
  // The instrumentation wraps the prototypes of the CommonJS module when it sees it required. An ESM import is no
  // require, but gives the same prototypes: this one require makes the wrapping happen, whoever imported pg before.
  createRequire(import.meta.url)('pg');
  return () => instrumentation.disable();
}
