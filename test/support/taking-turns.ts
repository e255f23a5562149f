/** A plain proxy that hands each request to the next of several servers, as one in front of several processes does. */
import { once } from 'node:events';
import { Agent, createServer, request } from 'node:http';
import { type AddressInfo } from 'node:net';

/** What is too long is for those behind it to refuse. */
const HEADER_BYTES_MAX = 16_777_216;

export interface TakingTurns {
  readonly port: number;
  readonly stop: () => void;
}

/** `ports`: of servers on this machine. */
export async function startTakingTurns(ports: readonly number[]): Promise<TakingTurns> {
  const agent = new Agent({ keepAlive: true });
  let asked = 0;
  const server = createServer({ maxHeaderSize: HEADER_BYTES_MAX }, (from, to) => {
    const port = ports[asked++ % ports.length];
    const { method, url: path, headers } = from;
    const passed = request({ host: '127.0.0.1', port, method, path, headers, agent, setHost: false }, (answer) => {
      to.writeHead(answer.statusCode ?? 502, answer.rawHeaders);
      answer.pipe(to);
      answer.on('error', () => to.destroy());
    });
    // An answer may come before all of a request has been read, and the connection be closed then.
    passed.on('error', () => to.headersSent || to.destroy());
    to.on('close', () => passed.destroy());
    from.pipe(passed);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    stop: () => {
      server.closeAllConnections();
      server.close();
      agent.destroy();
    },
  };
}
