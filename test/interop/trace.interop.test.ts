import { type Server, createServer } from 'node:http';
import { type AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createPopulatedRoom } from '../../src/launch/synapse-room.ts';
import { type RejoinderProcesses, startProcesses } from '../support/processes.ts';
import { type TestSynapse, startTestSynapse, whySynapseIsMissing } from '../support/synapse.ts';
import { ourView } from './room-of-synapse.ts';

const missing = await whySynapseIsMissing();

interface Span {
  readonly traceId: string;
  readonly spanId: string;
  readonly parentSpanId?: string;
  readonly name: string;
}

/** What an OpenTelemetry collector is sent, as OTLP's JSON has it. */
interface Export {
  readonly resourceSpans: readonly { readonly scopeSpans: readonly { readonly spans: readonly Span[] }[] }[];
}

describe.skipIf(missing !== undefined)('a trace', () => {
  let synapse: TestSynapse;
  let rejoinder: RejoinderProcesses;
  let collector: Server;
  const spans: Span[] = [];
  beforeAll(async () => {
    collector = createServer((request, response) => {
      void text(request).then((body) => {
        for (const { scopeSpans } of (JSON.parse(body) as Export).resourceSpans) {
          for (const scope of scopeSpans) spans.push(...scope.spans);
        }
        response.setHeader('content-type', 'application/json').end('{}');
      });
    });
    await new Promise<void>((resolve) => collector.listen(0, '127.0.0.1', resolve));
    const otlpEndpoint = `http://127.0.0.1:${(collector.address() as AddressInfo).port}`;
    synapse = await startTestSynapse();
    rejoinder = await startProcesses(synapse, { otlpEndpoint });
    await Promise.all([rejoinder.serve(), rejoinder.worker()]);
  });
  afterAll(async () => {
    await synapse.stop();
    collector.close();
  });

  test('leads from the request of an operator through the workflow to federation requests and SQL', async () => {
    const options = { members: 5, roomVersion: '11', aliasLocalpart: 'traced', progress: () => undefined };
    const room = await createPopulatedRoom({ synapse, ...options });
    await rejoinder.ask('/rooms/join', { room: room.alias, user_id: 'me' });
    await ourView(rejoinder, room.roomId);
    // What is still in the exporters' buffers is sent when the processes stop in their order.
    await rejoinder.stop();

    const request = spans.find(({ name }) => name.includes('/rooms/join'));
    const trace = spans.filter(({ traceId }) => traceId === request?.traceId);
    const names = [...new Set(trace.map(({ name }) => name))].sort();
    for (const part of [
      'make_join',
      'send_join',
      'RunWorkflow:resyncRoom',
      'RunActivity:fetchState',
      'state_ids',
      '/state/',
      'pg.query',
    ]) {
      expect(
        names.filter((name) => name.includes(part)),
        part,
      ).not.toEqual([]);
    }
    // One tree: every span but the first has a parent in the same trace.
    const ids = new Set(trace.map(({ spanId }) => spanId));
    expect(trace.filter(({ parentSpanId }) => !ids.has(parentSpanId ?? '')).map(({ name }) => name)).toEqual([
      request?.name,
    ]);
  });
});
