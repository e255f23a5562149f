/** The server of an application service, as a test wants it to answer. */
import { type IncomingMessage, createServer } from 'node:http';
import { type AddressInfo } from 'node:net';
import { onTestFinished } from 'vitest';
import { type AppService, readRegistration } from '../../src/app-services/registration.ts';
import { type ServerName } from '../../src/matrix/identifiers.ts';
import { type JsonObject } from '../../src/matrix/pdu.ts';

export interface AskedOfService {
  readonly method: string;
  readonly path: string;
  readonly authorization: string | undefined;
  readonly body: string;
}

export interface TestService {
  readonly url: string;
  /** Every request, answered or not. */
  readonly asked: AskedOfService[];
  /** The status that is answered; `null`: no answer is given. */
  answer: (asked: AskedOfService) => number | null | Promise<number | null>;
  /** Events of the transactions that were taken, each transaction once. */
  events(): JsonObject[];
}

export async function startTestService(): Promise<TestService> {
  const asked: AskedOfService[] = [];
  const taken = new Map<string, JsonObject[]>();
  const service: TestService = {
    url: '',
    asked,
    answer: () => 200,
    events: () => [...taken.values()].flat(),
  };
  const server = createServer((request, response) => {
    void bodyOf(request).then(async (body) => {
      const { method = '', url: path = '' } = request;
      const one = { method, path, authorization: request.headers.authorization, body };
      asked.push(one);
      const status = await service.answer(one);
      if (status === null) return;
      const { events } = (body === '' ? {} : JSON.parse(body)) as { events?: JsonObject[] };
      if (status === 200 && events !== undefined && !taken.has(path)) taken.set(path, events);
      response.writeHead(status, { 'content-type': 'application/json' }).end('{}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return Object.assign(service, { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` });
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  return Buffer.concat(parts).toString('utf8');
}

/** A registration with these changes. */
export function serviceOf(serverName: ServerName, changes: Readonly<Record<string, unknown>> = {}): AppService {
  const tree = {
    ...{ id: 'bridge', url: null, as_token: 'as-secret', hs_token: 'hs-secret', sender_localpart: 'bot' },
    namespaces: { users: [{ exclusive: true, regex: `@ghost_.*:${serverName.replaceAll('.', '\\.')}` }] },
    ...changes,
  };
  const read = readRegistration(tree, serverName);
  if (!read.ok) throw new Error(JSON.stringify(read.problems));
  return read.service;
}
