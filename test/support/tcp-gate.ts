/** A TCP line that a test can make dead: what is sent arrives nowhere, and nobody is told. */
import { once } from 'node:events';
import { type AddressInfo, type Socket, connect, createServer } from 'node:net';

export interface TcpGate {
  /** `127.0.0.1:port`. */
  readonly address: string;
  /** From now on nothing passes, in either direction. */
  close(): void;
  /** New connections work again; old ones have lost bytes, and are of no use any more. */
  open(): void;
  stop(): Promise<void>;
}

/** Passes connections on to `host:port`. */
export async function startTcpGate(target: string): Promise<TcpGate> {
  const [host = '', port = ''] = target.split(':');
  const sockets = new Set<Socket>();
  let isOpen = true;
  const server = createServer((near) => {
    const far = connect(Number(port), host);
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(from);
      from.on('data', (chunk: Buffer) => isOpen && to.write(chunk));
      from.on('error', () => to.destroy());
      from.on('close', () => {
        sockets.delete(from);
        to.destroy();
      });
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    address: `127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: () => (isOpen = false),
    open: () => (isOpen = true),
    stop: async () => {
      const closed = once(server, 'close');
      server.close();
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}
