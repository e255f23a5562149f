/**
 * The metrics listener: `GET /metrics` in Prometheus' text format and `GET /health`, without a token. It tells how busy a
 * server is and nothing of anybody's rooms; all the same it belongs on the loopback address or an inner network.
 *
 * Source: https://prometheus.io/docs/instrumenting/exposition_formats/
 */
import Fastify, { type FastifyError, type FastifyInstance } from 'fastify';
import { type Logger } from '../logging.ts';
import { type Metrics } from '../metrics.ts';

/** The whole request must have arrived by then (slow loris). */
const REQUEST_TIMEOUT_MS = 10_000;
/** More than all who scrape one process. */
const CONNECTIONS_MAX = 100;

/** The server, not yet listening. */
export function createMetricsServer(metrics: Pick<Metrics, 'contentType' | 'scrape'>, logger: Logger): FastifyInstance {
  const app = Fastify({
    logger: false,
    requestTimeout: REQUEST_TIMEOUT_MS,
    // A scraper keeps its connection open between scrapes; it must not keep us from stopping.
    forceCloseConnections: true,
  });
  app.server.maxConnections = CONNECTIONS_MAX;
  app.addHook('onRequest', (_request, reply, done) => {
    reply.headers({ 'cache-control': 'no-store', 'x-content-type-options': 'nosniff' });
    done();
  });
  app.setErrorHandler<FastifyError>((error, _request, reply) => {
    const status = error.statusCode ?? 500;
    if (status < 500) return reply.code(status).type('text/plain').send(`${error.message}\n`);
    logger.error({ err: error }, 'metrics request failed');
    return reply.code(500).type('text/plain').send('something failed here; the log says what\n');
  });
  app.setNotFoundHandler((_request, reply) =>
    reply.code(404).type('text/plain').send('there are /metrics and /health\n'),
  );
  app.get('/metrics', async (_request, reply) => {
    const text = await metrics.scrape();
    return reply.type(metrics.contentType).send(text);
  });
  app.get('/health', () => ({ status: 'ok' }));
  return app;
}
